"""An inspected plate as terminal text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from hcsflow.plate.names import row_label

__all__ = ["plate_map"]


def plate_map(document: Mapping[str, Any]) -> Text:
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
