"""Steps of one library after each other: what flows between them stays on their device."""

import importlib.util
import subprocess
import sys

import pytest

from hcsflow.testing.plates import write_imagexpress_plate

PIPELINE = """
import numpy as np
import hcsflow as hf
from hcsflow.arrays import memory_types
from hcsflow.contracts import contract

BUFFER = []

@contract(per_slice=True)
@memory_types(input_type="pyclesperanto", output_type="pyclesperanto")
def unchanged(stack):
    # OpenCL's arrays are what a device without a GPU has.
    import pyclesperanto as cle
    if not BUFFER or BUFFER[-1].shape != stack.shape:
        BUFFER.append(cle.create(stack.shape, dtype=np.dtype(stack.dtype).type))
    cle.copy(stack, BUFFER[-1])  # a function may well use its memory again
    return BUFFER[-1]

def plus(stack):
    return stack + np.uint16(1)

STEPS = {
    "device": [hf.FunctionStep(unchanged, name=f"s{n}") for n in range(5)],
    "mixed": [hf.FunctionStep(f, name=f"s{n}") for n, f in enumerate([unchanged, plus, unchanged])],
    "kept": [hf.FunctionStep(unchanged, name="s0", force_disk_output=True),
             hf.FunctionStep(unchanged, name="s1")],
    "regrouped": [hf.FunctionStep(unchanged, name="s0"),
                  hf.FunctionStep(unchanged, name="s1", variable_components=("channel",))],
}
"""

RUN = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import zarr
import hcsflow as hf
from hcsflow.arrays.counting import count_arrays
from pipelines import STEPS

folder, name, more = sys.argv[1], sys.argv[2], int(sys.argv[3])
plate = hf.open_plate(folder + "/plate")
output = folder + "/" + name
plan = hf.compile(hf.Pipeline(STEPS[name], name=name), plate, output=output)
with count_arrays() as counts:
    report = plan.run(cluster="serial")
found = zarr.open_array(output + "/images.zarr/B/02/0/0", mode="r")[...]
plain = hf.Pipeline([hf.FunctionStep(("add_constant", {"value": 0}))], name="plain")
plan = hf.compile(plain, plate, output=output + "_plain")
plan.run(cluster="serial")
plain = zarr.open_array(output + "_plain/images.zarr/B/02/0/0", mode="r")[...]
assert np.array_equal(found, plain + np.uint16(more))
print(dict(counts.conversions))
"""

GROUPS = 4
"""2 fields × 2 channels."""
EXPECTED = {
    "device": ({"copy": 2 * GROUPS}, 0),
    "mixed": ({"copy": 4 * GROUPS}, 1),
    "kept": ({"copy": 4 * GROUPS}, 0),
    "regrouped": ({"copy": 2 * GROUPS + 2 * 6}, 0),  # then 2 fields × 3 z
}


@pytest.mark.parametrize("name", EXPECTED)
def test_up_once_and_down_once_a_group(tmp_path, name):
    if importlib.util.find_spec("pyclesperanto") is None:
        pytest.skip("pyclesperanto is not installed")
    write_imagexpress_plate(tmp_path / "plate", wells=["B02"], fields=2, channels=2, z=3, size=64)
    (tmp_path / "pipelines.py").write_text(PIPELINE)
    counts, more = EXPECTED[name]
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), name, str(more)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(counts)
