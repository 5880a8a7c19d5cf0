"""A well's chain as a picture: steps, tasks, what is stored. SVG, the same for the same plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from hcsflow.plan import Plan, PlaneSet, Segment, StepPlan

__all__ = ["draw_chain"]

LINE, PAD, GAP, MARGIN = 16, 8, 20, 16
STEP_X, STEP_WIDTH, STORE_X, STORE_WIDTH = 72, 400, 520, 260
WIDTH = STORE_X + STORE_WIDTH + MARGIN
CHARACTERS = 60
"""Of a line in a step's box."""

STYLE = """
text{font:12px sans-serif;fill:#222} .b{font-weight:bold} .s{fill:#666;font-size:11px}
rect{fill:#fff;stroke:#888;rx:6px} .task{fill:#f4f6f8;stroke:#9ab;stroke-dasharray:5 4}
.plate{fill:#e8f0fa;stroke:#48c} .store{fill:#eef7ea;stroke:#5a5}
path{fill:none;stroke:#666} .special{stroke:#b60;stroke-dasharray:2 3}
"""


@dataclass(frozen=True, slots=True)
class _Box:
    """Lines of text at a place; the first is a title."""

    x: int
    y: int
    width: int
    lines: tuple[str, ...]
    kind: str = ""

    @property
    def height(self) -> int:
        return len(self.lines) * LINE + 2 * PAD - 4

    @property
    def bottom(self) -> int:
        return self.y + self.height

    def svg(self) -> Iterator[str]:
        yield (
            f"<rect class={quoteattr(self.kind)} x='{self.x}' y='{self.y}' "
            f"width='{self.width}' height='{self.height}'/>"
        )
        for i, line in enumerate(self.lines):
            y = self.y + PAD + 8 + i * LINE
            look = "s" if i else "b"
            yield f"<text class='{look}' x='{self.x + PAD}' y='{y}'>{escape(line)}</text>"


def draw_chain(plan: Plan) -> str:
    """Draw what is done to each well.

    Parameters
    ----------
    plan : Plan
        Compiled.

    Returns
    -------
    str
        An SVG document; tasks are dashed frames, arrows are planes, dotted ones special values.
    """
    plate = _Box(STEP_X, MARGIN, STEP_WIDTH, ("plate", _planes(plan.source)), "plate")
    boxes, frames = _placed(plan, plate.bottom + GAP)
    parts = [*(line for frame in frames for line in frame), *plate.svg()]
    for step, box in zip(plan.steps, boxes, strict=True):
        parts += box.svg()
        parts += _arrows(step, box, plate, boxes)
        parts += _stores(plan, step, box)
    last = zip(plan.steps, boxes, strict=True)
    height = max(max(b.bottom, _store_bottom(plan, s, b)) for s, b in last) + GAP + MARGIN
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}'>"
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _placed(plan: Plan, top: int) -> tuple[list[_Box], list[list[str]]]:
    """Return the boxes of all steps, and the frames of the tasks around them."""
    boxes: list[_Box] = []
    frames = []
    for segment in plan.segments:
        start = top
        top += LINE + PAD
        for step in plan.steps[segment.first : segment.last + 1]:
            box = _Box(STEP_X, top, STEP_WIDTH, tuple(_told(step)))
            boxes.append(box)
            top = max(box.bottom, _store_bottom(plan, step, box)) + GAP
        frames.append(_frame(segment, start, top - GAP + PAD))
        top += PAD
    return boxes, frames


def _frame(segment: Segment, top: int, bottom: int) -> list[str]:
    loop = " × ".join(segment.loop)
    title = f"one task a well: {segment.name}" + (f", one {loop} at a time" if loop else "")
    size = f"width='{WIDTH - MARGIN}' height='{bottom - top}'"
    return [
        f"<rect class='task' x='{MARGIN // 2}' y='{top}' {size}/>",
        f"<text class='s' x='{MARGIN}' y='{top + LINE}'>{escape(title)}</text>",
    ]


def _told(step: StepPlan) -> Iterator[str]:
    yield f"{step.index + 1}. {step.name}"
    for branch in step.branches:
        names = " → ".join(call.function.rpartition(":")[2] for call in branch.calls)
        rest = "the others: " if len(step.branches) > 1 else ""
        who = rest if branch.value is None else f"{step.group_by} {branch.value + 1}: "
        yield from wrap(who + (names or branch.action), CHARACTERS)
    makers = [f"{each.name} of step {each.producer + 1}" for each in _links(step)]
    if makers:
        yield f"takes {', '.join(makers)}"
    stacks = ", ".join(step.variable_components)
    how = f"stacked over {stacks}" if stacks else "plane by plane"
    yield f"{how}; gives {_planes(step.output)}"


def _planes(planes: PlaneSet) -> str:
    y, x = planes.shape_yx
    return f"{planes.num_planes} planes of {y}×{x} {planes.dtype}"


def _arrows(step: StepPlan, box: _Box, plate: _Box, boxes: list[_Box]) -> Iterator[str]:
    middle = STEP_X + STEP_WIDTH // 2
    if step.source is None and step.index:
        y = box.y + box.height // 2
        yield f"<path d='M{STEP_X} {plate.bottom - PAD} H{STEP_X - 16} V{y} H{STEP_X}'/>"
    else:
        above = plate if step.source is None else boxes[step.source]
        yield f"<path d='M{middle} {above.bottom} V{box.y}'/>"
    for link in _links(step):
        start, end = boxes[link.producer], box.y + box.height // 2 + PAD
        road = f"M{STEP_X} {start.y + start.height // 2} H{STEP_X - 28} V{end} H{STEP_X}"
        yield f"<path class='special' d='{road}'><title>{escape(link.name)}</title></path>"


class _Link(NamedTuple):
    """A special value that an earlier step makes."""

    name: str
    producer: int


def _links(step: StepPlan) -> list[_Link]:
    return [_Link(s.name, s.producer) for s in step.special_inputs if s.producer is not None]


def _stored(plan: Plan, step: StepPlan) -> list[tuple[str, str]]:
    """Return (what, where) of all that is kept of a step."""
    found = [("images", w.store) for w in plan.writes if w.step == step.index]
    for target in step.special_outputs:
        if target.kind == "labels":
            found.append((f"labels {target.stored_as}", plan.writes[-1].store))
        elif target.kind == "table":
            found.append((f"table {target.stored_as}", f"results/{target.stored_as}.parquet"))
        elif target.kind == "function":
            found.append((target.stored_as, f"results/{target.stored_as}/"))
    return found


def _store_boxes(plan: Plan, step: StepPlan, box: _Box) -> list[_Box]:
    found: list[_Box] = []
    y = box.y
    for lines in _stored(plan, step):
        found.append(_Box(STORE_X, y, STORE_WIDTH, lines, "store"))
        y = found[-1].bottom + PAD
    return found


def _store_bottom(plan: Plan, step: StepPlan, box: _Box) -> int:
    return max((each.bottom for each in _store_boxes(plan, step, box)), default=0)


def _stores(plan: Plan, step: StepPlan, box: _Box) -> Iterator[str]:
    for store in _store_boxes(plan, step, box):
        y = store.y + store.height // 2
        yield f"<path d='M{STEP_X + STEP_WIDTH} {min(y, box.bottom - 4)} H{STORE_X - 20} V{y} "
        yield f"H{STORE_X}'/>"
        yield from store.svg()
