"""What share of their pixels arrays take: the table's figures, within the ranges that are told."""

import json
from pathlib import Path

import pytest

from hcsflow.ngff.model import ArrayLayout, Codec
from hcsflow.ngff.shares import codec_name, typical_share

TABLE = Path(__file__).parents[3] / "benchmarks" / "results" / "codec_table.json"
MEASURED = {
    "blosc-zstd-1 byte 256K": Codec(),
    "blosc-zstd-3 byte 256K": Codec(level=3),
    "blosc-zstd-9 byte 256K": Codec(level=9),
    "blosc-zstd-1 none 256K": Codec(shuffle=False),
    "blosc-lz4-1 byte 256K": Codec(cname="lz4"),
    "blosc-lz4-1 none 256K": Codec(cname="lz4", shuffle=False),
    "zstd-1": Codec("zstd", cname="", shuffle=False),
    "gzip-1": Codec("gzip", cname="", shuffle=False),
    "gzip-6": Codec("gzip", cname="", level=6, shuffle=False),
    "zlib-6": Codec("zlib", cname="", level=6, shuffle=False),
    "none": Codec("none", cname="", level=0, shuffle=False),
}
DTYPES = {"image": "uint16", "label": "uint32", "mask": "uint8", "float": "float32"}


def array(codec, dtype="uint16"):
    return ArrayLayout("0/0", ("y", "x"), (64, 64), (64, 64), None, dtype, codec, (1.0, 1.0))


@pytest.fixture(scope="module")
def table():
    return json.loads(TABLE.read_text())["results"]


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("sort", DTYPES)
def test_the_shares_are_those_of_the_table(table, sort, name):
    share = typical_share(
        array(MEASURED[name], DTYPES[sort]), "label" if sort == "label" else "image"
    )
    kinds = [kind for kind, facts in table["kinds"].items() if facts["sort"] == sort]
    assert kinds
    for kind in kinds:
        assert share.low <= table["rows"][kind][name]["share"] <= share.high, kind
    if sort != "mask":  # 8 bits may be a camera's
        assert share.typical == pytest.approx(table["means"][sort][name]["share"], abs=0.1)


def test_labels_stored_as_an_image_are_taken_for_labels():
    codec = MEASURED["blosc-zstd-1 byte 256K"]
    assert typical_share(array(codec, "uint32"), "image").typical < 0.02
    assert typical_share(array(codec, "uint32"), "image").high > 0.5, "they may be none"


def test_nothing_is_known_of_bytes_and_floats():
    for dtype in ("uint8", "int8", "float32", "float64"):
        share = typical_share(array(Codec(), dtype), "image")
        assert (share.low, share.high) == (0.0, 1.0)


def test_codecs_by_name():
    names = [codec_name(codec) for codec in MEASURED.values()]
    assert names[0] == "blosc-zstd-1"
    assert names[4:7] == ["blosc-lz4-1", "blosc-lz4-1", "zstd-1"]
    assert names[-1] == "uncompressed"
