"""Rules that every function of the catalogue keeps, in every variant."""

import inspect
import tracemalloc

import numpy as np
import pytest

from hcsflow.arrays import convert, is_installed, to_numpy
from hcsflow.contracts import contract_of
from hcsflow.errors import ContractError
from hcsflow.functions.catalogue import entry, find, names

REQUIRED = {
    "add_constant": {"value": 7},
    "clip": {"low": 20, "high": 90.5},
    "flat_field": {"profile": np.linspace(1, 2, 40 * 56).reshape(40, 56)},
    "multiply_constant": {"factor": 1.37},
    "normalize_range": {"low": 5, "high": 200},
    "subtract_constant": {"value": 11.5},
    "subtract_background": {"radius": 6},
    "threshold_fixed": {"value": 40},
}
MASKS = {name for name in names() if name.startswith("binary_")} | {
    "count_objects",
    "fill_holes",
    "keep_labels",
    "label_objects",
    "remove_small_objects",
    "split_touching",
}
RETURNED = {"count_objects", "measure_objects", "measure_quality"}
"""Functions that return the very stack they were given."""

ALL = [(name, kind) for name in names() for kind in entry(name).variants]


def _marked(pairs):
    return [
        pytest.param(name, kind, marks=[pytest.mark.gpu] if kind == "cupy" else [])
        for name, kind in pairs
    ]


VARIANTS = _marked(ALL)


def _stack(dtype="uint16", planes=3, shape=(40, 56)):
    rng = np.random.default_rng(5)
    values = rng.poisson(30, (planes, *shape)).astype(float)
    values[:, 8:20, 10:22] += 90
    values[:, 14:30, 20:34] += 70
    values[:, 4, 40:44] += 50
    return values.clip(0, 250).astype(dtype)


def _input(name, dtype="uint16", planes=3, shape=(40, 56)):
    if name in MASKS:
        return (_stack("uint8", planes, shape) > 60).astype(dtype)
    return _stack(dtype, planes, shape)


def _call(name, kind, stack, **more):
    if not is_installed(kind):
        pytest.skip(f"{kind} is not installed")
    if kind == "cupy" and not pytest.importorskip(kind).cuda.is_available():
        pytest.skip("there is no CUDA device")
    parameters = {**REQUIRED.get(name, {}), **more}
    if name == "flat_field":
        parameters["profile"] = np.resize(parameters["profile"], stack.shape[1:])
    if name == "segment_cells":
        parameters["labels"] = np.resize(_stack()[0] > 60, stack.shape).astype(np.uint32)
    if name == "measure_objects":
        parameters["labels"] = np.asarray(_stack()[0] > 60, np.uint32)[None]
        parameters["labels"] = np.resize(parameters["labels"], (1, *stack.shape[1:]))
    result = find(name, kind)(convert(stack, kind), **parameters)
    return to_numpy(result[0] if isinstance(result, tuple) else result)


