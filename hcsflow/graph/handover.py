"""What crosses a cut between two segments of a well: in files of a checkpoint, or as a result."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from hcsflow.arrays.families import freeze, thaw
from hcsflow.arrays.libraries import find_memory_type
from hcsflow.errors import ContractError, HcsflowError, PlaneError
from hcsflow.graph.commit import forget_unit, handover_folder, unit_folder
from hcsflow.graph.planes import MadePlanes, kept
from hcsflow.graph.plugin import Bundle
from hcsflow.graph.results import HandedStack, HandedValue, Handover, Stack
from hcsflow.graph.stored import StoredPlanes, open_stored_planes
from hcsflow.graph.values import ValueReader, ValueWriter
from hcsflow.journal import ControlFolder, JournalEntry, ObjectRecord, read_entry
from hcsflow.plan import Carried, Group, LocalKey, Plan, Segment, StepPlan, WritePlan, groups_of
from hcsflow.storage.traffic import TrafficMeter

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CheckpointSink", "Incoming", "ResultSink", "incoming_of"]

T = TypeVar("T")


class _OnHost(NamedTuple):
    """An array of a library other than numpy, in host memory."""

    header: dict[str, Any]
    host: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a segment starts from besides the plate.

    Parameters
    ----------
    planes : MadePlanes or None
        The main output of the step before its first.
    specials : mapping
        Values of earlier special outputs by group, in the order in which they were made; each
        is brought into memory when it is asked for.
    bytes_read : callable
        Uncompressed pixels read from files so far.
    """

    planes: MadePlanes | None = None
    specials: Mapping[Carried, Mapping[Group, Any]] = field(default_factory=dict)
    bytes_read: Callable[[], int] = lambda: 0


@contextmanager
def incoming_of(
    bundle: Bundle,
    segment: Segment,
    well: str,
    upstream: Handover | None,
    meter: TrafficMeter,
) -> Iterator[Incoming]:
    """Open what a segment starts from.

    Raises
    ------
    HcsflowError
        If its checkpoint is not there as the plan makes it.
    """
    plan = bundle.plan
    if segment.first == 0:
        yield Incoming()
        return
    if segment.reads is None:
        if upstream is None:
            raise HcsflowError(f"segment {segment.name!r} of {well} was given no result to go on")
        values = [(v.carried, v.group, partial(_thawed, v.value)) for v in upstream.specials]
        yield Incoming(HandedPlanes(upstream.planes), _by_group(plan, values))
        return
    write = next(w for w in plan.writes if w.output == segment.reads)
    reading = _Reading(bundle, write, _committed(bundle, write, well))
    with open_stored_planes(Path(bundle.output), plan, write, well) as stored:
        planes = _CheckpointPlanes(stored, write.backend, meter, reading)
        specials = _stored_values(reading)
        yield Incoming(planes, specials, lambda: stored.bytes_read)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Calls what reads a checkpoint; one that is damaged is forgotten, so that it is made anew."""

    bundle: Bundle
    write: WritePlan
    entry: JournalEntry

    def __call__(self, read: Callable[..., T], *args: Any) -> T:
        """Return what ``read`` does.

        Raises
        ------
        PlaneError
            If the checkpoint cannot be read as it was written.
        """
        try:
            return read(*args)
        except (HcsflowError, OSError) as error:
            forget_unit(self.bundle, self.entry)
            message = error.message if isinstance(error, HcsflowError) else str(error)
            reason = message.replace(f"{Path(self.bundle.output)}{os.sep}", "")
            raise PlaneError(
                f"{self.write.store}: {self.entry.well} cannot be read as it was written: {reason}",
                hint="run the same command again: what is damaged is made anew",
                file=unit_folder(self.bundle.plan, self.write, self.entry.well),
            ) from None


def _committed(bundle: Bundle, write: WritePlan, well: str) -> JournalEntry:
    entry = read_entry(ControlFolder(Path(bundle.output)), write.output, well)
    if entry is None or entry.fingerprint != bundle.plan.unit_fingerprint(well, write.output):
        raise HcsflowError(
            f"{write.store}: {well} is not whole, and the steps after it start from it",
            hint="run the same command again: what is not whole is made anew",
        )
    return entry


def _stored_values(reading: _Reading) -> Mapping[Carried, Mapping[Group, Any]]:
    if not reading.write.carried:
        return {}
    folder = handover_folder(reading.write, reading.entry.well)
    reader = reading(ValueReader, Path(reading.bundle.output) / folder)
    values = [
        (
            Carried(facts["step"], facts["special"]),
            facts["group"],
            partial(reading, reader.value, document),
        )
        for facts, document in reader.items
    ]
    return _by_group(reading.bundle.plan, values)


def _by_group(
    plan: Plan, values: Sequence[tuple[Carried, int, Callable[[], Any]]]
) -> Mapping[Carried, Mapping[Group, Any]]:
    found: dict[Carried, dict[Group, Callable[[], Any]]] = {}
    for carried, number, load in values:
        group = _groups(plan.steps[carried.step])[number]
        found.setdefault(carried, {})[group] = load
    return {carried: _Loaded(loads) for carried, loads in found.items()}


class _Loaded(Mapping[Group, Any]):
    """Values by group that come into memory when they are asked for; the last one stays."""

    def __init__(self, loads: Mapping[Group, Callable[[], Any]]) -> None:
        self._loads = loads
        self._last: tuple[Group, Any] | None = None

    def __getitem__(self, group: Group) -> Any:
        if self._last is None or self._last[0] != group:
            self._last = None  # before the next comes into memory
            self._last = group, self._loads[group]()
        return self._last[1]

    def __iter__(self) -> Iterator[Group]:
        return iter(self._loads)

    def __len__(self) -> int:
        return len(self._loads)


def _groups(step: StepPlan) -> list[Group]:
    return list(groups_of(step.input, step.variable_components))


@lru_cache(maxsize=64)
def _numbers(planes: Any, variable_components: tuple[str, ...]) -> dict[Group, int]:
    return {group: n for n, group in enumerate(groups_of(planes, variable_components))}


def _number(step: StepPlan, group: Group) -> int:
    return _numbers(step.input, step.variable_components)[group]


class HandedPlanes:
    """Planes of a result; nothing is copied that lies as it is asked for."""

    def __init__(self, stacks: Sequence[HandedStack]) -> None:
        self._stacks = stacks
        self._where = {
            key: (n, i) for n, handed in enumerate(stacks) for i, key in enumerate(handed.keys)
        }

    def gather(self, keys: Sequence[LocalKey]) -> Stack:
        """Return the stack of some planes, in order; read-only."""
        whole = self._stacks[self._where[keys[0]][0]]
        if whole.keys == tuple(keys):
            stack = whole.stack.view()
        else:
            places = [self._where[key] for key in keys]
            stack = np.stack([self._stacks[n].stack[i] for n, i in places])
        stack.flags.writeable = False
        return stack

    def missing(self, keys: Iterable[LocalKey]) -> list[LocalKey]:
        """Return those of ``keys`` that are not there."""
        return [key for key in keys if key not in self._where]

    def clear(self) -> None:
        """Keep all: the result is the scheduler's to forget."""


