"""A well's chain cut into tasks: the same bytes as in one, and a way to go on from the middle."""

import os
import shutil
import subprocess
import sys
import uuid
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from distributed import Client, Scheduler, SpecCluster, Worker, get_worker
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import hcsflow as hf
from hcsflow.arrays import torch as torch_function
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.errors import FencedError, PipelineError, PlanRefusedError
from hcsflow.execute.lock import locked
from hcsflow.execute.output import prepare_output
from hcsflow.execute.status import verify_output
from hcsflow.graph.plugin import Bundle, held_bundle
from hcsflow.graph.results import outcome_of
from hcsflow.graph.tasks import run_segment
from hcsflow.journal import ControlFolder, read_entries
from hcsflow.materialize import Json, Labels, Table
from hcsflow.pipeline import DROP, PASS, PIPELINE_START
from hcsflow.testing.plates import key_coded_plate
from hcsflow.view.record import read_record

# --- step functions: numpy, deterministic, of any stack -------------------------------------


@contract(per_slice=True)
def add(stack, *, by=1):
    return stack + np.uint16(by)


@contract(z_out="one", ragged=True)
def top(stack):
    return stack.max(axis=0, keepdims=True)


@contract(ragged=True)
@special_outputs(("labels", Labels()))
def outline(stack, *, each=True):
    bright = stack if each else stack.sum(axis=0, keepdims=True)
    labels = 1 + bright.astype(np.int32) % 5
    labels[:, ::3] = 0
    return stack, labels


@contract(ragged=True)
@special_outputs(("rows", Table()))
def tabulate(stack):
    means = stack.mean(axis=(1, 2))
    return stack, pd.DataFrame({"plane": np.arange(len(stack)), "mean": means})


@contract(ragged=True)
@special_outputs(("facts", Json()))
def state(stack):
    return stack, {"sum": int(stack.sum(dtype=np.int64)), "tags": ["a", None, 0.5]}


@contract(ragged=True)
@special_outputs("memo")
def remember(stack):
    low = stack.min(axis=0)
    return stack, {"low": low, "pair": (int(low.max()), "text"), 3: [np.float32(1.5), True]}


@contract(ragged=True)
@special_inputs("memo")
def recall(stack, memo):
    return stack + np.uint16(zlib.crc32(described(memo).encode()) % 17)


