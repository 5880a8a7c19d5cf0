"""Running a segment's steps on one well, turn by turn, group by group."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Protocol

from hcsflow.arrays import memory_type_of
from hcsflow.arrays.downloads import Download, start_download
from hcsflow.arrays.families import copied, lies_on_device
from hcsflow.arrays.oom import is_out_of_memory
from hcsflow.config import Backend, MissingPolicy
from hcsflow.errors import ContractError
from hcsflow.graph.calls import apply
from hcsflow.graph.feed import PlaneFeed, WellPlanes
from hcsflow.graph.handover import Incoming
from hcsflow.graph.planes import MadePlanes, Planes, kept, open_planes
from hcsflow.graph.specials import SpecialValues
from hcsflow.plan import (
    Group,
    LocalKey,
    Plan,
    Segment,
    StepPlan,
    groups_of,
    in_turns,
    output_members,
)
from hcsflow.storage.filemanager import FileManager

__all__ = ["SegmentRun", "Sink"]


class Sink(Protocol):
    """Takes what steps make, in plan order."""

    def image(self, step: StepPlan, keys: Sequence[LocalKey], stack: Any) -> None:
        """Take a step's main output: numpy (Z, Y, X) with the key of each plane."""

    def special(
        self, step: StepPlan, name: str, group: Group, keys: Sequence[LocalKey], value: Any
    ) -> None:
        """Take a special output of a group; ``keys`` are its main output's planes."""


