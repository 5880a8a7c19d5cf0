"""The plate map: one state per well, all of them visible."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree as ET

import pytest

from hcsflow.microscopes import open_plate
from hcsflow.testing.plates import key_coded_plate
from hcsflow.view.platemap import STATES, plate_map_html, well_states

WELLS = ("A01", "A02", "B03", "C01")
FAULTS = {"A02": "missing plane", "B03": "duplicate plane", "C01": "missing well"}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    root = tmp_path_factory.mktemp("map") / "P"
    key_coded_plate(root, wells=WELLS, fields=2, channels=2, z=(2, 1), faults=FAULTS)
    return open_plate(root)


def test_every_well_has_its_state(faulty):
    states = {well: state for well, (state, _) in well_states(*faulty).items()}
    assert states == {
        "A01": "complete",
        "A02": "incomplete",
        "B03": "faulty",
        "C01": "promised",
    }


def test_the_map_shows_every_position_once_in_its_colour(faulty):
    html = plate_map_html(*faulty)
    svg = ET.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    cells = list(svg.iter("{http://www.w3.org/2000/svg}rect"))
    assert len(cells) == 96
    places = {(cell.get("x"), cell.get("y")) for cell in cells}
    assert len(places) == 96
    colours = Counter(cell.get("fill") for cell in cells)
    assert colours == {
        STATES["complete"][0]: 1,
        STATES["incomplete"][0]: 1,
        STATES["faulty"][0]: 1,
        STATES["promised"][0]: 1,
        STATES["empty"][0]: 92,
    }
    titles = [cell[0].text for cell in cells]
    assert "A02: 1 of 6 planes missing" in titles
    assert "C01: promised, no image" in titles
    assert any(title.startswith("B03: two files claim one plane") for title in titles)


def test_legend_and_header_say_what_the_colours_mean(faulty):
    html = plate_map_html(*faulty)
    for words in ("complete: 1", "planes missing: 1", "promised, no image: 1", "not acquired: 92"):
        assert words in html
    assert "pixel size: 0.65 µm, from MetaSeries spatial-calibration-x of " in html
    assert "missing: 1 plane in A02" in html
    assert "DAPI" in html


def test_nothing_is_fetched_and_nothing_runs(faulty):
    html = plate_map_html(*faulty).replace("http://www.w3.org/2000/svg", "")
    for word in ("http", "<script", "<link", "@import", "src="):
        assert word not in html


def test_a_1536_well_plate_fits(tmp_path):
    key_coded_plate(tmp_path / "P", wells=("A01", "AF48"), fields=1, channels=1, z=1, size=8)
    html = plate_map_html(*open_plate(tmp_path / "P"))
    assert html.count("<rect") == 1536
    assert ">AF</text>" in html
