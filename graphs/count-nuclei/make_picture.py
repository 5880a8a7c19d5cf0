"""Make picture.png: one field raw, the outlines found in it, and the count of every well.

    python graphs/count-nuclei/make_picture.py

The plate is the demo's: synthetic, so that the picture can be made anywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

import hcsflow as hf
from hcsflow.testing.compare import label_tiles
from hcsflow.testing.plates import write_imagexpress_plate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET = Path(__file__).with_name("picture.png")
ROWS, COLUMNS = "BCD", range(2, 8)
SHOWN = "C03"
INK = "#1c2430"


def main() -> int:
    """Write the plate, run the pipeline, draw."""
    mpl.use("Agg")
    wells = tuple(f"{row}{column:02d}" for row in ROWS for column in COLUMNS)
    with TemporaryDirectory() as name:
        folder = Path(name)
        faults = {"B04": "missing plane", "D06": "truncated TIFF"}
        write_imagexpress_plate(folder / "plate", wells=wells, faults=faults, nuclei=32, seed=3)
        plate = hf.open_plate(folder / "plate")
        plan = hf.compile("count-nuclei", plate, output=folder / "out")
        run = plan.run(cluster="threads")
        raw = plate[SHOWN].to_xarray().isel(field=0, t=0, c=0).max("z").to_numpy()
        _, labels = next(label_tiles(run.output, plan.frozen, SHOWN))
        counts = run.table("nuclei").groupby("well").size().to_dict()
        failed = sorted(run.failures["well"])
    draw(raw, labels, counts, failed)
    return 0


def draw(raw: Any, labels: Any, counts: dict[str, int], failed: list[str]) -> None:
    """Draw the three panels side by side."""
    plt.rcParams.update({"font.size": 9, "font.family": "DejaVu Sans", "text.color": INK})
    figure, axes = plt.subplots(
        1, 3, figsize=(10.4, 3.3), width_ratios=(1, 1, 1.35), layout="constrained"
    )
    low, high = np.percentile(raw, (5, 99.7))
    for panel, title in zip(axes[:2], (f"raw, {SHOWN} field 1", "nuclei found"), strict=True):
        panel.imshow(raw, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        panel.set_title(title, loc="left")
        panel.set_axis_off()
    axes[1].imshow(outlines(labels), interpolation="nearest")
    draw_plate(axes[2], counts, failed)
    figure.savefig(TARGET, dpi=150, metadata={"Software": None})


def outlines(labels: Any) -> Any:
    """Return the objects' borders as RGBA."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        changes = np.diff(labels.astype(int), axis=axis) != 0
        np.moveaxis(edge, axis, 0)[1:] |= np.moveaxis(changes, axis, 0)
        np.moveaxis(edge, axis, 0)[:-1] |= np.moveaxis(changes, axis, 0)
    drawn = np.zeros((*labels.shape, 4))
    drawn[edge] = mpl.colors.to_rgba("#ffb000")
    return drawn


def draw_plate(axes: Axes, counts: dict[str, int], failed: list[str]) -> None:
    """Draw the wells as a heat map, those that failed as crosses."""
    grid = np.array([[counts.get(f"{r}{c:02d}", np.nan) for c in COLUMNS] for r in ROWS])
    image = axes.imshow(grid, cmap="viridis")
    for i, row in enumerate(ROWS):
        for j, column in enumerate(COLUMNS):
            if f"{row}{column:02d}" in failed:
                axes.text(j, i, "×", ha="center", va="center", color="#c8442f", fontsize=22)
    axes.set_xticks(range(len(COLUMNS)), [str(c) for c in COLUMNS])
    axes.set_yticks(range(len(ROWS)), list(ROWS))
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(-0.5, len(COLUMNS)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(ROWS)), minor=True)
    axes.grid(which="minor", color="white", linewidth=3)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("nuclei per well;  × set aside, with reason", loc="left")
    axes.figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02).outline.set_visible(False)


if __name__ == "__main__":
    sys.exit(main())