class SegmentRun:
    """One well's way through a segment.

    Parameters
    ----------
    plan, segment : Plan, Segment
        What to do.
    planes : WellPlanes
        The well's planes of the plate.
    incoming : Incoming
        What earlier segments made.
    specials : SpecialValues
        Special values of the task.
    files : FileManager
        Its backends hold what flows between steps.
    sink : Sink
        Takes what is stored.
    on_step : callable
        Told the name of each step as it begins, once a turn.
    on_done : callable
        Told the name of each step once it is through with its last turn.

    Attributes
    ----------
    step_name : str or None
        The step at work: where an error happened.
    """

    def __init__(  # noqa: PLR0913 - the parts of a task, joined here
        self,
        plan: Plan,
        segment: Segment,
        *,
        planes: WellPlanes,
        incoming: Incoming,
        specials: SpecialValues,
        files: FileManager,
        sink: Sink,
        on_step: Callable[[str], None] = lambda _name: None,
        on_done: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._plan = plan
        self._segment = segment
        self._steps = plan.steps[segment.first : segment.last + 1]
        self._planes = planes
        self._incoming = incoming
        self._specials = specials
        self._sink = sink
        self._on_step = on_step
        self._on_done = on_done
        self._plate = open_planes(files, Backend.MEMORY.value, "plate")
        self._made: dict[int, Planes] = {}
        self._stores: dict[int | None, MadePlanes] = {None: self._plate}
        for step in self._steps:
            made = open_planes(files, step.held_in, f"{step.index:02d}_{step.name}")
            self._made[step.index] = self._stores[step.index] = made
        if incoming.planes is not None:
            self._stores[segment.first - 1] = incoming.planes
        self._pending: tuple[StepPlan, Sequence[LocalKey], Download] | None = None
        self.step_name: str | None = None
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.skipped_groups = 0

    @cached_property
    def _only_reader(self) -> StepPlan | None:
        """The one step that reads the plate, where whatever it reads is there."""
        readers = [step for step in self._steps if step.source is None]
        return readers[0] if len(readers) == 1 and not self._is_skipping else None

    @property
    def _is_skipping(self) -> bool:
        return self._plan.config.missing is MissingPolicy.SKIP and bool(self._planes.missing)

    def run(self) -> None:
        """Run all turns; errors pass through, `step_name` tells where."""
        self._pass_on()
        turns = self._turns()
        self.step_name = "read"
        with PlaneFeed(self._planes, list(self._requests(turns))) as feed:
            for turn in turns:
                for step, groups in turn:
                    self._run_step(step, groups, feed)
                    if turn is turns[-1]:
                        self._settle()
                        self._on_done(step.name)
                self._specials.clear()
            self.seconds["read"] += feed.seconds_waited
        self.step_name = None

    def _pass_on(self) -> None:
        """Give the sinks what earlier segments made, where it is stored or handed on here."""
        start = time.perf_counter()
        is_last = self._plan.next_segment(self._segment) is None
        for carried, values in self._incoming.specials.items():
            step = self._plan.steps[carried.step]
            self.step_name = step.name
            for group in values if is_last or carried in self._segment.carries else ():
                keys = output_members(step.branch_for(group), group, step.variable_components)
                self._sink.special(step, carried.special, group, keys, values[group])
        if self._incoming.specials:
            self.seconds["write"] += time.perf_counter() - start

    def _turns(self) -> list[list[tuple[StepPlan, list[Group]]]]:
        """Return, per combination of the loop's components, each step with its groups."""
        by_turn: dict[tuple[int | None, ...], dict[int, list[Group]]] = {}
        for step in self._steps:
            groups = groups_of(step.input, step.variable_components)
            for turn, its_groups in in_turns(groups, self._segment.loop):
                by_turn.setdefault(turn, {})[step.index] = its_groups
        return [
            [(step, by_step.get(step.index, [])) for step in self._steps]
            for _, by_step in sorted(by_turn.items())
        ]

    def _requests(
        self, turns: list[list[tuple[StepPlan, list[Group]]]]
    ) -> Iterator[list[LocalKey]]:
        """Yield what will be read, in order: each plane of a turn once."""
        for turn in turns:
            seen: set[LocalKey] = set()
            for step, groups in turn:
                for group in groups if step.source is None else ():
                    if not self._is_wanted(step, group):
                        continue
                    new = [key for key in group.members if key not in seen]
                    seen.update(new)
                    if new:
                        yield new

    def _is_wanted(self, step: StepPlan, group: Group) -> bool:
        if step.branch_for(group).action == "drop":
            return False
        if not self._is_skipping or step.source is not None:
            return True
        return not self._planes.missing.intersection(group.members)

    def _run_step(self, step: StepPlan, groups: list[Group], feed: PlaneFeed) -> None:
        self.step_name = step.name
        self._on_step(step.name)
        source = self._stores[step.source]
        for group in groups:
            if step.branch_for(group).action == "drop":
                continue
            if not self._is_wanted(step, group):
                self.skipped_groups += 1
                continue
            if step is self._only_reader and len(groups) == 1:  # nothing to look up later
                self._run_group(step, group, kept(feed.take()))
                continue
            if step.source is None:
                new = self._plate.missing(group.members)
                if new:
                    self._plate.put(new, feed.take())
            elif not self._is_skipping and source.missing(group.members):
                raise ContractError(
                    f"step {step.name!r} needs planes that no earlier step made: "
                    f"{source.missing(group.members)[:3]}",
                    hint="this is a fault of the plan, not of the plate; please report it",
                )
            if self._is_skipping and not self._is_made(step, group, source):
                self.skipped_groups += 1
                continue
            self._run_group(step, group, source.gather(group.members))
        if self._is_read(step):
            self._settle()
        self._release(step)

    def _is_made(self, step: StepPlan, group: Group, source: MadePlanes) -> bool:
        """Tell whether what a group takes was not left out with a skipped group."""
        return not source.missing(group.members) and self._specials.are_made(step, group)

    def _run_group(self, step: StepPlan, group: Group, stack: Any) -> None:
        branch = step.branch_for(group)
        keys = output_members(branch, group, step.variable_components)
        start = time.perf_counter()
        for call in branch.calls:
            inputs = self._specials.inputs_for(step, call, group)
            stack, extras = apply(step.name, call, stack, inputs)
            for target, value in zip(self._target_names(step, call.special_outputs), extras,
                                     strict=True):  # fmt: skip
                self._specials.put(step, target, group, value)
                self._sink.special(step, target, group, keys, value)
        self.seconds[step.name] += time.perf_counter() - start
        if self._stays_on_device(step, stack) and self._hold(step, keys, stack):
            return
        download = start_download(stack)
        self._settle()  # the group before, copied while this one was at work
        self._pending = (step, keys, download)
        if not download.is_under_way:
            self._settle()

    def _stays_on_device(self, step: StepPlan, stack: Any) -> bool:
        """Tell whether a result lies on a device, and only functions of its library take it.

        That is as it is: what is stored, or put together anew for others, is wanted on the host.
        """
        if not lies_on_device(stack) or step.held_in != Backend.MEMORY.value:
            return False
        stored = {self._segment.last, *(w.step for w in self._plan.writes_of(self._segment))}
        readers = [other for other in self._steps if other.source == step.index]
        groups = {other.variable_components for other in readers}
        firsts = {b.calls[0].input_type for reader in readers for b in reader.branches if b.calls}
        is_as_it_is = groups == {step.variable_components} and firsts == {memory_type_of(stack)}
        return is_as_it_is and step.index not in stored

    def _hold(self, step: StepPlan, keys: Sequence[LocalKey], stack: Any) -> bool:
        """Keep a result on its device; tell whether there was room."""
        try:
            own = copied(stack)  # it may be the function's own buffer
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        self._made[step.index].put(keys, own)
        return True

    def _settle(self) -> None:
        """Keep the last group's result, as soon as it lies in host memory."""
        if self._pending is not None:
            (step, keys, download), self._pending = self._pending, None
            at_work, self.step_name = self.step_name, step.name
            start = time.perf_counter()
            stack = download.result()
            self.seconds[step.name] += time.perf_counter() - start
            self._keep(step, keys, stack)
            self.step_name = at_work

    @staticmethod
    def _target_names(step: StepPlan, declared: tuple[str, ...]) -> list[str]:
        """Return the pipeline's names of a call's special outputs."""
        names = {target.declared: target.name for target in step.special_outputs}
        return [names[name] for name in declared]

    def _keep(self, step: StepPlan, keys: Sequence[LocalKey], stack: Any) -> None:
        start = time.perf_counter()
        self._sink.image(step, keys, stack)
        self.seconds["write"] += time.perf_counter() - start
        if self._is_read(step):
            self._made[step.index].put(keys, stack)

    def _is_read(self, step: StepPlan) -> bool:
        return any(other.source == step.index for other in self._steps)

    def _release(self, step: StepPlan) -> None:
        """Forget what no later step of this turn reads."""
        for source, store in self._stores.items():
            last = max((s.index for s in self._steps if s.source == source), default=-1)
            if last == step.index:
                store.clear()
