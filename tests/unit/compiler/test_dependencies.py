"""What a function's file needs: own files by content, installed libraries by version."""

import importlib
import sys
from pathlib import Path

import pytest

from hcsflow.compiler.dependencies import dependencies_of, versions_of
from hcsflow.compiler.fingerprints import function_fingerprint
from hcsflow.contracts import contract
from hcsflow.functions import catalogue


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Write files of a user's own and import one of them."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(name, **files):
        for stem, text in files.items():
            path = tmp_path / f"{stem}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            top = stem.partition("/")[0]
            for module in [m for m in sys.modules if m.partition(".")[0] == top]:
                monkeypatch.delitem(sys.modules, module)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return load


STEP = "def step(stack):\n    return stack\n"


def needs(module):
    return dependencies_of(Path(module.__file__), module.__name__)


def test_libraries_are_found_wherever_they_are_imported(lab):
    text = "import os, json\nfrom scipy import ndimage\ndef step(s):\n    import pandas.core\n"
    assert needs(lab("lab_one", lab_one=text)).libraries == {"scipy", "pandas"}


def test_own_files_are_followed_and_count_by_content(lab):
    files = {"lab_two": "import lab_far\n" + STEP, "lab_far": "import lab_end, scipy\n",
             "lab_end": "X = 1\n"}  # fmt: skip
    first = needs(lab("lab_two", **files))
    assert len(first.digests) == 3
    assert first.libraries == {"scipy"}
    second = needs(lab("lab_two", **{**files, "lab_end": "X = 2\n"}))
    assert second.digests[0] == first.digests[0]
    assert second.digests != first.digests


def test_a_packages_relative_imports_are_followed(lab):
    steps = "from . import rest\nfrom .more import X\n" + STEP
    names = {"__init__": "", "steps": steps, "rest": "", "more": "X = 1\n"}
    files = {f"lab_pack/{name}": text for name, text in names.items()}
    first = needs(lab("lab_pack.steps", **files))
    assert len(first.digests) == 4
    second = needs(lab("lab_pack.steps", **{**files, "lab_pack/more": "X = 2\n"}))
    assert second.digests != first.digests


def test_files_that_import_each_other_come_to_an_end(lab):
    module = lab("lab_a", lab_a="import lab_b\n" + STEP, lab_b="import lab_a\n")
    assert len(needs(module).digests) == 2


def test_a_ready_made_function_names_what_it_works_with():
    smooth = function_fingerprint(catalogue.find("gaussian_filter"))
    assert "opencv" in smooth
    assert "torch=" not in smooth
    assert "scikit-image" not in smooth
    assert "scikit-image" in function_fingerprint(catalogue.find("label_objects"))


def test_a_memory_type_brings_its_library():
    pytest.importorskip("torch", reason="torch is not installed")
    assert "torch=" in function_fingerprint(catalogue.find("gaussian_filter", "torch"))

    @contract(input_type="torch", output_type="torch")
    def mine(stack):
        return stack

    assert "torch=" in function_fingerprint(mine)


def test_what_is_not_installed_is_left_out():
    assert versions_of(["no_such_library_at_all"]) == versions_of([])


def notebook(**values):
    """Define a function and what it refers to, as a notebook's cells do: no file."""
    scope = {"__name__": "__main__", **values}
    exec("def helper(s):\n    return s + 1\n", scope)
    exec("def step(s):\n    return helper(s) * FACTOR\n", scope)
    return scope


def test_a_notebooks_function_counts_with_what_it_refers_to():
    plain = function_fingerprint(notebook(FACTOR=2)["step"])
    assert plain == function_fingerprint(notebook(FACTOR=2, unused=7)["step"])
    assert plain != function_fingerprint(notebook(FACTOR=3)["step"])
    changed = notebook(FACTOR=2)
    exec("def helper(s):\n    return s + 2\n", changed)
    assert plain != function_fingerprint(changed["step"])


def test_a_notebooks_function_that_calls_itself_comes_to_an_end():
    scope = {"__name__": "__main__"}
    exec("def even(n):\n    return n == 0 or odd(n - 1)\n", scope)
    exec("def odd(n):\n    return n != 0 and even(n - 1)\n", scope)
    assert function_fingerprint(scope["even"]).startswith("sha256:")


def test_a_notebooks_imports_count():
    import scipy.ndimage

    scope = {"__name__": "__main__", "ndimage": scipy.ndimage}
    exec("def step(s):\n    return ndimage.zoom(s, 2)\n", scope)
    assert "scipy=" in function_fingerprint(scope["step"])
