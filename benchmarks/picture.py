"""Draw outcomes of benchmarks against their goals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MET, MISSED, GREY, INK = "#2a6f97", "#d1603d", "#9a9a9a", "#222222"
WIDTH_IN, ROW_IN, HEAD_IN, CHARACTERS = 9.5, 0.36, 0.9, 52
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000)


class Line(NamedTuple):
    """A goal: label, outcome over goal (None: no ratio), the outcome in words, whether met."""

    label: str
    ratio: float | None
    words: str
    is_met: bool


def draw(lines: Sequence[Line], folder: Path) -> Path:
    """Write ``benchmarks.svg``: a bar a goal, from the goal to the outcome, on a log scale.

    The same lines give the same bytes (with the same matplotlib).
    """
    target = folder / "benchmarks.svg"
    known = [line.ratio for line in lines if line.ratio is not None]
    low, high = min([0.5, *known]) / 1.5, max([2.0, *known]) * 3  # room for the words
    settings = {"svg.hashsalt": "hcsflow", "svg.fonttype": "path", "font.size": 9}
    with mpl.rc_context(settings):
        height = HEAD_IN + ROW_IN * len(lines)
        figure = Figure(figsize=(WIDTH_IN, height))
        axes = figure.add_axes((0.43, 0.5 / height, 0.55, 1 - HEAD_IN / height))
        for place, line in enumerate(lines):
            _draw_line(axes, place, line)
        _finish(axes, lines, (low, high))
        figure.savefig(target, metadata={"Date": None, "Creator": None}, facecolor="white")
    return target


def _draw_line(axes: Axes, place: int, line: Line) -> None:
    if line.ratio is None:
        color = GREY if line.words == "not run" else INK
        axes.text(1.04, place, line.words, va="center", color=color)
        return
    axes.barh(place, line.ratio - 1, left=1, height=0.62, color=MET if line.is_met else MISSED)
    axes.text(max(line.ratio, 1) * 1.04, place, line.words, va="center", color=INK)


def _finish(axes: Axes, lines: Sequence[Line], span: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*span)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.axvline(1, color=INK, linewidth=1.4)
    axes.set_yticks(range(len(lines)), [fill(line.label, CHARACTERS) for line in lines])
    ticks = [tick for tick in TICKS if span[0] <= tick <= span[1]]
    axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    x = math.log(1 / span[0]) / math.log(span[1] / span[0])
    axes.text(x, 1.0, "goal", transform=axes.transAxes, ha="center", va="bottom", weight="bold")
    axes.text(x + 0.05, 1.0, "better →", transform=axes.transAxes, ha="left", va="bottom")
    axes.set_xlabel("outcome over goal")
