"""The shape of the tree: who may import whom, how long things are, where errors are caught."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hcsflow"
FILES = sorted(PACKAGE.rglob("*.py"))

ACCELERATORS = {
    "cucim", "cupy", "cupyx", "jax", "numba", "pyclesperanto", "pyclesperanto_prototype", "rmm",
    "tensorflow", "torch",
}  # fmt: skip

PLANTED = {
    # what is planted: (file, code, how the linter names the import)
    "upwards": ("errors.py", "import hcsflow.plan", "hcsflow.errors -> hcsflow.plan"),
    "sideways": (
        "plate/model.py",
        "import hcsflow.config",
        "hcsflow.plate.model -> hcsflow.config",
    ),
    "inside a function": (
        "ngff/layout.py",
        "def late():\n    from hcsflow.storage import FileManager\n    return FileManager",
        "hcsflow.ngff.layout -> hcsflow.storage",
    ),
    "view and execute": (
        "view/__init__.py",
        "import hcsflow.execute",
        "hcsflow.view -> hcsflow.execute",
    ),
    "compiler and graph": (
        "compiler/__init__.py",
        "import hcsflow.graph",
        "hcsflow.compiler -> hcsflow.graph",
    ),
    "dask outside": ("plan.py", "import dask", "hcsflow.plan -> dask"),
    "distributed outside": (
        "compiler/__init__.py",
        "from distributed import Client",
        "hcsflow.compiler -> distributed",
    ),
    "accelerator outside": ("graph/__init__.py", "import torch", "hcsflow.graph -> torch"),
    "root package": ("journal.py", "import hcsflow", "hcsflow.journal -> hcsflow"),
    "a package without a floor": ("attic/__init__.py", '"""Odds and ends."""', "attic"),
}


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in a folder that holds pyproject.toml and hcsflow/."""
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as m; m()"]
    return subprocess.run(
        [*command, "--no-cache"],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def planted_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What import-linter says about a copy of the tree with every violation planted."""
    tree = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", tree)
    shutil.copytree(PACKAGE, tree / "hcsflow", ignore=shutil.ignore_patterns("__pycache__"))
    for file, code, _ in PLANTED.values():
        target = tree / "hcsflow" / file
        target.parent.mkdir(exist_ok=True)
        with target.open("a") as stream:
            stream.write(f"\n{code}\n")
    result = lint(tree)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


def test_imports_point_down() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 kept, 0 broken" in result.stdout


@pytest.mark.parametrize("violation", PLANTED)
def test_a_planted_violation_is_seen(violation: str, planted_report: str) -> None:
    expected = PLANTED[violation][2]
    assert re.search(rf"{re.escape(expected)}(?![.\w])", planted_report), planted_report


def test_every_contract_is_broken_by_what_was_planted(planted_report: str) -> None:
    assert "0 kept, 4 broken" in planted_report


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def functions_of(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function's body, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def test_files_stay_short() -> None:
    long = {name_of(f): n for f in FILES if (n := len(f.read_text("utf-8").splitlines())) > 400}
    assert not long


def test_functions_stay_short() -> None:
    long = {
        f"{name_of(file)}:{function.lineno} {function.name}": body_lines(function)
        for file in FILES
        for function in functions_of(file)
        if body_lines(function) > 40
    }
    assert not long


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes any error and does not pass it on."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"})
        for kind in caught
    )


def test_only_the_task_boundary_swallows_every_error() -> None:
    found = [
        f"{name_of(file)}:{node.lineno}"
        for file in FILES
        if name_of(file) != "graph/tasks.py"
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.ExceptHandler) and swallows_everything(node)
    ]
    assert not found


def may_import_late(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    private_adapter = folder == "arrays" and file.startswith("_")
    return (
        private_adapter
        or name == "__init__.py"  # the root's names are lazy
        or name.split("/", maxsplit=1)[0] in {"functions", "cli", "session"}
        or name == "execute/clusters.py"
    )


def test_imports_inside_functions_only_where_laziness_is_wanted() -> None:
    found = {
        f"{name_of(file)}:{node.lineno}"
        for file in FILES
        if not may_import_late(name_of(file))
        for function in functions_of(file)
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert not found


def imported_roots(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module.split(".")[0]}
    return set()


def test_within_arrays_only_the_adapters_import_an_accelerator() -> None:
    found = {
        f"{name_of(file)}:{node.lineno}"
        for file in (PACKAGE / "arrays").rglob("*.py")
        if not file.name.startswith("_") or file.name == "__init__.py"
        for node in ast.walk(tree_of(file))
        if hasattr(node, "lineno") and imported_roots(node) & ACCELERATORS
    }
    assert not found


def test_no_name_hides_what_it_holds() -> None:
    bad_files = [
        name_of(f) for f in FILES if f.stem in {"utils", "util", "helpers", "misc", "common"}
    ]
    bad_classes = [
        f"{name_of(file)}:{node.lineno} {node.name}"
        for file in FILES
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.ClassDef)
        and re.search(r"^(Base|Abstract)[A-Z]|(?<!^File)Manager$|Helper$|Handler$", node.name)
    ]
    assert not bad_files
    assert not bad_classes
