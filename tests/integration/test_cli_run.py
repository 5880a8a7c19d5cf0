"""The verbs on a real plate of files, from ``inspect`` to ``report``, as a user types them."""

import json
import os
import shutil
import signal
import subprocess
import time

import jsonschema
import pytest

from hcsflow.cli.main import main
from hcsflow.cli.schemas import json_schema
from hcsflow.errors import UsageError
from hcsflow.session.run import Run
from hcsflow.testing.plates import write_imagexpress_plate


@pytest.fixture
def hf(capsys):
    """Run the command line in this process: exit status, stdout, stderr."""

    def run(*arguments):
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def document(hf):
    """Run a verb with ``--json`` and check the document against its public schema."""

    def run(*arguments):
        status, text, _ = hf(*arguments, "--json")
        found = json.loads(text)
        jsonschema.validate(found, json_schema(arguments[0]))
        return status, found

    return run


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """Three wells, one with a truncated TIFF."""
    root = tmp_path_factory.mktemp("cli") / "small"
    write_imagexpress_plate(
        root, wells=("B02", "B03", "C02"), fields=2, z=2, size=128, nuclei=6,
        faults={"C02": "truncated TIFF"},
    )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def finished(plate, tmp_path_factory):
    """The output of a run that ended with one failed well; tests read it or copy it."""
    output = tmp_path_factory.mktemp("cli-out") / "out"
    status = main(["run", "count-nuclei", str(plate), "-o", str(output), "--cluster", "threads"])
    assert status == 4
    return output


def test_inspect_says_what_the_plate_holds(hf, document, plate):
    status, found = document("inspect", plate)
    assert status == 0
    assert found["wells"] == ["B02", "B03", "C02"]
    assert found["pixel_size"]["um"] == 0.65
    assert [channel["z"] for channel in found["channels"]] == [2, 2]
    _, text, _ = hf("inspect", plate)
    assert "0.65 µm" in text
    assert text.count("●") == 3 + 1  # the key too


def test_plan_reads_and_writes_nothing(hf, document, plate, tmp_path):
    status, found = document("plan", "count-nuclei", plate, "-o", tmp_path / "out", "--wells", "B*")
    assert status == 0
    assert found["wells"] == ["B02", "B03"]
    assert found["tasks"] == 2
    assert not (tmp_path / "out").exists()
    _, text, _ = hf(
        "plan", "count-nuclei", plate, "-o", tmp_path / "out", "--set", "smooth.sigma=3"
    )
    assert "gaussian_filter" in text


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--wells", "H12"), "no well matches"),
        (("--set", "sigm=2"), "sigma"),
        (("--set", "sigma"), "name=value"),
        (("--cluster", "treads"), "threads"),
        (("--config", "no-such.yaml"), "no-such.yaml"),
    ],
)
def test_wrong_options_end_with_2(hf, plate, tmp_path, option, said):
    status, _, errors = hf("run", "count-nuclei", plate, "-o", tmp_path / "out", *option)
    assert status == 2
    assert said in errors


def test_the_output_may_not_lie_in_the_plate(hf, plate, hash_tree):
    before = hash_tree(plate)
    status, _, _ = hf("run", "max-projection", plate, "-o", plate / "out", "--cluster", "threads")
    assert status == 2
    assert hash_tree(plate) == before


def test_a_bad_well_is_set_aside_and_the_others_are_done(hf, document, finished, plate):
    status, found = document("status", finished)
    assert status == 0
    assert (found["done"], found["failed"], found["pending"]) == (["B02", "B03"], ["C02"], [])
    status, found = document("failures", finished)
    assert status == 0
    (fault,) = found["failures"]
    assert fault["error"] == "PlaneError"
    assert (plate / fault["file"]).is_file()
    assert found["rerun"] == (
        f"hcsflow run count-nuclei {plate} -o {finished} --cluster threads --wells C02"
    )
    _, text, _ = hf("failures", finished)
    assert fault["file"] in text
    assert "--wells C02" in text
    assert (finished / "results" / "nuclei.csv").is_file()
    assert 'id="failed-C02"' in (finished / "report.html").read_text("utf-8")


