"""Documents as terminal text. Each function takes what ``--json`` prints and shows the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hcsflow.plate.names import row_label
from hcsflow.view.progress import format_duration

__all__ = [
    "plate_map",
    "render_demo",
    "render_doctor",
    "render_failures",
    "render_functions",
    "render_run",
    "render_status",
    "render_verify",
    "some",
]

Document = Mapping[str, Any]
SHOWN = 12


def some(names: Iterable[str], limit: int = SHOWN) -> str:
    """Join names; past ``limit`` only their number is told.

    Examples
    --------
    >>> some(["A01", "A02", "A03"], limit=2)
    'A01, A02 and 1 more'
    """
    listed = list(names)
    rest = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + rest


def _wells(wells: Sized) -> str:
    return f"{len(wells)} well{'' if len(wells) == 1 else 's'}"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _facts(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _faults(faults: Iterable[Document]) -> Iterable[Text]:
    for fault in faults:
        line = Text.assemble(("✗ ", "red"), (str(fault["well"]), "bold red"))
        if fault.get("step"):
            line.append(f" at {fault['step']}")
        message = str(fault.get("message") or fault.get("error") or "")
        line.append(f": {message}")
        file = fault.get("file")
        if file and str(file) not in message:
            line.append(f"\n    file {file}")
        if fault.get("hint"):
            line.append(f"\n    → {fault['hint']}", style="dim")
        yield line


def render_run(document: Document) -> RenderableType:
    """Show how a run ended and where its results lie."""
    failed, skipped = document["failed"], document["skipped"]
    counts = [f"{_wells(document['done'])} done"]
    if skipped:
        counts.append(f"{len(skipped)} already done")
    if failed:
        counts.append(f"{len(failed)} failed")
    if document["cancelled"]:
        counts.append(f"{len(document['cancelled'])} cancelled")
    head = Text(", ".join(counts), style="bold").append(
        f" in {format_duration(document['seconds'])}", style="not bold"
    )
    rows: list[tuple[str, RenderableType]] = [("plate", document["plate"])]
    if document["tables"]:
        where = f"{document['output']}/results"
        rows.append(("tables", some(f"{where}/{name}.parquet" for name in document["tables"])))
    if document["report"]:
        rows.append(("report", document["report"]))
    if document["rerun"]:
        rows.append(("run failed wells again", document["rerun"]))
    return Group(head, *_faults(failed), _facts(rows))


def render_failures(document: Document) -> RenderableType:
    """Show failed wells: step, reason, file, what to do, the command to run them again."""
    if not document["failures"]:
        return Text("no failed wells")
    head = Text(f"{_wells(document['failures'])} failed", style="bold")
    rerun = _facts([("run them again", document["rerun"])])
    return Group(head, *_faults(document["failures"]), rerun)


def render_status(document: Document) -> RenderableType:
    """Show how far a run is."""
    holder = document["running"]
    state = f"running as process {holder['pid']} on {holder['host']}" if holder else "not running"
    share = len(document["done"]) + len(document["failed"])
    percent = 100 * share / document["wells"] if document["wells"] else 100.0
    head = f"{document['pipeline']} on {document['plate']}: {state}"
    rows: list[tuple[str, RenderableType]] = [
        ("done", f"{len(document['done'])} of {document['wells']} wells ({percent:.0f} % settled)"),
        ("stored", f"{document['objects']} objects, {document['nbytes'] / 1e6:.1f} MB"),
        ("worker time", format_duration(document["seconds"])),
    ]
    if document["failed"]:
        rows.insert(1, ("failed", Text(some(document["failed"]), style="red")))
        rows.append(("reasons", f"hcsflow failures {document['output']}"))
    if document["pending"]:
        rows.insert(1, ("to do", some(document["pending"])))
    return Group(Text(head, style="bold"), _facts(rows))


def render_verify(document: Document) -> RenderableType:
    """Show what is not as the journal says."""
    if document["ok"]:
        return Text(f"all {document['objects']} objects are as written", style="green")
    table = _table("well", "what", "path", "found")
    for each in document["findings"]:
        table.add_row(each["well"] or "", each["kind"], each["path"], each["message"])
    head = Text(f"{len(document['findings'])} findings", style="bold red")
    advice = Text("→ run the same command again: what is not as written is made again")
    return Group(head, table, advice)


def plate_map(document: Document) -> Text:
    """Draw an inspected plate: ● acquired, ◐ planes missing, ✗ no usable image, · nothing."""
    faulty = {fault["well"] for fault in document["faults"]} | set(document["missing_wells"])
    partial = {each["well"] for each in document["missing"]}
    acquired = set(document["wells"])
    columns = range(1, document["columns"] + 1)
    drawn = Text("    " + "".join(f"{c:>3}" for c in columns) + "\n", style="dim")
    for row in range(document["rows"]):
        label = row_label(row)
        drawn.append(f"{label:>3} ", style="dim")
        for column in columns:
            well = f"{label}{column:02d}"
            if well in faulty:
                drawn.append("  ✗", style="bold red not dim")
            elif well in partial:
                drawn.append("  ◐", style="yellow not dim")
            elif well in acquired:
                drawn.append("  ●", style="green not dim")
            else:
                drawn.append("  ·")
        drawn.append("\n")
    return drawn.append("● acquired  ◐ planes missing  ✗ no usable image  · nothing", style="dim")


def render_functions(document: Document) -> RenderableType:
    """Show the catalogue, or one function in full."""
    functions = document["functions"]
    if len(functions) == 1:
        return _function(functions[0])
    table = _table("function", "what it does", "arrays")
    for each in functions:
        table.add_row(each["name"], each["summary"], ", ".join(sorted(each["variants"])))
    return table


def _function(each: Document) -> RenderableType:
    rows: list[tuple[str, RenderableType]] = []
    for parameter in each["parameters"]:
        given = "required" if parameter["required"] else f"default {parameter['default']}"
        rows.append((parameter["name"], f"{parameter['type']}, {given}"))
    rows += [("needs", some(each["special_inputs"]))] if each["special_inputs"] else []
    rows += [("also gives", some(each["special_outputs"]))] if each["special_outputs"] else []
    rows += [(f"on {kind}", target) for kind, target in each["variants"].items()]
    return Group(Text(each["name"], style="bold"), Text(each["summary"]), _facts(rows))


def render_doctor(document: Document) -> RenderableType:
    """Show the checks of a machine."""
    table = Table.grid(padding=(0, 2))
    marks = {True: Text("ok", style="green"), False: Text("bad", style="bold red")}
    for check in document["checks"]:
        detail = str(check["detail"])
        if check["hint"]:
            detail += f"\n→ {check['hint']}"
        table.add_row(marks.get(check["ok"], Text("–", style="dim")), check["name"], detail)
    verdict = "this machine can run hcsflow" if document["ok"] else "something is missing"
    return Group(table, Text(verdict, style="bold"))


def render_demo(document: Document) -> RenderableType:
    """Show the demo's wells against the truth, what was quarantined, where results lie."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in ("well", "nuclei drawn", "found", "F1 at IoU 0.5", "worst field"):
        table.add_column(heading, justify="left" if heading == "well" else "right")
    table.add_column("")
    for well in document["wells"]:
        mark = ("✓ as planted", "green") if well["as_planted"] else ("✗ not as planted", "red")
        table.add_row(well["well"], *_demo_figures(well), Text.assemble("  ", mark, _planted(well)))
    found = [well for well in document["wells"] if well["fault"]]
    intact = [well for well in document["wells"] if not well["fault"]]
    good = sum(well["as_planted"] for well in intact)
    verdict = (
        f"{good} of {len(intact)} intact wells found again, "
        f"{sum(well['as_planted'] for well in found)} of {len(found)} planted faults quarantined"
    )
    rows: list[tuple[str, RenderableType]] = [
        ("raw plate", document["plate"]),
        ("results", document["output"]),
        ("report", document["report"]),
        ("took", format_duration(document["seconds"])),
    ]
    return Group(
        table,
        Text(),
        Text("quarantined", style="bold"),
        *_faults(well for well in document["wells"] if well["status"] == "failed"),
        Text(),
        Text(verdict, style="bold green" if document["ok"] else "bold red"),
        _facts(rows),
    )


def _demo_figures(well: Document) -> tuple[str, ...]:
    if well["f1"] is None:
        return ("–",) * 4
    figures = (f"{well['f1']:.3f}", f"{well['worst_field_f1']:.3f}")
    return (str(well["true"]), str(well["found"]), *figures)


def _planted(well: Document) -> str:
    return f": {well['fault']}" if well["fault"] else ""
