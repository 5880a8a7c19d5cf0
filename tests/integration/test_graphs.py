"""The ready-made pipelines: valid, drawn as they are, and fit for a plate."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pandas as pd
import pytest
import yaml
import zarr

import hcsflow as hf
from hcsflow.cli.schemas import json_schema
from hcsflow.pipeline import pipeline_from_yaml, pipeline_to_yaml
from hcsflow.session.pipelines import graph_names, load_pipeline
from hcsflow.testing.plates import write_imagexpress_plate

GRAPHS = Path(__file__).parents[2] / "graphs"
TABLES = {
    "background-projection": [],
    "cell-painting": ["cells", "nuclei"],
    "convert": [],
    "count-nuclei": ["nuclei"],
    "count-over-time": ["counts"],
    "max-projection": [],
    "quality-control": ["quality"],
}


@pytest.fixture(scope="module")
def plate_and_truth(tmp_path_factory):
    root = tmp_path_factory.mktemp("plates") / "tiny"
    truth = write_imagexpress_plate(
        root, wells=("A01", "B02"), fields=2, channels=2, timepoints=2, z=3, size=128, nuclei=8
    )
    return hf.open_plate(root), truth


def test_all_are_known_here():
    assert sorted(TABLES) == graph_names()


@pytest.mark.parametrize("name", graph_names())
def test_its_file_is_what_the_schema_says_and_survives_yaml(name):
    text = (GRAPHS / name / "pipeline.yaml").read_text("utf-8")
    jsonschema.validate(yaml.safe_load(text), json_schema("pipeline"))
    pipeline = load_pipeline(name)
    assert pipeline.name == name
    assert pipeline_from_yaml(pipeline_to_yaml(pipeline)) == pipeline


def test_plans_and_pictures_are_those_of_today():
    script = GRAPHS / "redraw.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", graph_names())
def test_a_picture_names_every_step(name):
    root = ET.parse(GRAPHS / name / "graph.svg").getroot()
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    for number, step in enumerate(load_pipeline(name), 1):
        assert f"{number}. {step.name}" in texts


@pytest.mark.parametrize("name", graph_names())
def test_it_runs_on_a_plate(name, plate_and_truth, tmp_path):
    plate, _ = plate_and_truth
    run = hf.compile(name, plate, output=tmp_path / "out").run("threads", workers=1)
    assert [o.message for o in run.outcomes if o.status != "done"] == []
    found = sorted(path.stem for path in (tmp_path / "out" / "results").glob("*.parquet"))
    assert found == TABLES[name]
    assert zarr.open_array(tmp_path / "out" / "images.zarr/B/02/0/0", mode="r").shape[0] == 2


def drawn(truth):
    """Return how many nuclei were drawn, by well and field."""
    return {(w, f): len(n) for w, fields in truth.nuclei.items() for f, n in enumerate(fields, 1)}


def test_counts_are_those_drawn(plate_and_truth, tmp_path):
    plate, truth = plate_and_truth
    run = hf.compile("count-over-time", plate, output=tmp_path / "out").run("threads", workers=1)
    table = run.table("counts")
    assert len(table) == 2 * 2 * 2
    per_field = table.groupby(["well", "field"])["count"].agg(["min", "max"])
    wanted = drawn(truth)
    for (well, fld), row in per_field.iterrows():
        assert abs(row["min"] - wanted[well, fld]) <= 1
        assert abs(row["max"] - wanted[well, fld]) <= 1


def test_every_cell_is_its_nucleus_and_more(plate_and_truth, tmp_path):
    plate, _ = plate_and_truth
    run = hf.compile("cell-painting", plate, output=tmp_path / "out").run("threads", workers=1)
    keys = ["well", "field", "t", "label"]
    both = pd.merge(run.table("nuclei"), run.table("cells"), on=keys, suffixes=("", "_cell"))
    assert len(both) == len(run.table("nuclei")) == len(run.table("cells")) > 0
    assert (both["area_px_cell"] >= both["area_px"]).all()
    assert (both["area_px_cell"] > both["area_px"]).mean() > 0.5
    assert (tmp_path / "out" / "02_stain" / "images.zarr").is_dir()


def test_the_flat_field_graph_divides_by_a_profile(plate_and_truth, tmp_path):
    import numpy as np

    plate, _ = plate_and_truth
    profile = np.linspace(1, 3, 128 * 128, dtype=np.float32).reshape(128, 128)
    np.save(tmp_path / "flat.npy", profile)
    images = {}
    for given in (None, {"npy": str(tmp_path / "flat.npy")}):
        out = tmp_path / ("plain" if given is None else "flat")
        plan = hf.compile(
            "background-projection", plate, output=out, parameters={"profile": given, "radius": 30}
        )
        plan.run("threads", workers=1)
        images[given is None] = zarr.open_array(out / "images.zarr/A/01/0/0", mode="r")[:]
    assert (images[True] != images[False]).any()
