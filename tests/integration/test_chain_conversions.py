"""A chain of functions of one library: one conversion in and one out, whatever its length."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hcsflow.arrays import convert, to_numpy
from hcsflow.arrays.counting import count_arrays
from hcsflow.arrays.devices import using_gpus
from hcsflow.arrays.downloads import start_download
from hcsflow.arrays.families import address_of
from hcsflow.cli.main import main
from hcsflow.contracts import contract_of
from hcsflow.functions.catalogue import find
from hcsflow.graph.calls import apply
from hcsflow.plan import Call
from hcsflow.testing.plates import write_imagexpress_plate

SHAPE = (3, 64, 48)
CHAIN = {
    "gaussian_filter": {"sigma": 1.5},
    "subtract_constant": {"value": 90},
    "multiply_constant": {"factor": 1.5},
    "threshold_fixed": {"value": 40},
    "max_projection": {},
}


def calls_of(memory_type):
    """Return the chain's calls as a plan has them."""
    dtype, calls = "uint16", []
    for name, parameters in CHAIN.items():
        func = find(name, memory_type)
        declared = contract_of(func)
        dtype = declared.dtype or dtype
        call = Call(
            function=f"{func.__module__}:{name}",
            fingerprint="",
            input_type=declared.input_type,
            output_type=declared.output_type,
            parameters=tuple(parameters.items()),
            special_inputs=(),
            special_outputs=(),
            z_out=declared.z_out,
            shape_yx=SHAPE[1:],
            dtype=dtype,
            func=func,
        )
        calls.append(call)
    return calls


def group(seed, *, writable=True):
    stack = np.random.default_rng(seed).integers(0, 500, SHAPE).astype(np.uint16)
    stack.flags.writeable = writable
    return stack


def through(calls, stack):
    for call in calls:
        stack, _ = apply("chain", call, stack, {})
    return start_download(stack)


@pytest.mark.parametrize("writable", [True, False])
def test_a_chain_on_torchs_cpu_converts_twice_a_group(writable):
    pytest.importorskip("torch", reason="torch is not installed")
    calls = calls_of("torch")
    with count_arrays() as counts:
        found = [through(calls, group(n, writable=writable)).result() for n in range(4)]
    into = "zero-copy" if writable else "copy"  # torch would write to what must stay as it is
    assert counts.conversions == Counter([into] * 4) + Counter(["zero-copy"] * 4)
    expected = [through(calls_of("numpy"), group(n)).result() for n in range(4)]
    np.testing.assert_array_equal(found, expected)


def test_a_chain_in_a_pipeline_converts_twice_a_group(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    write_imagexpress_plate(tmp_path / "plate", wells=["B02"], fields=2, channels=2, z=2, size=64)
    chain = "".join(
        f"      - {{function: 'hcsflow.functions.by_torch:{name}', parameters: {values}}}\n"
        for name, values in CHAIN.items()
    )
    (tmp_path / "chain.yaml").write_text(
        f"name: chain\nsteps:\n  - name: chain\n    function:\n{chain}"
    )
    words = ["run", str(tmp_path / "chain.yaml"), str(tmp_path / "plate"), "--cluster", "serial"]
    with count_arrays() as counts:
        assert main([*words, "-o", str(tmp_path / "out")]) == 0
    groups = 2 * 2
    # In, a copy, since planes are kept for other steps to read; out, the tensor's own memory.
    assert counts.conversions == {"copy": groups, "zero-copy": groups}


@pytest.mark.parametrize(("source", "target"), [("torch", "jax"), ("jax", "torch")])
def test_libraries_on_the_host_share_memory(source, target):
    for name in (source, target):
        pytest.importorskip(name, reason=f"{name} is not installed")
    array = convert(convert(group(1).astype(np.float32), source), source)
    if source == "torch":
        array = array.clone()  # torch's own memory is aligned as jax asks for
    shared = convert(array, target)
    assert address_of(shared) == address_of(array)
    np.testing.assert_array_equal(to_numpy(shared), group(1))


def cuda():
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    if not cupy.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return cupy


@pytest.mark.gpu
@pytest.mark.parametrize("memory_type", ["cupy", "torch"])
def test_a_chain_on_a_gpu_goes_up_once_and_comes_down_once_a_group(memory_type):
    cuda()
    pytest.importorskip(memory_type, reason=f"{memory_type} is not installed")
    calls = calls_of(memory_type)
    stacks = [group(n) for n in range(4)]
    with using_gpus(True), count_arrays() as counts:
        pending = [through(calls, stack) for stack in stacks]
    assert all(download.is_under_way for download in pending)
    found = [download.result() for download in pending]
    assert counts.conversions == {"copy": 8}
    assert counts.nbytes == {"copy": 4 * (stacks[0].nbytes + found[0].nbytes)}
    # A Gaussian may be a grey level off; next to the threshold that shows.
    expected = [through(calls_of("numpy"), stack).result() for stack in stacks]
    assert np.mean(np.array(found) != np.array(expected)) < 0.01


@pytest.mark.gpu
@pytest.mark.parametrize("source", ["cupy", "torch", "jax"])
@pytest.mark.parametrize("target", ["cupy", "torch", "jax"])
def test_libraries_on_a_gpu_share_memory(source, target):
    cuda()
    for name in {source, target}:
        pytest.importorskip(name, reason=f"{name} is not installed")
    if "jax" in (source, target):
        import jax

        if jax.default_backend() != "gpu":
            pytest.skip("jax has no GPU")
    values = group(1).astype(np.float32)
    array = convert(values, source, device=0 if source == "torch" else None)
    with count_arrays() as counts:
        from hcsflow.arrays.counting import convert_planned

        shared = convert_planned(array, target)
    assert address_of(shared) == address_of(array)
    assert not counts.nbytes["copy"]
    np.testing.assert_array_equal(to_numpy(shared), values)


@pytest.mark.gpu
def test_special_values_on_a_gpu_reach_functions_of_numpy():
    cuda()
    mask = (group(3) > 300).astype(np.uint8)[:1]
    [*_, last] = calls_of("cupy")
    label = find("label_objects", "cupy")
    labelling = replace(
        last, func=label, parameters=(), special_outputs=("labels",), dtype="uint32", z_out="same"
    )
    measure = find("measure_objects")
    measuring = replace(
        labelling,
        func=measure,
        input_type="numpy",
        output_type="numpy",
        special_inputs=("labels",),
        special_outputs=("objects",),
        dtype="uint8",
    )
    main_output, (labels,) = apply("label", labelling, mask, {})
    assert address_of(labels) == address_of(main_output)
    _, (table,) = apply("measure", measuring, mask, {"labels": labels})
    expected = find("label_objects")(mask)[0]
    assert len(table["area_px"]) == expected.max()
