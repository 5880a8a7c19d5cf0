"""Dict patterns over fields, timepoints and z, through a real run: each value treated apart.

Pixels encode their key, so a plane that went the wrong way shows by its value.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import hcsflow as hf
from hcsflow.contracts import contract
from hcsflow.errors import PlanRefusedError
from hcsflow.pipeline import PASS, PIPELINE_START
from hcsflow.testing.plates import KeyCode, key_coded_plate

SIZE, FIELDS, TIMEPOINTS, CHANNELS, Z = 32, 4, 2, 2, 3
WELLS = ("A01", "B02")
AXES = {"field": 1, "timepoint": 2, "channel": 3, "z": 4}
"""Axis of each component in `codes`."""

Pixels = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> tuple[hf.Plate, KeyCode]:
    root = tmp_path_factory.mktemp("plates") / "keyed"
    code = key_coded_plate(
        root, wells=WELLS, fields=FIELDS, channels=CHANNELS, timepoints=TIMEPOINTS, z=Z, size=SIZE
    )
    return hf.open_plate(root), code


@pytest.fixture
def values(keyed: tuple[hf.Plate, KeyCode], tmp_path: Path) -> Callable[..., Pixels]:
    """Run steps; return the value of each plane (well, field, t, c, z), checked to be even."""

    def go(*steps: hf.FunctionStep) -> Pixels:
        plate, _ = keyed
        plan = hf.compile(hf.Pipeline(steps), plate, output=tmp_path / "out")
        run = plan.run("threads", workers=1)
        assert [o.message for o in run.outcomes if o.status != "done"] == []
        found = np.zeros((len(WELLS), FIELDS, TIMEPOINTS, CHANNELS, Z), np.int64)
        for w, well in enumerate(("A/01", "B/02")):
            mosaic = zarr.open_array(tmp_path / "out/images.zarr" / well / "0/0", mode="r")[:]
            for f, (row, column) in enumerate(plate.model.grid.cells):
                tile = mosaic[..., row * SIZE :, column * SIZE :][..., :SIZE, :SIZE]
                assert (tile == tile[..., :1, :1]).all()
                found[w, f] = tile[..., 0, 0].reshape(TIMEPOINTS, CHANNELS, -1)  # no axis for one z
        return found

    return go


@pytest.fixture(scope="module")
def codes(keyed: tuple[hf.Plate, KeyCode]) -> Pixels:
    """The value of each plane of the plate, (well, field, t, c, z)."""
    shape = (len(WELLS), FIELDS, TIMEPOINTS, CHANNELS, Z)
    return np.array([keyed[1].value(*key) for key in np.ndindex(shape)]).reshape(shape)


def add(stack: Pixels, *, by: int = 1000) -> Pixels:
    return np.asarray(stack + np.uint16(by))


def numbered(stack: Pixels) -> Pixels:
    """Add 1000 × the place in the stack: shows the stack's order and length."""
    places = np.arange(len(stack), dtype=np.uint16)[:, None, None]
    return np.asarray(stack + np.uint16(1000) * (places + np.uint16(1)))


@contract(z_out="one")
def top(stack: Pixels) -> Pixels:
    return np.asarray(stack.max(axis=0, keepdims=True))


def at(component: str, index: int) -> tuple[Any, ...]:
    """Return the index into `codes` of one value of a component."""
    return (*(slice(None),) * AXES[component], index)


STACKS = {"field": ("z",), "timepoint": ("z",), "z": ("field",)}
"""Component grouped by → what varies in its stacks."""


