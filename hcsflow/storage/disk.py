"""The disk backend: files whose format their suffix tells, written whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from hcsflow.errors import PlaneError, UsageError
from hcsflow.storage.abc import FileStat, StorageBackend
from hcsflow.storage.formats import Format, format_of, sniff
from hcsflow.storage.paths import (
    StrPath,
    endings,
    join,
    located,
    matches,
    named,
    naming,
    natural,
    placed,
    removable,
)
from hcsflow.storage.whole import copy_whole, move_whole, rename_new
from hcsflow.storage.zarr_commit import made_parents

__all__ = ["DiskStorageBackend"]

_TEMPORARY = ".hcsflow-part"
_DAMAGE = (ValueError, RuntimeError, LookupError, TypeError, EOFError, struct.error)
"""What decoders raise on damaged files."""


class DiskStorageBackend(StorageBackend):
    """Files on this machine, in formats that other programs read.

    A file appears under its name only when it is complete; an interrupted write leaves the old
    one. Arrays of any memory type are written and come back as numpy.

    Parameters
    ----------
    base_path : path, optional
        Root of all paths; none may lead out of it. Without it paths are the system's own: ``..``
        is followed, ``~`` is refused, and what is or contains the current or the home folder is
        neither removed, moved nor replaced.
    create_directories : bool
        Make the folders that a file needs.
    file_permissions : int, optional
        Mode of new files, such as ``0o644``; None leaves it to the umask.
    enable_compression : bool
        Compress TIFF (zlib), NPZ and Parquet (zstd).

    Examples
    --------
    >>> import tempfile
    >>> disk = DiskStorageBackend(tempfile.mkdtemp())
    >>> disk.save({"count": 3}, "results/summary.json")
    >>> disk.load("results/summary.json")
    {'count': 3}
    """

    def __init__(
        self,
        base_path: StrPath | None = None,
        *,
        create_directories: bool = True,
        file_permissions: int | None = None,
        enable_compression: bool = False,
    ) -> None:
        self._base = None if base_path is None else located(None, base_path)
        self._creates = create_directories
        self._mode = file_permissions
        self._compress = enable_compression

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._base or 'paths of the system'}>"

    def _path(self, path: StrPath) -> Path:
        return located(self._base, path)

    def save(
        self,
        data: Any,
        path: StrPath,
        *,
        overwrite: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        """Write a file in the format of its suffix.

        Parquet keeps a table's index and dtypes. CSV is text: whole numbers, numbers, ``True``
        and ``False`` come back as such, everything else as text, also ``NA`` and ``001``; an empty
        cell as NaN, which makes whole numbers floats. Text that looks like a number all down its
        column comes back as numbers; categories and dates come back as text.

        Parameters
        ----------
        data : object
            What the format takes.
        path : path
            Without a suffix, arrays are NPY and tables Parquet.
        overwrite : bool
            Replace a file.
        allow_pickle : bool
            Needed for ``.pkl``.

        Raises
        ------
        FileExistsError
            If something is there and ``overwrite`` is not set; it is left as it was.
        FileNotFoundError
            If the folder does not exist and ``create_directories`` is off.
        UsageError
            If the suffix is unknown or its format does not take this type; for CSV also if the
            table has an index of its own.
        PathError
            If the path leads out of the base, or names no file.
        OSError
            If the disk is full; nothing is left of the file.
        """
        file = named(self._base, path)
        form = _allowed(format_of(file, data), file, allow_pickle=allow_pickle)
        _refuse_existing(file, overwrite=overwrite)
        if self._creates:
            file.parent.mkdir(parents=True, exist_ok=True)
        with self._replacing(file, overwrite=overwrite) as stream:
            form.write(stream, data, compress=self._compress)

    def load(self, path: StrPath, *, allow_pickle: bool = False) -> Any:
        """Read a file; arrays as numpy.

        Raises
        ------
        FileNotFoundError
            If there is none.
        UsageError
            If its suffix is unknown, or it is a pickle and ``allow_pickle`` is not set.
        PlaneError
            If it is damaged or not what its suffix says.
        """
        file = self._path(path)
        with file.open("rb") as stream:
            form = sniff(stream.peek(8)[:8], file)
            _allowed(form, file, allow_pickle=allow_pickle)
            try:
                return form.read(stream)
            except _DAMAGE as error:
                raise PlaneError(
                    f"{file}: cannot be read as {form.name}: {error}",
                    hint="the file is damaged, or its suffix is wrong",
                    file=os.fspath(path),
                ) from error

    @contextmanager
    def _replacing(self, file: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
        """Give a temporary file in the same folder that becomes ``file`` at the end."""
        temporary = file.parent / f".{uuid4().hex}{_TEMPORARY}"
        try:
            with naming(file), _Stream(io.FileIO(temporary, "xb")) as stream:
                yield stream
            if self._mode is not None:
                temporary.chmod(self._mode)
            _publish(temporary, file, overwrite=overwrite)
        finally:
            temporary.unlink(missing_ok=True)

    def is_file(self, path: StrPath) -> bool:
        """Whether there is a file."""
        return self._path(path).is_file()

    def is_dir(self, path: StrPath) -> bool:
        """Whether there is a folder."""
        return self._path(path).is_dir()

    def list_files(
        self,
        directory: StrPath,
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
    ) -> list[str]:
        """List files in natural order; see `DataSource.list_files`. Links are not followed."""
        wanted = endings(extensions)
        found = _walk(self._path(directory), "", recursive=recursive)
        chosen = (n for n in found if matches(n.rpartition("/")[2], pattern, wanted))
        return [join(directory, name) for name in natural(chosen)]

    def list_dir(self, directory: StrPath) -> list[str]:
        """List names in a folder, in natural order."""
        names = os.listdir(self._path(directory))  # noqa: PTH208 - names are all that is wanted
        return natural(name for name in names if not name.endswith(_TEMPORARY))

    def ensure_directory(self, directory: StrPath) -> str:
        """Make a folder and its parents; return its path as given."""
        self._path(directory).mkdir(parents=True, exist_ok=True)
        return os.fspath(directory)

    def delete(self, path: StrPath) -> None:
        """Remove a file or an empty folder; see `StorageBackend.delete`. The base itself stays."""
        file = removable(self._base, path)
        if file == self._base:
            if any(file.iterdir()):
                raise OSError(errno.ENOTEMPTY, "the base folder is not empty", str(file))
        elif file.is_dir() and not file.is_symlink():
            file.rmdir()
        else:
            file.unlink()

    def delete_all(self, path: StrPath) -> None:
        """Remove a file, or a folder and everything in it; of the base, its contents.

        A link is removed, but not where it leads.

        Raises
        ------
        FileNotFoundError
            If there is nothing.
        PathError
            If the path leads out of the base; without one, if it is or contains the current or
            the home folder.
        """
        file = removable(self._base, path)
        for gone in list(file.iterdir()) if file == self._base else [file]:
            _remove(gone)

    def move(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Rename a file or folder, across file systems too.

        After an error source and target are as they were.
        """
        removable(self._base, source)
        start, end = self._pair(source, target, overwrite=overwrite)
        if placed(start) != placed(end):
            move_whole(start, end, overwrite=overwrite)

    def copy(self, source: StrPath, target: StrPath, *, overwrite: bool = False) -> None:
        """Copy a file or folder; links in a folder stay links.

        After an error the target is as it was.
        """
        start, end = self._pair(source, target, overwrite=overwrite)
        if placed(start) == placed(end):
            raise FileExistsError(errno.EEXIST, "source and target are the same", str(end))
        if start.is_dir():
            copy_whole(start, end, overwrite=overwrite)
            return
        with (
            made_parents(end),
            self._replacing(end, overwrite=overwrite) as stream,
            start.open("rb") as original,
        ):
            shutil.copyfileobj(original, stream, 1 << 20)

    def stat(self, path: StrPath) -> FileStat:
        """Return a file's size and format."""
        file = self._path(path)
        status = file.stat()
        if file.is_dir():
            return FileStat(os.fspath(path), is_dir=True, nbytes=0, kind="folder")
        kind = file.suffix.lower().lstrip(".")
        return FileStat(os.fspath(path), is_dir=False, nbytes=status.st_size, kind=kind)

    def _pair(self, source: StrPath, target: StrPath, *, overwrite: bool) -> tuple[Path, Path]:
        start, end = self._path(source), removable(self._base, target)
        start.stat()
        here, there = placed(start), placed(end)
        if here in there.parents or there in here.parents:
            raise OSError(errno.EINVAL, "one folder lies within the other", str(end))
        if here != there:
            _refuse_existing(end, overwrite=overwrite)
        if not self._creates and not end.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "its folder does not exist", str(end))
        return start, end


class _Stream(io.BufferedWriter):
    """A file that numpy does not take for one: past Python it would lose a full disk's errno."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def _allowed(form: Format, file: Path, *, allow_pickle: bool) -> Format:
    if form.is_pickle and not allow_pickle:
        raise UsageError(
            f"{file.name}: pickles are refused, since reading one runs code",
            hint="use .npy, .npz, .json or .parquet, or say allow_pickle=True",
        )
    return form


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink()


def _refuse_existing(file: Path, *, overwrite: bool) -> None:
    if not overwrite and file.exists():
        raise FileExistsError(errno.EEXIST, "exists (overwrite=True replaces it)", str(file))


def _publish(temporary: Path, file: Path, *, overwrite: bool) -> None:
    """Give a whole file its name; a link, unlike a rename, never replaces another's file."""
    if overwrite:
        temporary.replace(file)
    else:
        rename_new(temporary, file)


def _walk(folder: Path, below: str, *, recursive: bool) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if recursive:
                    yield from _walk(Path(entry.path), f"{below}{entry.name}/", recursive=True)
            elif entry.is_file() and not entry.name.endswith(_TEMPORARY):
                yield f"{below}{entry.name}"
