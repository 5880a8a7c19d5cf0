"""Where outputs wait between steps: the choice, its reason in the plan, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.compiler import compile_plan, explain
from hcsflow.compiler.intermediates import select_backend
from hcsflow.config import Backend, GlobalPipelineConfig, VFSConfig
from hcsflow.errors import PlanRefusedError
from hcsflow.pipeline import FunctionStep, Pipeline
from hcsflow.plan import Resources
from hcsflow.plate import Channel, FieldGrid, Manifest, Measured, PlaneRow, Plate

PLANE = 256 * 256 * 2
WELL = 2 * 4 * PLANE


def plate():
    return Plate(
        name="p", microscope="imagexpress", layout="flat", uuid=None, rows=("A",), columns=("01",),
        acquisition="1", acquisitions=("1",), wells=("A01",), fields=("1", "2"), timepoints=("1",),
        channels=(Channel("w1", "DAPI", 4),), z=("1", "2", "3", "4"), shape_yx=(256, 256),
        dtype="uint16", pixel_size=Measured(0.65, "test"), z_step=Measured(5.0, "test"),
        grid=FieldGrid(1, 2, ((0, 0), (0, 1)), "test"),
    )  # fmt: skip


def manifest(of):
    rows = [
        PlaneRow(0, f, 0, 0, z, "", f"A01_s{f}_w1_z{z}.tif", 100, 7)
        for f in range(len(of.fields))
        for z in range(4)
    ]
    return Manifest.from_rows("/plate", rows)


def compiled(**vfs):
    steps = [FunctionStep(("gaussian_filter", {"sigma": 1.0}), name=name) for name in "abc"]
    return compile_plan(
        Pipeline(steps), plate(), manifest(plate()),
        config=GlobalPipelineConfig(vfs=VFSConfig(**vfs)),
        resources=Resources(workers=1, memory_bytes=1 << 30),
    )  # fmt: skip


def held(plan):
    return [step.held_in for step in plan.steps]


def test_what_fits_stays_in_memory_and_the_plan_says_nothing_of_it():
    plan = compiled()
    assert held(plan) == ["memory"] * 3
    assert [step.read_backend for step in plan.steps] == ["virtual_workspace", "memory", "memory"]
    assert "limit" not in explain(plan)


def test_past_the_limit_outputs_go_to_zarr_and_the_plan_says_why():
    limit_gb = 1.5 * (WELL / 2) / 1e9  # one field's output, and half a field beside it
    plan = compiled(memory_limit_gb=limit_gb)
    assert held(plan) == ["zarr", "memory", "memory"]
    assert plan.steps[1].read_backend == "zarr"
    assert "to zarr: 0.00105 GB of intermediates, limit 0.000786 GB" in explain(plan)


def test_the_share_of_a_workers_memory_is_a_limit_too():
    assert compiled(memory_limit_gb=1000).held_limit_bytes(10_000) == 6_000
    assert compiled(memory_limit_gb=1e-6).held_limit_bytes(10_000) == 1_000


@pytest.mark.parametrize("backend", [Backend.DISK, Backend.ZARR])
def test_a_backend_that_is_asked_for_holds_all_of_them(backend):
    plan = compiled(intermediate_backend=backend)
    assert held(plan) == [backend.value, backend.value, "memory"]  # nothing reads the last
    assert f"to {backend.value}: intermediate_backend asks for it" in explain(plan)


def test_a_backend_that_cannot_be_written_is_refused():
    with pytest.raises(PlanRefusedError, match="virtual_workspace cannot keep"):
        compiled(intermediate_backend=Backend.VIRTUAL_WORKSPACE)


sizes = st.integers(0, 10**12)


@given(sizes, sizes, sizes)
def test_memory_is_chosen_exactly_where_there_is_room(nbytes, beside, limit):
    choice = select_backend(nbytes, beside, limit, wanted=Backend.MEMORY, overflow=Backend.DISK)
    assert (choice.backend is Backend.MEMORY) == (nbytes + beside <= limit)
    assert bool(choice.reason) == (choice.backend is Backend.DISK)