@pytest.mark.parametrize(("name", "kind"), VARIANTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_dtype_shape_and_an_untouched_read_only_input(name, kind, dtype):
    stack = _input(name, dtype)
    if name in MASKS and dtype == "float32":
        with pytest.raises(ContractError, match="threshold first"):
            _call(name, kind, stack)
        return
    before = stack.copy()
    stack.flags.writeable = False
    result = _call(name, kind, stack)
    np.testing.assert_array_equal(stack, before)
    declared = contract_of(find(name, kind))
    assert result.dtype == np.dtype(declared.dtype or dtype)
    planes = {"same": 3, "one": 1}[declared.z_out]
    assert result.shape == (planes, 40, 56)
    assert not np.shares_memory(result, stack) or name in RETURNED


@pytest.mark.parametrize(("name", "kind"), VARIANTS)
def test_the_memory_layout_does_not_matter(name, kind):
    stack = _input(name)
    expected = _call(name, kind, stack)
    wide = np.zeros((3, 80, 112), stack.dtype)
    wide[:, ::2, ::2] = stack
    same = [
        np.asfortranarray(stack),
        wide[:, ::2, ::2],
        stack[:, ::-1].copy()[:, ::-1],
        stack.astype(">u2"),
    ]
    for array in same:
        result = _call(name, kind, array)
        np.testing.assert_array_equal(result, expected)
        assert result.dtype.isnative or name in RETURNED


@pytest.mark.parametrize(
    ("name", "kind"),
    _marked((name, kind) for name, kind in ALL if contract_of(find(name, kind)).per_slice),
)
def test_a_per_slice_function_treats_each_plane_alone(name, kind):
    stack = _input(name)
    stack[1] = 0
    whole = _call(name, kind, stack)
    alone = [_call(name, kind, stack[z : z + 1])[0] for z in range(3)]
    np.testing.assert_array_equal(whole, alone)


@pytest.mark.parametrize(
    "name", [name for name in names() if name not in ("invert", "normalize_range")]
)
def test_other_dtypes_give_the_same_numbers(name):
    dtypes = ["int8", "int16", "int32", "uint32", "int64"]
    for dtype in dtypes if name in MASKS else [*dtypes, "float16", ">f8"]:
        _gives_the_same_numbers(name, dtype)


def _gives_the_same_numbers(name, dtype):
    values = np.minimum(_input(name, "uint8"), 120)
    expected = _call(name, "numpy", values.astype(np.float64 if name not in MASKS else np.uint8))
    result = _call(name, "numpy", values.astype(dtype))
    info = np.iinfo(dtype) if np.dtype(dtype).kind == "i" else None
    declared = contract_of(find(name)).dtype
    if declared is None and info is not None:
        expected = np.rint(expected.astype(float)).clip(info.min, info.max)
    if name == "threshold_otsu":  # floats have 256 bins, integers one each
        assert (result != expected).mean() < 0.02
        return
    np.testing.assert_allclose(result.astype(float), expected.astype(float), atol=1.01, rtol=1e-3)


@pytest.mark.parametrize("name", names())
def test_dates_are_no_pixels(name):
    with pytest.raises(ContractError, match="integers"):
        _call(name, "numpy", _stack("uint16").astype("datetime64[s]"))


@pytest.mark.parametrize("name", [n for n in names() if "numpy" in entry(n).variants])
@pytest.mark.parametrize("planes", [1, 6])
def test_temporary_memory_stays_within_the_contract(name, planes):
    shape = (256, 320)
    stack = _input(name, "uint16", planes, shape)
    if name in MASKS and planes > 1:
        stack[:, 1:-1, 1:-1] |= _stack("uint16", planes, shape)[:, 1:-1, 1:-1] > 25  # dense
    _call(name, "numpy", stack)  # imports
    tracemalloc.start()
    try:
        base, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = _call(name, "numpy", stack)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    given = 0 if np.shares_memory(result, stack) else result.nbytes
    spent = (peak - base - given) / (4 * shape[0] * shape[1])
    declared = contract_of(find(name))
    growing = declared.working_planes * (1 if declared.per_slice else planes)
    allowed = growing + declared.fixed_planes
    slack = 0.75  # small tables, and the test's own parameters
    assert spent <= allowed + slack, f"{spent:.1f} planes of float32, {allowed} declared"


@pytest.mark.parametrize("name", names())
def test_every_parameter_is_keyword_only_and_documented(name):
    for kind in entry(name).variants:
        func = find(name, kind)
        first, *others = inspect.signature(func).parameters.values()
        assert first.name == "stack"
        assert all(item.kind is item.KEYWORD_ONLY for item in others)
        documentation = inspect.getdoc(func)
        assert all(item.name in documentation for item in others)


@pytest.mark.parametrize("name", names())
def test_variants_take_the_same_parameters(name):
    signatures = {
        tuple((p.name, p.default) for p in inspect.signature(find(name, kind)).parameters.values())
        for kind in entry(name).variants
    }
    assert len(signatures) == 1


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gaussian_filter", {"sigma": -1}),
        ("median_filter", {"size": 4}),
        ("mean_filter", {"size": 0}),
        ("white_tophat", {"radius": -1}),
        ("subtract_background", {"shape": "star"}),
        ("clip", {"low": 5, "high": 4}),
        ("normalize_range", {"low": 5, "high": 5}),
        ("threshold_local", {"block_size": 4}),
        ("threshold_local", {"method": "median"}),
        ("flat_field", {"profile": np.zeros((40, 56))}),
        ("flat_field", {"profile": np.ones((4, 5))}),
    ],
)
def test_senseless_parameters_are_refused(name, parameters):
    with pytest.raises(ValueError, match=r"must be|got|above"):
        find(name)(_stack(), **{**REQUIRED.get(name, {}), **parameters})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("split_touching", {"min_distance": 0}),
        ("split_touching", {"smooth": -1}),
        ("label_objects", {"connectivity": 3}),
        ("binary_opening", {"radius": -1}),
    ],
)
def test_senseless_parameters_of_masks_are_refused(name, parameters):
    with pytest.raises(ValueError, match="must be"):
        find(name)(_input(name), **parameters)
