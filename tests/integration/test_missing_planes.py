"""Planes that are not there, or that nobody may read: what is stored instead, and what is said.

Pixels encode their key, so that a plane filled, skipped or moved shows by its value.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import zarr

import hcsflow as hf
from hcsflow.contracts import contract
from hcsflow.pipeline import DROP
from hcsflow.testing.plates import KeyCode, key_coded_plate

SIZE = 32
GOOD, BAD = "A01", "A02"
FIELDS, CHANNELS, Z = 4, 2, 3
FILL = 60_000

Mosaic = np.ndarray[Any, Any]


class Keyed(NamedTuple):
    """A plate that a test may damage."""

    root: Path
    code: KeyCode

    def files(self, part: str, well: str = BAD) -> list[Path]:
        """The files whose path holds a part, e.g. ``_s2_w1``, of one z step if ``ZStep_`` leads."""
        step, _, name = part.rpartition("/")
        return sorted(
            p for p in self.root.rglob("*.[tT][iI][fF]")
            if f"{well}_" in p.name and name in p.name and step in p.parts[-2]
        )  # fmt: skip

    def lose(self, part: str) -> Path:
        """Delete one file and return its path."""
        (file,) = self.files(part)
        file.unlink()
        return file

    def run(self, out: Path, *steps: hf.FunctionStep, **settings: Any) -> hf.Run:
        config = hf.GlobalPipelineConfig(**settings)
        plate = hf.open_plate(self.root)
        return hf.compile(hf.Pipeline(steps), plate, output=out, config=config).run("threads")

    def cells(self) -> list[tuple[slice, slice]]:
        """Where each field lies in a mosaic."""
        return [
            (slice(r * SIZE, (r + 1) * SIZE), slice(c * SIZE, (c + 1) * SIZE))
            for r, c in hf.open_plate(self.root).model.grid.cells
        ]

    def expected(self, well: str = BAD) -> Mosaic:
        """The mosaic (c, z, y, x) of a well without faults."""
        cells = self.cells()
        height, width = (max(cell[axis].stop for cell in cells) for axis in (0, 1))
        mosaic = np.zeros((CHANNELS, Z, height, width), np.uint16)
        number = (GOOD, BAD).index(well)
        for field, cell in enumerate(cells):
            for c, z in np.ndindex(CHANNELS, Z):
                mosaic[(c, z, *cell)] = self.code.value(number, field, 0, c, z)
        return mosaic


@pytest.fixture
def keyed(tmp_path: Path) -> Keyed:
    """Two wells × 4 fields × 2 channels × 3 z."""
    root = tmp_path / "PLATE"
    code = key_coded_plate(
        root, wells=(GOOD, BAD), fields=FIELDS, channels=CHANNELS, z=Z, size=SIZE
    )
    return Keyed(root, code)


def stored(out: Path, well: str = BAD, level: int = 0) -> Mosaic:
    return np.asarray(zarr.open_array(out / f"images.zarr/A/{well[1:]}/0/{level}", mode="r")[:])


def keep(stack: Mosaic) -> Mosaic:
    return stack


def plus_one(stack: Mosaic) -> Mosaic:
    return np.asarray(stack + np.uint16(1))


@contract(z_out="one")
def top(stack: Mosaic) -> Mosaic:
    return np.asarray(stack.max(axis=0, keepdims=True))


@contract(z_out="one")
def bottom(stack: Mosaic) -> Mosaic:
    return np.asarray(stack.min(axis=0, keepdims=True))


def test_fill_puts_its_value_at_the_missing_plane_and_nowhere_else(
    keyed: Keyed, tmp_path: Path
) -> None:
    keyed.lose("ZStep_3/_s2_w1")
    run = keyed.run(tmp_path / "out", hf.FunctionStep(keep), missing="fill", fill_value=FILL)
    assert run.failures.empty
    wanted = keyed.expected()
    wanted[(0, 2, *keyed.cells()[1])] = FILL
    np.testing.assert_array_equal(stored(tmp_path / "out"), wanted)
    np.testing.assert_array_equal(stored(tmp_path / "out", GOOD), keyed.expected(GOOD))


def test_a_filled_plane_takes_part_in_a_projection(keyed: Keyed, tmp_path: Path) -> None:
    """The maximum of its stack is the fill value; the minimum still that of the other planes."""
    keyed.lose("ZStep_1/_s3_w2")
    there = (1, 0, *keyed.cells()[2])
    for func, value in ((top, FILL), (bottom, keyed.code.value(1, 2, 0, 1, 1))):
        out = tmp_path / func.__name__
        run = keyed.run(out, hf.FunctionStep(func), missing="fill", fill_value=FILL)
        assert run.failures.empty
        wanted = keyed.expected()
        wanted = (wanted.max if func is top else wanted.min)(axis=1, keepdims=True)
        wanted[there] = value
        np.testing.assert_array_equal(stored(out).reshape(wanted.shape), wanted)


def test_a_filled_channel_is_even_and_the_other_exact(keyed: Keyed, tmp_path: Path) -> None:
    for file in keyed.files("_w2"):
        file.unlink()
    run = keyed.run(tmp_path / "out", hf.FunctionStep(keep), missing="fill", fill_value=7)
    assert run.failures.empty
    wanted = keyed.expected()
    wanted[1] = 7
    np.testing.assert_array_equal(stored(tmp_path / "out"), wanted)


def present(out: Path, well: str = BAD, level: int = 0) -> list[bool]:
    """Return, for each inner chunk of the only shard in C order, whether it is there.

    A shard ends in an index of (offset, nbytes) per chunk and a checksum of 4 bytes; an absent
    chunk has 2**64 - 1 for both (Zarr's sharding codec, binary shard format).
    """
    folder = out / f"images.zarr/A/{well[1:]}/0/{level}"
    array = zarr.open_array(folder, mode="r")
    assert array.shards is not None
    (shard,) = [p for p in (folder / "c").rglob("*") if p.is_file()]
    count = int(np.prod([s // c for s, c in zip(array.shards, array.chunks, strict=True)]))
    index = np.frombuffer(shard.read_bytes()[-4 - 16 * count : -4], "<u8").reshape(count, 2)
    return [bool(row) for row in (index != 2**64 - 1).all(axis=1)]


def absent_places(out: Path, well: str = BAD) -> set[tuple[int, ...]]:
    """Return the chunk indices (c, z, y, x) that are not stored."""
    array = zarr.open_array(out / f"images.zarr/A/{well[1:]}/0/0", mode="r")
    grid = tuple(s // c for s, c in zip(array.shards or (), array.chunks, strict=True))
    return {
        tuple(int(i) for i in np.unravel_index(n, grid))
        for n, there in enumerate(present(out, well)) if not there
    }  # fmt: skip


def place_of(keyed: Keyed, field: int) -> tuple[int, int]:
    return hf.open_plate(keyed.root).model.grid.cells[field]


def test_skip_leaves_out_the_touched_stack_and_nothing_else(keyed: Keyed, tmp_path: Path) -> None:
    """A stack over z that lacks a plane is not processed: its planes are absent, and read as 0."""
    keyed.lose("ZStep_2/_s2_w1")
    out = tmp_path / "out"
    run = keyed.run(out, hf.FunctionStep(keep), hf.FunctionStep(plus_one), missing="skip")
    assert run.failures.empty
    wanted = keyed.expected() + 1
    wanted[(0, slice(None), *keyed.cells()[1])] = 0
    np.testing.assert_array_equal(stored(out), wanted)
    np.testing.assert_array_equal(stored(out, GOOD), keyed.expected(GOOD) + 1)
    assert absent_places(out) == {(0, z, *place_of(keyed, 1)) for z in range(Z)}
    assert absent_places(out, GOOD) == set()


def test_skip_of_single_planes_leaves_out_one_plane(keyed: Keyed, tmp_path: Path) -> None:
    keyed.lose("ZStep_2/_s2_w1")
    out = tmp_path / "out"
    step = hf.FunctionStep(plus_one, variable_components=["field"])
    run = keyed.run(out, step, missing="skip")
    assert run.failures.empty
    wanted = keyed.expected() + 1
    wanted[0, 1] = 0
    np.testing.assert_array_equal(stored(out), wanted)
    assert absent_places(out) == {(0, 1, *place_of(keyed, f)) for f in range(FIELDS)}


def test_skip_under_a_projection(keyed: Keyed, tmp_path: Path) -> None:
    keyed.lose("ZStep_3/_s4_w2")
    out = tmp_path / "out"
    run = keyed.run(out, hf.FunctionStep(top), hf.FunctionStep(plus_one), missing="skip")
    assert run.failures.empty
    wanted = keyed.expected().max(axis=1) + 1
    wanted[(1, *keyed.cells()[3])] = 0
    np.testing.assert_array_equal(stored(out).reshape(wanted.shape), wanted)
    assert len(absent_places(out)) == 1


def test_skip_of_a_whole_channel(keyed: Keyed, tmp_path: Path) -> None:
    for file in keyed.files("_w1"):
        file.unlink()
    out = tmp_path / "out"
    run = keyed.run(out, hf.FunctionStep(top), missing="skip")
    assert run.failures.empty
    wanted = keyed.expected().max(axis=1)
    wanted[0] = 0
    np.testing.assert_array_equal(stored(out).reshape(wanted.shape), wanted)
    notes = {outcome.well: outcome.notes for outcome in run.outcomes}
    assert notes[BAD]
    assert not notes[GOOD]


@pytest.mark.parametrize("steps", [(keep,), (top,), (keep, top)], ids=["kept", "projected", "both"])
def test_error_names_the_plane_and_keeps_the_other_well(
    steps: tuple[Callable[[Mosaic], Mosaic], ...], keyed: Keyed, tmp_path: Path
) -> None:
    keyed.lose("ZStep_2/_s3_w2")
    run = keyed.run(tmp_path / "out", *map(hf.FunctionStep, steps))
    (failure,) = run.failures.to_dict("records")
    assert failure["well"] == BAD
    assert failure["error"] == "MissingPlaneError"
    assert failure["file"] == "A02_s003_w2_z002_t001"
    assert failure["file"] in failure["message"]
    assert not (tmp_path / "out/images.zarr/A/02").exists()
    assert (tmp_path / "out/images.zarr/A/01").exists()


def test_a_missing_plane_of_a_dropped_channel(keyed: Keyed, tmp_path: Path) -> None:
    """Filled or skipped, it is nowhere, for its channel is not read."""
    keyed.lose("ZStep_2/_s3_w2")
    for policy in ("fill", "skip"):
        out = tmp_path / policy
        run = keyed.run(
            out, hf.FunctionStep({"w1": top, "*": DROP}), missing=policy, fill_value=FILL
        )
        assert run.failures.empty
        wanted = keyed.expected()[0].max(axis=0)
        np.testing.assert_array_equal(stored(out).reshape(wanted.shape), wanted)


def refuse(patch: pytest.MonkeyPatch, file: Path) -> None:
    """Let the system refuse one file, as it would any user but root."""
    opened = Path.open

    def guarded(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == file.name and self.parent.name == file.parent.name:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *args, **kwargs)

    patch.setattr(Path, "open", guarded)


@pytest.mark.parametrize("policy", ["error", "fill", "skip"])
def test_a_file_that_may_not_be_read_fails_its_well(
    policy: str, keyed: Keyed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, so that no policy for missing planes covers it up."""
    (file,) = keyed.files("ZStep_2/_s3_w2")
    plate = hf.open_plate(keyed.root)
    refuse(monkeypatch, file)
    config = hf.GlobalPipelineConfig(missing=policy)
    plan = hf.compile(
        hf.Pipeline([hf.FunctionStep(top)]), plate, output=tmp_path / "out", config=config
    )
    (failure,) = plan.run("threads").failures.to_dict("records")
    assert failure["well"] == BAD
    assert failure["file"].endswith(file.name)
    assert "Permission denied" in failure["message"]


@pytest.mark.parametrize("policy", ["error", "fill", "skip"])
def test_a_folder_in_place_of_a_file_fails_its_well(
    policy: str, keyed: Keyed, tmp_path: Path
) -> None:
    plate = hf.open_plate(keyed.root)
    file = keyed.lose("ZStep_2/_s3_w2")
    file.mkdir()
    config = hf.GlobalPipelineConfig(missing=policy)
    plan = hf.compile(
        hf.Pipeline([hf.FunctionStep(top)]), plate, output=tmp_path / "out", config=config
    )
    (failure,) = plan.run("threads").failures.to_dict("records")
    assert failure["well"] == BAD
    assert failure["file"].endswith(file.name)
    assert "it is a folder" in failure["message"]
