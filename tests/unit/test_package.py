"""The package as a user meets it: names, laziness, types, documentation that runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.metadata
import json
import linecache
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import hcsflow

ROOT = Path(__file__).parents[2]
PACKAGE = Path(hcsflow.__file__).parent

HEAVY = set(
    """
    bokeh cv2 dask distributed imagecodecs lxml matplotlib numcodecs numpy pandas pyarrow pydantic
    scipy skimage tifffile typer xarray yaml zarr
    """.split()
)
ACCELERATORS = set(
    """
    cucim cupy jax numba pyclesperanto pyclesperanto_prototype rmm tensorflow torch
    """.split()
)
WITH_SOME_TASKS = set(
    """
    bokeh lxml matplotlib pandas pyarrow.compute pydantic scipy skimage typer xarray zarr
    """.split()
)
"""Loaded by a task that hands over a data frame, floods, …: each takes 0.1 to 0.5 s."""

PROMISED = """
    open_plate open_workspace Plate Pipeline FunctionStep compile Plan Run FileManager
    storage_registry Backend MaterializationBackend VFSConfig ZarrConfig ZarrCompressor
    ZarrChunkStrategy FieldLayout GlobalPipelineConfig StepMaterializationConfig special_inputs
    special_outputs memory_types stack_slices unstack_slices MemoryConversionError
    StorageResolutionError HcsflowError Resources
    PASS DROP PIPELINE_START
""".split()


def test_the_root_offers_the_promised_names_and_no_other() -> None:
    assert sorted(hcsflow.__all__) == sorted(PROMISED)
    assert sorted(set(dir(hcsflow)) - {"__version__"}) == sorted(PROMISED)


def test_type_checkers_see_the_same_names_as_users() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    checked = {
        alias.asname or alias.name
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in ast.walk(branch)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert checked == set(PROMISED)


@pytest.mark.parametrize("name", PROMISED)
def test_every_root_name_is_there(name: str) -> None:
    assert getattr(hcsflow, name) is not None


def test_an_unknown_root_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="opn_plate"):
        getattr(hcsflow, "opn_plate")  # noqa: B009 - the type checker knows it is not there


def imported_by(*arguments: str, whole: bool = False) -> set[str]:
    """Return the modules that a fresh interpreter imports, as it reports itself; top ones only."""
    command = [sys.executable, "-X", "importtime", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = [x for x in result.stderr.splitlines() if x.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines}
    return names if whole else {name.split(".")[0] for name in names}


def test_importing_the_root_loads_nothing_heavy() -> None:
    loaded = imported_by("-c", "import hcsflow")
    assert "hcsflow" in loaded
    assert not loaded & (HEAVY | ACCELERATORS)


def test_help_loads_neither_dask_nor_an_array_library() -> None:
    loaded = imported_by(
        "-c", "import sys; from hcsflow.cli.main import main; sys.exit(main())", "--help"
    )
    assert "typer" in loaded
    assert not loaded & ((HEAVY - {"typer"}) | ACCELERATORS)


def test_compiling_needs_no_cluster_and_no_accelerator() -> None:
    loaded = imported_by("-c", "import hcsflow.compiler, hcsflow.microscopes, hcsflow.pipeline")
    assert not loaded & ({"distributed", "bokeh"} | ACCELERATORS)


def test_the_workers_process_starts_before_anything_heavy_is_loaded() -> None:
    loaded = imported_by("-c", "import hcsflow.execute.forkserver")
    assert not loaded & (HEAVY | ACCELERATORS)


def test_what_workers_load_first_holds_nothing_that_few_tasks_need() -> None:
    loaded = imported_by("-c", "import hcsflow.graph.tasks", whole=True)
    assert "hcsflow.graph.tasks" in loaded
    looked_for_by_dask = {"rmm"}
    assert not loaded & (WITH_SOME_TASKS | ACCELERATORS - looked_for_by_dask)


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_version_is_the_distribution_s() -> None:
    try:
        installed = importlib.metadata.version("hcsflow")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("hcsflow runs from its source tree, not installed")
    assert hcsflow.__version__ == installed


def test_the_core_requires_nothing_heavy() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for extra in ("test", "lint"):
        required = project["dependencies"] + project["optional-dependencies"][extra]
        named = {name.replace("-", "_").lower() for name in map(distribution_name, required)}
        assert not {n for n in named if n.startswith(tuple(ACCELERATORS | {"dask_cuda", "nvidia"}))}


def distribution_name(requirement: str) -> str:
    return (
        json.dumps(requirement).strip('"').split(">")[0].split("<")[0].split("=")[0].split("[")[0]
    )


MODULES = sorted(
    ".".join(["hcsflow", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(
        ".__init__"
    )
    for file in PACKAGE.rglob("*.py")
    if file.stem != "__main__" and "_share" not in file.parts
)


def load(name: str) -> ModuleType:
    """Import a module; skip where the optional library that it adapts is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in ACCELERATORS:
            pytest.skip(f"{error.name} is not installed")
        raise


NEEDS = {"hcsflow.arrays._tensorflow": pytest.mark.tensorflow}


@pytest.mark.parametrize("name", [pytest.param(m, marks=NEEDS.get(m, ())) for m in MODULES])
def test_examples_in_docstrings_hold(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    linecache.clearcache()  # doctest asks for the state of every file in it, again and again
    failed, _ = doctest.testmod(
        load(name),
        exclude_empty=True,
        extraglobs={"getfixture": request.getfixturevalue},
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
    )
    assert failed == 0
