"""Settings of pipelines and steps: YAML and Python say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.config import (
    GlobalPipelineConfig,
    StepMaterializationConfig,
    VFSConfig,
    ZarrCompressor,
    ZarrConfig,
    layer_of,
)
from hcsflow.errors import PipelineError
from hcsflow.pipeline import FunctionStep, Pipeline, pipeline_from_yaml, pipeline_to_yaml
from hcsflow.session.settings import settle

configs = st.builds(
    GlobalPipelineConfig,
    vfs=st.builds(
        VFSConfig,
        memory_limit_gb=st.none() | st.floats(0, 512),
        materialization_backend=st.sampled_from(["zarr", "disk"]),
    ),
    zarr=st.builds(
        ZarrConfig,
        compressor=st.sampled_from(ZarrCompressor),
        ngff_version=st.sampled_from(["0.4", "0.5"]),
        shuffle=st.booleans(),
    ),
    num_workers=st.none() | st.integers(1, 64),
    missing=st.sampled_from(["error", "skip", "fill"]),
)
steps = st.builds(
    StepMaterializationConfig,
    sub_dir=st.none() | st.just("kept"),
    backend=st.sampled_from([None, "zarr", "disk"]),
    zarr=st.fixed_dictionaries(
        {}, optional={"pyramid": st.booleans(), "chunk_strategy": st.just("file")}
    )
    | st.builds(ZarrConfig, compression_level=st.integers(1, 9)),
)


@given(configs, st.none() | steps)
def test_python_and_yaml_settle_alike(config, kept):
    declared = Pipeline([FunctionStep("max_projection", materialization=kept)], config=config)
    read = pipeline_from_yaml(pipeline_to_yaml(declared))
    assert read == declared
    assert settle(read) == settle(declared)
    assert settle(declared).config == config
    assert dict(declared.config) == layer_of(config)


def test_choices_and_whole_groups_in_a_mapping_can_be_written():
    config = {"zarr": ZarrConfig(compressor="lz4"), "vfs.materialization_backend": "DISK"}
    declared = Pipeline([FunctionStep("max_projection")], config=config)
    read = pipeline_from_yaml(pipeline_to_yaml(declared))
    assert settle(read) == settle(declared)
    assert settle(read).config.zarr.compressor is ZarrCompressor.LZ4


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ("{zarr: {chunks: 1}}", "write zarr.chunk_strategy"),
        ("{zarr: {compression_level: 12}}", "must be a whole number, 1 to 9, got 12"),
        ("{zarr: 3}", "must be a mapping"),
        ("{compression: lz4}", "write zarr.compressor"),
        ("{sub_dirr: x}", "did you mean 'sub_dir'"),
    ],
)
def test_what_a_step_cannot_have_is_refused_by_its_place(kept, says):
    with pytest.raises(PipelineError, match=r"steps\[0\]") as caught:
        pipeline_from_yaml(f"steps: [{{function: max_projection, materialization: {kept}}}]")
    assert says in str(caught.value)
