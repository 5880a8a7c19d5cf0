"""What a run records: outcomes of tasks, units done, events, and where they lie.

Everything below ``OUT/.hcsflow`` is plain JSON, replaced whole by a rename or appended line by
line, so that it can be read after a kill at any moment: a torn line or file reads as absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hcsflow.outcome import Outcome, merged
from hcsflow.recipes import hash_of_recipe, hash_of_unit, recipe_text

__all__ = [
    "CONTROL",
    "ControlFolder",
    "Event",
    "JournalEntry",
    "ObjectRecord",
    "Outcome",
    "append_log",
    "clear_failure",
    "entries_of_plan",
    "has_entry_of_plan",
    "merged",
    "read_entries",
    "read_entry",
    "read_epoch",
    "read_failures",
    "read_json",
    "read_log",
    "write_entry",
    "write_failure",
    "write_text_atomic",
]

CONTROL = ".hcsflow"
"""Folder below the output that holds all but results."""


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One stored object: path relative to the output's root, size, ``crc32c:<8 hex>``."""

    path: str
    nbytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A finished unit, (well, output): written atomically after its commit.

    ``fingerprint`` covers inputs, steps and layout; ``recipe`` steps and layout alone, so that
    wells outside a later plan can be told to be of its making. `hcsflow.graph.commit` fills it.
    """

    well: str
    output: str
    fingerprint: str
    attempt: int
    epoch: int
    objects: tuple[ObjectRecord, ...]
    outcome: Outcome
    time: str
    recipe: str = ""

    def is_made_by(self, fingerprint: str | None, recipe: str) -> bool:
        """Tell whether the unit is as a plan makes it.

        Parameters
        ----------
        fingerprint : str or None
            The plan's for this unit; None where the plan leaves the well out.
        recipe : str
            The plan's for this output; what a well that it leaves out is judged by.
        """
        return self.recipe == recipe if fingerprint is None else self.fingerprint == fingerprint


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened during a run, for progress and the log."""

    kind: str
    well: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ControlFolder:
    """Where things lie below ``OUT/.hcsflow``; paths only, nothing is made."""

    output: Path

    @property
    def root(self) -> Path:
        """The folder itself."""
        return self.output / CONTROL

    @property
    def plan(self) -> Path:
        """The plan as stable JSON; also tells whose output this is."""
        return self.root / "plan.json"

    @property
    def scratch(self) -> Path:
        """What tasks write before they commit."""
        return self.root / "scratch"

    @property
    def failures(self) -> Path:
        """One file per well that failed."""
        return self.root / "failures"

    @property
    def lock(self) -> Path:
        """Present while a run is alive."""
        return self.root / "lock"

    @property
    def epoch(self) -> Path:
        """Number of the latest run; only ever grows."""
        return self.root / "epoch"

    @property
    def gate(self) -> Path:
        """Empty file under whose ``flock`` commits and take-overs exclude each other."""
        return self.root / "gate"

    @property
    def log(self) -> Path:
        """Events, one JSON object a line."""
        return self.root / "log.jsonl"

    @property
    def estimates(self) -> Path:
        """Measured seconds and memory; no part of any fingerprint."""
        return self.root / "estimates.json"

    def journal(self, output: str = "") -> Path:
        """Return the folder of one output's entries ("" is the final output)."""
        return self.root / "journal" / (output or "final")

    def entry(self, output: str, well: str) -> Path:
        """Return the file of one unit's entry."""
        return self.journal(output) / f"{well}.json"

    def failure(self, well: str) -> Path:
        """Return the file of one well's failure."""
        return self.failures / f"{well}.json"


def write_text_atomic(path: Path, text: str) -> None:
    """Write a whole file by temporary file and rename; makes the folder.

    A reader sees the old text or the new one; after a failure the old one stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tag = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}"
    draft = path.with_name(f".{path.name}.{tag}.tmp")
    try:
        draft.write_text(text, encoding="utf-8", errors="surrogateescape", newline="\n")
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """Return a file's JSON value, None where it is absent, torn or unreadable."""
    try:
        return json.loads(path.read_text("utf-8", errors="surrogateescape"))
    except (OSError, ValueError):
        return None


def write_entry(control: ControlFolder, entry: JournalEntry) -> None:
    """Record a finished unit."""
    text = json.dumps(entry, sort_keys=True, default=_members)
    write_text_atomic(control.entry(entry.output, entry.well), text)


def _members(record: Any) -> dict[str, Any]:
    """Return a record's fields, for JSON; `dataclasses.asdict` copies each value."""
    return {f.name: getattr(record, f.name) for f in fields(record)}


def read_entry(control: ControlFolder, output: str, well: str) -> JournalEntry | None:
    """Return a unit's entry, None where there is none that can be read."""
    return _entry(read_json(control.entry(output, well)))


