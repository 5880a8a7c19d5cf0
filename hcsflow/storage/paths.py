"""Paths: one logical form on every backend, natural order, and staying inside a root."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from natsort import natsort_keygen

from hcsflow.errors import PathError

__all__ = ["StrPath", "contained", "join", "located", "logical", "matches", "natural"]

StrPath: TypeAlias = str | os.PathLike[str]

_NATURAL = natsort_keygen()


def natural(names: Iterable[str]) -> list[str]:
    """Sort names so that numbers count: ``z2`` before ``z10``."""
    return sorted(names, key=_NATURAL)


def logical(path: StrPath) -> str:
    """Return a path in its one logical form: POSIX, relative to the root, ``""`` for the root.

    Raises
    ------
    PathError
        If a part is ``..``.

    Examples
    --------
    >>> logical("/plate//A01/./x.tif")
    'plate/A01/x.tif'
    """
    parts = os.fspath(path).split("/")
    if ".." in parts:
        raise PathError(f"{os.fspath(path)!r} leads upwards", hint="give a path without '..'")
    return "/".join(part for part in parts if part not in ("", "."))


def join(directory: StrPath, name: str) -> str:
    """Put a listed name behind a folder as the caller wrote it."""
    start = os.fspath(directory)
    return f"{start.rstrip('/')}/{name}" if start not in ("", ".") else name


def contained(root: Path, relative: StrPath) -> Path:
    """Return ``root / relative``, known to lie in ``root`` with every link followed.

    Raises
    ------
    PathError
        If the path is absolute, has a part ``..``, or a symlink leads out.
    """
    text = os.fspath(relative)
    if Path(text).is_absolute() or ".." in Path(text).parts:
        raise PathError(f"{text!r} does not stay inside {root}", hint="give a path relative to it")
    real, base = os.path.realpath(root / text), os.path.realpath(root)
    if real != base and not real.startswith(base.rstrip(os.sep) + os.sep):
        raise PathError(
            f"{text!r} leads out of {root} by a link, to {real}",
            hint="copy the file into the folder",
        )
    return root / text


def located(base: Path | None, path: StrPath) -> Path:
    """Return where a path lies on this machine.

    With a base, ``/a/b`` and ``a/b`` are both below it, as on the memory backend; an absolute path
    that already lies in the base is taken as it is. Without one, paths are the system's own.

    Raises
    ------
    PathError
        If the path leads out of the base.
    """
    if base is None:
        return Path(path)
    given = Path(path)
    if given.is_absolute() and given.is_relative_to(base):
        return contained(base, given.relative_to(base))
    return contained(base, logical(path))


def matches(name: str, pattern: str | None, extensions: Iterable[str] | None) -> bool:
    """Whether a file's name fits a shell pattern and one of some extensions, in any case."""
    if pattern is not None and not fnmatch.fnmatchcase(name, pattern):
        return False
    if extensions is None:
        return True
    wanted = tuple("." + extension.lower().lstrip(".") for extension in extensions)
    return name.lower().endswith(wanted)
