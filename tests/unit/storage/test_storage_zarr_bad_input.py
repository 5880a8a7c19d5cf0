"""Damage, bad luck and bad names in Zarr stores: a named error, what was stored as before."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hcsflow.config import ZarrConfig
from hcsflow.errors import HcsflowError, PathError, PlaneError, UsageError
from hcsflow.storage.zarr import ZarrStorageBackend

NAMES = [f"p.zarr/A01_s001_w{c}_z{k:03d}_t001.tif" for c in (1, 2) for k in (1, 2)]
PLANES = [np.random.default_rng(i).integers(0, 999, (64, 64)).astype("u2") for i in range(4)]
ARRAY = np.stack(PLANES)


@pytest.fixture
def backend(tmp_path):
    return ZarrStorageBackend(tmp_path)


def save_well(backend, factor=1, **options):
    backend.save_batch([plane * factor for plane in PLANES], NAMES, chunk_name="A01", **options)


def the_object(folder):
    """Return the one object of level 0 of the well, or of an array."""
    level = folder / "p.zarr" / "A" / "01" / "0" / "0"
    folder = level if level.is_dir() else folder / "a"
    (found,) = (p for p in folder.rglob("*") if p.is_file() and p.parent != folder)
    return found


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b"")


def flip_last(file):
    """Flip a bit of the checksum behind the index."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def flip_offset(file):
    """Flip a bit of the index of a shard of four chunks."""
    data = bytearray(file.read_bytes())
    data[-40] ^= 1
    file.write_bytes(data)


def spoil_chunks(file):
    data = bytearray(file.read_bytes())
    data[4:2000] = bytes(1996)
    file.write_bytes(data)


@pytest.mark.parametrize("spoil", [cut_short, empty, flip_last, flip_offset, spoil_chunks])
def test_a_damaged_shard_is_named(tmp_path, backend, spoil):
    save_well(backend)
    assert backend.verify("p.zarr").is_sound
    spoil(the_object(tmp_path))
    with pytest.raises(PlaneError, match=r"p\.zarr/A/01/0/0"):
        backend.load(NAMES[0])
    damaged = backend.verify("p.zarr").damaged
    assert list(damaged) == ["p.zarr/A/01/0/0/c/0/0/0/0"]


@pytest.mark.parametrize("spoil", [cut_short, empty, flip_last, flip_offset, spoil_chunks])
def test_a_damaged_array_is_named(tmp_path, backend, spoil):
    backend.save(ARRAY, "a")
    spoil(the_object(tmp_path))
    with pytest.raises(PlaneError, match="/a"):
        backend.load("a")
    assert list(backend.verify("").damaged) == ["a"]


