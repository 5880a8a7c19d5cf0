"""Run the benchmarks B1 to B9 and print goals and outcomes.

    python benchmarks/table.py                       # run all of them, which takes an hour
    python benchmarks/table.py --only B4 B5          # run some
    python benchmarks/table.py --gpu                 # run G1 and G2 too
    python benchmarks/table.py --show                # run none: what the results say
    python benchmarks/table.py --show --readme       # and put the summary into README.md

Each benchmark is a script that writes ``results/<script>.json``; its entry ``goals`` makes the
rows. One that fails is said to have failed, and the others are run nevertheless (exit status 1).
The table goes to ``results/table.md``, the picture of it to ``results/benchmarks.svg``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import HERE, RESULTS
from picture import Line, draw

README = HERE.parent / "README.md"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
HARMLESS = {"repeats", "peers", "polystore", "folder", "reads", "run-openhcs"}
"""Options that do not change the work."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A script, the goals that it measures, what it does; ``takes_peers``: has ``--peers``."""

    script: str
    ids: tuple[str, ...]
    work: str
    takes_peers: bool = False

    @property
    def results(self) -> Path:
        """Where it writes what it found."""
        return RESULTS / f"{self.script}.json"


BENCHMARKS = (
    Benchmark("b1_openhcs", ("B1",), "8 wells smoothed, projected, counted; OpenHCS", True),
    Benchmark("b2_plain", ("B2",), "the same, 64 wells; plain script"),
    Benchmark("b3_roofline", ("B3",), "the same; sum of its parts, each alone"),
    Benchmark("b4_well", ("B4",), "write a well of 90 planes of 1080²", True),
    Benchmark("b5_big_well", ("B5", "B6"), "a well of 7.5 GB: memory; reading a plane"),
    Benchmark("b7_convert", ("B7",), "convert a raw plate", True),
    Benchmark("b8_objects", ("B8",), "objects of 384 wells × 9 × 4 × 20 planes"),
    Benchmark("b9_scaling", ("B9",), "1 → 2 processes, 32 wells"),
)
GPU = (
    Benchmark("g1_gpu", ("G1",), "smooth, top-hat, threshold, label, project on a GPU"),
    Benchmark("g2_conversions", ("G2",), "cupy ↔ torch ↔ jax on a GPU"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A goal and its outcome; ``entry`` is None where there is none, ``why`` says why."""

    name: str
    work: str
    goal: str
    entry: dict[str, Any] | None
    why: str = ""

    @property
    def ratio(self) -> float | None:
        """How far the goal was passed: above 1 it is met. None where that is no ratio."""
        if self.entry is None or not self.entry["limit"] or not self.entry["found"]:
            return None
        ratio = float(self.entry["found"]) / float(self.entry["limit"])
        return ratio if self.entry["better"] == "higher" else 1 / ratio

    @property
    def found(self) -> str:
        """The outcome with its spread."""
        if self.entry is None:
            return self.why
        text = number(self.entry["found"])
        low, high = (self.entry.get(side) for side in ("low", "high"))
        return text if low is None else f"{text} ({number(low)}–{number(high)})"

    @property
    def verdict(self) -> str:
        """Whether the goal was met, or by how much not."""
        if self.entry is None:
            return "–"
        if self.entry["met"]:
            return "met"
        if self.ratio is None:
            return f"missed: {self.found} instead of {number(self.entry['limit'])}"
        if self.ratio >= 1:
            return "missed: results differ"
        short = self.ratio if self.entry["better"] == "higher" else 1 / self.ratio
        return f"missed by {100 * abs(1 - short):.0f} %"


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="ID", help="such as B4 B5")
    parser.add_argument("--repeats", type=int, help="rounds; default: each benchmark's own")
    parser.add_argument("--peers", type=Path, help="where peers/install.sh put them")
    parser.add_argument("--gpu", action="store_true", help="G1 and G2 too")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--readme", action="store_true", help="put the summary into README.md")
    arguments = parser.parse_args()
    chosen = chosen_of(arguments.only, has_gpu=arguments.gpu)
    failed = [] if arguments.show else [one for one in chosen if not passes(one, arguments)]
    listed = [*BENCHMARKS, *GPU]
    rows = [row for one in listed for row in rows_of(one, has_failed=one in failed)]
    table = "\n".join([*table_lines(rows), "", *machine_lines(listed), ""])
    (RESULTS / "table.md").write_text(f"# Benchmarks\n\n{table}", "utf-8")
    draw([line_of(row) for row in rows], RESULTS)
    print(table)
    if arguments.readme:
        put_into(README, summary(rows, listed))
    return 1 if failed else 0


def line_of(row: Row) -> Line:
    """Return a row as the picture draws it."""
    is_met = row.entry is not None and bool(row.entry["met"])
    return Line(f"{row.name}  {row.goal or row.work}", row.ratio, row.found, is_met)


def chosen_of(only: Sequence[str] | None, *, has_gpu: bool) -> list[Benchmark]:
    """Return the benchmarks asked for."""
    if not only:
        return [*BENCHMARKS, *(GPU if has_gpu else ())]
    wanted = {name.upper() for name in only}
    known = {name for one in (*BENCHMARKS, *GPU) for name in one.ids}
    if wanted - known:
        raise SystemExit(f"no benchmark {min(wanted - known)}; there are {sorted(known)}")
    return [one for one in (*BENCHMARKS, *GPU) if wanted & set(one.ids)]


def passes(one: Benchmark, arguments: argparse.Namespace) -> bool:
    """Run a benchmark and tell whether it ended well."""
    command = [sys.executable, str(HERE / f"{one.script}.py")]
    if arguments.repeats:
        command += ["--repeats", str(arguments.repeats)]
    if arguments.peers and one.takes_peers:
        command += ["--peers", str(arguments.peers)]
    print(f"{', '.join(one.ids)}: {one.work}", flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("  ") and not line.lstrip().startswith(('"', "{", "}", "[", "]")):
            print(line, flush=True)
    return done.returncode == 0


def rows_of(one: Benchmark, *, has_failed: bool) -> Iterator[Row]:
    """Yield the goals of a benchmark, or one row that says why there are none."""
    document = read(one)
    if has_failed or document is None:
        why = "failed" if has_failed else "not run"
        yield from (Row(name, one.work, "", None, why) for name in one.ids)
        return
    for entry in document["results"]["goals"]:
        is_open = entry["found"] is None  # a machine that it could not run on
        yield Row(entry["id"], one.work, entry["goal"], None if is_open else entry, "not run")


def read(one: Benchmark) -> dict[str, Any] | None:
    """Return what a benchmark wrote, None where it has not been run."""
    return json.loads(one.results.read_text("utf-8")) if one.results.exists() else None


def number(value: float) -> str:
    """Return a number with three digits, or all before the point."""
    if value and abs(value) < 0.01:
        return f"{value:.1e}"
    digits = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def table_lines(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the table in Markdown, its columns aligned."""
    cells = [("", "work", "goal", "found (least–most)", "outcome")]
    works = ""
    for row in rows:
        work = "" if row.work == works else row.work  # once for all goals of a benchmark
        works = row.work
        cells.append((row.name, work, row.goal, row.found, row.verdict))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(map(str.ljust, line, widths)) for line in cells]
    rule = " | ".join("-" * max(width, 3) for width in widths)
    yield from (f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def machine_lines(listed: Iterable[Benchmark]) -> Iterator[str]:
    """Yield each machine with the benchmarks that ran on it, and when."""
    found: dict[str, list[tuple[str, str]]] = {}
    for one in listed:
        document = read(one)
        if document is not None:
            text = machine_text(document["machine"])
            found.setdefault(text, []).append((", ".join(one.ids), document["time"][:10]))
    for text, runs in found.items():
        days = sorted({day for _, day in runs})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        yield f"{', '.join(names for names, _ in runs)}: {text}; {when}."
    yield from notes(listed)


def notes(listed: Iterable[Benchmark]) -> Iterator[str]:
    """Yield what was run with options of its own: its figures are not those of the stated work."""
    for one in listed:
        document = read(one)
        command = "" if document is None else document["command"]
        options = [text.split() for text in command.split(" --")[1:]]
        changed = [" ".join(words) for words in options if words[0] not in HARMLESS]
        if changed:
            yield f"{', '.join(one.ids)} with other sizes: {', '.join(changed)}."


def machine_text(machine: dict[str, Any]) -> str:
    """Describe a machine in a line."""
    memory = machine["memory_bytes"] / 1e9
    return (
        f"{machine['cores']} cores, {memory:.0f} GB, {machine['system']}, "
        f"Python {machine['python']}"
    )


def summary(rows: Sequence[Row], listed: Iterable[Benchmark]) -> str:
    """Return what the README says: picture, table, machine."""
    known = [row for row in rows if row.entry is not None]
    missing = dict.fromkeys(f"{row.name} ({row.work})" for row in rows if row.entry is None)
    lines = [
        "![outcome over goal of each benchmark](benchmarks/results/benchmarks.svg)",
        "",
        *table_lines(known),
        "",
        *machine_lines(listed),
        *([f"Not run so far: {', '.join(missing)}."] if missing else []),
        "",
        "Medians; in parentheses the least and the most of all rounds.",
        "`python benchmarks/table.py` runs them again. How each is measured stands at the top of",
        "its script in [benchmarks](benchmarks), all figures in",
        "[benchmarks/results](benchmarks/results).",
    ]
    return "\n".join(lines)


def put_into(path: Path, text: str) -> None:
    """Replace what stands between the marks of a file."""
    before, begin, rest = path.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path} has no marks {BEGIN} and {END} to put the summary between")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