class _CheckpointPlanes:
    """Planes of a committed checkpoint, each read when it is asked for."""

    def __init__(
        self, stored: StoredPlanes, backend: str, meter: TrafficMeter, reading: _Reading
    ) -> None:
        self._stored = stored
        self._backend = backend
        self._meter = meter
        self._reading = reading

    def gather(self, keys: Sequence[LocalKey]) -> Stack:
        """Return the stack of some planes, in order; read-only."""
        start = time.perf_counter()
        first = self._reading(self._stored.read, keys[0])
        stack: Stack = np.empty((len(keys), *first.shape), first.dtype)
        stack[0] = first
        for i, key in enumerate(keys[1:], 1):
            stack[i] = self._reading(self._stored.read, key)
        stack.flags.writeable = False
        self._meter.count(self._backend, "load", str(self._stored.folder), start, stack.nbytes)
        return stack

    def missing(self, keys: Iterable[LocalKey]) -> list[LocalKey]:
        """Return those of ``keys`` that were never made."""
        missing = self._reading(lambda: self._stored.missing)
        return [key for key in keys if key in missing]

    def clear(self) -> None:
        """Keep all: it is read again in the next turn."""


class ResultSink:
    """Collects what a segment hands on as its result."""

    def __init__(self, plan: Plan, segment: Segment) -> None:
        after = plan.next_segment(segment)
        self._segment = segment
        self._takes_planes = after is not None and plan.steps[after.first].source is not None
        self.planes: list[HandedStack] = []
        self.specials: list[HandedValue] = []

    def image(self, step: StepPlan, keys: Sequence[LocalKey], stack: Stack) -> None:
        """Keep the last step's planes."""
        if self._takes_planes and step.index == self._segment.last:
            self.planes.append(HandedStack(tuple(keys), kept(stack)))

    def special(
        self,
        step: StepPlan,
        name: str,
        group: Group,
        keys: Sequence[LocalKey],  # noqa: ARG002 - a sink's signature
        value: Any,
    ) -> None:
        """Keep what later segments need; arrays of devices in host memory."""
        carried = Carried(step.index, name)
        if carried not in self._segment.carries:
            return
        if find_memory_type(value) not in (None, "numpy"):
            value = _OnHost(*freeze(value))
        self.specials.append(HandedValue(carried, _number(step, group), kept(value)))


def _thawed(value: Any) -> Any:
    return thaw(value.header, value.host) if isinstance(value, _OnHost) else value


class CheckpointSink:
    """Stores the special outputs that later segments need with a checkpoint's unit.

    Parameters
    ----------
    write : WritePlan
        The checkpoint.
    well : str
        Well name.
    root : Path
        The unit's scratch folder.
    """

    def __init__(self, write: WritePlan, well: str, root: Path) -> None:
        self._carried = write.carried
        self._folder = handover_folder(write, well)
        self._writer = ValueWriter(root / self._folder) if write.carried else None

    def image(self, step: StepPlan, keys: Sequence[LocalKey], stack: Stack) -> None:
        """Leave the image to the store."""

    def special(
        self,
        step: StepPlan,
        name: str,
        group: Group,
        keys: Sequence[LocalKey],  # noqa: ARG002 - a sink's signature
        value: Any,
    ) -> None:
        """Write what later segments need.

        Raises
        ------
        ContractError
            If it cannot be stored.
        """
        carried = Carried(step.index, name)
        if self._writer is None or carried not in self._carried:
            return
        facts = {"step": step.index, "special": name, "group": _number(step, group)}
        try:
            self._writer.add(facts, value)
        except TypeError as error:
            raise ContractError(
                f"step {step.name!r}: its output {name!r} is needed after a checkpoint, but it is "
                f"or holds a {error}, which cannot be stored",
                hint="return an array, a DataFrame, or numbers and text in lists and dicts; or "
                "leave the checkpoint out",
            ) from error

    def close(self) -> list[ObjectRecord]:
        """Finish the files; say what was stored, relative to the output folder."""
        stored = [] if self._writer is None else self._writer.close()
        return [ObjectRecord(f"{self._folder}/{s.path}", s.nbytes, s.checksum) for s in stored]

    def abort(self) -> None:
        """Remove what was written."""
        if self._writer is not None:
            self._writer.abort()