@pytest.mark.parametrize("compressor", ["zstd", "lz4", "gzip", "none"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("spoil", [cut_short, empty])
def test_a_damaged_chunk_is_named(tmp_path, backend, spoil, version, compressor):
    config = ZarrConfig(chunk_strategy="file", ngff_version=version, compressor=compressor)
    backend.save(ARRAY, "a", zarr_config=config)
    backend.save(PLANES[0], "b", zarr_config=config)
    for name in "ab":
        chunk = max((tmp_path / name).rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
        spoil(chunk)
        with pytest.raises(PlaneError, match=f"/{name}"):
            backend.load(name)


def test_a_missing_object_is_not_black(tmp_path, backend):
    save_well(backend)
    the_object(tmp_path).unlink()
    with pytest.raises(PlaneError, match="missing"):
        backend.load(NAMES[0])
    assert not backend.verify("p.zarr").is_sound


def test_one_flipped_pixel_is_found_by_its_checksum(tmp_path, backend):
    save_well(backend, zarr_config=ZarrConfig(compressor="none"))
    file = the_object(tmp_path)
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    assert backend.load(NAMES[0]).shape == (64, 64)
    assert "stored as crc32c:" in backend.verify("p.zarr").damaged["p.zarr/A/01/0/0/c/0/0/0/0"]


DAMAGED_DOCUMENTS = [
    b"", b"{", b"[]", b"null", b'{"zarr_format": 3}', b'{"zarr_format": 9, "node_type": "array"}',
    b'{"zarr_format": 3, "node_type": "array"}', b"\xff\xfe", b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED_DOCUMENTS)
@pytest.mark.parametrize(("version", "name"), [("0.5", "zarr.json"), ("0.4", ".zarray")])
def test_a_damaged_document_of_an_array(tmp_path, backend, content, version, name):
    backend.save(ARRAY, "a", zarr_config=ZarrConfig(ngff_version=version))
    backend.save(ARRAY, "b")
    (tmp_path / "a" / name).write_bytes(content)
    for call in (backend.load, backend.open_array):
        with pytest.raises(PlaneError, match=name.replace(".", r"\.")):
            call("a")
    assert backend.list_files("") == ["a", "b"]  # it is listed: a listing reads no array
    assert list(backend.verify("").damaged) == ["a"]
    assert np.array_equal(backend.load("b"), ARRAY)
    backend.save(ARRAY, "a", overwrite=True)
    assert np.array_equal(backend.load("a"), ARRAY)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("filenames", [1]),
        ("filenames", {NAMES[0].split("/")[1]: ["x"]}),
        ("filenames", {NAMES[0].split("/")[1]: [99, 0, 0, 0]}),
        ("filenames", {NAMES[0].split("/")[1]: [0, 0]}),
        ("filenames", {NAMES[0].split("/")[1]: [-1, 0, 0, 0]}),
        ("shape_yx", None),
        ("shape_yx", [64, 640]),
        ("array", "../../../../etc"),
        ("array", "/etc"),
    ],
)
def test_damaged_attributes_of_a_well(tmp_path, backend, key, value):
    save_well(backend)
    file = tmp_path / "p.zarr" / "A" / "01" / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["hcsflow"][key] = value
    file.write_text(json.dumps(document))
    with pytest.raises(PlaneError, match=r"A/01"):
        backend.load(NAMES[0])


@pytest.mark.parametrize(
    "change",
    [{"shape": [-1, 2]}, {"shape": "x"}, {"chunk_grid": 3}, {"codecs": []}, {"data_type": "pixel"},
     {"codecs": [{"name": "bytes"}, {"name": "jpeg9000"}]}],
)  # fmt: skip
def test_what_an_array_says_of_itself_is_checked(tmp_path, backend, change):
    backend.save(ARRAY, "a")
    file = tmp_path / "a" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(PlaneError, match=r"zarr\.json"):
        backend.load("a")


def test_things_in_the_place_of_others(tmp_path, backend):
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("text")
    backend.save(ARRAY, "a")
    for path, kind in {
        "file": FileExistsError, "file/x": OSError, "folder": FileExistsError,
        "a/x": NotADirectoryError, "a/c/x": NotADirectoryError,
    }.items():  # fmt: skip
        with pytest.raises(kind, match=path.split("/")[0]):
            backend.save(PLANES[0], path)
        if path != "a":
            with pytest.raises(OSError, match=path.split("/")[0]):
                backend.save(PLANES[0], path, overwrite=True)
    with pytest.raises(FileNotFoundError, match="a file"):
        backend.load("file")
    with pytest.raises(IsADirectoryError, match="folder"):
        backend.load("folder")
    with pytest.raises(NotADirectoryError):
        backend.list_files("file")
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "notes.txt").read_text()
    assert np.array_equal(backend.load("a"), ARRAY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "file", "folder"]


def test_names_that_no_store_can_keep_apart(tmp_path, backend):
    pair = PLANES[:2]
    for names, chunk, says in [
        (["s/a.tif", "s/A.tif"], "x", "differ only in case"),
        (["s/a", "s/.."], "x", "cannot be called"),
        (["s/a", "s/b"], "../x", "cannot be called"),
        (["s/a", "s/b"], "", "cannot be called"),
        (["s/a", "s/b"], "x/y", "cannot be called"),
    ]:
        with pytest.raises(UsageError, match=says):
            backend.save_batch(pair, names, chunk_name=chunk)
    for names in (["../s/a", "../s/b"], ["s/../../a", "s/../../b"]):
        with pytest.raises(PathError):
            backend.save_batch(pair, names, chunk_name="x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value",
    ["text", b"bytes", {"a": 1}, None, pd.DataFrame({"a": [1]}), np.array(["a"]),
     np.array([object()]), np.array([1], "M8[s]"), [1, "a"], np.zeros(2, np.longdouble)],
)  # fmt: skip
def test_what_zarr_cannot_hold(tmp_path, backend, value):
    with pytest.raises(UsageError, match="zarr"):
        backend.save(value, "deep/a")
    assert list(tmp_path.iterdir()) == []


def test_byte_order_is_kept_as_values(backend):
    backend.save(np.arange(5, dtype=">u2"), "a")
    assert backend.load("a").tolist() == [0, 1, 2, 3, 4]


