"""Write ``plan.txt`` and ``graph.svg`` of every ready-made pipeline, or check that they are so.

::

    python graphs/redraw.py            # write them anew, after a change that is meant
    python graphs/redraw.py --check    # exit 1 and show the difference where they are not so
"""

from __future__ import annotations

import argparse
import difflib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hcsflow.compiler import compile_plan, explain
from hcsflow.config import GlobalPipelineConfig
from hcsflow.microscopes import open_plate
from hcsflow.plan import Resources
from hcsflow.session.pipelines import graph_names, load_pipeline
from hcsflow.testing.plates import PlateSpec, write_imagexpress_plate
from hcsflow.view.chain import draw_chain

HERE = Path(__file__).parent
RESOURCES = Resources(workers=4, memory_bytes=4_000_000_000)
PLATE = PlateSpec(wells=("A01", "B02"), fields=2, channels=2, timepoints=2, z=3, size=128)


def documents(folder: Path) -> Iterator[tuple[Path, str]]:
    """Compile every pipeline for a tiny plate; yield files and what they should hold."""
    write_imagexpress_plate(folder / "tiny-plate", PLATE)
    plate, manifest = open_plate(folder / "tiny-plate")
    for name in graph_names():
        plan = compile_plan(
            load_pipeline(name),
            plate,
            manifest,
            config=GlobalPipelineConfig(),
            resources=RESOURCES,
        )
        yield HERE / name / "plan.txt", explain(plan) + "\n"
        yield HERE / name / "graph.svg", draw_chain(plan)


def difference(path: Path, text: str) -> str:
    """Return how a file differs from what it should hold, ``""`` where it does not."""
    there = path.read_text("utf-8") if path.is_file() else ""
    name = str(path.relative_to(HERE.parent))
    lines = difflib.unified_diff(
        there.splitlines(), text.splitlines(), name, f"{name} (as compiled)", lineterm=""
    )
    return "\n".join(lines)


def main() -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        for path, text in documents(Path(folder)):
            if not check:
                path.write_text(text, "utf-8")
            elif found := difference(path, text):
                status = 1
                sys.stdout.write(f"{found}\n")
    if status:
        sys.stdout.write("if that is meant: python graphs/redraw.py\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
