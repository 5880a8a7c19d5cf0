"""Unfinished folders: nobody is told their names, and those of killed writers go."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from hcsflow.storage import zarr_commit
from hcsflow.storage.zarr import ZarrStorageBackend
from hcsflow.storage.zarr_nodes import PART

RNG = np.random.default_rng(0)
ARRAY = RNG.integers(0, 999, (2, 64, 64)).astype("u2")
NAMES = [f"p.zarr/B03_s001_w{c}_z001_t001.tif" for c in (1, 2)]


@pytest.mark.parametrize("name", ["copy", "mirror_directory"])
def test_a_full_disk_names_the_copy(tmp_path, name):
    backend = ZarrStorageBackend(tmp_path)
    backend.save(ARRAY, "s/a")
    copy = getattr(backend, name)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
    try:
        with pytest.raises(OSError, match="large") as caught:
            copy("s", "t")  # names where it came from too
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert caught.value.errno == errno.EFBIG
    assert str(tmp_path / "t") in str(caught.value)
    assert PART not in str(caught.value)
    assert not list(tmp_path.rglob(f"*{PART}"))


WRITER = """
import sys
import numpy as np
from hcsflow.storage.zarr import ZarrStorageBackend
from hcsflow.storage import zarr_writing

def stay(*_, **__):
    print("writing", flush=True)
    sys.stdin.readline()

zarr_writing.write_well.__globals__["write_well_documents"] = stay
backend = ZarrStorageBackend(sys.argv[1])
names = [f"p.zarr/B04_s001_w{c}_z001_t001.tif" for c in (1, 2)]
backend.save_batch(list(np.ones((2, 8, 8), "u2")), names, chunk_name="B04")
"""


@pytest.fixture
def writer(tmp_path):
    """Return a process that is writing well B04 of p.zarr."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="whether a process lives is asked on Linux")
def test_what_a_killed_writer_left_goes_and_a_live_one_keeps_it(tmp_path, writer):
    backend = ZarrStorageBackend(tmp_path)
    backend.save_batch(list(ARRAY), NAMES, chunk_name="B03")
    row = tmp_path / "p.zarr" / "B"
    (part,) = row.glob(f".*{PART}")
    foreign = row / part.name.replace(".", ".another", 1)
    unnamed = row / f".0123456789abcdef{PART}"  # e.g. a folder being moved: the only copy
    for folder in (foreign, unnamed):
        folder.mkdir()
    backend.finish_plate("p.zarr")
    assert part.is_dir()
    writer.kill()
    writer.wait()
    assert backend.finish_plate("p.zarr") == ("B03",)
    assert sorted(row.glob(f".*{PART}")) == sorted([foreign, unnamed])
    assert np.array_equal(backend.load(NAMES[1]), ARRAY[1])


@pytest.mark.skipif(sys.platform != "linux", reason="whether a process lives is asked on Linux")
def test_it_goes_with_the_first_array_that_a_process_saves_beside_it(tmp_path):
    draft = zarr_commit._draft_of(tmp_path / "a")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    stale = draft.with_name(draft.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    for folder in (draft, stale):
        (folder / "c").mkdir(parents=True)
    ZarrStorageBackend(tmp_path).save(ARRAY, "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == [draft.name, "b"]
