"""A run in a real notebook kernel shows itself, in one place, without being asked."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

CELL = """
import hcsflow as hf
plan = hf.compile("max-projection", hf.open_plate({plate!r}), output={output!r})
done = plan.run("serial")
"""


def test_progress_appears_in_a_notebook_and_ends_with_the_last_well(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    from hcsflow.testing.plates import write_imagexpress_plate

    write_imagexpress_plate(tmp_path / "PLATE", wells=["A01", "A02"], fields=1, size=64)
    code = CELL.format(plate=str(tmp_path / "PLATE"), output=str(tmp_path / "OUT"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=150, kernel_name="python3").execute()
    shown = [
        output["data"]["text/html"]
        for output in notebook.cells[0].outputs
        if output["output_type"] == "display_data"
    ]
    assert len(shown) == 1
    assert "2/2 wells done (100 %)" in shown[0]
    assert '<progress value="2" max="2">' in shown[0]