def contents(folder):
    """Return every folder and file below a folder, files with their bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


FAILURE = {"left": None, "errno": 0, "folder": ""}


def _fail(event, arguments):
    """Refuse the n-th change to the file system below a folder, and all that follow."""
    is_change = event in ("os.mkdir", "os.rename") or (
        event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+")
    )
    if FAILURE["left"] is None or not is_change or isinstance(arguments[0], int):
        return
    if os.fspath(arguments[0]).startswith(FAILURE["folder"]):
        FAILURE["left"] -= 1
        if FAILURE["left"] < 0 and event != "os.rename":
            raise OSError(FAILURE["errno"], os.strerror(FAILURE["errno"]), arguments[0])


sys.addaudithook(_fail)


@contextmanager
def failing(folder, after, code):
    FAILURE.update(left=after, errno=code, folder=str(folder))
    try:
        yield
    finally:
        FAILURE["left"] = None


def refused(folder, after, code, save, backend, overwrite):
    """Return the error of saving where the system refuses; None where it comes through."""
    try:
        with failing(folder, after, code):
            save(backend, 2, overwrite=overwrite)
    except OSError as error:
        return error
    return None


def save_array(backend, factor, **options):
    backend.save(ARRAY * factor, "deep/a", **options)


def save_stack(backend, factor, **options):
    names = [f"deep/s/plane{i}" for i in range(4)]
    backend.save_batch([plane * factor for plane in PLANES], names, chunk_name="x", **options)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("save", [save_array, save_stack, save_well])
def test_a_write_that_fails_anywhere_leaves_what_was_there(tmp_path, save, version):
    for is_there, code in ((False, errno.ENOSPC), (True, errno.EACCES)):
        folder = tmp_path / str(is_there)
        folder.mkdir()
        config = ZarrConfig(ngff_version=version, chunk_strategy="file")
        backend = ZarrStorageBackend(folder, config=config)
        if is_there:
            save(backend, 1)
        before = contents(folder)
        failures = 0
        while (error := refused(folder, failures, code, save, backend, is_there)) is not None:
            assert error.errno == code
            assert str(folder) in str(error)
            assert "hcsflow-part" not in str(error)
            assert contents(folder) == before
            failures += 1
        assert failures > 3
        assert contents(folder) != before


@pytest.mark.parametrize("save", [save_array, save_stack, save_well])
def test_a_disk_that_fills_leaves_what_was_there(tmp_path, backend, save):
    save(backend, 1)
    before = contents(tmp_path)
    largest = max(len(data) for data in before.values() if data)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 10, 700, 4000, largest - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
        try:
            with pytest.raises(OSError, match="large") as caught:
                save(backend, 1, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert caught.value.errno == errno.EFBIG
        assert str(tmp_path) in str(caught.value)
        assert "hcsflow-part" not in str(caught.value)
        assert contents(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are POSIX's")
def test_no_permission_is_said_with_the_file():
    """In a process that is not root, which may write anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        backend = ZarrStorageBackend(store)
        backend.save(ARRAY, "a")
        save_well(backend)
        Path(folder).chmod(0o755)
        folders = [store, *(place for place in store.rglob("*") if place.is_dir())]
        for place in folders:
            place.chmod(0o555)
        before = contents(store)
        code = (
            "import os, sys, tempfile, numpy as np\n"
            "from hcsflow.storage.zarr import ZarrStorageBackend\n"
            "store, name = sys.argv[1:]\n"
            "array, well = np.ones((2, 2)), dict(chunk_name='A01', overwrite=True)\n"
            "with tempfile.TemporaryDirectory() as folder:\n"  # root's Python is loaded by then
            "    backend = ZarrStorageBackend(folder)\n"
            "    backend.save_batch([array], [name], **well), backend.load(name)\n"
            "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "backend = ZarrStorageBackend(store)\n"
            "calls = [lambda: backend.save(array, 'b'), lambda: backend.delete('a'),\n"
            "         lambda: backend.save(array, 'a', overwrite=True),\n"
            "         lambda: backend.write_attributes('a', {'x': 1}),\n"
            "         lambda: backend.save_batch([array], [name], **well)]\n"
            "for call in calls:\n"
            "    try: call()\n"
            "    except PermissionError as error: print(os.path.relpath(error.filename, store))\n"
            "print(backend.load('a').shape, backend.load(name).shape)\n"
        )
        command = [sys.executable, "-c", code, str(store), NAMES[0]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for place in folders:
            place.chmod(0o755)
        said = ["b", "a", "a", "a/zarr.json", "p.zarr/A/01", "(4, 64, 64) (64, 64)", ""]
        assert done.stdout.split("\n") == said, done.stderr
        assert contents(store) == before


def test_every_error_is_one_of_ours_or_the_systems(tmp_path, backend):
    """Random bytes anywhere in a store never give another error."""
    save_well(backend)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    rng = np.random.default_rng(1)
    for file in files:
        original = file.read_bytes()
        for _ in range(15):
            data = bytearray(original)
            at = int(rng.integers(len(data)))
            data[at : at + 3] = rng.bytes(3)
            Path(file).write_bytes(data)
            for call in (lambda: backend.load(NAMES[1]), lambda: backend.load("p.zarr/A/01/0/0")):
                with suppress(HcsflowError, OSError):
                    call()
        file.write_bytes(original)
