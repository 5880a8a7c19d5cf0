"""What workers run in these tests. A module of its own, so that they can import it."""

import ctypes
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from hcsflow.config import GlobalPipelineConfig
from hcsflow.errors import HcsflowError
from hcsflow.graph.commit import check_epoch, commit_unit, open_scratch, unit_scratch, well_folder
from hcsflow.graph.plugin import bundle_of
from hcsflow.graph.worker import PeakMeter, emit
from hcsflow.journal import JournalEntry, ObjectRecord, Outcome
from hcsflow.ngff.layout import ArrayLayout, Codec, ImageLayout
from hcsflow.plan import (
    Branch,
    Call,
    Plan,
    PlaneSet,
    Resources,
    Segment,
    StepPlan,
    TableWrite,
    WritePlan,
)
from hcsflow.plate import Channel, FieldGrid, Manifest, Measured, PlaneRow, Plate
from hcsflow.storage.objects import checksum_of
from hcsflow.storage.tables import write_table

WELLS = ("A01", "A02", "A03", "B01", "B02", "B03")


def same(stack):
    return stack


def tiny_plate() -> Plate:
    return Plate(
        name="Tiny",
        microscope="imagexpress",
        layout="flat",
        uuid=None,
        rows=tuple("ABCDEFGH"),
        columns=tuple(f"{c:02d}" for c in range(1, 13)),
        acquisition="0",
        acquisitions=("0",),
        wells=WELLS,
        fields=("1",),
        timepoints=("1",),
        channels=(Channel("w1", "DAPI", 1),),
        z=("1",),
        shape_yx=(8, 8),
        dtype="uint16",
        pixel_size=Measured(0.5, "test"),
        z_step=Measured(None, ""),
        grid=FieldGrid(1, 1, ((0, 0),), "field number"),
    )


def tiny_plan(wells=WELLS, *, scale: int = 1, failed=(), pipeline: str = "tiny") -> Plan:
    planes = PlaneSet((0,), (0,), (0,), ((0,),), (8, 8), "uint16")
    call = Call(
        function="tiny_task:same",
        fingerprint="f",
        input_type="numpy",
        output_type="numpy",
        parameters=(("scale", scale),),
        special_inputs=(),
        special_outputs=(),
        z_out="same",
        shape_yx=(8, 8),
        dtype="uint16",
        func=same,
    )
    step = StepPlan(
        index=0,
        name="scale",
        variable_components=("z",),
        group_by="channel",
        source=None,
        branches=(Branch(None, "call", (call,)),),
        input=planes,
        output=planes,
        input_dir=".",
        output_dir="images.zarr",
        read_backend="virtual_workspace",
        write_backend="zarr",
        fingerprint=f"scale-{scale}",
    )
    level = ArrayLayout("0/0", ("y", "x"), (8, 8), (8, 8), (8, 8), "uint16", Codec(), (0.5, 0.5))
    image = ImageLayout(
        path="0",
        kind="image",
        levels=(level,),
        field_yx=(8, 8),
        pitch_yx=(8, 8),
        cells=((0, 0),),
        fields=(0,),
        timepoints=(0,),
        channels=(0,),
        z=1,
        has_unit=True,
    )
    write = WritePlan("", 0, "images.zarr", image, tables=(TableWrite("cells", 0, "cells", None),))
    return Plan(
        pipeline=pipeline,
        plate=tiny_plate(),
        wells=tuple(wells),
        failed_wells=tuple(failed),
        source=planes,
        steps=(step,),
        writes=(write,),
        segments=(Segment("scale", 0, 0, ()),),
        config=GlobalPipelineConfig(),
        resources=Resources(workers=2, memory_bytes=1 << 30),
        parameters=(("scale", scale),),
        fingerprints={well: f"input of {well}" for well in wells},
    )


def tiny_manifest(root: Path, plan: Plan) -> Manifest:
    rows = [
        PlaneRow(i, 0, 0, 0, 0, "", f"{well}_s1_w1.tif", 128, 1)
        for i, well in enumerate(plan.plate.wells)
    ]
    return Manifest.from_rows(str(root), rows)


def tiny_task(plan_id: str, segment: str, well: str, attempt: int, *upstream: Outcome) -> Outcome:
    """Write one object and one table, unless a file in the plate's folder says otherwise."""
    bundle = bundle_of(plan_id)
    emit("well_started", well, plan_id=plan_id)
    if Path(bundle.plate_root, f"{well}.again").exists():
        for _ in range(8):
            time.sleep(0.3)
            emit("well_started", well, plan_id=plan_id)
    try:
        with PeakMeter() as meter, open_scratch(bundle, well, attempt) as scratch:
            check_epoch(bundle)
            _misbehave(Path(bundle.plate_root), well)
            _write(bundle, well, attempt, unit_scratch(scratch, ""))
    except HcsflowError as error:
        name = type(error).__name__
        return Outcome(
            well, segment, "failed", step="scale", error=name, message=str(error), file="x.tif"
        )
    return Outcome(well, segment, "done", seconds=0.1, peak_bytes=meter.peak_bytes, outputs=("",))


def _misbehave(plate: Path, well: str) -> None:
    asked = {path.suffix[1:]: path for path in plate.glob(f"{well}.*")}
    if "fail" in asked:
        with asked["fail"].open("a") as file:
            file.write("tried ")
        raise HcsflowError(f"{well} is told to fail")
    if "die-once" in asked:
        asked["die-once"].unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if "die" in asked:
        os.kill(os.getpid(), signal.SIGKILL)
    if "sleep" in asked:
        time.sleep(60)
    if "hang" in asked:
        ctypes.PyDLL(None).sleep(60)  # holds the interpreter's lock: no thread answers
    if "nap" in asked:
        time.sleep(1)


def _write(bundle, well: str, attempt: int, unit: Path) -> None:
    plan = bundle.plan
    folder = unit / "images.zarr" / well_folder(plan, well)
    scale = dict(plan.parameters)["scale"]
    contents = {
        "zarr.json": b"{}",
        "0/zarr.json": b"{}",
        "0/0/c/0/0": f"{well} times {scale}".encode() * 100,
    }
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    rows = pa.table({"label": [1, 2], "area": [scale * 1.5, 2.0], "well": [well, well]})
    write_table(folder / "0", "cells", rows)
    objects = [
        ObjectRecord(str(path.relative_to(unit)), path.stat().st_size, _checksum(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    outcome = Outcome(well, "scale", "done", outputs=("",), objects=len(objects))
    fingerprint = plan.unit_fingerprint(well, "")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = JournalEntry(well, "", fingerprint, attempt, bundle.epoch, tuple(objects), outcome, now)
    commit_unit(bundle, well, "", unit, entry)


def _checksum(path: Path) -> str:
    return checksum_of(path.read_bytes())
