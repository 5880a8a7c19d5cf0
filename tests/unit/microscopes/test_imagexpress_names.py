"""ImageXpress file and folder names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.microscopes.imagexpress.files import IMAGE, is_plate_file, parse_place
from hcsflow.plate.names import well_name

NUMBER = st.integers(1, 9999)
OPTIONAL = st.none() | NUMBER
PLATE = st.none() | st.text("ABCdef019_-. ", min_size=1, max_size=12).filter(lambda p: p[-1] != "_")
UUID = st.none() | st.uuids().map(lambda u: str(u).upper())


@given(
    plate=PLATE,
    place=st.tuples(st.integers(0, 31), st.integers(0, 47)),
    site=OPTIONAL,
    wave=st.none() | st.integers(1, 99),
    z=OPTIONAL,
    time=OPTIONAL,
    uuid=UUID,
    thumb=st.booleans(),
    suffix=st.sampled_from([".tif", ".TIF", ".tiff"]),
)
def test_every_part_is_read_back(plate, place, site, wave, z, time, uuid, thumb, suffix):
    parts = [("_s", site), ("_w", wave)]
    tail = [("_z", z), ("_t", time)]
    well = well_name(*place)
    name = (f"{plate}_" if plate else "") + well
    name += "".join(f"{key}{value}" for key, value in parts if value is not None)
    name += "_thumb" if thumb else ""
    name += "".join(f"{key}{value}" for key, value in tail if value is not None)
    name += (uuid or "") + suffix
    match = IMAGE.fullmatch(name)
    assert match is not None
    found = match.groupdict()
    as_text = {"site": site, "wave": wave, "z": z, "t": time}
    assert {k: found[k] for k in as_text} == {
        k: None if v is None else str(v) for k, v in as_text.items()
    }
    assert (found["plate"], found["well"], found["uuid"]) == (plate, well, uuid)
    assert (found["thumb"] is not None) is thumb
    assert is_plate_file(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("9987_B02.TIF", ("9987", "B02", None, None)),
        (
            "Projection-Mix_E08_s1_w117654C10-92F1-4DFD-98AA-6A01BBD77557.tif",
            ("Projection-Mix", "E08", "1", "1"),
        ),
        (
            "Projection-Mix_E07_s119DACB95-CB7D-4899-9AB4-D4E10B44145D.tif",
            ("Projection-Mix", "E07", "1", None),
        ),
        ("a_A01_b_C04_s2.tif", ("a_A01_b", "C04", "2", None)),
        ("A1_s1_w1.tif", (None, "A1", "1", "1")),
    ],
)
def test_names_that_instruments_wrote(name, expected):
    match = IMAGE.fullmatch(name)
    assert match is not None
    assert match.group("plate", "well", "site", "wave") == expected


@pytest.mark.parametrize(
    "name",
    [
        "r03c03f01p01-ch1sk1fk1fl1.tiff",
        "X-stack_D08_T0001F001L01A01Z01C01.tif",
        "SC_BP445-45_20x v2_M01_CH01.tif",
        "AS_09125_050116030001_D03f00d0.tif",
        "DC_DCAM#1_CAM3.tif",
        "holiday.tif",
        "A01_s1_w1.png",
        "A01_s1_w1.tif.txt",
        "A01_w1_s1.tif",
        "A99.tif",
    ],
)
def test_other_peoples_files_are_not_ours(name):
    assert not is_plate_file(name)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ("", None, None)),
        ("2023-02-21/1334", ("2023-02-21/1334", None, None)),
        ("2023-02-21/1334/TimePoint_2/ZStep_10", ("2023-02-21/1334", 2, 10)),
        ("TimePoint_1/ZStep_0", ("", 1, 0)),
        ("zstep_3", ("", None, 3)),
        ("a/ZStep-4", ("a", None, 4)),
        ("ZStep_1/backup", ("ZStep_1/backup", None, None)),
    ],
)
def test_folders_say_time_and_plane(path, expected):
    assert tuple(parse_place(path)) == expected
