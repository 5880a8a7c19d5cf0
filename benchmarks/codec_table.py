"""What each codec makes of planes and labels: share of space, MB/s in and out, on one thread.

    python benchmarks/codec_table.py [--repeats N] [--data FOLDER] [--quick]

Planes are whole and real, as the instruments wrote them, from the plates below ``--data``: an
Operetta's and an Opera Phenix's of 1080 × 1080 px (fluorescence, and one channel of brightfield),
an ImageXpress' of 512 × 512 px (stack and projection). No real plane of 2048 × 2048 px is at hand:
those are drawn by ``hcsflow.testing`` and said to be synthetic. What a pipeline stores is not what
it read, so the same planes are taken smoothed (sigma 1) and halved too, as float32 and as
masks. Labels are those of count-nuclei on the real planes, which are sparse, and on crowded
synthetic ones: uint32, numbered as a plate's third field is. Plates that are not there are left out
with a note.

Each chunk is one plane, encoded and decoded again by numcodecs as the writer does it, in turn with
all other codecs, several rounds. Rates are pixels (MB) over the thread's CPU seconds: nothing is
read or written, and other work on the machine counts less. ``share`` is encoded over raw bytes.

Prediction: noise decides. Byte shuffle helps images, since the upper bytes of neighbours are
alike; levels above 1 cost speed and gain little, bitshuffle gains little on noisy planes; labels
are runs, so that shuffle only tears their patterns apart, and any zstd stores them in a few per
cent.

Outcome: the defaults stay. Of images, level 3 saves 1 % at a third of the speed, bitshuffle takes
3 % more and is slower; against blosc's own block, 256 KiB save 3 % and are 1.4 × as fast, and
larger blocks save nothing (3 to 7 % faster where the cache is large). Of labels, zstd-6 saves 5 %
at half the speed, shuffle takes 2.7 × the space. Not as predicted: noise does not decide
alone, smoothing saves 3 to 4 % on the planes of 1080 px and 20 % on those of the ImageXpress. The
figures are in ``results/codec_table.md``, what follows from them in
`hcsflow.ngff.model.Codec` and `hcsflow.ngff.shares`.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

import numcodecs
import numcodecs.blosc
import numpy as np
import tifffile
from measure import HERE, RESULTS, save
from numpy.typing import NDArray

from hcsflow.functions.background import subtract_background
from hcsflow.functions.filters import gaussian_filter
from hcsflow.functions.objects import label_objects, split_touching
from hcsflow.functions.threshold import threshold_otsu
from hcsflow.testing.plates import write_imagexpress_plate

DATA = HERE.parent.parent / "shared" / "data"
REAL = {
    "Operetta": "operetta-compose/operetta_plate/Images/*.tiff",
    "Phenix": "pe2loaddata/Version1/Images/*-ch[1-5]*.tiff",
    "Phenix brightfield": "pe2loaddata/Version1/Images/*-ch6*.tiff",
    "ImageXpress stack": "faim-ipa/ImageXpress/Projection-Mix/*/*/ZStep_3/*_E0?_s1_w[12]*.tif",
    "ImageXpress projection": "faim-ipa/ImageXpress/Projection-Mix/*/*/*_E0?_s1_w[13]*.tif",
}
"""Kind of plane → files below the data folder."""

LABELLED = ("Operetta", "Phenix", "ImageXpress projection")
DERIVED = ("Operetta", "Phenix", "ImageXpress stack")
DEFAULTS = {"image": "blosc-zstd-1 byte 256K", "label": "zstd-1"}
BYTE, BIT, PLAIN = numcodecs.blosc.SHUFFLE, numcodecs.blosc.BITSHUFFLE, numcodecs.blosc.NOSHUFFLE
SHUFFLES = {PLAIN: "none", BYTE: "byte", BIT: "bit"}
FAIR_SPEED, WORTH = 0.9, 0.97
"""What replaces a default: 3 % less space, at 0.9 of its speed both ways."""

Plane = NDArray[Any]
Sort = Literal["image", "label", "mask", "float"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A codec by name, as a pair of functions."""

    name: str
    encode: Callable[[Plane], bytes]
    decode: Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """Planes of one sort: real, derived from real ones, or synthetic."""

    name: str
    origin: str
    planes: tuple[Plane, ...]
    sort: Sort = "image"


