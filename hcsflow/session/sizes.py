"""What a plan will take on disk: pixels, bytes as stored, files, and whether there is room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hcsflow.ngff.layout import raw_bytes
from hcsflow.ngff.shares import codec_name, typical_share
from hcsflow.plan import Plan, WritePlan
from hcsflow.plan.files import documents_of

if TYPE_CHECKING:
    from hcsflow.session.forecast import Forecast

__all__ = ["StoredSize", "free_bytes", "room_warnings", "stored_sizes", "total_lines"]

MEASURED_SPREAD = 0.25
"""How far a plate may end from what a few of its wells measured: wells differ in what grows in
them. On the real plate at hand, two wells differ by 9 %."""

DOCUMENT_BYTES = (500, 2_000, 10_000)
"""A document or a table: little, typical, much."""

HEADER_BYTES = (0, 250, 1_000)
"""What a file with pixels holds besides: a shard's index, a TIFF's tags."""


@dataclass(frozen=True, slots=True)
class StoredSize:
    """What one output will take on disk, all wells of the plan.

    Parameters
    ----------
    output, store : str
        The output ("" is the final one), and its plate's folder.
    codec : str
        Of its image and its labels, in words.
    objects, documents : int
        Files with pixels; documents and tables beside them in the plate.
    raw_bytes : int
        Pixels, uncompressed.
    stored_bytes, low_bytes, high_bytes : int
        Expected on disk, and the range in which it may end.
    basis : str
        ``"run"`` or ``"probe"`` where wells were measured, else ``"typical"``: by codec and kind
        of pixels alone, see `hcsflow.ngff.shares`.
    wells_measured : int
        0 where typical.
    """

    output: str
    store: str
    codec: str
    objects: int
    documents: int
    raw_bytes: int
    stored_bytes: int
    low_bytes: int
    high_bytes: int
    basis: Literal["run", "probe", "typical"]
    wells_measured: int

    @property
    def share(self) -> float:
        """Stored over raw bytes."""
        return self.stored_bytes / self.raw_bytes if self.raw_bytes else 1.0

    def summary(self) -> dict[str, Any]:
        """Return the figures as a document's part."""
        return asdict(self)

    def __str__(self) -> str:
        if self.basis == "typical":
            basis = "as is typical of microscope planes"
        else:
            wells = f"{self.wells_measured} well{'' if self.wells_measured == 1 else 's'}"
            source = "a probe" if self.basis == "probe" else "an earlier run"
            basis = f"as measured on {wells} of {source}"
        ends = f"{_in_words(self.low_bytes)} to {_in_words(self.high_bytes)}"
        return (
            f"{self.store}: ≈ {_in_words(self.stored_bytes)} on disk ({ends}), {self.codec} at "
            f"{self.share:.2g} of the pixels, {basis}"
        )


_UNITS = ((1, "bytes"), (10**3, "kB"), (10**6, "MB"), (10**9, "GB"), (10**12, "TB"), (10**15, "PB"))


def _in_words(nbytes: int) -> str:
    rounded = float(f"{nbytes:.3g}")
    unit, name = max(u for u in _UNITS if u[0] <= max(rounded, 1))
    return f"{rounded / unit:.3g} {name}"


def stored_sizes(plan: Plan, forecast: Forecast | None) -> tuple[StoredSize, ...]:
    """Return what each output will take on disk.

    Parameters
    ----------
    plan : Plan
        What is to be run.
    forecast : Forecast or None
        What wells measured, by a probe or by earlier runs on the output.
    """
    measured = {} if forecast is None else {part.output: part for part in forecast.outputs}
    return tuple(_size(plan, write, forecast, measured) for write in plan.writes)


