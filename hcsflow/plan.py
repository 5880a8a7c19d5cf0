"""The frozen plan: all that compiler, graph and execute share. Values and pure rules, no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from itertools import product
from typing import Any, Literal, NamedTuple

from hcsflow.config import GlobalPipelineConfig
from hcsflow.ngff.layout import ImageLayout
from hcsflow.plate import COMPONENTS, Plate

__all__ = [
    "SCHEMA",
    "Branch",
    "Call",
    "Group",
    "LabelWrite",
    "LocalKey",
    "Plan",
    "PlaneSet",
    "Resources",
    "Segment",
    "SideWrite",
    "SpecialLink",
    "SpecialTarget",
    "StepPlan",
    "TableWrite",
    "WritePlan",
    "agreeing",
    "groups_of",
    "output_members",
    "stable_json",
]

SCHEMA = "hcsflow.plan/1"


class LocalKey(NamedTuple):
    """A plane within one well: dense indices in the order of `COMPONENTS`."""

    field: int
    timepoint: int
    channel: int
    z: int


@dataclass(frozen=True, slots=True)
class PlaneSet:
    """The planes of every well at one point of a pipeline, by rule.

    Parameters
    ----------
    fields, timepoints, channels : tuple of int
        Dense indices.
    z : tuple of tuple of int
        Heights of each channel, in the order of ``channels``.
    collapsed : tuple of str
        Components that an earlier step reduced to one.
    shape_yx : tuple of int
        Plane size in pixels.
    dtype : str
        Numpy name.
    """

    fields: tuple[int, ...]
    timepoints: tuple[int, ...]
    channels: tuple[int, ...]
    z: tuple[tuple[int, ...], ...]
    shape_yx: tuple[int, int]
    dtype: str
    collapsed: tuple[str, ...] = ()

    def iter_keys(self) -> Iterator[LocalKey]:
        """Iterate over all planes: field, timepoint, channel, z; z fastest."""
        for fld, timepoint in product(self.fields, self.timepoints):
            for channel, heights in zip(self.channels, self.z, strict=True):
                for z in heights:
                    yield LocalKey(fld, timepoint, channel, z)

    @property
    def num_planes(self) -> int:
        """Planes per well."""
        return len(self.fields) * len(self.timepoints) * sum(len(h) for h in self.z)


class Group(NamedTuple):
    """One call of a step: the planes that form its stack, in order."""

    fixed: tuple[tuple[str, int], ...]
    members: tuple[LocalKey, ...]

    def value(self, component: str) -> int | None:
        """Return the fixed value of a component, None where it varies."""
        return dict(self.fixed).get(component)


def groups_of(planes: PlaneSet, variable_components: tuple[str, ...]) -> Iterator[Group]:
    """Split planes into groups: one per combination of the components that do not vary.

    Members are ordered row-major by ``variable_components`` as given.
    """
    fixed = tuple(c for c in COMPONENTS if c not in variable_components)
    buckets: dict[tuple[int, ...], list[LocalKey]] = {}
    for key in planes.iter_keys():
        buckets.setdefault(tuple(getattr(key, c) for c in fixed), []).append(key)
    for values, members in buckets.items():
        members.sort(key=lambda key: tuple(getattr(key, c) for c in variable_components))
        yield Group(tuple(zip(fixed, values, strict=True)), tuple(members))


def agreeing(consumer: Group, producers: Iterable[Group], collapsed: Iterable[str]) -> list[Group]:
    """Return the producer groups whose special output belongs to a consumer's stack.

    A producer agrees if each component that it had fixed (and that was not reduced before) has
    a value among the consumer's planes.
    """
    values = {c: {getattr(m, c) for m in consumer.members} for c in COMPONENTS}
    skipped = set(collapsed)
    return [
        group
        for group in producers
        if all(c in skipped or value in values[c] for c, value in group.fixed)
    ]


@dataclass(frozen=True, slots=True)
class Call:
    """One function call of a step.

    Parameters
    ----------
    function : str
        Import path ``module:qualname``.
    fingerprint : str
        Hash of the function's module source, or name and version of its distribution.
    input_type, output_type : str
        Memory types.
    parameters : tuple of (str, value)
        Keyword arguments, sorted by name.
    special_inputs, special_outputs : tuple of str
        Names as the function declares them.
    z_out : "same", "one" or int
        From the contract.
    shape_yx, dtype : tuple of int, str
        Promised for the output.
    func : callable
        The function itself; travels by cloudpickle, is not part of the plan's text.
    """

    function: str
    fingerprint: str
    input_type: str
    output_type: str
    parameters: tuple[tuple[str, Any], ...]
    special_inputs: tuple[str, ...]
    special_outputs: tuple[str, ...]
    z_out: str | int
    shape_yx: tuple[int, int]
    dtype: str
    func: Callable[..., Any] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Branch:
    """What a step does with the groups of one component value.

    Parameters
    ----------
    value : int or None
        Dense index along the step's ``group_by`` component; None: every group.
    action : "call", "pass" or "drop"
        Run the chain, keep the planes as they are, or leave them out.
    calls : tuple of Call
        The chain.
    """

    value: int | None
    action: Literal["call", "pass", "drop"]
    calls: tuple[Call, ...] = ()


def output_members(
    branch: Branch, group: Group, variable_components: tuple[str, ...]
) -> tuple[LocalKey, ...]:
    """Return the keys of the planes that a branch makes of a group, in order."""
    if branch.action == "drop":
        return ()
    members = group.members
    for call in branch.calls:
        if call.z_out == "same":
            continue
        first = members[0]
        if call.z_out == "one":
            changes = {c: 0 if c == "z" else getattr(first, c) for c in variable_components}
            members = (first._replace(**changes),)
        else:
            members = tuple(first._replace(z=i) for i in range(int(call.z_out)))
    return members


@dataclass(frozen=True, slots=True)
class SpecialLink:
    """Where a function's special input comes from.

    ``producer`` is the index of the step, or None for a built-in input.
    """

    argument: str
    name: str
    producer: int | None


@dataclass(frozen=True, slots=True)
class SpecialTarget:
    """Where a step's special output goes.

    Parameters
    ----------
    declared : str
        Name that the function declares.
    name : str
        Name within the pipeline, by which later steps ask for it.
    path, backend : str
        Staging place: always the memory backend while the segment runs.
    kind : str
        ``"memory"`` (not written), ``"labels"``, ``"table"`` or ``"function"``.
    stored_as : str
        Name of the label, table or folder.
    materializer : callable or None
        The object that writes it.
    """

    declared: str
    name: str
    path: str
    backend: str
    kind: Literal["memory", "labels", "table", "function"]
    stored_as: str
    materializer: Callable[..., Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step, bound to functions and places."""

    index: int
    name: str
    variable_components: tuple[str, ...]
    group_by: str
    source: int | None
    branches: tuple[Branch, ...]
    input: PlaneSet
    output: PlaneSet
    input_dir: str
    output_dir: str
    read_backend: str
    write_backend: str
    special_inputs: tuple[SpecialLink, ...] = ()
    special_outputs: tuple[SpecialTarget, ...] = ()
    num_calls: int = 0
    projected_bytes: int = 0
    fingerprint: str = ""

    def branch_for(self, group: Group) -> Branch:
        """Return the branch that treats a group."""
        value = group.value(self.group_by)
        for branch in self.branches:
            if branch.value is None or branch.value == value:
                return branch
        raise LookupError(f"step {self.name!r} has no branch for {self.group_by} {value}")


