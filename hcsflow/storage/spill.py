"""The disk tier of the memory backend: raw bytes of arrays, pickles of the rest.

The folder is private to one process and removed with it; it is never an input.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import weakref
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["SpillFolder"]


class _Array(NamedTuple):
    """What raw bytes do not say."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Any


class SpillFolder(MutableMapping[int, Any]):
    """Objects in files of a new private folder, by number.

    An object that could not be written (disk full) is not in the mapping, and its file is gone.

    Parameters
    ----------
    parent : Path or None
        Where the folder is made, at the first write; None is the system's temporary folder.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self._forms: dict[int, _Array | None] = {}
        self._nbytes: dict[int, int] = {}

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(self._nbytes.values())

    def _file(self, number: int) -> Path:
        if self._folder is None:
            if self._parent is not None:
                self._parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="hcsflow-spill-", dir=self._parent))
            weakref.finalize(self, _remove, self._folder, os.getpid())
        return self._folder / str(number)

    def __setitem__(self, number: int, value: Any) -> None:
        form, content = _freeze(value)
        file = self._file(number)
        try:
            with file.open("wb", buffering=0) as stream:
                rest = memoryview(content)
                while rest:
                    rest = rest[stream.write(rest) :]
        except OSError:
            file.unlink(missing_ok=True)
            raise
        self._forms[number] = form
        self._nbytes[number] = memoryview(content).nbytes

    def __getitem__(self, number: int) -> Any:
        form = self._forms[number]
        file = self._file(number)
        if form is None:
            return pickle.loads(file.read_bytes())  # noqa: S301 - written by this process
        flat = np.empty(int(np.prod(form.shape, dtype=np.int64)), form.dtype)
        with file.open("rb", buffering=0) as stream:
            rest = flat.view(np.uint8).data
            while rest:
                count = stream.readinto(rest)
                if not count:
                    raise OSError(f"spilled data is cut short: {file}")
                rest = rest[count:]
        array = flat.reshape(form.shape, order=form.order)
        array.flags.writeable = False
        return array

    def __delitem__(self, number: int) -> None:
        del self._forms[number]
        del self._nbytes[number]
        self._file(number).unlink(missing_ok=True)

    def __contains__(self, number: object) -> bool:
        return number in self._forms

    def __iter__(self) -> Iterator[int]:
        return iter(self._forms)

    def __len__(self) -> int:
        return len(self._forms)

    def close(self) -> None:
        """Remove the folder and everything in it."""
        self._forms.clear()
        self._nbytes.clear()
        if self._folder is not None:
            _remove(self._folder, os.getpid())
            self._folder = None


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of the process that made it
        shutil.rmtree(folder, ignore_errors=True)


def _freeze(value: Any) -> tuple[_Array | None, Any]:
    """Return an object's form and its content as one buffer; a view where it lies contiguous."""
    if type(value) is not np.ndarray or value.dtype.hasobject:
        return None, pickle.dumps(value, protocol=5)
    order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
    flat = value.reshape(-1, order=order)  # type: ignore[call-overload]
    return _Array(value.dtype, value.shape, order), flat.view(np.uint8)
