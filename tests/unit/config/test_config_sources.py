"""The places where settings are looked for, and what a step has for itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.config import (
    GlobalPipelineConfig,
    Level,
    Source,
    StepMaterializationConfig,
    ZarrConfig,
    environment_names,
    environment_sources,
    for_step,
    profile_source,
    resolve,
    resolve_step,
    user_config_file,
    user_sources,
)
from hcsflow.errors import ConfigError, UnknownSettingError


def test_the_users_own_file(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert user_config_file(environ) == tmp_path / "hcsflow" / "config.yaml"
    assert user_sources(environ) == []
    file = user_config_file(environ)
    file.parent.mkdir()
    file.write_text("zarr: {pyramid: false}\n")
    config, origins = resolve(user_sources(environ))
    assert config.zarr.pyramid is False
    assert origins["zarr.pyramid"] == str(file)


@pytest.mark.parametrize("relative", ["", "settings"])
def test_a_relative_folder_for_settings_is_not_one(relative):
    home = user_config_file({"XDG_CONFIG_HOME": relative})
    assert home.is_absolute()
    assert home.parts[-2:] == ("hcsflow", "config.yaml")
    assert user_config_file({}) == home


def test_a_profile_has_settings_in_one_section(tmp_path):
    file = tmp_path / "ours.yaml"
    file.write_text("kind: slurm\nqueue: gpu\nconfig: {zarr: {compression_level: 4}}\n")
    config, origins = resolve([profile_source(file)])
    assert config.zarr.compression_level == 4
    assert origins["zarr.compression_level"] == str(file)
    file.write_text("kind: local\n")
    assert profile_source(file).settings == {}
    file.write_text("kind: local\nconfig: fast\n")
    with pytest.raises(ConfigError, match=r"ours\.yaml: config must be a mapping"):
        profile_source(file)


def test_environment_variables_are_their_own_origins():
    sources = environment_sources(
        {
            "HCSFLOW_ZARR_CHUNK_STRATEGY": "File",
            "HCSFLOW_ZARR_PYRAMID": "off",
            "HCSFLOW_ZARR_NGFF_VERSION": "0.4",
            "HCSFLOW_NUM_WORKERS": " 3 ",
            "HCSFLOW_VFS_MEMORY_LIMIT_GB": "1.5",
            "HCSFLOW_MISSING": "",
            "HCSFLOW_NO_GPU": "1",
            "HCSFLOW_CLUSTER": "threads",
            "HCSFLOW_DEBUG": "1",
            "HOME": "/home/me",
        }
    )
    config, origins = resolve(sources)
    assert config.zarr == ZarrConfig(chunk_strategy="file", pyramid=False, ngff_version="0.4")
    assert (config.num_workers, config.vfs.memory_limit_gb) == (3, 1.5)
    assert origins["zarr.pyramid"] == "HCSFLOW_ZARR_PYRAMID"
    assert origins["missing"] == "default"


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("HCSFLOW_ZARR_PYRAMIDS", "did you mean HCSFLOW_ZARR_PYRAMID"),
        ("HCSFLOW_QQQ", "there are HCSFLOW_CLUSTER, HCSFLOW_DEBUG"),
        ("HCSFLOW_ZARR_COMPRESSION", "write zarr.compressor"),
        ("HCSFLOW_OVERWRITE_SYMLINKS_ONLY", "no symlinks are made"),
    ],
)
def test_a_variable_that_nothing_reads_is_refused(variable, says):
    with pytest.raises(UnknownSettingError, match=says):
        environment_sources({variable: "1"})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("HCSFLOW_ZARR_PYRAMID", "maybe"),
        ("HCSFLOW_NUM_WORKERS", "many"),
        ("HCSFLOW_NUM_WORKERS", "NaN"),
        ("HCSFLOW_NUM_WORKERS", "[1]"),
        ("HCSFLOW_ZARR_COMPRESSOR", "zip"),
    ],
)
def test_a_wrong_variable_is_named(variable, text):
    with pytest.raises(ConfigError) as caught:
        resolve(environment_sources({variable: text}))
    assert str(caught.value).startswith(f"{variable}: ")


def test_every_setting_has_its_variable():
    _, origins = resolve([])
    assert sorted(environment_names().values()) == sorted(origins)


OWN = {
    "compression_level": st.integers(1, 9),
    "pyramid": st.booleans(),
    "chunk_strategy": st.sampled_from(["well", "file", "adaptive"]),
}
own_settings = st.fixed_dictionaries({}, optional=OWN)


@given(
    st.dictionaries(st.sampled_from([x for x in Level if x != Level.STEP]), own_settings),
    own_settings,
    st.sampled_from([None, "zarr", "disk"]),
)
def test_a_steps_settings_lie_between_pipeline_and_profile(others, own, backend):
    sources = [Source(level, level.name, {"zarr": said}) for level, said in others.items()]
    kept = StepMaterializationConfig("x", backend, own)
    config, _ = resolve(sources)
    left, origins = resolve_step(sources, "count", kept)
    zarr, vfs = for_step(config, left)
    step = {"zarr": own, "vfs": {"materialization_backend": backend}}
    expected, where = resolve([*sources, Source(Level.STEP, "step 'count'", step)])
    assert zarr == expected.zarr
    assert vfs == expected.vfs
    assert left.sub_dir == "x"
    names = {f"zarr.{name}" for name in own}
    names |= {"vfs.materialization_backend"} if backend else set()
    assert origins == {name: where[name] for name in names}


def test_a_whole_zarr_config_leaves_nothing_to_the_pipeline():
    config = GlobalPipelineConfig(zarr=ZarrConfig(compression_level=7, pyramid=False))
    kept = StepMaterializationConfig(zarr=ZarrConfig(store_name="x.zarr"))
    assert for_step(config, kept)[0] == ZarrConfig(store_name="x.zarr")
    assert for_step(config, None) == (config.zarr, config.vfs)


def test_the_default_place_of_the_file_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = Path(tmp_path, ".config", "hcsflow", "config.yaml")
    assert user_config_file({}) == expected
