"""The exported JSON Schema accepts what `load_config` accepts, and nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.config import (
    GlobalPipelineConfig,
    load_config,
    resolve,
    setting_names,
    settings_schema,
)
from hcsflow.errors import ConfigError

VALIDATOR = jsonschema.Draft202012Validator(settings_schema())

words = st.sampled_from(
    "zstd ZSTD Zstd lz4 none NONE well FILE File adaptive single mosaic images memory DISK zarr "
    "virtual_workspace error skip fill 0.4 0.5 0.6 true no .. . a/b images.zarr /data 4".split()
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.sampled_from([0.4, 0.5, 3.0, 2.5, -0.0, 1e300]),
    words,
    st.text(max_size=3, alphabet="ab/.\n"),
    st.lists(st.integers(0, 1), max_size=1),
    st.dictionaries(words, st.integers(0, 1), max_size=1),
)


def keys_in(group: str) -> st.SearchStrategy[str]:
    known = [name.removeprefix(group) for name in setting_names() if name.startswith(group)]
    return st.sampled_from([*known, "chunks", "compression", "vfs", "zarr", "pyramidd", ""])


sections = st.one_of(values, st.dictionaries(keys_in("zarr."), values, max_size=3))
documents = st.one_of(
    values,
    st.dictionaries(
        st.one_of(st.sampled_from(["vfs", "zarr"]), keys_in("")),
        st.one_of(values, sections, st.dictionaries(keys_in("vfs."), values, max_size=2)),
        max_size=3,
    ),
)


def is_read(document: object) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "settings.yaml")
        file.write_text(yaml.safe_dump(document), "utf-8")
        try:
            load_config(file)
        except ConfigError:
            return False
    return True


@given(documents)
def test_the_schema_and_the_reader_agree(document):
    assert VALIDATOR.is_valid(document) == is_read(document)


@pytest.mark.parametrize("name", setting_names())
@given(dotted=st.booleans(), value=values)
def test_they_agree_on_every_setting(name, dotted, value):
    group, dot, last = name.rpartition(".")
    document = {name: value} if dotted or not dot else {group: {last: value}}
    assert VALIDATOR.is_valid(document) == is_read(document)


def test_it_is_a_schema_of_its_draft_and_tells_the_defaults():
    schema = settings_schema()
    assert schema["$schema"].endswith("draft/2020-12/schema")
    jsonschema.Draft202012Validator.check_schema(schema)
    told = {name: each["default"] for name, each in schema["$defs"].items()}
    config = resolve([])[0]
    assert told["zarr.compression_level"] == config.zarr.compression_level
    assert told["vfs.intermediate_backend"] == "memory"
    assert set(told) == set(setting_names())


def test_what_python_writes_is_valid():
    VALIDATOR.validate(yaml.safe_load(GlobalPipelineConfig(num_workers=2).to_yaml()))
