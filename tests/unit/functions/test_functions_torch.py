"""PyTorch variants equal the numpy ones."""

import numpy as np
import pytest

from hcsflow.arrays import convert, to_numpy
from hcsflow.functions.catalogue import entry, find, names

pytest.importorskip("torch", reason="torch is not installed")

CASES = {
    "add_constant": [{"value": 3.5}, {"value": 60_000}],
    "gaussian_filter": [{"sigma": 0}, {"sigma": 1.5}, {"sigma": 9}],
    "multiply_constant": [{"factor": 0.37}, {"factor": -1}],
    "subtract_constant": [{"value": 300}],
    "threshold_fixed": [{"value": 100.5}, {"value": -1}],
}


@pytest.mark.parametrize("name", [name for name in names() if "torch" in entry(name).variants])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "float32"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (4, 33, 20)])
def test_torch_equals_numpy(name, dtype, shape):
    values = np.random.default_rng(1).integers(0, 250, shape).astype(dtype)
    for parameters in CASES.get(name, [{}]):
        expected = find(name)(values, **parameters)
        result = to_numpy(find(name, "torch")(convert(values.copy(), "torch"), **parameters))
        assert result.dtype == expected.dtype
        if name != "gaussian_filter":
            np.testing.assert_array_equal(result, expected)
            continue
        tolerance = 1e-3 if dtype == "float32" else 1
        np.testing.assert_allclose(result.astype(float), expected.astype(float), atol=tolerance)
        assert (np.rint(result) != np.rint(expected)).mean() < 0.01
