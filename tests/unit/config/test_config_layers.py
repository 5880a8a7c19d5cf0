from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.config import (
    Backend,
    GlobalPipelineConfig,
    MaterializationBackend,
    MissingPolicy,
    StepMaterializationConfig,
    VFSConfig,
    ZarrChunkStrategy,
    ZarrConfig,
    environment_layer,
    layer_of,
    load_config,
    parse_assignment,
    parse_value,
    resolve,
    setting_names,
)
from hcsflow.errors import ConfigError


def refused(*layers):
    with pytest.raises(ConfigError) as caught:
        resolve(list(layers))
    return str(caught.value)


def test_later_layers_win_and_none_inherits():
    config, origins = resolve(
        [
            ("lab.yaml", {"num_workers": 4, "zarr": {"compression_level": 3, "pyramid": False}}),
            ("environment", {"zarr": {"compression_level": "5"}, "missing": "skip"}),
            ("--chunks", {"zarr.chunk_strategy": "FILE", "num_workers": None, "zarr": None}),
        ]
    )
    assert config.num_workers == 4
    assert config.zarr.compression_level == 5
    assert config.zarr.chunk_strategy is ZarrChunkStrategy.FILE
    assert config.zarr.pyramid is False
    assert config.missing is MissingPolicy.SKIP
    assert origins["num_workers"] == "lab.yaml"
    assert origins["zarr.compression_level"] == "environment"
    assert origins["zarr.chunk_strategy"] == "--chunks"
    assert origins["vfs.memory_limit_gb"] == "default"
    assert set(origins) == set(setting_names())


def test_no_layers_are_the_defaults():
    assert resolve([])[0] == GlobalPipelineConfig()


def test_a_file(tmp_path):
    file = tmp_path / "lab.yaml"
    file.write_text(
        "vfs:\n  memory_limit_gb: 8\n  intermediate_backend: disk\n"
        "zarr:\n  ngff_version: 0.5\n  compressor: lz4\nnum_workers:\n"
    )
    config = load_config(file)
    assert config.vfs.memory_limit_gb == 8.0
    assert config.vfs.intermediate_backend is Backend.DISK
    assert config.zarr.ngff_version == "0.5"
    assert config.num_workers is None
    file.write_text("")
    assert load_config(file) == GlobalPipelineConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "expected names and values, found list"),
        ("a: [", "cannot be read as settings"),
        ("!!python/object/apply:os.system ['true']", "cannot be read as settings"),
    ],
)
def test_bad_files(tmp_path, text, says):
    file = tmp_path / "lab.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_config(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"zarr": {"chunk_stratgy": "file"}}, "did you mean zarr.chunk_strategy?"),
        ({"chunk_strategy": "file"}, "did you mean zarr.chunk_strategy?"),
        ({"compression": "lz4"}, "write zarr.compressor"),
        ({"zarr": {"compression": "lz4"}}, "write zarr.compressor"),
        ({"zarr": {"chunks": None}}, "write zarr.chunk_strategy"),
        ({"zarr": {"ome_metadata": True}}, "write zarr.ome_zarr_metadata"),
        ({"materialization_defaults": {"backend": "zarr"}}, "vfs.materialization_backend"),
        ({"materialization_defaults.backend": "zarr"}, "vfs.materialization_backend"),
        ({"qqq": 1}, "there are"),
        ({"zarr": 3}, "zarr is a group of settings"),
        ({"zarr": {"chunk_strategy": "tiny"}}, "must be well, file, adaptive, single, got 'tiny'"),
        ({"zarr": {"pyramid": "maybe"}}, "zarr.pyramid must be bool, got 'maybe'"),
        ({"zarr": {"compression_level": 0}}, "must be 1 to 9, got 0"),
        ({"num_workers": 2.5}, "num_workers must be int, got 2.5"),
        ({"num_workers": 0}, "at least 1"),
        ({"num_workers": True}, "num_workers must be int, got True"),
        ({"num_workers": "many"}, "got 'many'"),
        ({"vfs": {"memory_limit_gb": -1}}, "at least 0"),
        ({"zarr": {"ngff_version": "0.6"}}, "must be 0.4 or 0.5"),
        ({"zarr": {"store_name": "../x"}}, "a folder's name"),
        ({"vfs": {"intermediate_backend": ["disk"]}}, "must be memory, disk"),
    ],
)
def test_wrong_settings_say_where_and_what_instead(layer, says):
    message = refused(("lab.yaml", layer))
    assert message.startswith("lab.yaml: ")
    assert says in message