def main() -> None:
    """Measure and write results/codec_table.json and .md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--quick", action="store_true", help="one plane a kind, few codecs")
    arguments = parser.parse_args()
    numcodecs.blosc.use_threads = False
    found, notes = kinds(arguments.data, quick=arguments.quick)
    few = {*DEFAULTS.values(), "none", "gzip-1"}
    tried = [c for c in candidates() if not arguments.quick or c.name in few]
    rows = {kind.name: table_of(kind, tried, arguments.repeats) for kind in found}
    document: dict[str, Any] = {
        "kinds": {k.name: described(k) for k in found},
        "notes": notes,
        "rows": rows,
        "means": {
            sort: mean_of([rows[k.name] for k in found if k.sort == sort])
            for sort in get_args(Sort)
        },
    }
    document["supports"] = {
        sort: supported(document["means"][sort], default) for sort, default in DEFAULTS.items()
    }
    save("codec_table", document)
    (RESULTS / "codec_table.md").write_text(markdown(document))


def candidates() -> Iterator[Candidate]:
    """Return every codec of the settings, their levels, shuffles and blocks, and some beside."""
    yield Candidate("none", lambda plane: plane.tobytes(), lambda data: np.frombuffer(data, "u1"))
    for shuffle in (BYTE, BIT, PLAIN):
        for level in (1, 3, 5):
            yield blosc("zstd", level, shuffle)
        for level in (1, 5, 9):
            yield blosc("lz4", level, shuffle)
    for block in (0, 1 << 15, 1 << 16, 1 << 17, 1 << 19, 1 << 20):
        yield blosc("zstd", 1, BYTE, block)
        yield blosc("lz4", 1, BYTE, block)
    yield blosc("zstd", 1, BIT, 1 << 16)
    yield blosc("zstd", 9, BYTE)
    for name in ("blosclz", "lz4hc", "zlib"):
        yield blosc(name, 5, BYTE)
    for level in (1, 3, 6, 9):
        zstd = numcodecs.Zstd(level)
        yield Candidate(f"zstd-{level}", zstd.encode, zstd.decode)
    for level in (1, 6):
        yield Candidate(f"gzip-{level}", gzipped(level), gzip.decompress)
        yield Candidate(f"zlib-{level}", zlibbed(level), zlib.decompress)


def blosc(cname: str, level: int, shuffle: int, block: int = 1 << 18) -> Candidate:
    codec = numcodecs.Blosc(cname, level, shuffle, block)
    size = f"{block >> 10}K" if block else "own"
    name = f"blosc-{cname}-{level} {SHUFFLES[shuffle]} {size}"
    return Candidate(name, codec.encode, codec.decode)


def gzipped(level: int) -> Callable[[Plane], bytes]:
    return lambda plane: gzip.compress(plane.data, level, mtime=0)


def zlibbed(level: int) -> Callable[[Plane], bytes]:
    return lambda plane: zlib.compress(plane.data, level)


def kinds(data: Path, *, quick: bool) -> tuple[list[Kind], list[str]]:
    """Return the planes by kind, and what is not there."""
    most = 1 if quick else 4
    found: list[Kind] = []
    notes: list[str] = []
    for name, pattern in REAL.items():
        files = sorted(p for p in data.glob(pattern) if "_thumb" not in p.name)
        if not files:
            notes.append(f"{name}: no plane below the data folder matches {pattern}")
            continue
        planes = tuple(np.ascontiguousarray(tifffile.imread(p)) for p in spaced(files, most))
        found.append(Kind(name, "real", planes))
    real = {kind.name: kind.planes for kind in found}
    for name in DERIVED:
        if name in real:
            smooth = tuple(smoothed(plane) for plane in real[name])
            found.append(Kind(f"{name} smoothed", "real, gaussian of sigma 1", smooth))
            half = tuple(halved(plane) for plane in real[name])
            found.append(Kind(f"{name} level 1", "real, mean of 2 × 2", half))
    found.append(Kind("synthetic 2048", "drawn by hcsflow.testing", drawn(min(most, 2), 400)))
    for name in LABELLED:
        if name in real:
            labels = tuple(labelled(plane) for plane in real[name])
            found.append(Kind(f"labels of {name}", "count-nuclei on real planes", labels, "label"))
    crowded = tuple(labelled(plane) for plane in drawn(1, 400 if quick else 3000))
    found.append(Kind("labels of crowded 2048", "count-nuclei on synthetic", crowded, "label"))
    for kind in [kind for kind in found if kind.sort == "label"]:
        masks = tuple((plane > 0).astype(np.uint8) for plane in kind.planes)
        found.append(Kind(kind.name.replace("labels", "masks"), kind.origin, masks, "mask"))
    for name in DERIVED:
        if name in real:
            floats = tuple(smoothed(plane.astype(np.float32)) for plane in real[name])
            found.append(Kind(f"{name} float32", "real, gaussian of sigma 1", floats, "float"))
    return found, notes


def spaced(files: list[Path], most: int) -> list[Path]:
    """Return some of the files, evenly spread."""
    step = max(1, len(files) // most)
    return files[::step][:most]


def smoothed(plane: Plane) -> Plane:
    return np.ascontiguousarray(gaussian_filter(plane[None], sigma=1.0)[0])


def halved(plane: Plane) -> Plane:
    y, x = (side // 2 * 2 for side in plane.shape)
    quads = plane[:y, :x].reshape(y // 2, 2, x // 2, 2).astype(np.uint32)
    return np.ascontiguousarray(((quads.sum(axis=(1, 3)) + 2) // 4).astype(plane.dtype))


def labelled(plane: Plane) -> Plane:
    """Return nuclei as count-nuclei finds them, numbered as those of the third field."""
    flat = subtract_background(gaussian_filter(plane[None], sigma=1.0), radius=25)
    masks = split_touching(threshold_otsu(flat), min_distance=4)
    labels = label_objects(masks, min_area=30)[0][0]
    return np.ascontiguousarray(np.where(labels > 0, labels + 2 * (1 << 16), 0).astype(np.uint32))


def drawn(count: int, nuclei: int) -> tuple[Plane, ...]:
    """Return synthetic planes of 2048 × 2048 px, with so many nuclei each."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "PLATE"
        write_imagexpress_plate(
            root, wells=("A01",), fields=1, channels=count, z=1, size=2048, nuclei=nuclei
        )
        files = sorted(p for p in root.rglob("*.[tT][iI][fF]") if "_thumb" not in p.name)
        return tuple(np.ascontiguousarray(tifffile.imread(p)) for p in files[:count])


