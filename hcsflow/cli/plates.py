"""``inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcsflow.cli import options as o
from hcsflow.cli.console import emit

if TYPE_CHECKING:
    import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(inspect)


def inspect(
    plate: o.PlateArgument,
    *,
    acquisition: o.Acquisition = None,
    pixel_size_um: o.PixelSize = None,
    as_json: o.JsonFlag = False,
) -> None:
    """Say what a plate holds: wells, channels, pixel size and its origin, what is missing."""
    from rich.console import Group

    from hcsflow.session.plate import describe, inspect_json, open_plate
    from hcsflow.view.charmap import plate_map

    opened = open_plate(plate, acquisition=acquisition, pixel_size_um=pixel_size_um)
    emit(
        inspect_json(opened),
        as_json=as_json,
        render=lambda found: Group(describe(opened), "", plate_map(found)),
    )