@pytest.mark.parametrize("component", STACKS)
def test_one_value_is_changed_and_the_others_pass(component, values, codes):
    found = values(
        hf.FunctionStep(
            {"2": add, "*": PASS}, group_by=component, variable_components=STACKS[component]
        )
    )
    wanted = codes.copy()
    wanted[at(component, 1)] += 1000
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("component", STACKS)
def test_each_value_has_its_own_function(component, values, codes):
    pattern = {"1": (add, {"by": 2000}), "2": [add, (add, {"by": 3000})], "*": (add, {"by": 5000})}
    found = values(
        hf.FunctionStep(pattern, group_by=component, variable_components=STACKS[component])
    )
    wanted = codes + 5000
    wanted[at(component, 0)] -= 3000
    wanted[at(component, 1)] -= 1000
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("component", "varying"),
    [
        ("field", ("timepoint", "z")),
        ("timepoint", ("channel", "field")),
        ("z", ("timepoint",)),
        ("z", ("field", "timepoint", "channel")),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_stacks_hold_the_planes_of_one_value_in_order(component, varying, values, codes):
    found = values(
        hf.FunctionStep({"1": numbered, "*": PASS}, group_by=component, variable_components=varying)
    )
    wanted = codes.copy()
    part = wanted[at(component, 0)]
    sizes = {c: codes.shape[axis] for c, axis in AXES.items()}
    left = [c for c in AXES if c != component]
    for key in np.ndindex(part.shape):
        indices = dict(zip(left, key[1:], strict=True))
        place = np.ravel_multi_index([indices[c] for c in varying], [sizes[c] for c in varying])
        part[key] += 1000 * (int(place) + 1)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("component", ["field", "timepoint"])
def test_steps_grouped_differently_follow_each_other(component, values, codes):
    found = values(
        hf.FunctionStep({"1": add, "*": PASS}, name="a", group_by=component),
        hf.FunctionStep({"w2": (add, {"by": 2000}), "*": PASS}, name="b"),
        hf.FunctionStep(
            {"3": (add, {"by": 4000}), "*": PASS}, name="c", group_by="z",
            variable_components=["field"],
        ),
    )  # fmt: skip
    wanted = codes.copy()
    wanted[at(component, 0)] += 1000
    wanted[at("channel", 1)] += 2000
    wanted[at("z", 2)] += 4000
    np.testing.assert_array_equal(found, wanted)


def test_the_plate_is_grouped_again_past_earlier_steps(values, codes):
    found = values(
        hf.FunctionStep(top),
        hf.FunctionStep(
            {"2": add, "*": PASS}, name="again", group_by="timepoint", input_source=PIPELINE_START
        ),
    )
    wanted = codes.copy()
    wanted[at("timepoint", 1)] += 1000
    np.testing.assert_array_equal(found, wanted)


def test_a_projection_for_every_field_keeps_the_grid(values, codes):
    """All branches collapse z alike, so that a full grid is left."""
    found = values(hf.FunctionStep({"1": top, "*": [top, add]}, name="project", group_by="field"))
    wanted = np.broadcast_to(codes.max(axis=-1, keepdims=True), codes.shape) + 1000
    wanted = wanted.copy()
    wanted[at("field", 0)] -= 1000
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("component", "key", "says"),
    [("field", "9", "unknown field '9'"), ("z", "w1", "unknown z 'w1'")],
)
def test_a_value_that_the_plate_lacks_is_refused(component, key, says, values):
    step = hf.FunctionStep(
        {key: add, "*": PASS}, group_by=component, variable_components=STACKS[component]
    )
    with pytest.raises(hf.HcsflowError, match=says):
        values(step)


@pytest.mark.parametrize("component", STACKS)
def test_values_that_nothing_is_said_about_are_refused(component, values):
    step = hf.FunctionStep({"1": add}, group_by=component, variable_components=STACKS[component])
    with pytest.raises(hf.HcsflowError, match=f"says nothing about {component} 2"):
        values(step)


@pytest.mark.parametrize("component", ["field", "timepoint"])
def test_a_projection_of_one_value_alone_is_refused(component, values):
    """The others would keep planes that it has no more."""
    step = hf.FunctionStep({"1": top, "*": PASS}, name="odd", group_by=component)
    with pytest.raises(PlanRefusedError, match=r"'odd'[\s\S]*full grid"):
        values(step)
