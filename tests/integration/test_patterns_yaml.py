"""Every form of a step's function, from Python and from YAML: the same pixels, the right ones."""

import numpy as np
import pytest
import yaml
import zarr

import hcsflow as hf
from hcsflow.contracts import contract
from hcsflow.pipeline import DROP, PASS, pipeline_from_yaml
from hcsflow.testing.plates import key_coded_plate

SIZE, FIELDS, TIMEPOINTS, CHANNELS, Z = 32, 2, 2, 2, 3

MODULE = """
import numpy as np
from hcsflow.contracts import contract

def plus(stack, *, by=1):
    return stack + np.uint16(by)

def times(stack, *, by=2):
    return stack * np.uint16(by)

class Tools:
    @staticmethod
    def plus_nine(stack):
        return stack + np.uint16(9)
"""


def plus(stack, *, by=1):
    return stack + np.uint16(by)


def times(stack, *, by=2):
    return stack * np.uint16(by)


def plus_nine(stack):
    return stack + np.uint16(9)


@contract(z_out="one")
def top(stack):
    return stack.max(axis=0, keepdims=True)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    root = tmp_path_factory.mktemp("plates") / "keyed"
    key_coded_plate(
        root, wells=("A01",), fields=FIELDS, channels=CHANNELS, timepoints=TIMEPOINTS, z=Z,
        size=SIZE,
    )  # fmt: skip
    return hf.open_plate(root)


