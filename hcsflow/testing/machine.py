"""A storage backend against a dict: any sequence of operations must leave both alike.

Needs hypothesis, which the extra ``test`` brings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hcsflow.storage.abc import StorageBackend
from hcsflow.storage.paths import natural

__all__ = ["BackendMachine"]

FOLDERS = ("", "a", "b", "a/c")
STEMS = ("x1", "x10", "x2")

folders = st.sampled_from(FOLDERS)
real_folders = st.sampled_from(FOLDERS[1:])
stems = st.sampled_from(STEMS)
numbers = st.integers(0, 200)
flags = st.booleans()


class BackendMachine(RuleBasedStateMachine):
    """Rules of a backend; subclass it and give `make_backend`.

    ``suffix`` ends files' names and ``makes_folders`` says whether saving makes folders, both as
    in `hcsflow.testing.backends.BackendTests`.
    """

    suffix: ClassVar[str] = ".npy"
    makes_folders: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, int] = {}
        self.folders: set[str] = {""}

    def make_backend(self) -> StorageBackend:
        """Return a new, empty backend."""
        raise NotImplementedError

    @initialize(made=st.sets(real_folders))
    def start(self, made: set[str]) -> None:
        """Begin with an empty backend, or some folders in it."""
        self.backend = self.make_backend()
        self.backend.ensure_directory("/")
        for folder in sorted(made):
            self.ensure_directory(folder)

    def _file(self, folder: str, stem: str) -> str:
        return f"{folder}/{stem}{self.suffix}".lstrip("/")

    def _exists(self, path: str) -> bool:
        return path in self.files or path in self.folders

    def _below(self, path: str) -> list[str]:
        everything = (*self.files, *self.folders)
        return [name for name in everything if name == path or name.startswith(f"{path}/")]

    def _forget(self, path: str) -> None:
        for name in self._below(path):
            self.files.pop(name, None)
            self.folders.discard(name)

    def _make_parents(self, path: str) -> None:
        parts = path.split("/")[:-1]
        self.folders.update("/".join(parts[: i + 1]) for i in range(len(parts)))

    def _expect(self, error: type[OSError] | None, call: Callable[[], Any]) -> None:
        """Run a call that must raise just that error, or none."""
        raised: OSError | None = None
        try:
            call()
        except OSError as found:
            raised = found
        if error is None:
            assert raised is None, f"raised {raised!r}"
        else:
            assert isinstance(raised, error), f"expected {error.__name__}, got {raised!r}"

    def _parent_error(self, path: str) -> type[OSError] | None:
        parent = path.rpartition("/")[0]
        return None if self.makes_folders or parent in self.folders else FileNotFoundError

    @rule(folder=folders, stem=stems, number=numbers, overwrite=flags)
    def save(self, folder: str, stem: str, number: int, overwrite: bool) -> None:
        """Save an array whose shape and values tell its number."""
        path = self._file(folder, stem)
        error = self._parent_error(path)
        if path in self.files and not overwrite:
            error = FileExistsError
        array = np.full((2, 1 + number % 3), number, np.uint8)
        self._expect(error, lambda: self.backend.save(array, path, overwrite=overwrite))
        if error is None:
            self.files[path] = number
            self._make_parents(path)
        if path in self.files:
            self.load(folder, stem)

    @rule(folder=real_folders)
    def ensure_directory(self, folder: str) -> None:
        """Make a folder."""
        self.backend.ensure_directory(folder)
        self._make_parents(f"{folder}/x")

    @rule(folder=real_folders, stem=stems, of_folder=flags)
    def delete(self, folder: str, stem: str, of_folder: bool) -> None:
        """Remove a file or an empty folder."""
        path = folder if of_folder else self._file(folder, stem)
        error: type[OSError] | None = None if self._exists(path) else FileNotFoundError
        if error is None and len(self._below(path)) > 1:
            error = OSError
        self._expect(error, lambda: self.backend.delete(path))
        if error is None:
            self._forget(path)

    @rule(folder=real_folders, stem=stems, of_folder=flags)
    def delete_all(self, folder: str, stem: str, of_folder: bool) -> None:
        """Remove a file or a folder with what is in it."""
        path = folder if of_folder else self._file(folder, stem)
        error = None if self._exists(path) else FileNotFoundError
        self._expect(error, lambda: self.backend.delete_all(path))
        self._forget(path)

    def _rearrange(self, source: str, target: str, *, overwrite: bool, moves: bool) -> None:
        operation = self.backend.move if moves else self.backend.copy
        error: type[OSError] | None = None
        if not self._exists(source):
            error = FileNotFoundError
        elif source == target:
            error = None if moves else FileExistsError
        elif f"{target}/".startswith(f"{source}/") or f"{source}/".startswith(f"{target}/"):
            error = OSError
        elif self._exists(target) and not overwrite:
            error = FileExistsError
        else:
            error = self._parent_error(target)
        self._expect(error, lambda: operation(source, target, overwrite=overwrite))
        if error is None and source != target:
            self._transfer(source, target, moves=moves)
        for path in {source, target} & set(self.files):
            self._holds_file(path)

    def _transfer(self, source: str, target: str, *, moves: bool) -> None:
        found = {name: self.files.get(name) for name in self._below(source)}
        self._forget(target)
        if moves:
            self._forget(source)
        self._make_parents(target)
        for name, number in found.items():
            end = target + name[len(source) :]
            if number is None:
                self.folders.add(end)
            else:
                self.files[end] = number

    @rule(source=folders, stem=stems, to=folders, name=stems, overwrite=flags, moves=flags)
    def rearrange_file(
        self, source: str, stem: str, to: str, name: str, overwrite: bool, moves: bool
    ) -> None:
        """Move or copy a file."""
        start, end = self._file(source, stem), self._file(to, name)
        self._rearrange(start, end, overwrite=overwrite, moves=moves)

    @rule(source=real_folders, to=real_folders, overwrite=flags, moves=flags)
    def rearrange_folder(self, source: str, to: str, overwrite: bool, moves: bool) -> None:
        """Move or copy a folder."""
        self._rearrange(source, to, overwrite=overwrite, moves=moves)

    @rule(folder=folders, stem=stems)
    def load(self, folder: str, stem: str) -> None:
        """Load a file, there or not."""
        path = self._file(folder, stem)
        if path in self.files:
            self._holds_file(path)
        else:
            self._expect(FileNotFoundError, lambda: self.backend.load(path))

    def _holds_file(self, path: str) -> None:
        number, array = self.files[path], self.backend.load(path)
        assert array.shape == (2, 1 + number % 3), path
        assert (array == number).all(), path

    @invariant()
    def holds_the_same(self) -> None:
        """Every folder lists what the dict has, in natural order."""
        if not hasattr(self, "backend"):
            return
        found = self.backend.list_files("", recursive=True)
        assert found == natural(found), "not in natural order"
        assert set(found) == set(self.files)
        for folder in FOLDERS:
            assert self.backend.is_dir(folder) == (folder in self.folders), folder
            if folder in self.folders:
                self._holds_folder(folder)

    def _holds_folder(self, folder: str) -> None:
        start = f"{folder}/" if folder else ""
        below = [name[len(start) :] for name in self._below(folder) if name != folder]
        if not folder:
            below = [name for name in (*self.files, *self.folders) if name]
        assert self.backend.list_dir(folder) == natural({n.partition("/")[0] for n in below})
        direct = [start + n for n in below if "/" not in n and start + n in self.files]
        assert self.backend.list_files(folder) == natural(direct)
