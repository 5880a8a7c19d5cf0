from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.config import (
    Backend,
    GlobalPipelineConfig,
    Level,
    MaterializationBackend,
    MissingPolicy,
    Source,
    StepMaterializationConfig,
    VFSConfig,
    ZarrChunkStrategy,
    ZarrConfig,
    layer_of,
    load_config,
    parse_assignment,
    parse_value,
    resolve,
    setting_names,
)
from hcsflow.errors import ConfigError, UnknownSettingError


def said(layer, origin="lab.yaml", level=Level.GLOBAL):
    return Source(level, origin, layer)


def refused(layer):
    with pytest.raises(ConfigError) as caught:
        resolve([said(layer)])
    return str(caught.value)


def test_the_stronger_level_wins_and_none_inherits():
    config, origins = resolve(
        [  # in no particular order
            said({"zarr.chunk_strategy": "FILE", "num_workers": None, "zarr": None}, "--chunks",
                 Level.CALL),
            said({"num_workers": 4, "zarr": {"compression_level": 3, "pyramid": False}}),
            said({"zarr": {"compression_level": 5}, "missing": "skip"}, "x", Level.ENVIRONMENT),
        ]
    )  # fmt: skip
    assert config.num_workers == 4
    assert config.zarr.compression_level == 5
    assert config.zarr.chunk_strategy is ZarrChunkStrategy.FILE
    assert config.zarr.pyramid is False
    assert config.missing is MissingPolicy.SKIP
    assert origins["num_workers"] == "lab.yaml"
    assert origins["zarr.compression_level"] == "x"
    assert origins["zarr.chunk_strategy"] == "--chunks"
    assert origins["vfs.memory_limit_gb"] == "default"
    assert set(origins) == set(setting_names())


def test_among_equals_the_later_wins():
    config, origins = resolve([said({"fill_value": 1}, "a"), said({"fill_value": 2}, "b")])
    assert (config.fill_value, origins["fill_value"]) == (2, "b")


@given(st.permutations(list(Level)), st.sets(st.sampled_from(list(Level))))
def test_every_level_wins_over_those_below_it(order, silent):
    sources = [
        said({} if level in silent else {"fill_value": int(level)}, level.name, level)
        for level in order
    ]
    config, origins = resolve(sources)
    speaking = [level for level in Level if level not in silent]
    expected = (int(max(speaking)), max(speaking).name) if speaking else (0, "default")
    assert (config.fill_value, origins["fill_value"]) == expected


