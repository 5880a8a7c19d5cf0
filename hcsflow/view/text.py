"""Documents as terminal text. Each function takes what ``--json`` prints and shows the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from shlex import quote
from textwrap import indent
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hcsflow.view.faults import grouped_by_reason, reason_of
from hcsflow.view.tally import format_duration

__all__ = [
    "render_demo",
    "render_detached",
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
REASONS = 10
"""Lines of failures at the end of a run; all of them are listed by `hcsflow failures`."""

PROMISED_BYTES = 256 << 20
"""Below it a plan's projection is no promise: an allocator's habits weigh too much."""


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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _wells(wells: Sized) -> str:
    return _count(len(wells), "well")


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


def _command(purpose: str, command: str) -> Text:
    """Show a command as one line: a table would break it, and then it could not be copied."""
    return Text.assemble((f"{purpose}  ", "dim"), command)


def _faults(faults: Iterable[Document]) -> Iterable[Text]:
    """Show every failure in full."""
    for fault in faults:
        line = Text.assemble(("✗ ", "red"), (str(fault["well"]), "bold red"))
        if fault.get("step"):
            line.append(f" at {fault['step']}")
        reason = reason_of(fault)
        line.append(f": {reason}")
        file = fault.get("file")
        if file and str(file) not in reason:
            line.append(f"\n    file {file}")
        if fault.get("hint"):
            line.append(f"\n    → {fault['hint']}", style="dim")
        if fault.get("traceback"):
            line.append("\n" + indent(str(fault["traceback"]).rstrip(), "    "), style="dim")
        yield line


def _reasons(faults: Iterable[Document], output: str) -> Iterator[Text]:
    """Show each reason once, with the wells that failed for it."""
    groups = grouped_by_reason(faults)
    limit = REASONS if len(groups) <= REASONS else REASONS - 1
    for group in groups[:limit]:
        line = Text.assemble(
            ("✗ ", "red"), (some([fault["well"] for fault in group], 4), "bold red")
        )
        if group[0].get("step"):
            line.append(f" at {group[0]['step']}")
        told = list(dict.fromkeys(reason_of(fault).partition("\n")[0] for fault in group))
        yield line.append(f": {told[0]}" if len(told) == 1 else f", for example: {told[0]}")
    rest = sum(map(len, groups[limit:]))
    if rest:
        yield Text(f"… and {_count(rest, 'well')} more: hcsflow failures {quote(output)}")


def render_run(document: Document) -> RenderableType:
    """Show how a run ended and where its results lie."""
    output = str(document["output"])
    rows: list[tuple[str, RenderableType]] = []
    if document["plate"]:
        rows.append(("plate", document["plate"]))
    if document["tables"]:
        tables = (f"{output}/results/{name}.parquet" for name in document["tables"])
        rows.append(("tables", some(tables)))
    if document["report"]:
        rows.append(("report", document["report"]))
    if any(s["wells_kept"] > len(document["skipped"]) for s in document["segments"]):
        rows += [(f"task {s['name']}", _share(s)) for s in document["segments"]]
    if document["failed"]:
        rows.append(("reasons in full", f"hcsflow failures {quote(output)}"))
    return Group(
        _run_head(document),
        *_reasons(document["failed"], output),
        _facts(rows),
        *([_command("run failed wells again", document["rerun"])] if document["rerun"] else []),
        *_run_advice(document),
    )


def _share(segment: Document) -> str:
    """Say for how many wells a task's work was there already, and for how many it was done."""
    counts = ((segment["wells_kept"], "kept"), (segment["wells_to_do"], "run"))
    return ", ".join(f"{word} ({_count(n, 'well')})" for n, word in counts if n)


