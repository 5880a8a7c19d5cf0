"""What the command line understands before anything is opened."""

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from hcsflow.cli import options
from hcsflow.cli.interrupts import interruptible, raise_if_interrupted
from hcsflow.cli.main import main
from hcsflow.cli.schemas import DOCUMENTS, FILES, json_schema
from hcsflow.errors import ConfigError, UsageError
from hcsflow.testing.plates import write_imagexpress_plate

VERBS = (
    "demo", "inspect", "plan", "run", "status", "failures", "verify", "report", "cancel",
    "functions", "doctor", "schema", "config",
)  # fmt: skip


@pytest.fixture
def hf(capsys):
    """Run the command line in this process: exit status, stdout, stderr."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_help_lists_every_verb_and_the_exit_statuses(hf):
    status, text, _ = hf("--help")
    assert status == 0
    for verb in VERBS:
        assert f" {verb} " in text
    assert "130 interrupted" in text.replace("\n", " ")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(hf, verb):
    status, text, _ = hf(verb, "-h")
    assert status == 0
    assert f"hcsflow {verb}" in text


def test_help_imports_nothing_heavy():
    code = """
import sys
from hcsflow.cli.interrupts import interruptible, raise_if_interrupted
from hcsflow.cli.main import main
main(["run", "--help"])
heavy = {"numpy", "dask", "distributed", "zarr", "pandas", "cv2", "yaml", "jinja2"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout


def test_no_colour_off_a_terminal(hf):
    for arguments in (["--help"], ["run"], ["plan", "nothing", "nowhere", "-o", "x"], ["doctor"]):
        _, text, errors = hf(*arguments)
        assert "\x1b" not in text + errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "count-nuclei", "PLATE"],
        ["run", "count-nuclei", "PLATE", "-o", "OUT", "--chunks", "rows"],
        ["run", "count-nuclei", "PLATE", "-o", "OUT", "--workers", "0"],
        ["plan", "count-nuclei", "no/such/plate", "-o", "OUT"],
        ["status", "no/such/output"],
        ["failures", "no/such/output"],
        ["verify", "no/such/output"],
        ["report", "no/such/output"],
        ["functions", "gausian_filter"],
        ["inspect", "no/such/plate"],
        ["schema", "rnu"],
        ["no-such-verb"],
        ["cancel", "no/such/output"],
    ],
)
def test_what_cannot_be_understood_ends_with_2(hf, arguments):
    status, text, errors = hf(*arguments)
    assert status == 2
    assert text == ""
    assert "Traceback" not in errors


def test_the_version_is_told_without_a_verb(hf):
    status, text, errors = hf("--version")
    assert (status, errors) == (0, "")
    assert text.startswith("hcsflow")


def test_run_help_lists_every_environment_variable(hf):
    from hcsflow.config import environment_names

    _, text, _ = hf("run", "--help")
    listed = text[text.index("Settings are taken from the environment") :]
    for name in environment_names():
        assert name.removeprefix("HCSFLOW_") in "".join(listed.split())


def test_an_unknown_environment_variable_is_refused(hf, tmp_path, monkeypatch):
    write_imagexpress_plate(tmp_path / "P", wells=("A01",), fields=1, z=1, size=32, nuclei=1)
    monkeypatch.setenv("HCSFLOW_ZARR_CHUNK_STRATEGI", "file")
    status, _, errors = hf("plan", "max-projection", tmp_path / "P", "-o", tmp_path / "out")
    assert status == 2
    assert "did you mean HCSFLOW_ZARR_CHUNK_STRATEGY?" in errors


def test_every_parameter_of_the_catalogue_is_explained(hf):
    _, text, _ = hf("functions", "--json")
    for function in json.loads(text)["functions"]:
        for parameter in function["parameters"]:
            assert parameter["meaning"], (function["name"], parameter["name"])
    _, text, _ = hf("functions", "gaussian_filter")
    assert "Standard deviation in pixels" in text


def test_an_error_says_what_to_do_and_debug_shows_the_traceback(hf):
    _, _, errors = hf("functions", "gausian_filter")
    assert errors.startswith("error: ")
    assert "→ did you mean 'gaussian_filter'?" in errors
    with pytest.raises(LookupError):
        main(["functions", "gausian_filter", "--debug"])


def test_a_foreign_folder_is_not_touched_by_the_demo(hf, tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    status, _, errors = hf("demo", "-o", tmp_path)
    assert status == 2
    assert "not empty" in errors
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_functions_and_doctor_print_documents(hf):
    for verb, arguments in {"functions": [], "doctor": []}.items():
        status, text, _ = hf(verb, *arguments, "--json")
        assert status == 0
        jsonschema.validate(json.loads(text), json_schema(verb))
    _, text, _ = hf("functions", "gaussian_filter")
    assert "sigma" in text


def test_schemas_are_valid_and_name_their_verb(hf):
    _, listed, _ = hf("schema")
    assert listed.split() == sorted([*DOCUMENTS, *FILES])
    for verb in DOCUMENTS:
        status, text, _ = hf("schema", verb)
        assert status == 0
        schema = json.loads(text)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["properties"]["schema"]["const"] == f"hcsflow.{verb}/1"
        assert schema["additionalProperties"] is False
    for name in FILES:
        _, text, _ = hf("schema", name)
        jsonschema.Draft202012Validator.check_schema(json.loads(text))


def request(**options_given):
    return options.Request(pipeline="p", plate=Path("P"), output=Path("o"), **options_given)


def test_settings_come_from_file_and_options_and_options_win(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("zarr: {chunk_strategy: well, compression_level: 3}\nmissing: skip\n")
    from hcsflow.config import resolve

    asked = request(config=file, chunks=options.Chunks.FILE, fill_value=7)
    config, origins = resolve(asked.sources())
    assert origins["zarr.chunk_strategy"] == "--chunks"
    assert origins["zarr.compression_level"] == str(file)
    assert config.zarr.chunk_strategy.value == "file"
    assert config.zarr.compression_level == 3
    assert config.missing.value == "skip"
    assert config.fill_value == 7


def test_a_wrong_settings_file_is_named(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("zarr: {chunk_stratgy: file}\n")
    with pytest.raises(ConfigError, match=r"settings\.yaml.*chunk_stratgy") as caught:
        request(config=file).sources()
    assert "chunk_strategy" in caught.value.hint


def test_well_lists_and_parameters_are_read():
    assert options.split_wells(None) is None
    assert options.split_wells("A01, B*,") == ["A01", "B*"]
    assert options.split_wells("a1,A1,b002,c*,af48") == ["A01", "A01", "B02", "C*", "AF48"]
    with pytest.raises(UsageError):
        options.split_wells(" , ")
    assert options.parse_settings(["a=1", "s.b=[1, 2]", "c=w1"]) == {
        "a": 1,
        "s.b": [1, 2],
        "c": "w1",
    }
    with pytest.raises(ConfigError):
        options.parse_settings(["sigma"])


def test_an_interruption_that_a_library_swallowed_is_not_lost():
    def interrupted_import():
        with contextlib.suppress(BaseException):  # as some libraries do around imports
            signal.raise_signal(signal.SIGTERM)

    def import_and_go_on():
        with interruptible():
            interrupted_import()
            with pytest.raises(KeyboardInterrupt):
                raise_if_interrupted()

    def import_and_fail():
        with interruptible():
            interrupted_import()
            raise ImportError("half done")

    for block in (import_and_go_on, import_and_fail):
        with pytest.raises(KeyboardInterrupt):
            block()
    raise_if_interrupted()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