def _size(
    plan: Plan, write: WritePlan, forecast: Forecast | None, measured: Mapping[str, Any]
) -> StoredSize:
    wells, documents = len(plan.wells), documents_of(plan, write)
    basis: Literal["run", "probe", "typical"] = "typical"
    seen, part = 0, measured.get(write.output)
    if forecast is not None and part is not None:
        basis, seen = forecast.source, part.wells_measured
        low, stored, high = (
            round(part.stored_bytes * factor)
            for factor in (1 - MEASURED_SPREAD, 1.0, 1 + MEASURED_SPREAD)
        )
    else:
        low, stored, high = (
            wells * (pixels + header * write.objects_per_well) + document * documents
            for pixels, header, document in zip(
                _typical(write), HEADER_BYTES, DOCUMENT_BYTES, strict=True
            )
        )
    return StoredSize(
        output=write.output,
        store=write.store,
        codec=_codec(write),
        objects=wells * write.objects_per_well,
        documents=documents,
        raw_bytes=wells * write.raw_bytes_per_well,
        stored_bytes=stored,
        low_bytes=low,
        high_bytes=high,
        basis=basis,
        wells_measured=seen,
    )


def _typical(write: WritePlan) -> tuple[int, int, int]:
    """Return what a well's pixels take by the codecs alone: lowest, typical, highest."""
    layouts = (write.image, *(label.layout for label in write.labels))
    parts = [(raw_bytes(one), typical_share(one.levels[0], one.kind)) for one in layouts]
    return (
        round(sum(nbytes * share.low for nbytes, share in parts)),
        round(sum(nbytes * share.typical for nbytes, share in parts)),
        round(sum(nbytes * share.high for nbytes, share in parts)),
    )


def _codec(write: WritePlan) -> str:
    image = codec_name(write.image.levels[0].codec)
    labels = dict.fromkeys(codec_name(label.layout.levels[0].codec) for label in write.labels)
    return f"{image} (labels {', '.join(labels)})" if labels else image


def total_lines(plan: Plan, sizes: Sequence[StoredSize]) -> Iterator[str]:
    """Say tasks, files and bytes of the whole plate, and the worst task, line by line."""
    pixels = _in_words(sum(size.raw_bytes for size in sizes))
    documents = sum(size.documents for size in sizes)
    yield (
        f"{plan.num_tasks} tasks, {plan.num_objects} objects, {documents} documents and tables, "
        f"{pixels} of pixels"
    )
    yield from map(str, sizes)
    worst = max(plan.steps, key=lambda step: step.projected_bytes)
    yield f"the worst task needs {worst.projected_bytes / 1e6:.0f} MB, at step {worst.name}"


def free_bytes(folder: Path) -> int | None:
    """Return the free space of the disk that a folder lies on, or will; None where unknown."""
    try:
        there = next(place for place in (folder, *folder.parents) if place.exists())
        return shutil.disk_usage(there).free
    except (OSError, StopIteration):
        return None


def room_warnings(
    plan: Plan,
    sizes: Sequence[StoredSize],
    todo: Mapping[str, Sequence[str]],
    *,
    free: int | None,
) -> tuple[str, ...]:
    """Warn where the wells to do may take more than is free.

    Parameters
    ----------
    plan, sizes : Plan, sequence of StoredSize
        What is to be run, and what `stored_sizes` says of it.
    todo : mapping of str to sequence of str
        Well name to the names of the segments to run.
    free : int or None
        Free bytes; None: unknown, and nothing is said.
    """
    wells = [_wells_left(plan, size.output, todo) for size in sizes]
    needed, most = (
        sum(
            nbytes * left // max(len(plan.wells), 1)
            for nbytes, left in zip(each, wells, strict=True)
        )
        for each in ([s.stored_bytes for s in sizes], [s.high_bytes for s in sizes])
    )
    if free is None or most <= free:
        return ()
    takes = f"about {_in_words(needed)}" if needed > free else f"up to {_in_words(most)}"
    said = (
        f"the output's disk has {_in_words(free)} free, what is to do takes {takes}: "
        "make room, choose another folder with -o, or fewer wells"
    )
    return (said,)


def _wells_left(plan: Plan, output: str, todo: Mapping[str, Sequence[str]]) -> int:
    """Return how many wells are to write an output."""
    writers = {
        segment.name
        for segment in plan.segments
        if any(write.output == output for write in plan.writes_of(segment))
    }
    return sum(not writers.isdisjoint(segments) for segments in todo.values())