def _run_head(document: Document) -> Text:
    done, skipped = document["done"], document["skipped"]
    failed, cancelled = document["failed"], document["cancelled"]
    if skipped and not (done or failed or cancelled):
        verb = "is" if len(skipped) == 1 else "are"
        return Text(f"nothing to do: {_wells(skipped)} {verb} done already", style="bold")
    counts = [f"{_wells(done)} done"]
    for wells, word in ((skipped, "done already"), (failed, "failed"), (cancelled, "cancelled")):
        counts += [f"{len(wells)} {word}"] if wells else []
    took = f" in {format_duration(document['seconds'])}"
    return Text(", ".join(counts), style="bold").append(took, style="not bold")


def _run_advice(document: Document) -> Iterator[Text]:
    if document["cancelled"]:
        wells = _wells(document["cancelled"])
        yield Text(
            f"→ {wells} cancelled: the same command does the rest (--fail-fast stops it again)"
        )
    yield from _over_projection(document["measured"])
    yield from _left_out(document["left_out"])


def _over_projection(units: Iterable[Document]) -> Iterator[Text]:
    """Warn of outputs whose tasks came to more memory than the plan projected, and to much."""
    for unit in units:
        if unit["peak_bytes"] <= max(unit["projected_bytes"], PROMISED_BYTES):
            continue
        nothing: Document = {}
        worst = max(unit["steps"], key=lambda step: step["peak_bytes"], default=nothing)
        at = f" at {worst['name']}" if worst else ""
        own = worst.get("user_function")
        advice = f": declare working_planes of {own}" if own else ""
        yield Text(
            f"→ a task came to {unit['peak_bytes'] / 1e6:.0f} MB{at}, the plan projected "
            f"{unit['projected_bytes'] / 1e6:.0f} MB{advice}",
            style="yellow",
        )


def _left_out(wells: Sequence[str]) -> Iterator[Text]:
    if wells:
        were, them = ("was", "it") if len(wells) == 1 else ("were", "them")
        yield Text(
            f"→ {len(wells)} stored {'well' if len(wells) == 1 else 'wells'} ({some(wells)}) "
            f"{were} made with other steps, parameters or storage settings and left out of plate "
            f"and tables: the same command without --wells makes {them} again",
            style="yellow",
        )


def render_failures(document: Document) -> RenderableType:
    """Show failed wells: step, reason, file, what to do, the command to run them again."""
    if not document["failures"]:
        return Text("no failed wells")
    head = Text(f"{_wells(document['failures'])} failed", style="bold")
    again = document["rerun"] or "run() of the same plan does what failed once more"
    return Group(head, *_faults(document["failures"]), _command("run them again", again))


def render_status(document: Document) -> RenderableType:
    """Show how far a run is."""
    running = document["running"]
    state = _state(running) if running else "not running"
    head = f"{document['pipeline']} on {document['plate']}: {state}"
    rows: list[tuple[str, RenderableType]] = [
        ("done", f"{len(document['done'])} of {_count(document['wells'], 'well')}"),
        ("stored", f"{_count(document['objects'], 'object')}, {document['nbytes'] / 1e6:.1f} MB"),
        ("worker time", format_duration(document["seconds"])),
    ]
    if document["failed"]:
        rows.insert(1, ("failed", Text(some(document["failed"]), style="red")))
        rows.append(("reasons", f"hcsflow failures {quote(document['output'])}"))
    if document["pending"]:
        rows.insert(1, ("to do", some(document["pending"])))
    if running:
        rows.extend(_activity(running))
    elif document["pending"] and document["seconds_left"] is not None:
        rows.append(("still to take", f"about {format_duration(document['seconds_left'])}"))
    ended = [_ended(document)] if document["error"] else []
    return Group(Text(head, style="bold"), *ended, _facts(rows), *_left_out(document["left_out"]))


def _ended(document: Document) -> Text:
    """Say what ended the latest run."""
    log = f", see {document['log']}" if document["log"] else ""
    return Text(f"the latest run ended with an error: {document['error']}{log}", style="red")


def _state(running: Document) -> str:
    detached = "detached, " if running["detached"] else ""
    return (
        f"running, {detached}as process {running['pid']} on {running['host']} "
        f"since {running['since'].replace('T', ' ').replace('+00:00', ' UTC')}"
    )


