"""What an output folder holds, from the disk alone: no scheduler is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hcsflow import errors
from hcsflow.config import Backend
from hcsflow.errors import OutputError
from hcsflow.execute.lock import Holder, live_holder
from hcsflow.journal import (
    ControlFolder,
    JournalEntry,
    Outcome,
    entries_of_plan,
    merged,
    read_entries,
    read_json,
    read_log,
)
from hcsflow.journal import read_failures as _read_failures
from hcsflow.storage.objects import file_checksum
from hcsflow.storage.zarr_nodes import (
    V2_ARRAY,
    V2_ATTRIBUTES,
    V2_GROUP,
    V3,
    holds_node,
    node_of,
)

__all__ = ["Finding", "Status", "read_failures", "read_status", "verify_output"]


DOCUMENTS = (V3, V2_ARRAY, V2_GROUP, V2_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Status:
    """How far an output is.

    Parameters
    ----------
    output : Path
        The folder.
    pipeline, plate : str
        What it is of.
    wells : tuple of str
        Wells of the latest plan, those that failed before any task included, and of earlier ones
        those that are done alike or have failed.
    done, failed, pending : tuple of str
        Wells with all outputs as the latest plan wants them, with a failure on record, with
        neither.
    error : str or None
        What ended the latest run, where it came to no regular end.
    running : Holder or None
        The run that is alive now.
    objects, nbytes : int
        Stored objects of the wells that are done.
    seconds : float
        Sum of the wells' wall times.
    """

    output: Path
    pipeline: str
    plate: str
    wells: tuple[str, ...]
    done: tuple[str, ...]
    failed: tuple[str, ...]
    pending: tuple[str, ...]
    error: str | None
    running: Holder | None
    objects: int
    nbytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as the journal says.

    Parameters
    ----------
    kind : str
        ``"missing"``, ``"size"``, ``"checksum"``, ``"metadata"`` or ``"unlisted"``.
    path : str
        Relative to the output.
    well : str or None
        The well it belongs to.
    message : str
        Expected and found.
    """

    kind: str
    path: str
    well: str | None
    message: str


def read_status(output: Path) -> Status:
    """Return how far an output is.

    Raises
    ------
    OutputError
        If the folder holds no run.
    """
    output = Path(output)
    plan = _read_plan(output)
    control = ControlFolder(output)
    entries = [entries_of_plan(control, plan, write["output"]) for write in plan["writes"]]
    failed_before = [name for name, *_ in plan.get("failed_wells", [])]
    order = plan["plate"]["wells"]
    failed = {outcome.well for outcome in read_failures(output)} | set(failed_before)
    alike = set.intersection(*map(set, entries)) if entries else set()
    named = set(plan["wells"]) | failed | alike
    wells = tuple([w for w in order if w in named] + sorted(failed.difference(order)))
    done = [w for w in wells if w not in failed and all(w in found for found in entries)]
    records = [found[well] for found in entries for well in done]
    outcomes = [merged([found[well].outcome for found in entries]) for well in done]
    holder = live_holder(output)
    return Status(
        output=output,
        pipeline=plan["pipeline"],
        plate=plan["plate"]["name"],
        wells=wells,
        done=tuple(done),
        failed=tuple(w for w in wells if w in failed),
        pending=tuple(w for w in wells if w not in failed and w not in done),
        error=None if holder else _last_error(control),
        running=holder,
        objects=sum(len(entry.objects) for entry in records),
        nbytes=sum(item.nbytes for entry in records for item in entry.objects),
        seconds=sum(outcome.seconds for outcome in outcomes),
    )


def read_failures(output: Path) -> list[Outcome]:
    """Return the wells on record as failed, in the plate's order where it is known."""
    plan = read_json(ControlFolder(Path(output)).plan)
    wells = plan["plate"]["wells"] if isinstance(plan, dict) and "plate" in plan else []
    place = {well: i for i, well in enumerate(wells)}
    found = _read_failures(ControlFolder(Path(output)))
    return sorted(found, key=lambda o: (place.get(o.well, len(place)), o.well))


def verify_output(output: Path) -> list[Finding]:
    """Read every stored object and compare it with the journal.

    Returns
    -------
    list of Finding
        Empty where all is well: objects present with size and checksum, metadata readable, every
        listed well in the journal, and no well's folder that the journal does not know.

    Raises
    ------
    OutputError
        If the folder holds no run.
    """
    output = Path(output)
    plan = _read_plan(output)
    findings: list[Finding] = []
    for write in plan["writes"]:
        entries = read_entries(ControlFolder(output), write["output"])
        for entry in entries.values():
            findings.extend(_check_unit(output, entry))
        findings.extend(_check_store(output, write, entries, plan["plate"]))
    return findings


