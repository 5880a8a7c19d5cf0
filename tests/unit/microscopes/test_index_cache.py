"""A plate's index that is kept: used while it holds, never otherwise, never harmful."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from stat import S_ISDIR

import numpy as np
import pytest
import tifffile

from hcsflow.errors import PlateError, PlateNotFoundError
from hcsflow.microscopes import checked_pixel_size, index_cache, open_plate
from hcsflow.microscopes.index_cache import open_plate_again, sign_folder
from hcsflow.testing.plates import write_imagexpress_plate

KEPT = "hcsflow/index"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of its own, and plates that count as settled as soon as they are written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "SETTLED_NS", 0)
    return tmp_path / "cache" / KEPT


@pytest.fixture
def plate(tmp_path):
    root = tmp_path / "plate"
    write_imagexpress_plate(root, wells=("A01", "B02"), fields=2, channels=2, z=2, size=32)
    return root


@pytest.fixture
def opened(monkeypatch):
    """Count how often a plate is really opened."""
    calls = []
    original = index_cache.microscopes.open_plate

    def counted(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(index_cache.microscopes, "open_plate", counted)
    return calls


def images(plate):
    return sorted(path for path in plate.rglob("*") if path.suffix.lower() == ".tif")


def overwrite(path, plane):
    """Write other pixels over a file, which leaves its folder as it is."""
    content = io.BytesIO()
    tifffile.imwrite(content, plane)
    path.write_bytes(content.getvalue())


def test_an_index_is_kept_and_equals_a_new_one(cache, plate, opened):
    first = open_plate_again(plate)
    kept = open_plate_again(plate)
    assert len(opened) == 1
    assert kept == first == open_plate(plate)
    assert not kept[1].keys.flags.writeable
    assert [path.suffix for path in cache.iterdir()] == [".index"]
    assert open_plate_again(plate, is_every_file_checked=False) == first
    assert len(opened) == 1


def test_projections_faults_and_odd_names_are_kept(cache, projection_mix, tmp_path, opened):
    root = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(projection_mix, root)
    first = open_plate_again(root)
    assert first[1].projections
    assert open_plate_again(root) == first
    assert len(opened) == 1


def test_nothing_is_written_into_the_plate(cache, plate, hash_tree):
    before = hash_tree(plate), plate.stat().st_mtime_ns
    open_plate_again(plate)
    open_plate_again(plate)
    assert (hash_tree(plate), plate.stat().st_mtime_ns) == before
    assert cache.is_dir()


def add(plate):
    image = images(plate)[0]
    shutil.copy(image, image.with_name(image.name.replace("_w1", "_w3")))


def remove(plate):
    images(plate)[0].unlink()


def rename(plate):
    image = images(plate)[0]
    image.rename(image.with_name(image.name.replace("A01", "C03")))


def new_folder(plate):
    folder = images(plate)[0].parent
    shutil.copytree(folder, folder.with_name("ZStep_9"))


def new_htd(plate):
    htd = next(plate.glob("*.HTD"))
    htd.write_bytes(htd.read_bytes().replace(b'"WaveName1", "', b'"WaveName1", "X'))


def hidden_in_time(plate):
    """Add a file and set its folder's time back, as some copying programs do."""
    folder = images(plate)[0].parent
    before = folder.stat()
    add(plate)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [add, remove, rename, new_folder, new_htd, hidden_in_time])
@pytest.mark.parametrize("is_every_file_checked", [False, True])
def test_a_plate_that_changed_is_indexed_anew(cache, plate, change, is_every_file_checked):
    before = open_plate_again(plate)
    change(plate)
    found = open_plate_again(plate, is_every_file_checked=is_every_file_checked)
    assert found == open_plate(plate)
    assert found != before


def test_another_acquisition_is_noticed(cache, plate):
    open_plate_again(plate)
    shutil.copytree(images(plate)[0].parent, plate / "later" / "TimePoint_1" / "ZStep_1")
    with pytest.raises(PlateError, match="2 acquisitions"):
        open_plate_again(plate, is_every_file_checked=False)


def test_a_plane_overwritten_in_place(cache, plate, opened):
    open_plate_again(plate)
    for image in images(plate):
        overwrite(image, np.zeros((32, 32), np.uint16))
    assert open_plate_again(plate)[1] == open_plate(plate)[1]
    opened.clear()
    overwrite(images(plate)[-1], np.ones((32, 32), np.uint16))  # not of the well that is opened
    open_plate_again(plate, is_every_file_checked=False)
    assert not opened
    found = open_plate_again(plate)
    assert len(opened) == 1
    assert found[1] == open_plate(plate)[1]


def test_a_well_that_was_opened_for_its_labels_is_always_looked_at(cache, plate):
    before = open_plate_again(plate, is_every_file_checked=False)
    for image in images(plate):
        overwrite(image, np.zeros((16, 16), np.uint16))
    after = open_plate_again(plate, is_every_file_checked=False)
    assert before[0].shape_yx == (32, 32)
    assert after[0].shape_yx == (16, 16)


