"""MetaSeries XML."""

from __future__ import annotations

import pytest

from hcsflow.errors import PlateError
from hcsflow.microscopes.imagexpress.metaseries import PlaneInfo, parse_metaseries


def xml(**props):
    body = "".join(f'<prop id="{k}" type="x" value="{v}"/>' for k, v in props.items())
    return f"<MetaData><PlaneInfo>{body}</PlaneInfo></MetaData>"


def calibrated(**changes):
    props = {
        "spatial-calibration-state": "on",
        "spatial-calibration-x": "1.3668",
        "spatial-calibration-units": "um",
    }
    return parse_metaseries(xml(**(props | changes)), file="f.tif")


def test_pixel_size_is_the_calibration():
    assert calibrated().pixel_size_um == 1.3668
    assert calibrated(**{"spatial-calibration-units": "µm"}).pixel_size_um == 1.3668


@pytest.mark.parametrize(
    "changes",
    [
        {"spatial-calibration-state": "off"},
        {"spatial-calibration-units": "pixel"},
        {"spatial-calibration-x": "0"},
        {"spatial-calibration-x": "nan"},
        {"spatial-calibration-x": "wide"},
    ],
)
def test_no_calibration_no_pixel_size(changes):
    assert calibrated(**changes).pixel_size_um is None


def test_pixel_size_x_is_not_a_pixel_size():
    assert parse_metaseries(xml(**{"pixel-size-x": "512"}), file="f.tif") == PlaneInfo()


@pytest.mark.parametrize("text", ["", "ImageJ=1.53", "<OME/>"])
def test_other_descriptions_are_none(text):
    assert parse_metaseries(text, file="f.tif") is None


def test_damaged_xml_gives_what_can_be_read():
    text = xml(**{"z-position": "9.5"}).replace("</PlaneInfo></MetaData>", "<prop id=")
    assert parse_metaseries(text, file="f.tif").z_um == 9.5


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE x [<!ENTITY a "b">]>',
        '<?xml version="1.0"?><!DOCTYPE MetaData SYSTEM "http://example.org/x.dtd">',
    ],
)
def test_a_document_type_is_refused(head):
    with pytest.raises(PlateError, match=r"f\.tif.*DTD"):
        parse_metaseries(head + xml(), file="f.tif")
