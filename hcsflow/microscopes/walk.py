"""Walking a plate's folder: one ``scandir`` per folder, nothing opened, nothing outside it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hcsflow.errors import PlateError

__all__ = ["Entry", "Folder", "iter_folders", "natural_key"]

MAX_DEPTH = 8

_NUMBER = re.compile(r"(\d+)")


class Entry(NamedTuple):
    """A file by name; ``stat`` costs a system call, so only those that count are asked."""

    name: str
    item: os.DirEntry[str]


class Folder(NamedTuple):
    """A folder below the plate's root: POSIX path relative to it, and its files by name."""

    path: str
    files: list[Entry]


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that takes digits as numbers: ``ZStep_10`` after ``ZStep_2``."""
    parts = _NUMBER.split(text)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)


def iter_folders(root: Path, ignored: Counter[str], *, path: str = "") -> Iterator[Folder]:
    """Walk a plate, folders in natural order.

    Parameters
    ----------
    root : Path
        The plate's folder, resolved.
    ignored : Counter
        Counts by reason what is left aside: hidden entries, zarr stores, symbolic links that
        lead out of the plate or to another folder.
    path : str
        Where to start, relative to ``root``.

    Raises
    ------
    PlateError
        If a folder cannot be read.
    """
    files: list[Entry] = []
    below: list[str] = []
    for item in _scan(root, path):
        reason = _why_ignored(root, item)
        if reason is not None:
            ignored[reason] += 1
        elif item.is_dir(follow_symlinks=False):
            below.append(item.name)
        else:
            files.append(Entry(item.name, item))
    files.sort(key=lambda entry: entry.name)
    yield Folder(path, files)
    if path.count("/") + 1 < MAX_DEPTH:
        for name in sorted(below, key=natural_key):
            yield from iter_folders(root, ignored, path=f"{path}/{name}" if path else name)


def _scan(root: Path, path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / path) as items:
            return list(items)
    except OSError as error:
        raise PlateError(
            f"cannot read the folder {path or root}: {error.strerror}",
            hint="check its permissions, and that the share is mounted",
        ) from error


def _why_ignored(root: Path, item: os.DirEntry[str]) -> str | None:
    """Say why an entry is no part of the plate, None if it may be."""
    if item.name.startswith((".", "@")):  # AppleDouble, snapshots, a NAS's own thumbnails
        return "hidden file"
    if item.name.endswith(".zarr"):
        return "zarr store"
    if not item.is_symlink():
        return None
    target = Path(os.path.realpath(item.path))
    if not target.is_relative_to(root):
        return "symbolic link out of the plate"
    return "symbolic link to a folder" if target.is_dir() else None