def test_a_plate_that_is_being_acquired_is_not_kept(cache, plate, opened, monkeypatch):
    monkeypatch.setattr(index_cache, "SETTLED_NS", 3_600_000_000_000)
    assert sign_folder(plate) is None
    open_plate_again(plate)
    add(plate)
    assert open_plate_again(plate) == open_plate(plate)
    assert len(opened) == 2
    assert not cache.exists()


def test_a_change_while_it_is_indexed_is_noticed_the_next_time(cache, plate, monkeypatch):
    original = index_cache.microscopes.open_plate

    def grows(*arguments, **options):
        found = original(*arguments, **options)
        add(plate)
        return found

    monkeypatch.setattr(index_cache.microscopes, "open_plate", grows)
    open_plate_again(plate)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent.parent))
    assert open_plate_again(plate) == open_plate(plate)


def test_a_plate_with_links_is_not_kept(cache, plate, tmp_path, opened):
    image = images(plate)[0]
    image.rename(plate / "moved.tif.bak")
    image.symlink_to(plate / "moved.tif.bak")
    assert open_plate_again(plate) == open_plate_again(plate)
    assert len(opened) == 2
    image.unlink()
    image.symlink_to(tmp_path / "outside.tif")
    assert sign_folder(plate) is None


def test_options_have_an_index_each(cache, plate):
    default = open_plate_again(plate)
    given = open_plate_again(plate, pixel_size_um=0.5)
    assert given[0].pixel_size.um == 0.5
    assert open_plate_again(plate) == default
    assert open_plate_again(plate, pixel_size_um=0.5) == given
    assert len(list(cache.iterdir())) == 2
    with pytest.raises(PlateError, match="no acquisition"):
        open_plate_again(plate, acquisition="other")


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "foreign", "folder"])
def test_a_damaged_index_is_made_anew(cache, plate, opened, damage):
    expected = open_plate_again(plate)
    (kept,) = cache.iterdir()
    content = bytearray(kept.read_bytes())
    if damage == "cut":
        kept.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        kept.write_bytes(b"")
    elif damage == "bit":
        content[len(content) // 2] ^= 1
        kept.write_bytes(content)
    elif damage == "foreign":
        kept.write_bytes(b"PK\x03\x04 not what it seems")
    else:
        kept.unlink()
        kept.mkdir()
    assert open_plate_again(plate) == expected
    assert len(opened) == 2
    assert open_plate_again(plate) == expected
    assert len(opened) == (3 if damage == "folder" else 2)


def test_a_cache_folder_that_cannot_be_used_does_no_harm(tmp_path, plate, monkeypatch):
    monkeypatch.setattr(index_cache, "SETTLED_NS", 0)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_plate_again(plate) == open_plate_again(plate) == open_plate(plate)


def test_what_was_used_longest_ago_is_dropped(cache, tmp_path, monkeypatch, opened):
    plates = [tmp_path / f"plate_{number}" for number in range(4)]
    for root in plates:
        write_imagexpress_plate(root, wells=("A01",), fields=1, channels=1, z=1, size=32)
    for age, root in enumerate(plates[:3]):
        before = set(cache.glob("*"))
        open_plate_again(root)
        (kept,) = set(cache.iterdir()) - before
        os.utime(kept, (time.time() - 60 - age, time.time() - 60 - age))
    (tmp_path / "cache" / KEPT / "left_by_a_crash.tmp").write_bytes(b"x" * 10_000)
    os.utime(tmp_path / "cache" / KEPT / "left_by_a_crash.tmp", (0, 0))
    open_plate_again(plates[2])  # now the newest
    size = max(path.stat().st_size for path in cache.glob("*.index"))
    monkeypatch.setattr(index_cache, "LIMIT_BYTES", 2 * size + 100)
    open_plate_again(plates[3])
    assert len(list(cache.iterdir())) == 2
    opened.clear()
    open_plate_again(plates[2])
    open_plate_again(plates[3])
    assert not opened
    open_plate_again(plates[0])
    assert len(opened) == 1


def test_a_plate_moved_to_another_place_has_no_index(cache, plate, tmp_path, opened):
    open_plate_again(plate)
    plate.rename(tmp_path / "moved")
    with pytest.raises(PlateNotFoundError):
        open_plate_again(plate)
    assert open_plate_again(tmp_path / "moved")[1].root == str(tmp_path / "moved")
    write_imagexpress_plate(plate, wells=("C01",), fields=1, channels=1, z=1, size=32)
    assert open_plate_again(plate)[0].wells == ("C01",)


def test_many_processes_may_keep_the_same_index(cache, plate):
    code = (
        "import sys; from hcsflow.microscopes import index_cache as c; c.SETTLED_NS = 0\n"
        "for _ in range(20):\n"
        "    assert len(c.open_plate_again(sys.argv[1])[1]) == 16\n"
        "    for file in c.IndexCache().folder.glob('*.index'): file.unlink(missing_ok=True)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, plate], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in running:
        assert process.communicate(timeout=120)[1] == ""
        assert process.returncode == 0
    assert open_plate_again(plate) == open_plate(plate)
    assert not list(cache.glob("*.tmp"))


@pytest.mark.parametrize(
    "size",
    [0.5, np.float64(0.5), np.float32(0.5), np.float16(0.5), Fraction(1, 2), Decimal("0.5")],
    ids=repr,
)
def test_a_pixel_size_of_any_number_is_one_plain_float(cache, plate, opened, size):
    first = open_plate_again(plate, pixel_size_um=0.5)
    assert open_plate_again(plate, pixel_size_um=size) == first
    assert open_plate(plate, pixel_size_um=size) == first
    assert type(first[0].pixel_size.um) is type(checked_pixel_size(size)) is float
    assert len(opened) == 1


def test_whole_numbers_are_pixel_sizes_too(cache, plate):
    for one in (1, np.int64(1), np.uint8(1)):
        assert open_plate_again(plate, pixel_size_um=one)[0].pixel_size.um == 1.0
    assert len(list(cache.iterdir())) == 1


def test_options_that_json_cannot_hold_do_no_harm(cache, plate, opened):
    indices = index_cache.IndexCache()
    found = open_plate(plate)
    odd = (None, Path("acquisition"), None)
    indices.save(plate, odd, sign_folder(plate), found)
    assert indices.load(plate, odd, is_every_file_checked=True) is None


def test_without_a_home_nothing_is_kept_and_nothing_is_in_the_plate(plate, hash_tree):
    code = (
        "import os, pwd, sys\n"
        "def nobody(*_): raise KeyError\n"
        "pwd.getpwuid = nobody\n"
        "from hcsflow.microscopes import index_cache as c; c.SETTLED_NS = 0\n"
        "os.chdir(sys.argv[1])\n"
        "for _ in range(2): assert len(c.open_plate_again('.')[1]) == 16\n"
    )
    before = hash_tree(plate), sorted(plate.rglob("*"))
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")
    }
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code, plate], check=True, env=environment, timeout=120)
    assert (hash_tree(plate), sorted(plate.rglob("*"))) == before