def test_environment():
    layer = environment_layer(
        {
            "HCSFLOW_ZARR_CHUNK_STRATEGY": "file",
            "HCSFLOW_NUM_WORKERS": "3",
            "HCSFLOW_NO_GPU": "1",
            "HOME": "/home/me",
        }
    )
    assert layer == {"zarr": {"chunk_strategy": "file"}, "num_workers": "3"}
    assert resolve([("environment", layer)])[0].num_workers == 3
    with pytest.raises(ConfigError, match="did you mean HCSFLOW_ZARR_PYRAMID"):
        environment_layer({"HCSFLOW_ZARR_PYRAMIDS": "1"})
    with pytest.raises(ConfigError, match="there are HCSFLOW_CLUSTER, HCSFLOW_DEBUG"):
        environment_layer({"HCSFLOW_QQQ": "1"})
    assert environment_layer({"HCSFLOW_CLUSTER": "threads", "HCSFLOW_DEBUG": "1"}) == {}


def test_choices_may_be_given_as_text():
    assert ZarrConfig(chunk_strategy="file").chunk_strategy is ZarrChunkStrategy.FILE
    assert ZarrConfig().replace(chunk_strategy="FILE") == ZarrConfig(chunk_strategy="file")
    assert GlobalPipelineConfig(missing="fill").missing is MissingPolicy.FILL
    step = StepMaterializationConfig(backend="disk")
    assert step.backend is MaterializationBackend.DISK
    with pytest.raises(ConfigError, match="compressor must be zstd, lz4"):
        ZarrConfig(compressor="zip")
    with pytest.raises(AttributeError):
        ZarrConfig().pyramid = False


def test_a_configuration_as_a_layer():
    config = GlobalPipelineConfig(
        vfs=VFSConfig(memory_limit_gb=2.0), zarr=ZarrConfig(pyramid=False)
    )
    assert layer_of(config) == {"vfs": {"memory_limit_gb": 2.0}, "zarr": {"pyramid": False}}
    assert resolve([("pipeline", layer_of(config))])[0] == config
    assert layer_of(GlobalPipelineConfig()) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("2.5", 2.5), ("true", True), ("null", None), ("NO", "NO"), ("w1", "w1"),
     ('"7"', "7"), ("[1, 2]", [1, 2]), ("", ""), ("[1,", "[1,")],
)  # fmt: skip
def test_values_on_the_command_line(text, value):
    assert parse_value(text) == value
    assert parse_assignment(f"a.b = {text}") == ("a.b", value)


def test_assignments_need_a_name():
    for text in ("sigma", "=2"):
        with pytest.raises(ConfigError, match="expected name=value"):
            parse_assignment(text)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "num_workers": st.integers(1, 99) | st.none(),
            "fill_value": st.integers(0, 65_535),
            "missing": st.sampled_from(MissingPolicy),
            "zarr": st.fixed_dictionaries(
                {"compression_level": st.integers(1, 9)}, optional={"pyramid": st.booleans()}
            ),
        },
    )
)
def test_a_resolved_configuration_resolves_to_itself(layer):
    config = resolve([("a", layer)])[0]
    assert resolve([("b", layer_of(config))])[0] == config


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ZarrConfig(ngff_version=0.5), "ngff_version must be '0.4' or '0.5', got 0.5"),
        (lambda: ZarrConfig(ngff_version="0.6"), "got '0.6'"),
        (
            lambda: ZarrConfig(compression_level=12),
            "compression_level must be a whole number, 1 to 9",
        ),
        (lambda: ZarrConfig(compression_level=1.5), "a whole number"),
        (lambda: ZarrConfig(compressor="lzma"), "compressor must be"),
        (lambda: VFSConfig(memory_limit_gb=-1), "memory_limit_gb must be a number, at least 0"),
        (lambda: VFSConfig(memory_limit_gb="4GB"), "got '4GB'"),
        (
            lambda: GlobalPipelineConfig(num_workers=0),
            "num_workers must be a whole number",
        ),
    ],
)
def test_an_impossible_setting_is_refused_where_it_is_made(make, says):
    with pytest.raises(ConfigError) as raised:
        make()
    assert says in str(raised.value)