def described(value):
    """Say all of a value: its types too, as a consumer could tell them apart."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{value.tolist()}"
    if isinstance(value, dict):
        return "|".join(f"{k!r}:{described(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({','.join(map(described, value))})"
    return f"{type(value).__name__} {value!r}"


# --- plates and comparison -------------------------------------------------------------------


@pytest.fixture(scope="module")
def plates(tmp_path_factory):
    root = tmp_path_factory.mktemp("plates")
    made = {}
    for name in ("whole", "holed"):
        key_coded_plate(root / name, wells=("A01",), fields=2, channels=2, timepoints=2, z=2)
        if name == "holed":
            min((root / name).rglob("*_s2_w1*.tif")).unlink()
        made[name] = hf.open_plate(root / name)
    return made.__getitem__


def stored(out):
    """Return every byte of the final output."""
    files = [p for part in ("images.zarr", "results") for p in sorted((out / part).rglob("*"))]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files if p.is_file()}


def run(steps, plate, out, cluster="serial", **options):
    plan = hf.compile(hf.Pipeline(steps, name="p"), plate, output=out, **options)
    result = plan.run(cluster, workers=1)
    assert [o.message for o in result.outcomes if o.status not in ("done", "skipped")] == []
    return plan.frozen, result


def steps_run(result):
    return [name for name, _ in result.outcomes[0].step_seconds if name not in ("read", "write")]


COMPONENTS = st.sampled_from(
    [("z",), ("z",), ("field",), ("timepoint",), ("z", "timepoint"), ("channel",), ("channel", "z")]
)
FUNCTIONS = st.sampled_from([add, top, outline, tabulate, state, remember, recall])


@st.composite
def chains(draw):
    """Draw functions with what they stack and take; which are checkpoints is drawn apart."""
    drawn = draw(st.lists(st.tuples(FUNCTIONS, COMPONENTS, st.booleans()), min_size=2, max_size=6))
    memos, chain = [], []
    for index, (wanted, components, from_start) in enumerate(drawn):
        function = add if wanted is recall and not memos else wanted
        options = {"name": f"s{index}", "variable_components": components}
        if from_start and index:
            options["input_source"] = PIPELINE_START
        if function is recall:
            options["special_inputs"] = {"memo": draw(st.sampled_from(memos))}
        elif function is remember:
            memos.append(f"memo{index}")
            options["special_outputs"] = {"memo": memos[-1]}
        elif function is not add and function is not top:
            made = {outline: "labels", tabulate: "rows", state: "facts"}[function]
            options["special_outputs"] = {made: f"{made}{index}"}
        pattern = function
        if function is outline:
            options["variable_components"] = draw(st.sampled_from([("z",), ("channel",)]))
            pattern = (outline, {"each": options["variable_components"] == ("z",)})
        if function is add and "channel" not in components and draw(st.booleans()):
            pattern = {"w1": (add, {"by": 2}), "*": draw(st.sampled_from([PASS, DROP]))}
        chain.append((pattern, options))
    return chain


def built(chain, checkpoints=()):
    """Return the steps; checkpoints are kept as Zarr and as files in turn."""
    backends = ("zarr", "disk")
    return [
        hf.FunctionStep(
            pattern, backend=backends[index % 2] if index in checkpoints else None, **options
        )
        for index, (pattern, options) in enumerate(chain)
    ]


SETTINGS = st.fixed_dictionaries(
    {
        "missing": st.sampled_from(["skip", "fill"]),
        "zarr": st.fixed_dictionaries(
            {
                "ngff_version": st.sampled_from(["0.4", "0.5"]),
                "field_layout": st.sampled_from(["mosaic", "images"]),
                "chunk_strategy": st.sampled_from(["well", "file"]),
            }
        ),
    }
)


@settings(
    max_examples=max(8, settings.default.max_examples // 5),  # each is four runs
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(chain=chains(), data=st.data(), which=st.sampled_from(["whole", "holed"]))
def test_cuts_change_no_byte(plates, tmp_path_factory, chain, data, which):
    out, plate = tmp_path_factory.mktemp("runs"), plates(which)
    checkpoints = data.draw(st.sets(st.integers(0, len(chain) - 2)), label="checkpoints")
    options = {"config": data.draw(SETTINGS, label="config")}
    try:
        hf.compile(hf.Pipeline(built(chain)), plate, output=out / "x", **options)
    except (PipelineError, PlanRefusedError):
        assume(False)
    run(built(chain), plate, out / "whole", **options)
    wanted = stored(out / "whole")
    plan, _ = run(built(chain, checkpoints), plate, out / "kept", **options)
    assert len(plan.segments) == len(checkpoints) + 1
    assert stored(out / "kept") == wanted
    granularity = {"granularity": "step"}
    plan, _ = run(built(chain, checkpoints), plate, out / "steps", **options, **granularity)
    assert len(plan.segments) == len(chain)
    assert stored(out / "steps") == wanted
    # what is left of a run that ended before the last task: whole checkpoints
    ControlFolder(out / "kept").entry("", "A01").unlink()
    shutil.rmtree(out / "kept" / "images.zarr" / "A")
    _, again = run(built(chain, checkpoints), plate, out / "kept", **options)
    assert stored(out / "kept") == wanted
    after = max(checkpoints, default=-1)
    assert steps_run(again)
    assert all(int(name[1:]) > after for name in steps_run(again))
    shutil.rmtree(out)


# --- going on from a checkpoint --------------------------------------------------------------


def four(by=(1, 2, 3, 4), checkpoint=1):
    return [
        hf.FunctionStep(
            add, by=n, name=f"s{i}", force_disk_output=i == checkpoint, variable_components="z"
        )
        for i, n in enumerate(by)
    ]


def units(out):
    """Return the outputs that A01 has, in the order in which runs made them."""
    control = ControlFolder(out)
    names = [folder.name for folder in sorted((control.root / "journal").iterdir())]
    made = {name: read_entries(control, name) for name in names}
    order = sorted({found["A01"].epoch for found in made.values() if "A01" in found})
    return {n: order.index(found["A01"].epoch) + 1 for n, found in made.items() if found}


def test_a_changed_step_redoes_what_comes_after_the_checkpoint_before_it(plates, tmp_path):
    out, plate = tmp_path / "out", plates("whole")
    run(four(), plate, out)
    _, again = run(four((1, 2, 7, 4)), plate, out)
    assert steps_run(again) == ["s2", "s3"]
    assert units(out) == {"01_s1": 1, "final": 2}
    run(four((1, 2, 7, 4), checkpoint=None), plate, tmp_path / "plain")
    assert stored(out) == stored(tmp_path / "plain")


def test_a_changed_step_before_the_checkpoint_redoes_all(plates, tmp_path):
    out, plate = tmp_path / "out", plates("whole")
    run(four(), plate, out)
    _, again = run(four((1, 9, 3, 4)), plate, out)
    assert steps_run(again) == ["s0", "s1", "s2", "s3"]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"granularity": "step"},
        {"config": {"vfs": {"intermediate_backend": "disk"}}},
        {"resources": hf.Resources(workers=3, memory_bytes=1 << 30)},
    ],
)
def test_what_changes_no_pixel_redoes_nothing(plates, tmp_path, changed):
    out, plate = tmp_path / "out", plates("whole")
    run(four(), plate, out)
    _, again = run(four(), plate, out, **changed)
    assert [o.status for o in again.outcomes] == ["skipped"]
    assert units(out) == {"01_s1": 1, "final": 1}


def test_a_step_made_a_checkpoint_later_is_made_without_the_rest(plates, tmp_path):
    out, plate = tmp_path / "out", plates("whole")
    run(four(checkpoint=None), plate, out)
    _, again = run(four(checkpoint=2), plate, out)
    assert steps_run(again) == ["s0", "s1", "s2"]
    assert units(out) == {"02_s2": 2, "final": 1}


LABELLING = [
    hf.FunctionStep(add, name="s0", variable_components="z"),
    hf.FunctionStep(
        outline, name="s1", each=False, variable_components="channel", force_disk_output=True
    ),
    hf.FunctionStep(remember, name="s2"),
    hf.FunctionStep(recall, name="s3", force_disk_output=True),
    hf.FunctionStep(tabulate, name="s4"),
]


@pytest.mark.parametrize(
    ("damaged", "redone"),
    [
        ("01_s1/images.zarr/A/01/0/0/c/0/0/0/0/0", ["s0", "s1"]),
        ("01_s1/handover/A01/values.data", ["s0", "s1"]),
        ("03_s3/handover/A01/values.json", ["s2", "s3"]),
        ("images.zarr/A/01/0/0/c/0/0/0/0/0", ["s4"]),
    ],
)
def test_what_is_lost_is_made_alone(plates, tmp_path, damaged, redone):
    out, plate = tmp_path / "out", plates("whole")
    run(LABELLING, plate, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and ".hcsflow" not in str(p)}
    (out / damaged).unlink()
    _, again = run(LABELLING, plate, out)
    assert steps_run(again) == redone
    assert {path: path.read_bytes() for path in before} == before


def test_a_checkpoint_lists_its_values_and_goes_with_its_step(plates, tmp_path):
    out, plate = tmp_path / "out", plates("whole")
    run(LABELLING, plate, out)
    entry = read_entries(ControlFolder(out), "03_s3")["A01"]
    kept = [item.path for item in entry.objects if "handover" in item.path]
    assert kept == ["03_s3/handover/A01/values.data", "03_s3/handover/A01/values.json"]
    assert entry.outcome.outputs == ("03_s3",)
    assert [name for name, _ in entry.outcome.step_seconds if name[0] == "s"] == ["s2", "s3"]
    run(LABELLING[:3], plate, out)
    assert not (out / "03_s3").exists()


class Odd:
    """What no file can hold."""


@special_outputs("memo")
def remember_oddly(stack):
    return stack, {"all": [Odd()]}


@special_inputs("memo")
def count(stack, memo):
    return stack + np.uint16(len(memo))


def test_a_value_that_cannot_be_stored_is_named(plates, tmp_path):
    steps = [
        hf.FunctionStep(remember_oddly, name="odd", force_disk_output=True),
        hf.FunctionStep(count, name="count"),
    ]
    plan = hf.compile(hf.Pipeline(steps), plates("whole"), output=tmp_path / "out")
    (outcome,) = plan.run("serial").outcomes
    assert (outcome.status, outcome.step, outcome.error) == ("failed", "odd", "ContractError")
    assert "'memo'" in outcome.message
    assert "Odd" in outcome.message
    assert "leave the checkpoint out" in outcome.hint
    without = [hf.FunctionStep(remember_oddly, name="odd"), hf.FunctionStep(count, name="count")]
    run(without, plates("whole"), tmp_path / "plain")


def test_a_failure_after_a_checkpoint_leaves_it_to_go_on_from(plates, tmp_path):
    out, plate = tmp_path / "out", plates("whole")
    odd = [*four()[:2], hf.FunctionStep(remember_oddly, name="s2", force_disk_output=True),
           hf.FunctionStep(count, name="s3")]  # fmt: skip
    plan = hf.compile(hf.Pipeline(odd, name="p"), plate, output=out)
    assert [o.status for o in plan.run("serial").outcomes] == ["failed"]
    assert units(out) == {"01_s1": 1}
    _, again = run(four(), plate, out)
    assert steps_run(again) == ["s2", "s3"]


@pytest.mark.parametrize("cluster", ["serial", "threads", "local"])
def test_results_travel_on_every_cluster(plates, tmp_path, request, monkeypatch, cluster):
    monkeypatch.syspath_prepend(request.config.rootpath)
    plate = plates("whole")
    run(LABELLING, plate, tmp_path / "whole")
    run(LABELLING, plate, tmp_path / "steps", cluster, granularity="step")
    assert stored(tmp_path / "steps") == stored(tmp_path / "whole")


# --- as a delayed value ----------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_a_delayed_plan_computes_the_bytes_of_a_run(plates, tmp_path, scheduler):
    plate = plates("whole")
    run(LABELLING, plate, tmp_path / "run")
    plan = hf.compile(hf.Pipeline(LABELLING, name="p"), plate, output=tmp_path / "delayed")
    whole = plan.to_delayed()
    assert len(whole.dask) == plan.frozen.num_tasks + 2
    (outcome,) = whole.compute(scheduler=scheduler)
    assert (outcome.well, outcome.status) == ("A01", "done")
    assert stored(tmp_path / "delayed") == stored(tmp_path / "run")
    listed = "images.zarr/zarr.json"
    assert (tmp_path / "delayed" / listed).read_bytes() == (tmp_path / "run" / listed).read_bytes()
    assert [o.status for o in whole.compute(scheduler=scheduler)] == ["done"]
    assert [o.status for o in plan.to_delayed().compute(scheduler=scheduler)] == ["skipped"]


def test_a_delayed_plan_is_fenced_by_a_later_run(plates, tmp_path):
    plan = hf.compile(hf.Pipeline(four(), name="p"), plates("whole"), output=tmp_path / "out")
    early = plan.to_delayed()
    plan.run("serial")
    before = stored(tmp_path / "out")
    with pytest.raises(FencedError, match="belongs to run"):
        early.compute(scheduler="sync")
    assert stored(tmp_path / "out") == before


# --- killed in the middle --------------------------------------------------------------------


def tallied(stack, *, file):
    with Path(file).open("a") as tally:
        tally.write("|")
    return stack + np.uint16(1)


def dies_once(stack, *, file):
    if not Path(file).exists():
        Path(file).touch()
        os._exit(9)
    return stack


def test_a_worker_that_dies_after_a_checkpoint_does_not_make_it_again(
    plates, tmp_path, request, monkeypatch
):
    monkeypatch.syspath_prepend(request.config.rootpath)
    tally, flag = tmp_path / "tally", tmp_path / "flag"
    steps = [
        hf.FunctionStep(tallied, name="s0", file=str(tally), force_disk_output=True),
        hf.FunctionStep(dies_once, name="s1", file=str(flag)),
    ]
    plan, result = run(steps, plates("whole"), tmp_path / "out", "local")
    assert [o.status for o in result.outcomes] == ["done"]
    assert len(tally.read_text()) == plan.steps[0].num_calls
    assert units(tmp_path / "out") == {"00_s0": 1, "final": 1}


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import hcsflow as hf
from tests.integration.test_segments import dies_once, tallied
plate, out = hf.open_plate(sys.argv[2]), Path(sys.argv[3])
steps = [
    hf.FunctionStep(tallied, name="s0", file=str(out.with_name("tally")), force_disk_output=True),
    hf.FunctionStep(dies_once, name="s1", file=str(out.with_name("flag"))),
]
print([o.status for o in hf.compile(hf.Pipeline(steps), plate, output=out).run("serial").outcomes])
"""


