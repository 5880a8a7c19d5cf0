"""What a task stores of one well: image, labels, tables, side files, in a scratch folder."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hcsflow.arrays import to_numpy
from hcsflow.config import Backend
from hcsflow.errors import ContractError
from hcsflow.materialize import call_materializer
from hcsflow.materialize.rows import Rows, join_rows, rows_of
from hcsflow.ngff.layout import ImageLayout
from hcsflow.plan import Group, LocalKey, Plan, StepPlan, WritePlan
from hcsflow.storage.encoding import Encoders
from hcsflow.storage.filemanager import FileManager
from hcsflow.storage.images import ImageRecord
from hcsflow.storage.plane_files import PlaneFileWriter
from hcsflow.storage.registry import create_storage_registry
from hcsflow.storage.traffic import TrafficMeter
from hcsflow.storage.well_images import WellImageWriter

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from hcsflow.materialize.rows import Column

__all__ = ["Stored", "WellSink"]


Stored = tuple[tuple[ImageLayout, ImageRecord], ...]
"""Images with what was stored of each."""


class PlaneWriter(Protocol):
    """Takes a well's planes one by one."""

    def write(
        self, field: int, timepoint: int, channel: int, z: int, plane: NDArray[Any], /
    ) -> None:
        """Store one plane, (y, x), by dense indices."""

    def close(self) -> Stored:
        """Finish; return what was stored."""

    def abort(self) -> None:
        """Close files without finishing them."""


class WellSink:
    """Streams one output of one well into its scratch folder.

    Parameters
    ----------
    plan, write : Plan, WritePlan
        What is stored.
    well : str
        Well name.
    folder : Path
        The well's folder to be, e.g. ``scratch/…/images.zarr/B/03``.
    sides : Path
        Folder for what materializer functions write.
    meter : TrafficMeter, optional
        Counts what is written.
    encoders : Encoders, optional
        Threads that the task's sinks share; None: planes are encoded as they come.
    """

    def __init__(  # noqa: PLR0913 - what is written, where, and the task's means
        self,
        plan: Plan,
        write: WritePlan,
        well: str,
        *,
        folder: Path,
        sides: Path,
        meter: TrafficMeter | None = None,
        encoders: Encoders | None = None,
    ) -> None:
        self._meter = TrafficMeter() if meter is None else meter
        self._files = FileManager(create_storage_registry(), meter=self._meter)
        self._plan = plan
        self._write = write
        self._well = well
        self._sides = sides
        self._image = _writer(folder, "", well, write.image, write.backend, encoders)
        self._labels = {
            (label.step, label.special): (
                label,
                _writer(
                    folder, f"labels/{label.name}", well, label.layout, write.backend, encoders
                ),
            )
            for label in write.labels
        }
        self._written: set[LocalKey] = set()
        self._rows: dict[str, list[tuple[int | None, Rows]]] = {
            table.name: [] for table in write.tables
        }

    def image(self, step: StepPlan, keys: Sequence[LocalKey], stack: NDArray[Any]) -> None:
        """Write planes of the step whose main output this is."""
        if step.index == self._write.step:
            self._write_planes(self._image, self._write.image, keys, stack)
            self._written.update(keys)

    def special(
        self, step: StepPlan, name: str, group: Group, keys: Sequence[LocalKey], value: Any
    ) -> None:
        """Write a label stack, keep a table's rows, or call a materializer function."""
        found = self._labels.get((step.index, name))
        if found is not None:
            label, writer = found
            places = _label_keys(step, keys)
            planes = self._label_planes(step, label.name, places, value)
            self._write_planes(writer, label.layout, places, planes)
        for table in self._write.tables:
            if (table.step, table.special) == (step.index, name):
                rows = self._placed(step, group, value, table.labels)
                self._rows[table.name].append((group.value("field"), rows))
        for side in self._write.sides:
            if (side.step, side.special) == (step.index, name):
                self._materialize(step, name, side.name, group, value)

    def close(self) -> tuple[Stored, dict[str, Stored]]:
        """Finish all arrays; return the images of the well and of each label, as stored."""
        image = self._image.close()
        return image, {label.name: writer.close() for label, writer in self._labels.values()}

    @property
    def absent(self) -> list[LocalKey]:
        """Planes of the image that were promised and not written: their groups were skipped."""
        promised = self._plan.steps[self._write.step].output.iter_keys()
        return [key for key in promised if key not in self._written]

    def abort(self) -> None:
        """Close files without finishing them."""
        self._image.abort()
        for _, writer in self._labels.values():
            writer.abort()

    def tables(self, field: int | None = None) -> Iterator[tuple[str, str | None, pa.Table]]:
        """Yield (name, labels, rows) of each table; rows in plan order.

        Parameters
        ----------
        field : int, optional
            Rows that belong to this field alone; those of no field of the image (of a whole
            well, say) belong to its first. None: all rows.
        """
        stored = self._write.image.fields
        for table in self._write.tables:
            parts = [
                rows
                for place, rows in self._rows[table.name]
                if field is None or field == (place if place in stored else stored[0])
            ]
            filled = [rows for rows in parts if rows.count] or parts[:1]
            if filled:
                yield table.name, table.labels, join_rows(filled)

    def _write_planes(
        self,
        writer: PlaneWriter,
        layout: ImageLayout,
        keys: Sequence[LocalKey],
        planes: Iterable[NDArray[Any]],
    ) -> None:
        start = time.perf_counter()
        nbytes = 0
        for key, plane in zip(keys, planes, strict=True):
            writer.write(*key, plane)
            nbytes += plane.nbytes
        self._meter.count(self._write.backend, "write", layout.path, start, nbytes)

    def _label_planes(
        self, step: StepPlan, name: str, keys: Sequence[LocalKey], value: Any
    ) -> Iterator[NDArray[np.uint32]]:
        """Check a label stack, and yield its planes as they are numbered in the well."""
        labels = to_numpy(value)
        if labels.ndim == 2:
            labels = labels[np.newaxis]
        expected = (len(keys), *step.output.shape_yx)
        if labels.shape != expected or labels.dtype.kind not in "iub":
            raise ContractError(
                f"step {step.name!r}: labels {name!r} are {labels.shape} {labels.dtype}, expected "
                f"{expected} (Z, Y, X) of integers"
            )
        stride = self._plan.label_stride
        if labels.size and labels.dtype.kind == "i" and int(labels.min()) < 0:
            raise ContractError(
                f"step {step.name!r}: labels {name!r} hold {int(labels.min())}; "
                "objects are numbered from 1, the background is 0"
            )
        if labels.size and int(labels.max()) >= stride:
            raise ContractError(
                f"step {step.name!r}: labels {name!r} number {int(labels.max())} objects in one "
                f"field, at most {stride - 1} are possible",
                hint="is the background labelled, or noise taken for objects?",
            )
        for key, plane in zip(keys, labels, strict=True):
            yield _numbered(plane, key.field * stride)

    def _placed(self, step: StepPlan, group: Group, value: Any, labels: str | None) -> Rows:
        """Return a table's rows with the columns that say where they come from."""
        rows = rows_of(value)
        columns: dict[str, Column] = {
            column: np.full(rows.count, cell, object if isinstance(cell, str) else np.int64)
            for column, cell in _place_columns(self._plan, self._well, step, group)
        }
        tied = labels is not None and "label_in_field" in rows.columns
        for column in (*columns, "label") if tied else columns:
            if column in rows.columns:
                raise ContractError(
                    f"step {step.name!r}: its table has a column {column!r} that hcsflow fills in",
                    hint="give the column another name",
                )
        for column, cells in rows.columns.items():
            if tied and column == "label_in_field":
                offset = (group.value("field") or 0) * self._plan.label_stride
                columns["label"] = np.asarray(cells, np.int64) + offset
            columns[column] = cells
        return Rows(rows.count, columns)

    def _materialize(
        self, step: StepPlan, name: str, folder: str, group: Group, value: Any
    ) -> None:
        target = next(t for t in step.special_outputs if t.name == name)
        if target.materializer is None:
            return
        stem = "_".join([self._well, *(f"{c[0]}{v + 1:03d}" for c, v in group.fixed), name])
        place = self._sides / folder / self._well
        place.mkdir(parents=True, exist_ok=True)
        call_materializer(
            target.materializer,
            value,
            str(place / f"{stem}.pkl"),
            self._files,
            Backend.DISK.value,
        )


