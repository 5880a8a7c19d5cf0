"""What every storage backend must do, as tests to inherit.

Subclass `BackendTests`, give a fixture ``backend`` that returns a new, empty backend, and run it
with pytest. Attributes say where a backend differs by design; `BackendTests.damage` reaches past
the code under test. What is demanded, and a whole backend as an example, is written down
in `hcsflow.storage.abc.StorageBackend`.

Examples
--------
>>> class TestMine(BackendTests):
...     makes_folders = is_shared = False  # where it differs by design
...     # @pytest.fixture
...     def backend(self):
...         return MemoryStorageBackend()
>>> from hcsflow.storage.memory import MemoryStorageBackend
>>> TestMine().test_copy(MemoryStorageBackend())
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np

from hcsflow.arrays import convert, is_installed, to_numpy
from hcsflow.storage.abc import StorageBackend

__all__ = ["BackendTests"]


def _raises(
    kind: type[BaseException] | tuple[type[BaseException], ...],
    call: Any,
    *args: Any,
    **options: Any,
) -> BaseException:
    """Return the error that a call raises; fail if it raises none."""
    try:
        call(*args, **options)
    except kind as error:
        return error
    raise AssertionError(f"{kind} was not raised")


class BackendTests:
    """Tests of one backend.

    ``suffix`` ends every file's name; ``dtypes`` are stored exactly; ``makes_folders`` says
    whether saving makes the folders that are not there; ``is_shared`` whether a pickled copy, in
    another process too, is the same store (otherwise it cannot be pickled); ``holds_anything``
    whether objects that are no arrays are stored; ``holds_odd_shapes`` whether arrays without
    elements, or with other than two or three axes, are.
    """

    suffix: ClassVar[str] = ".npy"
    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "uint16", "int32", "float32", "float64", "bool")
    makes_folders: ClassVar[bool] = True
    is_shared: ClassVar[bool] = True
    holds_anything: ClassVar[bool] = False
    holds_odd_shapes: ClassVar[bool] = True

    def damage(self, backend: StorageBackend, path: str) -> bool:  # noqa: ARG002 - for those who can
        """Spoil what is stored at a path, past the backend; False where that cannot be done."""
        return False

    def _name(self, name: str) -> str:
        return f"work/{name}{self.suffix}"

    def _fill(self, backend: StorageBackend, *names: str) -> None:
        for number, name in enumerate(names):
            path = self._name(name)
            backend.ensure_directory(path.rpartition("/")[0])
            backend.save(np.full((4, 5), number, np.uint16), path)

    def test_round_trip(self, backend: StorageBackend) -> None:
        """Every dtype and memory layout comes back equal."""
        backend.ensure_directory("work")
        base = np.arange(24).reshape(2, 3, 4) % 2
        for dtype in self.dtypes:
            array = base.astype(dtype)
            layouts = {"c": array, "f": np.asfortranarray(array), "view": array[:, ::2, ::-1]}
            for layout, given in layouts.items():
                path = self._name(f"{dtype}_{layout}")
                backend.save(given.copy(order="K"), path)
                found = backend.load(path)
                assert found.dtype == given.dtype, (dtype, layout)
                assert np.array_equal(found, given), (dtype, layout)

    def test_odd_shapes(self, backend: StorageBackend) -> None:
        """No axis, one axis, no element: equal again, or refused and nothing stored."""
        backend.ensure_directory("work")
        for number, shape in enumerate([(), (3,), (0, 4), (2, 1, 1, 3, 2)]):
            path, array = self._name(f"odd{number}"), np.full(shape, 7, np.uint16)
            if not self.holds_odd_shapes and len(shape) != 5:
                _raises(ValueError, backend.save, array, path)
                assert not backend.exists(path), shape
                continue
            backend.save(array, path)
            assert backend.load(path).shape == shape
            assert (backend.load(path) == 7).all()

    def test_memory_types(self, backend: StorageBackend) -> None:
        """An array of any library that is at hand goes in; its values come out."""
        backend.ensure_directory("work")
        host = np.arange(12, dtype=np.float32).reshape(3, 4)
        for name in ("numpy", "torch", "jax"):
            if is_installed(name):
                backend.save(convert(host.copy(), name), self._name(name))
                assert np.array_equal(to_numpy(backend.load(self._name(name))), host), name

    def test_what_cannot_be_held_is_refused(self, backend: StorageBackend) -> None:
        """An object that is not for this store is an error that says so, and leaves nothing."""
        backend.ensure_directory("work")
        path, odd = self._name("odd"), {"a": "b"}
        if self.holds_anything:
            backend.save(odd, path)
            assert backend.load(path) == odd
            return
        _raises(ValueError, backend.save, odd, path)
        assert backend.list_dir("work") == []
        self._fill(backend, "one")
        _raises(ValueError, backend.save, odd, self._name("one"), overwrite=True)
        assert backend.load(self._name("one")).shape == (4, 5)

    def test_names(self, backend: StorageBackend) -> None:
        """Any name that people give: spaces, dots, other scripts, 120 letters."""
        stems = ("a b", "ä µ 細胞", "a.b.c", "-x", "#1%20", "l" * 120)
        self._fill(backend, *stems)
        for number, stem in enumerate(stems):
            assert backend.load(self._name(stem)).max() == number, stem
        assert set(backend.list_dir("work")) == {stem + self.suffix for stem in stems}

    def test_case(self, backend: StorageBackend) -> None:
        """Of names that differ in case alone neither takes the other's place unasked."""
        self._fill(backend, "plane")
        try:
            backend.save(np.full((4, 5), 9, np.uint16), self._name("PLANE"))
        except FileExistsError:
            assert backend.load(self._name("plane")).max() == 0
            return
        assert backend.load(self._name("plane")).max() == 0
        assert backend.load(self._name("PLANE")).max() == 9

    def test_files_are_no_folders(self, backend: StorageBackend) -> None:
        """Nothing goes below a file or in place of a folder."""
        self._fill(backend, "one")
        path = self._name("one")
        below, array = f"{path}/in{self.suffix}", np.ones((2, 2), np.uint16)
        _raises(OSError, backend.save, array, below)
        _raises(OSError, backend.ensure_directory, path)
        _raises(OSError, backend.list_files, path)
        _raises(OSError, backend.load, below)
        _raises(OSError, backend.load, "work")
        folder = f"work/folder{self.suffix}"
        backend.ensure_directory(folder)
        _raises(OSError, backend.save, array, folder)
        assert not backend.exists(below)
        assert backend.load(path).max() == 0
        assert backend.is_dir(folder)

    def test_a_failed_batch_keeps_its_first_parts(self, backend: StorageBackend) -> None:
        """After an error what came before is there, and what came after is not."""
        self._fill(backend, "b")
        paths = [self._name(name) for name in "abc"]
        _raises(FileExistsError, backend.save_batch, [np.ones((2, 2), np.uint8)] * 3, paths)
        assert backend.is_file(paths[0])
        assert backend.load(paths[1]).shape == (4, 5)
        assert not backend.exists(paths[2])

    def test_damage_is_found(self, backend: StorageBackend) -> None:
        """What was spoilt is an error that names it; the rest is as it was."""
        self._fill(backend, "good", "bad")
        if self.damage(backend, self._name("bad")):
            error = _raises(ValueError, backend.load, self._name("bad"))
            assert "bad" in str(error)
        assert backend.load(self._name("good")).max() == 0

    def test_pickling(self, backend: StorageBackend) -> None:
        """A pickled backend is the same store, or cannot be pickled."""
        self._fill(backend, "one")
        if not self.is_shared:
            _raises((TypeError, pickle.PicklingError), pickle.dumps, backend)
            return
        again = pickle.loads(pickle.dumps(backend))  # noqa: S301 - made in this line
        assert again.load(self._name("one")).shape == (4, 5)

    def test_another_process(self, backend: StorageBackend) -> None:
        """What one process saves another loads; what both save once, one does."""
        if not self.is_shared:
            return
        self._fill(backend, "mine")
        code = (
            "import pickle, sys; import numpy as np\n"
            "backend, mine, theirs = pickle.load(sys.stdin.buffer)\n"
            "assert backend.load(mine).max() == 0\n"
            "backend.save(np.full((2, 3), 5, np.uint16), theirs)\n"
            "try: backend.save(np.full((2, 3), 5, np.uint16), mine)\n"
            "except FileExistsError: print('refused')\n"
        )
        given = pickle.dumps((backend, self._name("mine"), self._name("theirs")))
        done = subprocess.run(  # noqa: S603 - this file's own code
            [sys.executable, "-c", code], input=given, capture_output=True, check=False
        )
        assert done.stdout.split() == [b"refused"], done.stderr.decode()
        assert backend.load(self._name("theirs")).tolist() == [[5, 5, 5], [5, 5, 5]]
        assert backend.load(self._name("mine")).max() == 0

    def test_leading_slash_does_not_matter(self, backend: StorageBackend) -> None:
        """``/a`` and ``a`` are one path."""
        self._fill(backend, "one")
        assert backend.is_file("/" + self._name("one"))

    def test_missing(self, backend: StorageBackend) -> None:
        """What is not there is a FileNotFoundError, named."""
        backend.ensure_directory("work")
        path = self._name("none")
        assert "none" in str(_raises(FileNotFoundError, backend.load, path))
        _raises(FileNotFoundError, backend.delete, path)
        _raises(FileNotFoundError, backend.delete_all, path)
        _raises(FileNotFoundError, backend.stat, path)
        _raises(FileNotFoundError, backend.move, path, self._name("other"))
        _raises(FileNotFoundError, backend.copy, path, self._name("other"))
        _raises(FileNotFoundError, backend.list_files, "nowhere")
        _raises(FileNotFoundError, backend.list_dir, "nowhere")
        assert not backend.exists(path)

    def test_missing_parent(self, backend: StorageBackend) -> None:
        """Folders are made, or their absence is an error, as the backend says."""
        path = f"new/folder/x{self.suffix}"
        if self.makes_folders:
            backend.save(np.ones((2, 2)), path)
            assert backend.is_dir("new/folder")
        else:
            _raises(FileNotFoundError, backend.save, np.ones((2, 2)), path)
            assert not backend.exists("new")

    def test_overwrite_is_refused(self, backend: StorageBackend) -> None:
        """What is there stays as it was, unless replacing it is asked for."""
        self._fill(backend, "one")
        path = self._name("one")
        error = _raises(FileExistsError, backend.save, np.full((4, 5), 9), path)
        assert "one" in str(error)
        assert backend.load(path).max() == 0
        backend.save(np.full((2, 2), 9, np.uint16), path, overwrite=True)
        assert backend.load(path).tolist() == [[9, 9], [9, 9]]

    def test_upward_path_is_refused(self, backend: StorageBackend) -> None:
        """``..`` leads nowhere."""
        for call in (backend.load, backend.is_file, backend.delete, backend.ensure_directory):
            _raises(ValueError, call, f"work/../../x{self.suffix}")

    def test_listing_is_natural(self, backend: StorageBackend) -> None:
        """Numbers count, folders are given as asked for, filters hold."""
        self._fill(backend, "z10", "z9", "z1", "deep/z2")
        tail = self.suffix
        direct = [f"work/z1{tail}", f"work/z9{tail}", f"work/z10{tail}"]
        assert backend.list_files("work") == direct
        assert backend.list_files("/work/")[0] == f"/work/z1{tail}"
        everything = backend.list_files("work", recursive=True)
        assert set(everything) == {*direct, f"work/deep/z2{tail}"}
        assert backend.list_files("work", pattern="z1*") == [direct[0], direct[2]]
        assert backend.list_files("work", extensions=[".none"]) == []
        assert len(backend.list_files("work", extensions={tail.upper()})) == 3
        assert backend.list_dir("work") == ["deep", f"z1{tail}", f"z9{tail}", f"z10{tail}"]

    def test_kinds(self, backend: StorageBackend) -> None:
        """Files are files and folders are folders."""
        self._fill(backend, "one")
        path = self._name("one")
        assert backend.is_file(path)
        assert not backend.is_dir(path)
        assert backend.is_dir("work")
        assert not backend.is_file("work")
        assert backend.stat("work").is_dir
        assert backend.stat(path).nbytes > 0

    def test_isolation(self, backend: StorageBackend) -> None:
        """Nothing that a caller does to its array changes what is stored, nor the reverse."""
        backend.ensure_directory("work")
        base = np.zeros((4, 4), np.uint16)
        backend.save(base[1:3], self._name("view"))
        base[:] = 7
        assert backend.load(self._name("view")).max() == 0
        owned = np.zeros((4, 4), np.uint16)
        backend.save(owned, self._name("owned"))
        if owned.flags.writeable:
            owned[:] = 7
        found = backend.load(self._name("owned"))
        assert found.max() == 0
        if found.flags.writeable:
            found[:] = 7
        assert backend.load(self._name("owned")).max() == 0

    def test_batches(self, backend: StorageBackend) -> None:
        """A batch is its parts, in order; unequal numbers store nothing."""
        backend.ensure_directory("work")
        paths = [self._name(f"b{i}") for i in range(3)]
        planes = [np.full((2, 2), i, np.uint8) for i in range(3)]
        _raises(ValueError, backend.save_batch, planes, paths[:2])
        assert backend.list_files("work") == []
        backend.save_batch(planes, paths)
        assert [int(a[0, 0]) for a in backend.load_batch(paths[::-1])] == [2, 1, 0]

    def test_move(self, backend: StorageBackend) -> None:
        """Files and folders move whole; nothing is replaced unasked."""
        self._fill(backend, "a", "b", "deep/c")
        backend.move(self._name("a"), self._name("moved"))
        assert not backend.exists(self._name("a"))
        assert backend.load(self._name("moved")).max() == 0
        _raises(FileExistsError, backend.move, self._name("moved"), self._name("b"))
        backend.move(self._name("moved"), self._name("b"), overwrite=True)
        assert backend.load(self._name("b")).max() == 0
        backend.move("work", "elsewhere")
        assert not backend.exists("work")
        assert backend.load(f"elsewhere/deep/c{self.suffix}").max() == 2
        _raises(OSError, backend.move, "elsewhere", "elsewhere/deep/in")

    def test_copy(self, backend: StorageBackend) -> None:
        """A copy is another file; changing one leaves the other."""
        self._fill(backend, "a", "b", "deep/c")
        backend.copy(self._name("a"), self._name("copied"))
        backend.save(np.full((1, 1), 5, np.uint16), self._name("a"), overwrite=True)
        assert backend.load(self._name("copied")).shape == (4, 5)
        _raises(FileExistsError, backend.copy, self._name("a"), self._name("b"))
        backend.copy("work", "again")
        backend.delete_all("work")
        assert backend.load(f"again/deep/c{self.suffix}").max() == 2

    def test_delete(self, backend: StorageBackend) -> None:
        """A folder with something in it goes only when all is to go."""
        self._fill(backend, "a", "deep/c")
        _raises(OSError, backend.delete, "work")
        backend.delete(self._name("a"))
        assert not backend.exists(self._name("a"))
        backend.delete_all("work")
        assert not backend.exists("work")
        backend.ensure_directory("empty/folder")
        backend.delete("empty/folder")
        assert backend.list_dir("empty") == []

    def test_mirror(self, backend: StorageBackend) -> None:
        """A mirror holds the same files; without recursion only those at the top."""
        self._fill(backend, "a", "b", "deep/c")
        assert backend.mirror_directory("work", "flat", recursive=False) == 2
        assert backend.list_dir("flat") == [f"a{self.suffix}", f"b{self.suffix}"]
        assert backend.mirror_directory("work", "mirror/here") == 3
        assert backend.load(f"mirror/here/deep/c{self.suffix}").max() == 2
        _raises(FileExistsError, backend.mirror_directory, "work", "mirror/here")
        assert backend.mirror_directory("work", "mirror/here", overwrite=True) == 3

    def test_threads(self, backend: StorageBackend) -> None:
        """Several threads save and load at once and each finds its own."""
        backend.ensure_directory("work")

        def round_trip(number: int) -> bool:
            path = self._name(f"t{number}")
            backend.save(np.full((16, 16), number, np.int32), path)
            return bool((backend.load(path) == number).all())

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(round_trip, range(40)))
        assert len(backend.list_files("work")) == 40

    def test_one_of_two_writers_wins(self, backend: StorageBackend) -> None:
        """Of two threads saving to one path, exactly one succeeds."""
        backend.ensure_directory("work")
        path = self._name("race")

        def attempt(number: int) -> int:
            try:
                backend.save(np.full((8, 8), number, np.int32), path)
            except FileExistsError:
                return -1
            return number

        with ThreadPoolExecutor(4) as pool:
            winners = [n for n in pool.map(attempt, range(8)) if n >= 0]
        assert len(winners) == 1
        assert (backend.load(path) == winners[0]).all()