def test_a_cache_folder_inside_the_plate_is_not_used(plate, tmp_path, monkeypatch, hash_tree):
    monkeypatch.setattr(index_cache, "SETTLED_NS", 0)
    (tmp_path / "link").symlink_to(plate)
    before = hash_tree(plate)
    for folder in (plate, plate / "deeper", tmp_path / "link" / "cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        assert open_plate_again(plate) == open_plate_again(plate)
        assert hash_tree(plate) == before
        assert sorted(path.name for path in plate.iterdir() if path.is_dir()) == ["TimePoint_1"]


@pytest.mark.parametrize("change", [add, remove, rename, new_folder])
def test_names_are_compared_where_the_times_of_folders_do_not_follow(
    cache, plate, monkeypatch, change
):
    """A file system whose folders always have the same size and times, as some by FUSE."""
    original = Path.stat

    def frozen(path, **options):
        facts = original(path, **options)
        if not S_ISDIR(facts.st_mode):
            return facts
        times = {"st_mtime_ns": 10**18, "st_ctime_ns": 10**18}
        return os.stat_result((*facts[:6], 0, *facts[7:]), times)

    monkeypatch.setattr(Path, "stat", frozen)
    before = open_plate_again(plate)
    assert open_plate_again(plate) == before
    change(plate)
    assert open_plate_again(plate) == open_plate(plate) != before


@pytest.mark.parametrize("what", ["version", "parser"])
def test_an_index_of_other_code_is_not_taken(cache, plate, opened, monkeypatch, tmp_path, what):
    open_plate_again(plate)
    if what == "version":
        monkeypatch.setattr(index_cache, "version", lambda _: "0.0.0+other")
    else:
        changed = tmp_path / "tiff_header.py"
        changed.write_bytes(Path(index_cache.tiff_header.__file__).read_bytes() + b"\n# other\n")
        monkeypatch.setattr(index_cache.tiff_header, "__file__", str(changed))
    index_cache._code_state.cache_clear()
    try:
        open_plate_again(plate)
    finally:
        index_cache._code_state.cache_clear()
    assert len(opened) == 2


def test_code_that_was_only_touched_is_the_same(monkeypatch, tmp_path):
    copy = tmp_path / "tiff_header.py"
    before = index_cache._code_state()
    copy.write_bytes(Path(index_cache.tiff_header.__file__).read_bytes())
    monkeypatch.setattr(index_cache.tiff_header, "__file__", str(copy))
    assert index_cache._code_state.__wrapped__() == before