def described(kind: Kind) -> dict[str, Any]:
    first = kind.planes[0]
    return {
        "sort": kind.sort,
        "origin": kind.origin,
        "planes": len(kind.planes),
        "shape": list(first.shape),
        "dtype": first.dtype.name,
        "median": float(np.median(first)),
        "noise": round(noise_of(first), 1),
        "non_zero_share": round(float(np.mean([np.mean(p > 0) for p in kind.planes])), 3),
    }


def noise_of(plane: Plane) -> float:
    """Return the standard deviation of neighbours' differences, in grey levels (MAD)."""
    steps = np.diff(plane.astype(np.float64), axis=1)
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2))


def table_of(kind: Kind, tried: list[Candidate], repeats: int) -> dict[str, dict[str, float]]:
    """Return share and rates of each codec, medians over the rounds."""
    nbytes = sum(plane.nbytes for plane in kind.planes)
    spent: dict[str, list[tuple[float, float]]] = {c.name: [] for c in tried}
    sizes: dict[str, int] = {}
    for _ in range(repeats):
        for candidate in tried:
            sizes[candidate.name], seconds = one_round(candidate, kind)
            spent[candidate.name].append(seconds)
    print(f"  {kind.name}: {nbytes / 1e6:.1f} MB, {len(tried)} codecs")
    return {
        name: {
            "share": round(sizes[name] / nbytes, 4),
            "in_mb_s": round(nbytes / 1e6 / median(each[0] for each in rounds)),
            "out_mb_s": round(nbytes / 1e6 / median(each[1] for each in rounds)),
        }
        for name, rounds in spent.items()
    }