@pytest.fixture
def ours(tmp_path, monkeypatch):
    """Put a module of the user's own on the path."""
    (tmp_path / "my_lab_tools.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def pixels(steps, plate, out):
    plan = hf.compile(steps, plate, output=out)
    run = plan.run("threads", workers=1)
    assert [o.message for o in run.outcomes if o.status != "done"] == []
    return zarr.open_array(out / "images.zarr/A/01/0/0", mode="r")[:].astype(int)


def channel(index, func):
    """Return a change of one channel of (t, c, z, y, x)."""

    def change(image):
        image = image.copy()
        image[:, index] = func(image[:, index])
        return image

    return change


def fields(first, second):
    """Return a change of both fields, which lie side by side."""

    def change(image):
        left, right = image[..., :SIZE], image[..., SIZE:]
        return np.concatenate([first(left), second(right)], axis=-1)

    return change


def along(axis, *funcs):
    def change(image):
        parts = [func(image.take([i], axis)) for i, func in enumerate(funcs)]
        return np.concatenate(parts, axis)

    return change


SAME = lambda image: image  # noqa: E731
P, T = "my_lab_tools:plus", "my_lab_tools:times"

FORMS = {
    "a callable": (hf.FunctionStep(plus), {"function": P}, lambda i: i + 1),
    "a catalogue name": (
        hf.FunctionStep("add_constant", value=3),
        {"function": "add_constant", "parameters": {"value": 3}},
        lambda i: i + 3,
    ),
    "module:function": (hf.FunctionStep(plus, by=4), {"function": P, "parameters": {"by": 4}},
                        lambda i: i + 4),
    "a function of a class": (
        hf.FunctionStep(plus_nine), {"function": "my_lab_tools:Tools.plus_nine"}, lambda i: i + 9,
    ),
    "a pair": (
        hf.FunctionStep((plus, {"by": 5})),
        {"function": {"function": P, "parameters": {"by": 5}}},
        lambda i: i + 5,
    ),
    "a chain": (hf.FunctionStep([plus, times]), {"function": [P, T]}, lambda i: (i + 1) * 2),
    "a chain of pairs and names": (
        hf.FunctionStep([(times, {"by": 3}), "max_projection", (plus, {"by": 2})]),
        {"function": [{"function": T, "parameters": {"by": 3}}, "max_projection",
                      {"function": P, "parameters": {"by": 2}}]},
        lambda i: i.max(axis=2) * 3 + 2,
    ),
    "a chain in a chain": (hf.FunctionStep([plus, [times, (plus, {"by": 7})]]),
                           {"function": [P, T, {"function": P, "parameters": {"by": 7}}]},
                           lambda i: (i + 1) * 2 + 7),
    "a chain that shares a parameter": (
        hf.FunctionStep([plus, times], by=4),
        {"function": [P, T], "parameters": {"by": 4}},
        lambda i: (i + 4) * 4,
    ),
    "a dict by channel": (
        hf.FunctionStep({"w1": plus, "w2": PASS}),
        {"functions": {"w1": P, "w2": "PASS"}},
        channel(0, lambda i: i + 1),
    ),
    "a dict of chains": (
        hf.FunctionStep({"w1": [plus, (times, {"by": 3})], "*": (plus, {"by": 8})}),
        {"functions": {"w1": [P, {"function": T, "parameters": {"by": 3}}],
                       "*": {"function": P, "parameters": {"by": 8}}}},
        along(1, lambda i: (i + 1) * 3, lambda i: i + 8),
    ),
    "a dict that drops": (
        hf.FunctionStep({"w2": plus, "*": DROP}),
        {"functions": {"w2": P, "*": "DROP"}},
        lambda i: i[:, 1:] + 1,
    ),
    "a dict by field": (
        hf.FunctionStep({"1": plus, "*": PASS}, group_by="field"),
        {"functions": {1: P, "*": "PASS"}, "group_by": "field"},
        fields(lambda i: i + 1, SAME),
    ),
    "a dict by timepoint": (
        hf.FunctionStep({"1": PASS, "2": [plus, plus]}, group_by="timepoint"),
        {"functions": {1: "PASS", 2: [P, P]}, "group_by": "timepoint"},
        along(0, SAME, lambda i: i + 2),
    ),
    "a dict by z": (
        hf.FunctionStep({"2": plus, "*": PASS}, group_by="z", variable_components="channel"),
        {"functions": {2: P, "*": "PASS"}, "group_by": "z", "variable_components": "channel"},
        along(2, SAME, lambda i: i + 1, SAME),
    ),
}  # fmt: skip


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("form", FORMS)
def test_python_and_yaml_mean_the_same(form, plate, tmp_path):
    step, document, change = FORMS[form]
    plain = pixels([hf.FunctionStep({"*": PASS})], plate, tmp_path / "plain")
    by_python = pixels([step], plate, tmp_path / "python")
    text = yaml.safe_dump({"steps": [document]})
    by_yaml = pixels(pipeline_from_yaml(text), plate, tmp_path / "yaml")
    np.testing.assert_array_equal(by_python, change(plain))
    np.testing.assert_array_equal(by_yaml, by_python)


@pytest.mark.parametrize("key", [None, "w2", "FITC"])
def test_a_parameter_can_be_a_key(key, plate, tmp_path):
    names = {c.name: i for i, c in enumerate(plate.model.channels)}
    if key is not None and key not in {"w1", "w2", *names}:
        key = plate.model.channels[1].name
    text = "parameters: {chosen: null}\nsteps: [{functions: {$chosen: add_constant, '*': PASS}, "
    pipeline = pipeline_from_yaml(text + "parameters: {value: 5}}]").with_settings({"chosen": key})
    plain = pixels([hf.FunctionStep({"*": PASS})], plate, tmp_path / "plain")
    found = pixels(pipeline, plate, tmp_path / "out")
    np.testing.assert_array_equal(found, channel(0 if key is None else 1, lambda i: i + 5)(plain))


def test_regrouping_from_step_to_step(plate, tmp_path):
    """A projection by channel, then a stack of channels, then one of fields and timepoints."""

    def ranked(stack):
        """Add 1000 × the place in the stack."""
        places = np.arange(len(stack), dtype=np.uint16)[:, None, None]
        return stack + np.uint16(1000) * places

    steps = [
        hf.FunctionStep(top),
        hf.FunctionStep(ranked, name="by_channel", variable_components=["channel"]),
        hf.FunctionStep(ranked, name="by_rest", variable_components=["timepoint", "field"]),
    ]
    plain = pixels([hf.FunctionStep(top)], plate, tmp_path / "plain")
    wanted = along(1, SAME, lambda i: i + 1000)(plain)
    wanted = fields(SAME, lambda i: i + 1000)(wanted)  # fields vary fastest
    wanted = along(0, SAME, lambda i: i + 2000)(wanted)
    np.testing.assert_array_equal(pixels(steps, plate, tmp_path / "out"), wanted)


def canvas(shape_yx, grid):
    return shape_yx[0] * grid.rows, shape_yx[1] * grid.columns


@contract(z_out="one", output_shape=canvas)
def stitched(stack):
    return np.concatenate(list(stack), axis=1)[np.newaxis]


def test_a_canvas_takes_its_size_from_the_plates_grid(plate, tmp_path):
    grid = plate.model.grid
    steps = [hf.FunctionStep(top), hf.FunctionStep(stitched, variable_components=["field"])]
    plain = pixels([hf.FunctionStep(top)], plate, tmp_path / "plain")
    found = pixels(steps, plate, tmp_path / "out")
    assert found.shape[-2:] == (SIZE * grid.rows, SIZE * grid.columns)
    np.testing.assert_array_equal(found, plain)