def _activity(running: Document) -> Iterator[tuple[str, RenderableType]]:
    """Yield what a live run is at."""
    if running["waiting"]:
        yield "workers", "waiting for the first one"
    elif running["workers"]:
        yield "workers", f"{running['workers']} ({running['cluster']})"
    if running["open"]:
        at = [f"{well} at {step}" if step else well for well, step in running["open"].items()]
        yield "at work", some(at)
    for step in running["steps"]:
        each = step["seconds_per_well"]
        mean = f", {each:.3g} s each" if each is not None else ""
        yield f"  {step['step']}", f"{_count(step['through'], 'well')} through{mean}"
    if running["wells_per_minute"] and running["seconds_left"] is not None:
        left = format_duration(running["seconds_left"])
        yield "rate", f"{running['wells_per_minute']:.3g} wells/min, about {left} left"
    if running["dashboard"]:
        yield "dashboard", running["dashboard"]
    if running["tunnel"]:
        yield "from elsewhere", running["tunnel"]


def render_detached(document: Document) -> RenderableType:
    """Show where a run goes on by itself, and how to watch and stop it."""
    output = quote(document["output"])
    head = f"running, detached, as process {document['pid']} on {document['host']}"
    lines = [
        head if document["running"] else "the run is over",
        f"  watch           hcsflow status {output}",
        f"  stop            hcsflow cancel {output}",
        f"  log             {document['log']}",
    ]
    if document["dashboard"]:
        lines.append(f"  dashboard       {document['dashboard']}")
    if document["tunnel"]:
        lines.append(f"  from elsewhere  {document['tunnel']}")
    return Text("\n".join(lines))  # no table: what is copied must not be broken into lines


def render_verify(document: Document) -> RenderableType:
    """Show what is not as the journal says."""
    if document["ok"] and not document["objects"]:
        return Text("nothing is stored yet: no well is done")
    if document["ok"]:
        are = (
            "the one object is"
            if document["objects"] == 1
            else f"all {document['objects']} objects are"
        )
        return Text(f"{are} as written", style="green")
    table = _table("well", "what", "path", "found")
    for each in document["findings"]:
        table.add_row(each["well"] or "", each["kind"], each["path"], each["message"])
    head = Text(_count(len(document["findings"]), "finding"), style="bold red")
    advice = Text(
        "→ run the same command again: what is not as written is made again; where its file's date "
        "does not show the change, delete the well's folder first"
    )
    return Group(head, table, advice)


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
        kind = ", ".join(filter(None, [parameter["type"] or "any type", parameter["allowed"]]))
        told = Text(f"{kind}, {given}")
        told.append(f"\n{parameter['meaning']}" if parameter["meaning"] else "", style="dim")
        rows.append((parameter["name"], told))
    rows += [("needs", some(each["special_inputs"]))] if each["special_inputs"] else []
    rows += [("also gives", some(each["special_outputs"]))] if each["special_outputs"] else []
    rows += [(f"on {kind}", target) for kind, target in each["variants"].items()]
    return Group(Text(each["name"], style="bold"), Text(each["summary"]), _facts(rows))


def render_doctor(document: Document) -> RenderableType:
    """Show the checks of a machine, and of a cluster."""
    table = Table.grid(padding=(0, 2))
    marks = {True: Text("ok", style="green"), False: Text("bad", style="bold red")}
    for check in document["checks"]:
        detail = str(check["detail"])
        if check["hint"]:
            detail += f"\n→ {check['hint']}"
        table.add_row(marks.get(check["ok"], Text("–", style="dim")), check["name"], detail)
    who = f"the cluster {document['cluster']}" if document["cluster"] else "this machine"
    bad = [check["name"] for check in document["checks"] if check["ok"] is False]
    verdict = f"{who} cannot run hcsflow: {', '.join(bad)}" if bad else f"{who} can run hcsflow"
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
