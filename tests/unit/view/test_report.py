"""The report: one offline page that tells the truth about a run."""

import json
import math
import re
import subprocess
import sys
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hcsflow.errors import OutputError
from hcsflow.view.command import rerun_command, write_command
from hcsflow.view.heat import heat_maps
from hcsflow.view.record import read_record
from hcsflow.view.report import render_report, write_report

WRITTEN = datetime(2026, 1, 2, tzinfo=UTC)


def test_it_shows_wells_failures_counts_and_provenance(output):
    page = write_report(output).read_text("utf-8")
    record = read_record(output)
    assert [w.well for w in record.with_status("done")] == ["A01", "A02", "B01"]
    assert 'id="failed-B02"' in page
    assert "cut short: 120 of 524,288 bytes" in page
    assert "copy the file again" in page
    assert "run() of the same plan" in page, "it was not started from the command line"
    assert page.count("data:image/webp;base64,") == 3 + 3
    assert page.count("data:image/png;base64,") == 3 + 3  # outlines
    for text in ("Plate 7", "gaussian_filter", "sigma=2", "0.65 µm (HTD PixelSizeUM)", "numpy"):
        assert text in page


def test_heat_maps_hold_the_tables_numbers(output):
    page = render_report(read_record(output), written=WRITTEN)
    maps = json.loads(re.search(r'id="maps">(.*?)</script>', page, re.DOTALL).group(1))
    table = pd.read_parquet(output / "results" / "nuclei.parquet")
    counts = table.groupby("well").size()
    assert {w: int(cell[1]) for w, cell in maps[0]["cells"].items()} == counts.to_dict()
    assert "nuclei: mean area_um2" in page
    area = table.groupby("well")["area_um2"].mean()
    assert float(maps[1]["cells"]["A01"][1]) == pytest.approx(area["A01"], rel=0.01)


def test_what_a_well_lacks_is_no_part_of_its_mean(output):
    rows = {
        "well": ["B01", "A01", None, "A01", "A02"],
        "mean_w1": [1.5, 3.0, 99.0, math.nan, math.nan],
        "kind": ["a", "b", "c", "d", "e"],
        "count": pa.array([None, 2**62, 5, None, 7], pa.int64()),
        "is_round": [True] * 5,
        "centroid_y": [1.0] * 5,
    }
    pq.write_table(pa.table(rows), output / "results" / "nuclei.parquet")
    found = {one.name: one.cells for one in heat_maps(read_record(output))}
    of_table = {name: cells for name, cells in found.items() if name.startswith("nuclei")}
    assert {n: {w: text for w, (_, text) in cells.items()} for n, cells in of_table.items()} == {
        "nuclei per well": {"A01": "2", "A02": "1", "B01": "1"},
        "nuclei: mean mean_w1": {"A01": "3", "A02": "–", "B01": "1.5"},
        "nuclei: mean count": {"A01": "4.61e+18", "A02": "7", "B01": "–"},
    }


def test_a_table_without_rows_has_no_values(output):
    empty = pa.table({"well": pa.array([], pa.string()), "mean_w1": pa.array([], pa.float64())})
    pq.write_table(empty, output / "results" / "nuclei.parquet")
    first, second, *_ = heat_maps(read_record(output))
    assert {text for _, text in first.cells.values()} == {"0"}
    assert (second.name, second.cells) == ("nuclei: mean mean_w1", {})