def test_a_group_may_be_given_as_its_class_which_leaves_nothing_out():
    config, origins = resolve(
        [
            said({"zarr": {"compression_level": 5, "pyramid": False}}),
            said({"zarr": ZarrConfig(compression_level=2)}, "pipeline", Level.PIPELINE),
        ]
    )
    assert config.zarr == ZarrConfig(compression_level=2)
    assert origins["zarr.pyramid"] == "pipeline"
    assert "is a group of settings" in refused({"vfs": ZarrConfig()})


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
        ("a: 2026-13-45", "cannot be read as settings"),
        ("a: !!int x", "cannot be read as settings"),
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
        ({"materialization_defaults.output_path": "/x"}, "vfs.persistent_storage_root_path"),
        ({"materialization_defaults.compression_level": 6}, "write zarr.compression_level"),
        ({"overwrite_symlinks_only": True}, "no symlinks are made"),
        ({"vfs": {"replace_symlinks": True}}, "no symlinks are made"),
        ({"max_objects": 1000}, "memory backend"),
        ({"vfs": {"cleanup_threshold": 0.8}}, "memory backend"),
        ({"base_path": "/w"}, "disk backend"),
        ({"file_permissions": 0o644}, "disk backend"),
        ({"enable_compression": True}, "memory and disk backends"),
        ({"qqq": 1}, "there are"),
        ({3: 1}, "there is no setting '3'"),
        ({"zarr": 3}, "zarr is a group of settings"),
        ({"zarr": {"chunk_strategy": "tiny"}}, "must be well, file, adaptive, single, got 'tiny'"),
        ({"zarr": {"chunk_strategy": ["file"]}}, "must be well, file"),
        ({"zarr": {"pyramid": "maybe"}}, "zarr.pyramid must be true or false, got 'maybe'"),
        ({"zarr": {"pyramid": "true"}}, "write it without quotes"),
        ({"zarr": {"pyramid": 1}}, "zarr.pyramid must be true or false"),
        ({"zarr": {"compression_level": 0}}, "must be a whole number, 1 to 9, got 0"),
        ({"num_workers": "4"}, "write it without quotes"),
        ({"num_workers": 2.5}, "num_workers must be a whole number, at least 1, got 2.5"),
        ({"num_workers": 0}, "at least 1"),
        ({"num_workers": True}, "a whole number, at least 1, got True"),
        ({"num_workers": "many"}, "got 'many'"),
        ({"num_workers": float("inf")}, "got inf"),
        ({"vfs": {"memory_limit_gb": -1}}, "at least 0"),
        ({"vfs": {"memory_limit_gb": float("nan")}}, "got nan"),
        ({"zarr": {"ngff_version": "0.6"}}, "must be 0.4 or 0.5"),
        ({"zarr": {"store_name": "../x"}}, "a folder's name"),
        ({"zarr": {"store_name": 5}}, "a folder's name"),
        ({"vfs": {"intermediate_backend": ["disk"]}}, "must be memory, disk"),
        ({"vfs": {"persistent_storage_root_path": 7}}, "must be text"),
    ],
)
def test_wrong_settings_say_where_and_what_instead(layer, says):
    message = refused(layer)
    assert message.startswith("lab.yaml: ")
    assert says in message


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ZarrConfig(compression="lz4"), "write zarr.compressor"),
        (lambda: ZarrConfig(chunks=None), "write zarr.chunk_strategy"),
        (lambda: ZarrConfig(ome_metadata=True), "write zarr.ome_zarr_metadata"),
        (lambda: ZarrConfig(compresor="lz4"), "did you mean compressor?"),
        (lambda: VFSConfig(max_objects=9), "memory backend"),
        (lambda: ZarrConfig().replace(shufle=True), "ZarrConfig: there is no setting 'shufle'"),
        (lambda: GlobalPipelineConfig().materialization_defaults, "vfs.materialization_backend"),
        (lambda: GlobalPipelineConfig().zar, "did you mean zarr?"),
        (lambda: StepMaterializationConfig(vfs=VFSConfig()), "there are sub_dir, backend, zarr"),
        (lambda: StepMaterializationConfig(zarr={"chunks": None}), "a step's zarr: there is no"),
        (lambda: StepMaterializationConfig(zarr={"shufle": True}), "did you mean shuffle?"),
    ],
)
def test_python_gets_the_same_hints(make, says):
    with pytest.raises(UnknownSettingError) as caught:
        make()
    assert says in str(caught.value)
    assert isinstance(caught.value, (ConfigError, AttributeError, TypeError))
    assert caught.value.exit_code == 2
    assert not hasattr(ZarrConfig(), "chunks")


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
    assert resolve([said(layer_of(config))])[0] == config
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
    config = resolve([said(layer)])[0]
    assert resolve([said(layer_of(config))])[0] == config


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ZarrConfig(ngff_version=0.6), "ngff_version must be 0.4 or 0.5, got '0.6'"),
        (lambda: ZarrConfig(pyramid="no"), "pyramid must be true or false"),
        (lambda: ZarrConfig(compressor=None), "compressor must be zstd"),
        (lambda: GlobalPipelineConfig(zarr={"pyramid": False}), "zarr must be a ZarrConfig"),
        (lambda: StepMaterializationConfig(zarr=3), "must be a mapping of settings"),
        (lambda: StepMaterializationConfig(zarr={"pyramid": 3}), "true or false, got 3"),
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


def test_a_written_file_is_read_back(tmp_path):
    config = GlobalPipelineConfig(
        vfs=VFSConfig(memory_limit_gb=1.5, persistent_storage_root_path="µm data"),
        zarr=ZarrConfig(compressor="none", ngff_version="0.4"),
        missing="fill",
        fill_value=7,
    )
    file = tmp_path / "all.yaml"
    file.write_text(config.to_yaml(), "utf-8")
    assert load_config(file) == config


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_settings_survive_copies_and_processes(copied):
    step = StepMaterializationConfig("kept", zarr={"chunk_strategy": "file"})
    for config in (GlobalPipelineConfig(num_workers=3), ZarrConfig(pyramid=False), step):
        assert copied(config) == config
    with pytest.raises(TypeError):
        step.zarr["pyramid"] = False
