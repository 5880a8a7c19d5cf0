"""A chain's variants: as few conversions as any choice could have."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.arrays import MEMORY_TYPES, conversion_path
from hcsflow.arrays import torch as torch_function
from hcsflow.compiler import compile_plan, explain
from hcsflow.compiler.memory_types import roads_of
from hcsflow.compiler.variants import Variant, fewest_conversions
from hcsflow.config import GlobalPipelineConfig
from hcsflow.pipeline import FunctionStep, Pipeline
from hcsflow.plan import Resources
from hcsflow.plate import Channel, FieldGrid, Manifest, Measured, PlaneRow, Plate

types = st.sampled_from(MEMORY_TYPES)
chains = st.lists(
    st.lists(st.builds(Variant, types, types), min_size=1, max_size=3), min_size=1, max_size=4
)


def conversions(chain):
    ends = ["numpy", *(name for variant in chain for name in variant), "numpy"]
    return sum(len(conversion_path(a, b)) - 1 for a, b in list(pairwise(ends))[::2])


@given(chains)
def test_no_choice_converts_less(chain):
    chosen = fewest_conversions(chain)
    taken = conversions([options[i] for options, i in zip(chain, chosen, strict=True)])
    assert taken == min(conversions(choice) for choice in product(*chain))


@given(chains)
def test_the_preferred_variants_are_taken_where_nothing_is_lost(chain):
    own = [[Variant("numpy", "numpy"), *options] for options in chain]
    assert fewest_conversions(own) == (0,) * len(chain)


@torch_function
def brighter(stack):
    return stack + 1


def plan_of(*functions):
    plate = Plate(
        name="p", microscope="imagexpress", layout="flat", uuid=None, rows=("A",), columns=("01",),
        acquisition="1", acquisitions=("1",), wells=("A01",), fields=("1",), timepoints=("1",),
        channels=(Channel("w1", "DAPI", 1),), z=("1",), shape_yx=(64, 64),
        dtype="uint16", pixel_size=Measured(0.65, "test"), z_step=Measured(5.0, "test"),
        grid=FieldGrid(1, 1, ((0, 0),), "test"),
    )  # fmt: skip
    manifest = Manifest.from_rows("/plate", [PlaneRow(0, 0, 0, 0, 0, "", "a.tif", 100, 7)])
    return compile_plan(
        Pipeline([FunctionStep(list(functions), name="s")]), plate, manifest,
        config=GlobalPipelineConfig(), resources=Resources(workers=1, memory_bytes=1 << 30),
    )  # fmt: skip


def test_a_function_between_two_of_torch_is_torchs_own():
    pytest.importorskip("torch", reason="torch is not installed: pip install 'hcsflow[torch]'")
    plan = plan_of(brighter, ("gaussian_filter", {"sigma": 1.0}), brighter)
    (branch,) = plan.steps[0].branches
    assert [call.input_type for call in branch.calls] == ["torch"] * 3
    assert roads_of(plan.steps[0]) == [("numpy", "torch", "numpy")]
    assert "arrays numpy → torch → numpy in each group" in explain(plan)


def test_alone_it_is_numpys():
    plan = plan_of(("gaussian_filter", {"sigma": 1.0}), "max_projection")
    (branch,) = plan.steps[0].branches
    assert [call.input_type for call in branch.calls] == ["numpy"] * 2
    assert roads_of(plan.steps[0]) == [("numpy",)]


def test_both_variants_give_nearly_the_same_pixels():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from hcsflow.functions import catalogue

    stack = np.random.default_rng(0).integers(0, 4000, (1, 64, 64)).astype(np.uint16)
    ours = catalogue.find("gaussian_filter", "numpy")(stack, sigma=1.0)
    theirs = catalogue.find("gaussian_filter", "torch")(torch.from_numpy(stack), sigma=1.0)
    assert np.abs(ours.astype(int) - theirs.numpy().astype(int)).max() <= 1