def read_entries(control: ControlFolder, output: str) -> dict[str, JournalEntry]:
    """Return the readable entries of one output by well, sorted by name."""
    found = (_entry(read_json(path)) for path in _json_files(control.journal(output)))
    return {entry.well: entry for entry in found if entry is not None}


def entries_of_plan(
    control: ControlFolder, plan: Mapping[str, Any], output: str
) -> dict[str, JournalEntry]:
    """Return the entries of one output that are as a plan makes them, by well, sorted by name.

    Parameters
    ----------
    control : ControlFolder
        Of the output folder.
    plan : mapping
        What ``plan.json`` holds.
    output : str
        "" is the final output; an output that the plan lacks has no entries.
    """
    return {entry.well: entry for entry in _entries_of_plan(control, plan, output)}


def has_entry_of_plan(control: ControlFolder, plan: Mapping[str, Any], output: str) -> bool:
    """Tell whether any entry of one output is as a plan makes it; no more are read than needed."""
    return any(True for _ in _entries_of_plan(control, plan, output))


def _entries_of_plan(
    control: ControlFolder, plan: Mapping[str, Any], output: str
) -> Iterator[JournalEntry]:
    write = next((w for w in plan.get("writes", ()) if w.get("output") == output), None)
    if write is None:
        return
    steps = [step["fingerprint"] for step in plan["steps"][: write["step"] + 1]]
    inputs = plan.get("fingerprints", {})
    made = recipe_text(steps, write)
    wanted = {well: hash_of_unit(inputs.get(well, ""), made) for well in plan["wells"]}
    recipe = hash_of_recipe(made)
    failed = {well for well, *_ in plan.get("failed_wells", ())}
    for path in _json_files(control.journal(output)):
        entry = _entry(read_json(path))
        if entry is None or entry.well in failed:
            continue
        if entry.is_made_by(wanted.get(entry.well), recipe):
            yield entry


def write_failure(control: ControlFolder, outcome: Outcome) -> None:
    """Record a well that failed; an earlier record of it is replaced."""
    text = json.dumps(asdict(outcome), sort_keys=True, indent=1)
    write_text_atomic(control.failure(outcome.well), text)


def clear_failure(control: ControlFolder, well: str) -> None:
    """Forget a well's failure, because it is done now."""
    control.failure(well).unlink(missing_ok=True)


def read_failures(control: ControlFolder) -> list[Outcome]:
    """Return the readable failures, sorted by well."""
    found = (_outcome(read_json(path)) for path in _json_files(control.failures))
    return sorted((outcome for outcome in found if outcome is not None), key=lambda o: o.well)


def append_log(control: ControlFolder, line: dict[str, Any]) -> None:
    """Append one object to the log; a full disk must not stop a run, so it is given up then."""
    text = json.dumps(line, sort_keys=True, default=str) + "\n"
    data = text.encode("utf-8", "backslashreplace")
    with contextlib.suppress(OSError):
        try:
            _append(control.log, data)
        except FileNotFoundError:
            control.root.mkdir(parents=True, exist_ok=True)
            _append(control.log, data)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(data)


def read_log(control: ControlFolder) -> Iterator[dict[str, Any]]:
    """Iterate over the log's whole lines; a torn one is left out."""
    try:
        text = control.log.read_text("utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                yield value


def read_epoch(control: ControlFolder) -> int:
    """Return the epoch in force, 0 before the first run."""
    value = read_json(control.epoch)
    return value if isinstance(value, int) else 0


def _json_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def _known(kind: type, value: Any) -> dict[str, Any] | None:
    """Keep the fields that a record has; those of a later version are left aside."""
    if not isinstance(value, dict):
        return None
    names = {f.name for f in fields(kind)}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items() if k in names}


def _outcome(value: Any) -> Outcome | None:
    known = _known(Outcome, value)
    if known is None:
        return None
    try:
        known["step_seconds"] = tuple((str(s), float(t)) for s, t in known.get("step_seconds", ()))
        known["step_peaks"] = tuple((str(s), int(n)) for s, n in known.get("step_peaks", ()))
        known["traffic"] = tuple(
            (str(b), int(n), int(size), float(t)) for b, n, size, t in known.get("traffic", ())
        )
        return Outcome(**known)
    except (TypeError, ValueError):
        return None


def _entry(value: Any) -> JournalEntry | None:
    known = _known(JournalEntry, value)
    outcome = _outcome(known.get("outcome")) if known else None
    if known is None or outcome is None:
        return None
    try:
        objects = tuple(ObjectRecord(**item) for item in known["objects"])
        return JournalEntry(**{**known, "objects": objects, "outcome": outcome})
    except (KeyError, TypeError, ValueError):
        return None