def test_verify_finds_a_damaged_object(document, finished, tmp_path):
    assert document("verify", finished)[0] == 0
    copy = tmp_path / "moved"
    shutil.copytree(finished, copy)
    assert document("verify", copy)[0] == 0  # an output may be moved
    target = max(
        (copy / "images.zarr").rglob("c/*"), key=lambda p: p.is_file() and p.stat().st_size
    )
    target = next(p for p in sorted(target.parent.rglob("*")) if p.is_file())
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    status, found = document("verify", copy)
    assert status == 1
    assert [finding["kind"] for finding in found["findings"]] == ["checksum"]
    assert (copy / found["findings"][0]["path"]).samefile(target)


def test_report_is_written_again(document, finished, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(finished, copy)
    (copy / "report.html").unlink()
    status, found = document("report", copy)
    assert status == 0
    assert found["report"] == str(copy / "report.html")
    assert (copy / "report.html").is_file()


def test_the_same_command_goes_on_and_a_mended_well_is_done(document, finished, plate, tmp_path):
    output, mended = tmp_path / "out", tmp_path / "small"
    shutil.copytree(finished, output)
    shutil.copytree(plate, mended, copy_function=shutil.copy2)
    damaged = mended / json.loads((output / ".hcsflow/failures/C02.json").read_text())["file"]
    whole = next(p for p in damaged.parent.glob("*_B02_*") if p.name[-8:] == damaged.name[-8:])
    shutil.copy2(whole, damaged)
    arguments = ("run", "count-nuclei", mended, "-o", output, "--cluster", "threads")
    status, found = document(*arguments)
    assert status == 0
    assert (found["done"], found["skipped"], found["failed"]) == (["C02"], ["B02", "B03"], [])
    assert found["rerun"] is None


def test_an_output_of_another_pipeline_is_refused(hf, finished, plate):
    arguments = ("max-projection", plate, "-o", finished, "--cluster", "threads")
    status, _, errors = hf("run", *arguments)
    assert status == 2
    assert "max-projection" in errors


def test_cancelling_where_nothing_runs_says_so(document, finished):
    status, found = document("cancel", finished)
    assert (status, found["cancelled"]) == (0, False)


FAULTY = """
import hcsflow as hf

def f(stack):
    return {}["x"]

pipeline = hf.Pipeline([hf.FunctionStep(f)], name="faulty")
"""


def test_an_error_in_a_users_function_is_told_with_its_place(hf, document, plate, tmp_path):
    (tmp_path / "k.py").write_text(FAULTY)
    output = tmp_path / "out"
    arguments = (tmp_path / "k.py", plate, "-o", output, "--cluster", "threads", "--no-report")
    status, text, _ = hf("run", *arguments)
    assert status == 4
    assert "KeyError: 'x' (k.py line 5)" in text
    assert "images.zarr" not in text
    _, text, _ = hf("failures", output, "--traceback")
    assert "Traceback" in text
    assert document("failures", output)[1]["failures"][0]["where"] == "k.py line 5"
    _, text, _ = hf("verify", output)
    assert "nothing is stored yet" in text
    _, text, _ = hf("run", *arguments, "--fail-fast", "--wells", "b*")
    assert "the same command does the rest" in text


def test_wells_of_other_parameters_are_accounted_for(hf, document, plate, tmp_path):
    (tmp_path / "p.yaml").write_text(
        "name: p\nparameters: {sigma: 1}\nsteps:\n"
        "  - {name: smooth, function: gaussian_filter, parameters: {sigma: $sigma}}\n"
    )
    base = (tmp_path / "p.yaml", plate, "-o", tmp_path / "out", "--cluster", "threads")
    assert document("run", *base, "--wells", "b2,b3")[1]["left_out"] == []
    assert document("run", *base, "--wells", "b2")[1]["left_out"] == []
    found = document("run", *base, "--set", "sigma=2", "--wells", "b2")[1]
    assert (found["done"], found["left_out"]) == (["B02"], ["B03"])
    assert document("status", tmp_path / "out")[1]["left_out"] == ["B03"]
    _, text, _ = hf("status", tmp_path / "out")
    assert "without --wells" in text
    found = document("run", *base, "--set", "sigma=2", "--wells", "B0*")[1]
    assert (found["done"], found["skipped"], found["left_out"]) == (["B03"], ["B02"], [])


def test_reruns_work_from_any_folder(hf, plate, tmp_path, monkeypatch):
    monkeypatch.chdir(plate.parent)
    output = tmp_path / "out"
    hf("run", "max-projection", plate.name, f"--output={output}", "--cluster", "threads")
    _, text, _ = hf("failures", output)
    assert f"hcsflow run max-projection {plate} --output={output} " in text


def test_an_output_that_cannot_be_made_ends_with_2(hf, plate):
    status, _, errors = hf("run", "max-projection", plate, "-o", "/proc/xx", "--cluster", "threads")
    assert status == 2
    assert "→ choose another folder with -o" in errors


SLEEPY = """
import time
import hcsflow as hf

def sleep(stack):
    time.sleep(0.6)
    return stack

pipeline = hf.Pipeline([hf.FunctionStep(sleep)], name="sleepy")
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.3, 0.9, 1.6])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminals_ctrl_c_says_one_line(hcsflow_command, plate, tmp_path, delay_s, number):
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    (tmp_path / "tmp").mkdir()
    arguments = ["run", tmp_path / "sleepy.py", plate, "-o", tmp_path / "out"]
    with subprocess.Popen(
        [*hcsflow_command, *map(str, arguments)], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
    ) as process:  # fmt: skip
        time.sleep(delay_s)
        os.killpg(process.pid, number)  # a terminal's signal goes to the workers too
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("interrupted; the same command goes on")
    others = [line for line in errors.splitlines()[:-1] if not line.startswith("✗ C02")]
    assert others == []
    assert list((tmp_path / "tmp").rglob("*")) == []


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(hcsflow_command, plate, tmp_path):
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    arguments = ["run", tmp_path / "sleepy.py", plate, "-o", tmp_path / "out", "--workers", "1"]
    command = [*hcsflow_command, *map(str, arguments)]
    journal = tmp_path / "out/.hcsflow/journal/final"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not list(journal.glob("*.json")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    done = {path.stem for path in journal.glob("*.json")}
    assert 0 < len(done) < 3
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    found = json.loads(again.stdout)
    assert set(found["skipped"]) == done
    assert again.returncode == 4  # the truncated TIFF


@pytest.mark.slow
def test_the_demo_finds_what_was_planted(cli, tmp_path):
    done = cli("demo", "-o", tmp_path / "demo", "--wells", "4", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    jsonschema.validate(found, json_schema("demo"))
    intact = [well for well in found["wells"] if well["fault"] is None]
    assert len(intact) == 2
    assert all(well["f1"] >= 0.9 for well in intact)
    faults = {well["fault"]: well["status"] for well in found["wells"] if well["fault"]}
    assert faults == {"missing plane": "failed", "truncated TIFF": "failed"}
    assert (tmp_path / "demo/out/report.html").is_file()
    again = cli("demo", "-o", tmp_path / "demo", "--wells", "4")
    assert again.returncode == 0
    assert "2 of 2 planted faults quarantined" in again.stdout


def test_a_run_in_python_gives_tables_failures_and_where_things_lie(finished):
    run = Run(finished)
    nuclei = run.table("nuclei")
    assert set(nuclei["well"]) == {"B02", "B03"}
    assert run.tables == ["nuclei"]
    assert run.failures["well"].tolist() == ["C02"]
    assert run.failures["rerun"].item().endswith("--wells C02")
    assert run.plate == finished / "images.zarr"
    assert [outcome.well for outcome in run.outcomes] == ["B02", "B03", "C02"]
    html = run._repr_html_()
    assert "<b>2</b> wells done" in html
    assert "C02" in html
    with pytest.raises(UsageError, match="nuclei"):
        run.table("nucleii")