@dataclass(frozen=True, slots=True)
class LabelWrite:
    """A label image written with a well: from which special output, laid out how."""

    name: str
    step: int
    special: str
    layout: ImageLayout


@dataclass(frozen=True, slots=True)
class TableWrite:
    """A table written with a well and consolidated under ``results/``."""

    name: str
    step: int
    special: str
    labels: str | None


@dataclass(frozen=True, slots=True)
class SideWrite:
    """A special output written by a materializer function, under ``results/<name>/<well>/``."""

    name: str
    step: int
    special: str


@dataclass(frozen=True, slots=True)
class WritePlan:
    """One materialised output: a plate of its own, committed well by well.

    Parameters
    ----------
    output : str
        "" for the final output, else ``<nn>_<step>``.
    step : int
        Index of the step whose main output is the image.
    store : str
        Plate folder relative to the output root, e.g. ``"images.zarr"``.
    image : ImageLayout
        The wells' image.
    labels, tables, sides : tuple
        What is stored along with it.
    objects_per_well : int
        Stored image and label objects (chunks or shards).
    raw_bytes_per_well : int
        Uncompressed pixels, all levels.
    """

    output: str
    step: int
    store: str
    image: ImageLayout
    labels: tuple[LabelWrite, ...] = ()
    tables: tuple[TableWrite, ...] = ()
    sides: tuple[SideWrite, ...] = ()
    objects_per_well: int = 0
    raw_bytes_per_well: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps ``first`` to ``last`` of every well, run as one task.

    ``loop`` lists the components fixed in all its steps: the task runs the chain once per
    combination of them, so its memory does not grow with the well.
    """

    name: str
    first: int
    last: int
    loop: tuple[str, ...]
    projected_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Resources:
    """What a plan may use.

    Parameters
    ----------
    workers : int
        Worker processes (or threads).
    memory_bytes : int
        Memory of each.
    threads_per_worker : int
        Always one task at a time; this is for inner threads.
    gpus : int
        Devices in all.
    """

    workers: int
    memory_bytes: int
    threads_per_worker: int = 1
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled pipeline for one plate; printable, comparable, immutable.

    Parameters
    ----------
    pipeline : str
        Name of the pipeline.
    plate : Plate
        The plate it was compiled for.
    wells : tuple of str
        Wells with a task, in plate order.
    failed_wells : tuple of (str, str, str or None)
        Wells that fail without a task: name, reason, file.
    steps, writes, segments : tuple
        What is done.
    source : PlaneSet
        The planes of the plate.
    config : GlobalPipelineConfig
        Settings in force.
    resources : Resources
        What it may use.
    parameters : tuple of (str, value)
        The pipeline's parameters.
    warnings : tuple of str
        What a user should know before running.
    fingerprints : mapping
        Well name to the fingerprint of its inputs.
    label_stride : int
        Label id = field × stride + local id.
    """

    pipeline: str
    plate: Plate
    wells: tuple[str, ...]
    failed_wells: tuple[tuple[str, str, str | None], ...]
    source: PlaneSet
    steps: tuple[StepPlan, ...]
    writes: tuple[WritePlan, ...]
    segments: tuple[Segment, ...]
    config: GlobalPipelineConfig
    resources: Resources
    parameters: tuple[tuple[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    label_stride: int = 1 << 16
    schema: str = SCHEMA

    @property
    def num_tasks(self) -> int:
        """Tasks on the cluster: one per well and segment."""
        return len(self.wells) * len(self.segments)

    @property
    def num_objects(self) -> int:
        """Stored image and label objects of all wells."""
        return len(self.wells) * sum(w.objects_per_well for w in self.writes)

    @property
    def projected_bytes(self) -> int:
        """Peak memory of the worst task above an idle worker, in bytes."""
        return max((s.projected_bytes for s in self.segments), default=0)

    def replace(self, **changes: Any) -> Plan:
        """Return a copy with some parts changed; passes use it."""
        return replace(self, **changes)

    def unit_fingerprint(self, well: str, output: str) -> str:
        """Return the fingerprint of the unit (well, output): inputs, steps, layout."""
        write = next(w for w in self.writes if w.output == output)
        steps = [step.fingerprint for step in self.steps[: write.step + 1]]
        text = stable_json([self.fingerprints.get(well, ""), steps, write])
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """Return the plan as text: the same inputs give the same bytes."""
        return stable_json(self, indent=1)


def stable_json(value: Any, indent: int | None = None) -> str:
    """Render frozen values as JSON with sorted keys; callables are left out."""
    return json.dumps(_plain(value), sort_keys=True, indent=indent, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _plain(getattr(value, f.name))
            for f in fields(value)
            if f.compare  # callables are declared compare=False
        }
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return repr(value)
