"""A chain's picture: well-formed whatever steps are called, the same for the same plan."""

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

import hcsflow as hf
from hcsflow.contracts import special_outputs
from hcsflow.materialize import Json, Labels
from hcsflow.testing.plates import key_coded_plate
from hcsflow.view.chain import draw_chain

SVG = "{http://www.w3.org/2000/svg}"


@special_outputs(("cells", Labels()), ("notes", Json()))
def find(stack):
    return stack, stack, {}


@pytest.fixture
def drawn(tmp_path):
    key_coded_plate(tmp_path / "plate", wells=("A01",), fields=2, channels=2, z=2)
    plate = hf.open_plate(tmp_path / "plate")

    def draw(*steps):
        return draw_chain(hf.compile(steps, plate, output=tmp_path / "out").frozen)

    return draw


def texts(picture):
    return ["".join(node.itertext()) for node in ET.fromstring(picture).iter(f"{SVG}text")]


def test_names_cannot_break_it(drawn):
    picture = drawn(hf.FunctionStep("max_projection", name="a<b & \"c\" 'd'"))
    assert "1. a<b & \"c\" 'd'" in texts(picture)


def test_it_shows_what_is_stored_and_which_steps_form_a_task(drawn):
    steps = (
        hf.FunctionStep("max_projection", name="project", force_disk_output=True),
        hf.FunctionStep({"w1": find, "*": "DROP"}, name="find"),
    )
    picture = drawn(*steps)
    found = texts(picture)
    for line in ("00_project/images.zarr", "labels cells", "notes", "channel 1: find"):
        assert line in found
    assert "the others: drop" in found
    assert picture == drawn(*steps)


def test_nothing_lies_outside_or_upon_another(drawn):
    first = hf.FunctionStep({"w1": "max_projection", "*": "DROP"})
    names = [{"cells": f"c{i}", "notes": f"n{i}"} for i in range(3)]
    picture = drawn(first, *[hf.FunctionStep(find, special_outputs=each) for each in names])
    root = ET.fromstring(picture)
    boxes = [
        {key: int(box.get(key)) for key in ("x", "y", "width", "height")}
        for box in root.iter(f"{SVG}rect")
        if box.get("class") != "task"
    ]
    assert max(b["y"] + b["height"] for b in boxes) < int(root.get("height"))
    assert max(b["x"] + b["width"] for b in boxes) < int(root.get("width"))
    for column in {b["x"] for b in boxes}:
        stacked = sorted((b for b in boxes if b["x"] == column), key=lambda b: b["y"])
        assert all(a["y"] + a["height"] < b["y"] for a, b in pairwise(stacked))
