"""Paths over strings of every kind: what stays inside a root, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from natsort import natsorted

from hcsflow.errors import PathError
from hcsflow.storage.paths import contained, located, logical, natural, portable

SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

PARTS = st.sampled_from(
    [
        "..", ".", "", "...", "..x", "x..", "~", "~root", "$HOME", "a", "A", "folder", "plane.tif",
        "C:", "c:x", "\\", "..\\..", "\\\\server\\share", "C:\\Windows", "a\\..\\b", "\0", "x\0y",
        "\n", " ", "é", "e\u0301", "\u2024\u2024", "\uff0e\uff0e", "\ud800", "\udcff", "n" * 300,
        "in", "out", "out_file", "loop", "up", "deep", "gone", "etc",
    ]
)  # fmt: skip
ROUGH = st.builds(
    lambda start, parts, separator, end: start + separator.join(parts) + end,
    st.sampled_from(["", "", "/", "//", "///", "\\\\", "C:\\", "C:", "./", "../", "//?/C:/"]),
    st.lists(PARTS, max_size=6),
    st.sampled_from(["/", "/", "//", "\\"]),
    st.sampled_from(["", "", "/", "/.", "/.."]),
)
PATHS = st.one_of(ROUGH, st.text(max_size=12), st.text(alphabet="/.\\ab~:", max_size=12))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with links to what is inside and outside of it."""
    base = tmp_path_factory.mktemp("paths")
    (base / "outside").mkdir()
    (base / "outside" / "plane.tif").write_bytes(b"secret")
    (base / "root-2").mkdir()
    inside = base / "root"
    (inside / "folder").mkdir(parents=True)
    (inside / "plane.tif").write_bytes(b"pixels")
    (inside / "folder" / "plane.tif").write_bytes(b"pixels")
    (inside / "in").symlink_to("folder")
    (inside / "out").symlink_to(base / "outside")
    (inside / "out_file").symlink_to("../outside/plane.tif")
    (inside / "loop").symlink_to("loop")
    (inside / "up").symlink_to("..")
    (inside / "deep").symlink_to("in/../../root-2")
    (inside / "gone").symlink_to(base / "nothing")
    return inside


def is_inside(path, root):
    real, base = os.path.realpath(path), os.path.realpath(root)
    return os.path.commonpath([real, base]) == base


@SETTINGS
@given(PATHS)
@example("out/plane.tif")
@example("up/outside/plane.tif")
@example("deep")
@example("folder/../../outside")
def test_what_is_contained_lies_inside_and_nothing_else_is_opened(root, path):
    try:
        found = contained(root, path)
    except PathError:
        return
    assert is_inside(found, root)
    assert found == root / path
    try:
        content = found.read_bytes()
    except OSError:
        return
    assert content == b"pixels"


@SETTINGS
@given(PATHS)
def test_a_located_path_lies_in_its_base_however_it_is_written(root, path):
    for given_path in (path, f"{root}/{path}"):
        try:
            found = located(root, given_path)
        except PathError:
            continue
        assert is_inside(found, root)


@SETTINGS
@given(PATHS)
@example("folder/../plane.tif")
def test_a_contained_path_is_one_that_needs_no_way_up(root, path):
    is_refused = path.startswith("/") or ".." in path.split("/") or "\0" in path
    if is_refused:
        with pytest.raises(PathError):
            contained(root, path)


@given(PATHS)
def test_the_logical_form_is_normal_and_final(path):
    parts = path.split("/")
    if ".." in parts:
        with pytest.raises(PathError, match="leads upwards"):
            logical(path)
        return
    found = logical(path)
    assert found == "/".join(part for part in parts if part not in ("", "."))
    assert logical(found) == logical("/" + found) == logical(f"./{found}/") == found
    assert found in ("", str(PurePosixPath(found)))


@given(PATHS)
@example("./C:/Windows")
@example("./~/x")
def test_a_portable_path_is_relative_on_every_system(path):
    try:
        found = portable(path)
    except PathError:
        return
    windows = PureWindowsPath(found)
    assert not windows.anchor
    assert not PurePosixPath(found).is_absolute()
    assert ".." not in windows.parts
    assert windows.as_posix() in (found, ".")
    assert "\0" not in found


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "//server/share/x", "C:/x", "c:x", "C:\\x", "\\\\server\\share\\x", "\\x",
        "\\\\?\\C:\\x", "..", "../x", "a/../x", "a/..", "a\\..\\x", "a\\x", "~/x", "~root/x",
        "x\0.tif", "x\n.tif", "./C:/x", ".//~/x", "1:x", "é:x",
    ],
)  # fmt: skip
def test_what_no_document_may_lead_to(path):
    with pytest.raises(PathError, match=r"on every system|leads upwards"):
        portable(path)


@pytest.mark.parametrize("path", ["a/b.tif", "Images/..x", "x..", "...", "a/~", "a b", "é.tif"])
def test_what_a_document_may_lead_to(path):
    assert portable(path) == path


def test_messages_name_the_link(root):
    with pytest.raises(PathError, match=r"'out_file' leads out of .* by a link, to .*outside"):
        contained(root, "out_file")
    assert contained(root, "in/plane.tif").read_bytes() == b"pixels"
    with pytest.raises(OSError, match="symbolic links"):
        contained(root, "loop/plane.tif").read_bytes()


def test_a_neighbour_with_a_longer_name_is_outside(root):
    neighbour = root / "neighbour"
    neighbour.symlink_to(root.with_name("root-2"))
    with pytest.raises(PathError, match="by a link"):
        contained(root, "neighbour")
    with pytest.raises(PathError):
        located(root, str(root) + "-2/../outside")
    assert is_inside(located(root, str(root) + "-2"), root)


def test_a_tilde_is_a_character(root):
    assert contained(root, "~") == root / "~"
    assert contained(Path("/"), "etc") == Path("/etc")


@given(st.lists(st.one_of(st.text(max_size=6), st.text(alphabet="aB012 ._-/+e", max_size=8))))
def test_natural_order_is_that_of_natsort(names):
    assert natural(names) == natsorted(sorted(names))


@given(st.lists(st.text(alphabet="ab01²", max_size=4)), st.randoms(use_true_random=False))
def test_natural_order_does_not_depend_on_the_order_given(names, random):
    shuffled = random.sample(names, len(names))
    assert natural(shuffled) == natural(names)
    assert natural(["a1", "a01", "a001"]) == ["a001", "a01", "a1"]