def test_a_run_killed_after_a_checkpoint_goes_on_from_it(plates, tmp_path, request):
    plate, out = plates("whole"), tmp_path / "out"
    arguments = [str(request.config.rootpath), str(plate.path), str(out)]

    def go():
        command = [sys.executable, "-c", SCRIPT, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert go().returncode == 9
    again = go()
    assert again.stdout == "['done']\n", again.stderr
    made = len((tmp_path / "tally").read_text())
    plain = [hf.FunctionStep(tallied, name="s0", file=str(tmp_path / "tally")),
             hf.FunctionStep(dies_once, name="s1", file=str(tmp_path / "flag"))]  # fmt: skip
    plan, _ = run(plain, plate, tmp_path / "plain")
    assert made == plan.steps[0].num_calls
    assert stored(out).keys() == stored(tmp_path / "plain").keys()
    assert {k: v for k, v in stored(out).items() if "/c/" in k} == {
        k: v for k, v in stored(tmp_path / "plain").items() if "/c/" in k
    }


# --- what is recorded ------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["segment", "step"])
def test_a_well_is_shown_with_the_sums_of_its_tasks(plates, tmp_path, granularity):
    plate, out = plates("whole"), tmp_path / "out"
    run(LABELLING, plate, out, granularity=granularity)
    units = [read_entries(ControlFolder(out), name)["A01"] for name in ("01_s1", "03_s3", "")]
    shown = read_record(out).wells["A01"]
    assert {name for name in shown.steps if name[0] == "s"} == {"s0", "s1", "s2", "s3", "s4"}
    assert shown.seconds == pytest.approx(sum(unit.outcome.seconds for unit in units))
    assert shown.nbytes == sum(item.nbytes for unit in units for item in unit.objects)
    kinds = [{backend for backend, *_ in unit.outcome.traffic} for unit in units]
    assert "virtual_workspace" in kinds[0]
    assert "virtual_workspace" not in kinds[1] | kinds[2]


@pytest.mark.parametrize("part", ["handover/A01/values.data", "images.zarr/A/01/0/0/c"])
def test_a_damaged_checkpoint_is_made_anew_by_the_same_command(plates, tmp_path, part):
    def steps(by):
        return [
            hf.FunctionStep(remember, name="s0"),
            hf.FunctionStep(add, name="s1", force_disk_output=True),
            hf.FunctionStep(recall, name="s2"),
            hf.FunctionStep(add, by=by, name="s3"),
        ]

    out, plate = tmp_path / "out", plates("whole")
    run(steps(1), plate, out)
    found = out / "01_s1" / part
    path = found if found.is_file() else next(p for p in found.rglob("*") if p.is_file())
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    plan = hf.compile(hf.Pipeline(steps(2), name="p"), plate, output=out)
    (outcome,) = plan.run("serial", workers=1).outcomes
    assert (outcome.status, outcome.step, outcome.file) == (
        "failed",
        "read",
        "01_s1/images.zarr/A/01",
    )
    assert "run the same command again" in outcome.hint
    told = [out / "hcsflow_metadata.json", out / ".hcsflow" / "failures" / "A01.json"]
    assert not [p.name for p in told if str(tmp_path) in p.read_text()]
    _, again = run(steps(2), plate, out)
    assert steps_run(again) == ["s0", "s1", "s2", "s3"]
    run(steps(2), plate, tmp_path / "clean")
    assert stored(out) == stored(tmp_path / "clean")


@contract(ragged=True)
@special_outputs(("rows", Table()))
def list_oddly(stack):
    cells = pd.Series(["x", np.nan, None, "y"], dtype=object)
    return stack, pd.DataFrame({"cell": cells, "whole": pd.Series([1, 2, 3, 4], dtype=object)})


def test_a_table_is_the_same_behind_a_checkpoint(plates, tmp_path):
    found = []
    for kept in (False, True):
        steps = [
            hf.FunctionStep(list_oddly, name="s0", force_disk_output=kept),
            hf.FunctionStep(add, name="s1"),
        ]
        run(steps, plates("whole"), tmp_path / str(kept))
        found.append((tmp_path / str(kept) / "results" / "rows.csv").read_bytes())
    assert found[0] == found[1]


@contract(ragged=True)
@special_inputs("memo")
def spoil(stack, memo):
    memo["low"] += 1
    return stack


@pytest.mark.parametrize("kept", [False, True])
def test_an_array_within_a_value_may_not_be_changed(plates, tmp_path, kept):
    steps = [
        hf.FunctionStep(remember, name="s0", force_disk_output=kept),
        hf.FunctionStep(spoil, name="s1"),
    ]
    plan = hf.compile(hf.Pipeline(steps, name="p"), plates("whole"), output=tmp_path / "out")
    (outcome,) = plan.run("serial", workers=1).outcomes
    assert (outcome.status, outcome.step, outcome.error) == ("failed", "s1", "ValueError")
    assert "work on a copy" in outcome.hint


def test_files_beside_the_plate_go_with_what_they_were_of(tmp_path):
    key_coded_plate(tmp_path / "p", wells=("A01", "A02"), fields=1, channels=1, z=2)
    out = tmp_path / "out"

    def wells_with_files(by=1, **config):
        steps = [
            hf.FunctionStep(add, by=by, name="s0"),
            hf.FunctionStep(state, name="s1"),
        ]
        plan = hf.compile(hf.Pipeline(steps, name="p"), hf.open_plate(tmp_path / "p"),
                          output=out, config=config)  # fmt: skip
        plan.run("serial", workers=1)
        return sorted(path.name for path in (out / "results" / "facts").iterdir())

    assert wells_with_files(missing="skip") == ["A01", "A02"]
    min((tmp_path / "p").rglob("*A01*.tif")).unlink()
    assert wells_with_files(missing="skip") == ["A02"]
    assert wells_with_files(missing="error", by=2) == ["A02"]


def test_a_second_execution_leaves_what_the_first_has_committed(plates, tmp_path, monkeypatch):
    out, steps = tmp_path / "out", four()
    plan = hf.compile(hf.Pipeline(steps, name="p"), plates("whole"), output=out)
    names = [segment.name for segment in plan.frozen.segments]
    with locked(out) as lock:
        bundle = Bundle(plan.frozen, plan.manifest, str(plan.plate_path), str(out),
                        epoch=lock.epoch, memory_bytes=1 << 30)  # fmt: skip
        prepare_output(plan.frozen, out)
        with held_bundle("x", bundle):
            handed = run_segment("x", names[0], "A01", 0)
            entry, place = (
                ControlFolder(out).entry("01_s1", "A01"),
                out / "01_s1/images.zarr/A/01",
            )
            before = entry.stat().st_ino, place.stat().st_ino
            # both began before the other's commit
            monkeypatch.setattr("hcsflow.graph.tasks.committed_outcome", lambda *_: None)
            assert outcome_of(run_segment("x", names[0], "A01", 1)).status == "done"
            assert (entry.stat().st_ino, place.stat().st_ino) == before
            first = run_segment("x", names[1], "A01", 0, handed)
            monkeypatch.undo()
            again = run_segment("x", names[1], "A01", 0, handed)
    assert again.step_seconds == first.step_seconds
    assert (again.bytes_read, again.outputs) == (first.bytes_read, first.outputs)
    assert not list(ControlFolder(out).scratch.iterdir())


def test_verify_looks_at_a_checkpoints_values(plates, tmp_path):
    run(LABELLING, plates("whole"), tmp_path / "out")
    assert verify_output(tmp_path / "out") == []
    data = tmp_path / "out" / "03_s3" / "handover" / "A01" / "values.data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert [finding.path for finding in verify_output(tmp_path / "out")] == [
        "03_s3/handover/A01/values.data"
    ]


