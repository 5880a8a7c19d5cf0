"""Stage positions told by the files that are read anyway: each opened once, whoever asks first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import tifffile

from hcsflow.errors import PlateError
from hcsflow.graph import positions
from hcsflow.graph.positions import StagePositions
from hcsflow.microscopes import open_plate, read_stage_positions
from hcsflow.testing.plates import key_coded_plate

FIELDS = 5


@pytest.fixture
def opened(monkeypatch):
    """Names of the TIFFs opened so far."""
    names = []
    original = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: names.append(self.name) or original(self, *a, **k)
    )
    return names


@pytest.fixture
def plate(tmp_path):
    root = tmp_path / "P"
    key_coded_plate(root, wells=("A01",), fields=FIELDS, channels=2, z=1, timepoints=1)
    return open_plate(root)


def of(plate, **options):
    model, manifest = plate
    return StagePositions(model, manifest, Path(manifest.root), 0, **options)


def read_all(found, plate):
    model, manifest = plate
    pixels = []
    for row in manifest.rows_of(0):
        out = np.empty(model.shape_yx, model.dtype)
        with found.open_plane(row) as opened:
            opened.read_into(out)
        pixels.append(int(out[0, 0]))
    return pixels


def test_read_first_or_asked_first_each_file_is_opened_once(plate, opened):
    expected = read_stage_positions(*plate, 0)
    opened.clear()
    for asks in (False, True):
        found = of(plate)
        found.expect(plate[1].rows_of(0))
        if asks:
            assert found.of_all == expected
            assert len(opened) == FIELDS
        assert len(set(read_all(found, plate))) == 2 * FIELDS
        assert found.of_all == expected
        assert len(opened) == len(set(opened)) == 2 * FIELDS
        found.close()
        opened.clear()


def test_what_nobody_will_read_is_not_kept_open(plate, opened):
    found = of(plate)
    assert found.of_field(1) == read_stage_positions(*plate, 0)[1]
    read_all(found, plate)
    assert sum(name == opened[0] for name in opened) == 3  # looked up, looked up above, read


def test_only_so_many_files_wait_open(plate, opened, monkeypatch):
    monkeypatch.setattr(positions, "MAX_KEPT_OPEN", 2)
    found = of(plate)
    found.expect(plate[1].rows_of(0))
    assert len(found.of_all) == FIELDS
    read_all(found, plate)
    assert len(opened) == 2 * FIELDS + (FIELDS - 2)
    found.close()


def test_files_left_open_are_closed_at_the_end(plate):
    found = of(plate)
    found.expect(plate[1].rows_of(0))
    assert found.of_field(0) is not None
    found.close()  # or the suite's check for leaked files complains


def test_what_an_earlier_task_found_is_not_looked_up(plate, opened):
    found = of(plate, known=[(n, (1.0, float(n))) for n in range(FIELDS)])
    assert found.of_all == [(1.0, float(n)) for n in range(FIELDS)]
    assert opened == []


def test_what_was_read_is_handed_on(plate):
    expected = read_stage_positions(*plate, 0)
    found = of(plate, known=[(3, (7.0, 7.0))])
    with found.open_plane(plate[1].rows_of(0)[0]) as opened:
        opened.read_into(np.empty(plate[0].shape_yx, plate[0].dtype))
    assert found.found() == ((0, expected[0]), (3, (7.0, 7.0)))


def test_a_field_without_a_sound_file_has_no_position(plate, opened):
    model, manifest = plate
    (Path(manifest.root) / manifest.path(0)).write_bytes(b"")
    (Path(manifest.root) / manifest.path(2)).unlink()
    found = of(plate)
    found.expect(manifest.rows_of(0))
    assert [at is None for at in found.of_all] == [True, True, False, False, False]
    assert found.of_all == read_stage_positions(model, manifest, 0)
    found.close()


def test_a_document_type_is_refused_when_asked_for_and_not_before(plate):
    evil = '<!DOCTYPE x [<!ENTITY a "b">]><MetaData><PlaneInfo/></MetaData>'
    model, manifest = plate
    path = Path(manifest.root) / manifest.path(0)
    tifffile.imwrite(path, np.zeros(model.shape_yx, model.dtype), description=evil)
    found = of(plate)
    read_all(found, plate)
    assert found.of_field(1) is not None
    with pytest.raises(PlateError, match="DTD"):
        _ = found.of_all


def test_a_microscope_whose_files_do_not_tell_is_asked(plate, monkeypatch, opened):
    monkeypatch.setattr(positions, "position_teller", lambda _: None)
    monkeypatch.setattr(positions, "read_stage_positions", lambda *_: [(2.0, 3.0)])
    found = of((replace(plate[0]), plate[1]))
    read_all(found, plate)
    assert found.of_field(0) == (2.0, 3.0)
    assert found.found() == ()
    assert len(opened) == 2 * FIELDS


def test_who_asks_while_a_file_is_read_waits_for_it(plate, opened):
    found = of(plate)
    found.expect(plate[1].rows_of(0))
    readers = [Thread(target=read_all, args=(found, plate))]
    askers = [Thread(target=found.of_field, args=(n,)) for n in range(FIELDS)]
    for thread in (*readers, *askers):
        thread.start()
    for thread in (*readers, *askers):
        thread.join()
    assert found.of_all == read_stage_positions(*plate, 0)
    assert len([n for n in opened if "_w1" in n]) == 2 * FIELDS  # once each, and just now
    found.close()