def one_round(candidate: Candidate, kind: Kind) -> tuple[int, tuple[float, float]]:
    """Encode and decode every plane; return encoded bytes and both times."""
    size, into, out = 0, 0.0, 0.0
    for plane in kind.planes:
        start = time.thread_time()
        encoded = candidate.encode(plane)
        middle = time.thread_time()
        decoded = candidate.decode(encoded)
        out += time.thread_time() - middle
        into += middle - start
        size += len(encoded)
        if np.frombuffer(decoded, plane.dtype).tobytes() != plane.tobytes():
            raise SystemExit(f"{candidate.name} does not give {kind.name} back")
    return size, (max(into, 1e-6), max(out, 1e-6))


def mean_of(tables: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return what equally many bytes of each kind come to."""
    return {
        name: {
            "share": round(sum(t[name]["share"] for t in tables) / len(tables), 4),
            "in_mb_s": round(len(tables) / sum(1 / t[name]["in_mb_s"] for t in tables)),
            "out_mb_s": round(len(tables) / sum(1 / t[name]["out_mb_s"] for t in tables)),
        }
        for name in (tables[0] if tables else {})
    }


def supported(means: dict[str, dict[str, float]], default: str) -> dict[str, Any]:
    """Return what beats a default: less space, at nearly its speed both ways."""
    ours = means[default]
    better = {
        name: row
        for name, row in means.items()
        if row["share"] <= WORTH * ours["share"]
        and row["in_mb_s"] >= FAIR_SPEED * ours["in_mb_s"]
        and row["out_mb_s"] >= FAIR_SPEED * ours["out_mb_s"]
    }
    return {"default": default, "figures": ours, "better": better}


def markdown(document: dict[str, Any]) -> str:
    """Return the means as tables, smallest first; of other pixels the default codec alone."""
    lines = ["# Codecs: share of space, MB/s in and out, one thread", ""]
    for sort, default in DEFAULTS.items():
        found = names_of(document, sort)
        lines += [f"## {sort.capitalize()}s: mean over {', '.join(found)}", ""]
        lines += ["| codec | share | range | in MB/s | out MB/s |", "|---|---|---|---|---|"]
        means = document["means"][sort]
        for name, row in sorted(means.items(), key=lambda item: item[1]["share"]):
            shown = f"**{name}**" if name == default else name
            rates = f"{row['in_mb_s']} | {row['out_mb_s']}"
            lines.append(
                f"| {shown} | {row['share']:.4g} | {extremes(document, sort, name)} | {rates} |"
            )
        beaten = ", ".join(document["supports"][sort]["better"]) or "Nothing"
        lines += ["", f"{beaten} stores 3 % less than {default} at 0.9 of its speed both ways.", ""]
    lines += ["## Other pixels, by the default codec of images", ""]
    lines += ["| pixels | share | range |", "|---|---|---|"]
    default = DEFAULTS["image"]
    for sort in ("mask", "float"):
        if found := names_of(document, sort):
            share = f"{document['means'][sort][default]['share']:.4g}"
            lines.append(f"| {', '.join(found)} | {share} | {extremes(document, sort, default)} |")
    lines += ["", *(f"Note: {note}." for note in document["notes"])]
    return "\n".join(lines).rstrip() + "\n"


def names_of(document: dict[str, Any], sort: str) -> list[str]:
    return [name for name, kind in document["kinds"].items() if kind["sort"] == sort]


def extremes(document: dict[str, Any], sort: str, codec: str) -> str:
    shares = [document["rows"][kind][codec]["share"] for kind in names_of(document, sort)]
    return f"{min(shares):.4g}–{max(shares):.4g}"


if __name__ == "__main__":
    main()