# --- workers of two kinds --------------------------------------------------------------------


def told(stack, *, folder, step):
    """Note the worker that this runs on."""
    name = get_worker().name
    (Path(folder) / f"{step}.{name}.{uuid.uuid4().hex}").touch()
    return stack


@pytest.mark.parametrize("way", ["run", "delayed"])
def test_steps_for_gpus_run_where_gpus_are_and_what_flows_between_travels(plates, tmp_path, way):
    pytest.importorskip("torch")
    on_torch = torch_function(told)
    notes = tmp_path / "notes"
    notes.mkdir()

    def step(function, name):
        return hf.FunctionStep(function, name=name, folder=str(notes), step=name)

    steps = [step(told, "a"), step(on_torch, "b"), step(told, "c")]
    resources = hf.Resources(workers=2, memory_bytes=1 << 30, gpus=1)
    kinds = {
        name: {
            "cls": Worker,
            "options": {"nthreads": 1, "resources": offered, "host": "127.0.0.1"},
        }
        for name, offered in (("cpu", {}), ("gpu", {"GPU": 1}))
    }
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"},
    }
    plan = hf.compile(
        hf.Pipeline(steps, name="p"), plates("whole"), output=tmp_path / "out", resources=resources
    )
    assert [(s.name, s.needs_gpu) for s in plan.frozen.segments] == [
        ("a", False), ("b", True), ("c", False)
    ]  # fmt: skip
    with SpecCluster(workers=kinds, scheduler=scheduler) as cluster, Client(cluster) as client:
        outcomes = plan.run(client).outcomes if way == "run" else plan.to_delayed().compute()
        assert [o.message for o in outcomes] == [None]
    places = {step: {p.name.split(".")[1] for p in notes.glob(f"{step}.*")} for step in "abc"}
    assert places["b"] == {"gpu"}
    assert places["a"] | places["c"] <= {"cpu", "gpu"}