def test_writing_it_loads_neither_pandas_nor_zarr(output):
    """Each takes longer to import than the page of a small plate to write."""
    script = (
        "import sys; from hcsflow.session.run import Run; Run(sys.argv[1]).report();"
        "print([name for name in ('pandas', 'zarr', 'scipy', 'PIL') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
    assert (output / "report.html").read_text("utf-8").count("data:image/webp;base64,") == 3 + 3


def test_without_tables_the_wells_are_compared_by_intensity(output):
    (output / "results/nuclei.parquet").unlink()
    page = render_report(read_record(output), written=WRITTEN)
    maps = json.loads(re.search(r'id="maps">(.*?)</script>', page, re.DOTALL).group(1))
    assert "mean intensity of DAPI" in page
    values = {well: float(cell[1]) for well, cell in maps[0]["cells"].items()}
    assert set(values) == {"A01", "A02", "B01"}
    assert all(290 < value < 500 for value in values.values())  # 300, and a few objects of 1800
    assert "(processing time" not in page


def test_it_says_how_it_was_asked_for_and_what_short_times_are(output):
    plan = json.loads((output / ".hcsflow/plan.json").read_text())
    plan["parameters"] = [["nuclei_channel", None]]
    (output / ".hcsflow/plan.json").write_text(json.dumps(plan))
    write_command(output, ["hcsflow", "run", "count-nuclei", "/data/plate 7", "-o", "/out"])
    page = write_report(output).read_text("utf-8")
    assert "nuclei_channel=first channel (w1)" in page
    assert "/data/plate 7" in page
    assert "500 ms" in page


def test_names_from_outside_cannot_run_code(output_maker, tmp_path):
    evil = "<script>alert('x')</script>\"onload="
    root = output_maker(tmp_path / "out", name=evil)
    page = write_report(root).read_text("utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(" in page


def test_it_needs_no_network(output):
    page = write_report(output).read_text("utf-8")
    assert "http" not in re.sub(r'data:image/[a-z]+;base64,[^"]*', "", page).replace(
        "http-equiv", ""
    )
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)


def test_only_the_footer_knows_the_time(output):
    record = read_record(output)
    first = render_report(record, written=WRITTEN)
    second = render_report(record, written=datetime(2030, 5, 6, tzinfo=UTC))
    assert first != second
    assert first.partition("<footer>")[0] == second.partition("<footer>")[0]


@pytest.mark.slow
def test_a_384_well_plate_stays_small(output_maker, tmp_path):
    wells = tuple(f"{r}{c:02d}" for r in "ABCDEFGHIJKLMNOP" for c in range(1, 25))
    root = output_maker(
        tmp_path / "out", rows="ABCDEFGHIJKLMNOP", columns=24, done=wells[:-1], failed=wells[-1:],
        side=32,
    )  # fmt: skip
    assert write_report(root).stat().st_size < 5_000_000


def test_a_run_without_a_finished_well_has_a_report(output_maker, tmp_path):
    root = output_maker(tmp_path / "out", done=(), failed=("A01", "A02"))
    page = write_report(root).read_text("utf-8")
    assert 'id="failed-A02"' in page
    assert "data:image" not in page


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(OutputError, match="not an output folder"):
        write_report(tmp_path)


def test_rerun_repeats_the_command_for_the_failed_wells(output):
    assert rerun_command(output, ["B02"]) is None
    given = ["hcsflow", "run", "count-nuclei", "my plate", "-o", "out", "--wells", "B*", "--fresh"]
    write_command(output, given)
    found = rerun_command(output, ["B02", "C03"])
    assert found == "hcsflow run count-nuclei 'my plate' -o out --wells B02,C03"


def test_time_and_memory_stand_beside_what_was_projected(output):
    plan_file = output / ".hcsflow" / "plan.json"
    plan = json.loads(plan_file.read_text())
    plan["segments"] = [{"name": "all", "projected_bytes": 400_000_000}]
    plan["steps"][0] |= {"projected_bytes": 400_000_000}
    plan_file.write_text(json.dumps(plan))
    for entry in (output / ".hcsflow" / "journal" / "final").glob("*.json"):
        document = json.loads(entry.read_text())
        peak = 500_000_000 if document["well"] == "A02" else 100_000_000
        document["outcome"]["step_peaks"] = [["read", 1_000_000], ["smooth", peak]]
        entry.write_text(json.dumps(document))
    page = write_report(output).read_text()
    assert "The worst task came to 500 MB of memory (A02)" in page
    assert "the plan projected 400 MB" in page
    assert "Wells over the projection: 1 (the first is A02)" in page
    assert '<option value="' in page
    assert "peak memory, MB" in page


def test_stored_wells_of_other_settings_are_named_and_drawn_as_such(output):
    plan_file = output / ".hcsflow" / "plan.json"
    plan = json.loads(plan_file.read_text())
    plan["wells"] = ["B01"]
    plan["writes"][0]["store"] = "other.zarr"
    plan_file.write_text(json.dumps(plan))
    record = read_record(output)
    assert [well.well for well in record.with_status("other")] == ["A01", "A02"]
    page = render_report(record, written=datetime.now(UTC))
    assert "A01: stored, but made with other settings" in page
    assert "other steps, parameters or storage settings: 2 (A01, A02)" in page
