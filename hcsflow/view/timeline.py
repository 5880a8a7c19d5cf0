"""The latest run as a timeline: what each worker's place was at, step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from hcsflow.view.words import format_time

__all__ = ["Timeline", "draw_timeline"]

WIDTH = 1040
ROW = 16
MAX_ROWS = 64
MAX_BARS = 6000
"""More bars than this make a page slow: each well is one bar then."""

LEAST_WIDTH = 0.5
ENDS = ("well_done", "well_failed")
COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7f7f7f",
)  # fmt: skip
"""Okabe and Ito's, readable without colour vision; steps beyond take them again."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of one well's time; lengths in SVG units."""

    x: float
    width: float
    row: int
    colour: str
    title: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run laid out for SVG: bars in rows, one row per well at work at a time."""

    width: int
    height: int
    row: int
    bars: tuple[Bar, ...]
    keys: tuple[tuple[str, str], ...]
    seconds: str


@dataclass(frozen=True, slots=True)
class _Span:
    """One well from start to end: what it was at from when on, seconds."""

    well: str
    marks: tuple[tuple[float, str], ...]
    end: float

    @property
    def start(self) -> float:
        return self.marks[0][0]


def draw_timeline(log: Iterable[Mapping[str, Any]], steps: Iterable[str]) -> Timeline | None:
    """Lay out the latest run of a log, None where it finished no well.

    Parameters
    ----------
    log : iterable of mapping
        The lines of ``log.jsonl``.
    steps : iterable of str
        Names of the plan's steps, in order, for the colours.
    """
    spans = sorted(_spans(log), key=lambda span: span.start)
    if not spans:
        return None
    names = list(dict.fromkeys(["read", *steps, "write"]))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    first, last = spans[0].start, max(span.end for span in spans)
    scale = WIDTH / max(last - first, 1e-3)
    in_detail = sum(len(span.marks) for span in spans) <= MAX_BARS
    bars: list[Bar] = []
    rows: list[float] = []
    for span in spans:
        row = next((i for i, free in enumerate(rows) if free <= span.start), len(rows))
        rows[row : row + 1] = [span.end]
        for begin, end, name in _stretches(span, in_detail=in_detail):
            title = f"{span.well}: {name}, {format_time(end - begin)}"
            x, width = scale * (begin - first), max(scale * (end - begin), LEAST_WIDTH)
            if row < MAX_ROWS:
                bars.append(
                    Bar(round(x, 1), round(width, 1), row, colours.get(name, "#555"), title)
                )
    shown = {bar.colour for bar in bars}
    return Timeline(
        width=WIDTH,
        height=ROW * min(len(rows), MAX_ROWS),
        row=ROW,
        bars=tuple(bars),
        keys=tuple((name, colour) for name, colour in colours.items() if colour in shown),
        seconds=format_time(last - first),
    )


def _stretches(span: _Span, *, in_detail: bool) -> Iterator[tuple[float, float, str]]:
    if not in_detail:
        yield span.start, span.end, "all steps"
        return
    for (begin, name), (end, _) in pairwise([*span.marks, (span.end, "")]):
        yield begin, end, name


def _spans(log: Iterable[Mapping[str, Any]]) -> Iterator[_Span]:
    """Yield the wells of the latest run that came to an end."""
    open_wells: dict[str, list[tuple[float, str]]] = {}
    done: list[_Span] = []
    for line in log:
        kind, well = line.get("kind"), line.get("well")
        if kind == "run_started":
            open_wells, done = {}, []
        if not isinstance(well, str) or not isinstance(line.get("time"), str):
            continue
        at = datetime.fromisoformat(line["time"]).timestamp()
        if kind == "well_started":
            open_wells[well] = [(at, "read")]
        elif kind in ENDS and (well in open_wells or "steps" in line):
            marks = open_wells.pop(well, None) or _marks(line, at)
            done.append(_Span(well, tuple(marks), at))
        elif kind in ("step", "step_done") and well in open_wells:
            name = str(line.get("step")) if kind == "step" else "write"
            if open_wells[well][-1][1] != name:
                open_wells[well].append((at, name))
    yield from done


def _marks(line: Mapping[str, Any], end: float) -> list[tuple[float, str]]:
    """Place the steps of a well that was over before its worker told of any."""
    at = end - float(line.get("seconds", 0.0))
    marks = []
    steps = dict(line["steps"])
    for name in sorted(steps, key=lambda name: (name == "write", name != "read")):
        marks.append((at, name))
        at += float(steps[name])
    return marks or [(at, "read")]
