"""Files that come with the package: ready-made pipelines and cluster profiles."""

from __future__ import annotations

from pathlib import Path

__all__ = ["share_folder"]

PACKAGE = Path(__file__).resolve().parents[1]


def share_folder(name: str) -> Path:
    """Return the folder of ``graphs`` or ``cluster``: in the wheel, else in the source tree."""
    packed = PACKAGE / "_share" / name
    return packed if packed.is_dir() else PACKAGE.parent / name