def _writer(
    root: Path,
    folder: str,
    well: str,
    layout: ImageLayout,
    backend: str,
    encoders: Encoders | None,
) -> PlaneWriter:
    """Return the writer of an image or of labels for where they are kept."""
    if backend == Backend.DISK.value:
        return PlaneFileWriter(root, folder, well, layout)
    return WellImageWriter(root, layout, encoders)


def _numbered(labels: NDArray[Any], offset: int) -> NDArray[np.uint32]:
    """Return a label plane with its objects' numbers raised, the background left; read-only."""
    numbered = labels.astype(np.uint32)
    if offset:
        np.add(numbered, np.uint32(offset), out=numbered, where=labels != 0)
    numbered.flags.writeable = False  # nobody else has it: writers need no copy
    return numbered


def _label_keys(step: StepPlan, keys: Sequence[LocalKey]) -> list[LocalKey]:
    """Return the planes of a group's labels: one for all channels that are stacked."""
    if "channel" not in step.variable_components:
        return list(keys)
    return list(dict.fromkeys(key._replace(channel=keys[0].channel) for key in keys))


def _place_columns(
    plan: Plan, well: str, step: StepPlan, group: Group
) -> Iterator[tuple[str, str | int]]:
    """Yield the columns that say where a row comes from, in the instrument's labels."""
    plate = plan.plate
    yield "plate", plate.name
    yield "well", well
    labels = {
        "field": ("field", plate.fields),
        "channel": ("channel", tuple(c.label for c in plate.channels)),
        "z": ("z", plate.z),
        "timepoint": ("t", plate.timepoints),
    }
    for component, (column, names) in labels.items():
        value = group.value(component)
        if value is not None and component not in step.input.collapsed:
            text = names[value]
            yield column, int(text) if text.isdigit() else text
    yield "step", step.name
