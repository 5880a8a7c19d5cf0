"""Finding functions by name and memory type."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from hcsflow.contracts import contract_of
from hcsflow.errors import FunctionNotFoundError, PipelineError
from hcsflow.functions import catalogue
from hcsflow.functions.parameters import check_parameters


def test_every_variant_is_there_with_its_memory_type():
    assert len(catalogue.names()) >= 24
    assert catalogue.names() == sorted(catalogue.names())
    for name in catalogue.names():
        for memory_type, path in catalogue.entry(name).variants.items():
            found = catalogue.find(name, memory_type)
            assert contract_of(found).input_type == memory_type
            assert f"{found.__module__}:{found.__qualname__}" == path


def test_numpy_is_the_default():
    assert contract_of(catalogue.find("gaussian_filter")).input_type == "numpy"


def test_an_unknown_name_brings_the_nearest():
    with pytest.raises(FunctionNotFoundError, match="did you mean 'gaussian_filter'"):
        catalogue.find("gausian_filter")
    with pytest.raises(FunctionNotFoundError, match="no function 'xyz'"):
        catalogue.entry("xyz")


def test_a_missing_variant_names_those_there_are():
    with pytest.raises(
        FunctionNotFoundError, match="no variant for jax; there are: numpy, torch, cupy"
    ):
        catalogue.find("gaussian_filter", "jax")


def test_an_entry_tells_what_a_user_may_set():
    found = catalogue.entry("threshold_otsu")
    assert found.summary.startswith("Separate objects")
    assert [(p.name, p.default, p.required) for p in found.parameters] == [
        ("scale", 1.0, False),
        ("minimum", None, False),
    ]
    measuring = catalogue.entry("measure_objects")
    assert [p.name for p in measuring.parameters] == ["z_reduction"]
    assert measuring.special_outputs == ("objects",)
    assert catalogue.entry("add_constant").parameters[0].required


def test_parameters_are_checked_without_a_call():
    gaussian = catalogue.find("gaussian_filter")
    check_parameters(gaussian, {"sigma": 2})
    with pytest.raises(PipelineError, match=r"no parameter 'sigme'.*\n.*did you mean 'sigma'"):
        check_parameters(gaussian, {"sigme": 2})
    with pytest.raises(PipelineError, match="needs a value for value"):
        check_parameters(catalogue.find("add_constant"), {})
    with pytest.raises(PipelineError, match="'labels' is filled by hcsflow"):
        check_parameters(catalogue.find("measure_objects"), {"labels": 1})
    with pytest.raises(PipelineError, match="there are: none"):
        check_parameters(catalogue.find("max_projection"), {"axis": 0})


def test_a_function_with_any_keywords_takes_any():
    def free(stack, **kwargs):
        return stack

    check_parameters(free, {"anything": 1})


def test_entry_points_add_functions_and_variants():
    points = [
        EntryPoint("sharpen", "elsewhere:sharpen", catalogue.GROUP),
        EntryPoint("sharpen.torch", "elsewhere:sharpen_torch", catalogue.GROUP),
        EntryPoint("lab.deblur", "elsewhere:deblur", catalogue.GROUP),
    ]
    table = catalogue._with_entry_points(catalogue._own(), points)
    assert table["sharpen"] == {"numpy": "elsewhere:sharpen", "torch": "elsewhere:sharpen_torch"}
    assert table["lab.deblur"] == {"numpy": "elsewhere:deblur"}


def test_a_taken_name_is_refused():
    point = EntryPoint("max_projection", "elsewhere:mine", catalogue.GROUP)
    with pytest.raises(PipelineError, match="'elsewhere:mine' wants the name 'max_projection'"):
        catalogue._with_entry_points(catalogue._own(), [point])


def test_an_installed_distribution_brings_its_functions(tmp_path):
    (tmp_path / "other_lab.py").write_text("def twice(stack, *, by=2):\n    return stack * by\n")
    info = tmp_path / "other_lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[hcsflow.functions]\ntwice = other_lab:twice\nbroken = other_lab:absent\n"
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from hcsflow.functions import catalogue
assert "twice" in catalogue.names()
assert catalogue.find("twice").__module__ == "other_lab"
try:
    catalogue.find("broken")
except catalogue.FunctionNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot import 'broken'" in done.stdout


def test_the_catalogue_imports_no_image_library():
    code = """
import sys
from hcsflow.functions import catalogue
catalogue.names()
print(sorted({"cv2", "scipy", "skimage", "torch", "pandas"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
