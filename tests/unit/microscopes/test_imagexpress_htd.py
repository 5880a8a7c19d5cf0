"""HTD files, real and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcsflow.errors import PlateError
from hcsflow.microscopes.imagexpress.htd import parse_htd, read_htd

REAL = Path(__file__).parents[4] / "shared" / "data"

HEAD = '"HTSInfoFile", Version 1.0\r\n"XWells", 12\r\n"YWells", 8\r\n'


def real(*parts):
    path = REAL.joinpath(*parts)
    if not path.is_file():
        pytest.skip("the real plates are not beside this repository")
    return path


def test_a_real_htd_whose_description_is_no_utf8():
    path = real("faim-ipa", "ImageXpress_exported", "9987_Plate_3420", "9987.HTD")
    with pytest.raises(UnicodeDecodeError):
        path.read_text(encoding="utf-8")
    htd = read_htd(path, file="9987.HTD")
    assert htd.size == (8, 12)
    assert htd.wells == ("B02",)
    assert (htd.timepoints, htd.z_steps) == (1, 1)
    assert (htd.sites, htd.grid) == (((0, 0),), (1, 1))
    assert htd.waves == {1: "DAPI"}
    assert htd.uuid == "af67a541-a074-4ed4-a516-912d0171b177"
    assert htd.pixel_size_um is None


def test_sites_are_numbered_over_the_cells_selected():
    path = real("fractal-faim-ipa", "zmb_test_data", "40x-1time-26z-2well-6site-4channel.HTD")
    htd = read_htd(path, file=path.name)
    assert htd.wells == ("C03", "E03")
    assert htd.z_steps == 26
    assert htd.grid == (3, 3)
    assert htd.sites == ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    assert htd.waves == {1: "DAPI", 2: "FITC", 3: "Texas Red", 4: "Cy5"}


def test_an_old_export_gives_columns_and_rows_of_sites():
    htd = parse_htd(HEAD + "SiteColumns=3\nSiteRows=2\nPixelSizeUM=0.65\n", file="x.HTD")
    assert htd.grid == (2, 3)
    assert htd.sites == ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
    assert htd.pixel_size_um == 0.65


def test_keys_match_whole_and_the_first_of_a_name_counts():
    text = HEAD + '"XSites", 2\r\n"Sites", TRUE\r\n"YSites", 1\r\n"XSites", 9\r\n'
    assert parse_htd(text, file="x.HTD").grid == (1, 2)


def test_waves_that_were_not_collected_do_not_count():
    text = HEAD + '"NWavelengths", 3\r\n"WaveName1", "A, b"\r\n"WaveCollect2", 0\r\n'
    assert parse_htd(text, file="x.HTD").waves == {1: "A, b", 3: ""}


def test_a_line_break_of_another_code_page_is_no_line_break():
    text = HEAD + '"Description", "one\x85two"\r\n"TimePoints", 4\r\n'
    assert parse_htd(text, file="x.HTD").timepoints == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "none of them"),
        ("GIF89a\x00\x01", "none of them"),
        (HEAD.replace("12", "twelve"), "XWells"),
        (HEAD + '"TimePoints", -3\r\n', "TimePoints"),
        (HEAD + '"ZSeries", TRUE\r\n"ZSteps", 1e99\r\n', "ZSteps"),
    ],
)
def test_what_is_no_htd_is_refused_by_name(text, said):
    with pytest.raises(PlateError, match=said) as caught:
        parse_htd(text, file="sub/x.HTD")
    assert "sub/x.HTD" in str(caught.value)


def test_an_htd_that_is_gone(tmp_path):
    with pytest.raises(PlateError, match=r"x\.HTD"):
        read_htd(tmp_path / "x.HTD", file="x.HTD")