def _read_plan(output: Path) -> dict[str, Any]:
    plan = read_json(ControlFolder(output).plan)
    if not isinstance(plan, dict) or "plate" not in plan:
        raise OutputError(
            f"{output} holds no run of hcsflow: no readable .hcsflow/plan.json",
            hint="give the folder that `hcsflow run -o` wrote",
        )
    return plan


def _last_error(control: ControlFolder) -> str | None:
    """Return the error that ended the latest run, None where it ended otherwise or goes on."""
    ends = [line for line in read_log(control) if str(line.get("kind")).startswith("run_")]
    last = ends[-1] if ends else {}
    if last.get("kind") != "run_stopped" or last.get("error") == KeyboardInterrupt.__name__:
        return None
    kind, told = str(last.get("error")), str(last.get("message") or "").partition("\n")[0]
    if hasattr(errors, kind) and told:
        return told
    return f"{kind}: {told}" if told else kind


def _listed_paths(output: Path, store: str) -> set[str]:
    """Return the wells' folders that a plate lists.

    Raises
    ------
    FileNotFoundError
        If the folder is no group.
    OSError, ValueError, KeyError, TypeError
        If its document cannot be read as a plate's.
    """
    group = node_of(output / store)
    if group is None:
        raise FileNotFoundError(output / store)
    found = group.attributes
    return {well["path"] for well in found.get("ome", found)["plate"]["wells"]}


def _check_unit(output: Path, entry: JournalEntry) -> Iterator[Finding]:
    for item in entry.objects:
        path = output / item.path
        try:
            size = path.stat().st_size
            found = file_checksum(path) if size == item.nbytes else ""
        except OSError as error:
            yield Finding("missing", item.path, entry.well, f"cannot be read: {error.strerror}")
            continue
        if size != item.nbytes:
            text = f"expected {item.nbytes} bytes, found {size}"
            yield Finding("size", item.path, entry.well, text)
        elif found != item.checksum:
            text = f"expected {item.checksum}, found {found}"
            yield Finding("checksum", item.path, entry.well, text)
        elif path.name in DOCUMENTS and read_json(path) is None:
            yield Finding("metadata", item.path, entry.well, "is not valid JSON")


def _check_store(
    output: Path,
    write: dict[str, Any],
    entries: dict[str, JournalEntry],
    plate: dict[str, Any],
) -> Iterator[Finding]:
    """Compare what a plate lists, what lies there and what the journal knows."""
    store = write["store"]
    is_files = write.get("backend") == Backend.DISK.value
    paths = {well: well if is_files else _well_path(well, plate) for well in plate["wells"]}
    known = {path: well for well, path in paths.items() if path}
    listed: set[str] = set()
    if write.get("lists_wells", True) and not is_files:
        listed, fault = _read_listing(output, store)
        if fault is not None:
            yield fault
    for path in sorted(listed):
        if known.get(path) not in entries:
            yield Finding("metadata", f"{store}/{path}", known.get(path), "listed, not on record")
    for folder in sorted((output / store).glob("*" if is_files else "*/*")):
        path = folder.relative_to(output / store).as_posix()
        if folder.is_dir() and path not in listed and known.get(path) not in entries:
            text = "lies there, neither listed nor on record; run the same command again"
            yield Finding("unlisted", f"{store}/{path}", known.get(path), text)


def _read_listing(output: Path, store: str) -> tuple[set[str], Finding | None]:
    """Return the wells' folders that a plate lists, and what is wrong with its document."""
    try:
        return _listed_paths(output, store), None
    except FileNotFoundError:
        if not any(map(holds_node, (output / store).glob("*/*"))):
            return set(), None
        name = _plate_document(output, store)
        return set(), Finding("missing", name, None, "the plate lists no wells")
    except (OSError, ValueError, KeyError, TypeError) as error:
        name = _plate_document(output, store)
        return set(), Finding("metadata", name, None, f"cannot be read: {error!r}")


def _plate_document(output: Path, store: str) -> str:
    """Return the file that lists a plate's wells, by the format of what lies there."""
    folder = output / store
    is_v2 = (folder / ".zgroup").exists() or any(folder.glob("*/*/.zgroup"))
    return f"{store}/{'.zattrs' if is_v2 else 'zarr.json'}"


def _well_path(well: str, plate: dict[str, Any]) -> str | None:
    """Return a well's folder in a store from its canonical name and the plate's own labels."""
    row = well.rstrip("0123456789")
    column = int(well[len(row) :])
    columns = {int(label): label for label in plate["columns"] if label.isdigit()}
    return f"{row}/{columns[column]}" if column in columns else None
