"""Paths: one logical form on every backend, natural order, and staying inside a root."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from natsort import natsort_keygen

from hcsflow.errors import PathError

__all__ = [
    "StrPath",
    "contained",
    "endings",
    "join",
    "located",
    "logical",
    "matches",
    "named",
    "naming",
    "natural",
    "placed",
    "portable",
    "removable",
]

StrPath: TypeAlias = str | os.PathLike[str]

_NATURAL = natsort_keygen()
_NO_NAME = ("/", "")
_NUMBER = re.compile(r"([0-9]+)")
_NOT_PORTABLE = re.compile(r"[\\\x00-\x1f]")


def natural(names: Iterable[str]) -> list[str]:
    """Sort names so that numbers count: ``z2`` before ``z10``, and ``a01`` before ``a1``."""
    found = sorted(names)  # the order among names that count as equal
    is_plain = all(map(str.isascii, found))  # natsort knows other scripts, at ten times the price
    return sorted(found, key=_ascii_key if is_plain else _NATURAL)


def _ascii_key(name: str) -> list[str | int]:
    parts: list[str | int] = list(_NUMBER.split(name))
    parts[1::2] = map(int, parts[1::2])
    return parts


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
    text = path if type(path) is str else os.fspath(path)
    if not ("/." in text or "//" in text or text[:1] == "." or text[-1:] in _NO_NAME):
        return text[1:] if text[0] == "/" else text  # nearly every path is in this form already
    parts = text.split("/")
    if ".." in parts:
        raise PathError(f"{text!r} leads upwards", hint="give a path without '..'")
    return "/".join(part for part in parts if part not in ("", "."))


def join(directory: StrPath, name: str) -> str:
    """Put a listed name behind a folder as the caller wrote it."""
    start = os.fspath(directory)
    return f"{start.rstrip('/')}/{name}" if start not in ("", ".") else name


def contained(root: Path, relative: StrPath) -> Path:
    """Return ``root / relative``, known to lie in ``root`` with every link followed.

    ``~`` and variables are plain characters here. Nothing is opened; links are read. It is no
    defence against another process that swaps links before the path is opened.

    Raises
    ------
    PathError
        If the path is absolute or begins with a drive, has a part ``..`` or a character that no
        path can hold, or a symlink leads out.
    """
    text = os.fspath(relative)
    given = Path(text)
    if given.anchor or ".." in given.parts or "\0" in text:
        raise PathError(f"{text!r} does not stay inside {root}", hint="give a path relative to it")
    try:
        real, base = os.path.realpath(root / text), os.path.realpath(root)
    except (OSError, ValueError) as error:  # lone surrogates
        raise PathError(f"{text!r} cannot be looked up in {root}: {error}") from error
    if real != base and not real.startswith(base.rstrip(os.sep) + os.sep):
        raise PathError(
            f"{text!r} leads out of {root} by a link, to {real}",
            hint="copy the file into the folder",
        )
    return root / text


def portable(path: str) -> str:
    """Return a path of a document, in its logical form, if all systems take it as relative.

    Parameters
    ----------
    path : str
        As another program wrote it, perhaps on another system.

    Raises
    ------
    PathError
        If it is absolute or has a drive, of POSIX or of Windows, or holds ``..``, a backslash or
        a control character, or begins with ``~``.

    Examples
    --------
    >>> portable("TimePoint_1/./A01_s1_w1.tif")
    'TimePoint_1/A01_s1_w1.tif'
    """
    found = logical(path)
    is_local = path[:1] == "/" or found[:1] == "~" or found[1:2] == ":"
    if is_local or _NOT_PORTABLE.search(path):
        raise PathError(
            f"{path!r} does not lead to a file inside a folder on every system",
            hint="write it relative to the folder, with '/' and without a drive",
        )
    return found


def located(base: Path | None, path: StrPath) -> Path:
    """Return where a path lies on this machine.

    With a base, ``/a/b`` and ``a/b`` are both below it, as on the memory backend; an absolute path
    that already lies in the base is taken as it is. Without one, paths are the system's own, ``..``
    included; only ``~``, which no system call knows, is refused as a beginning.

    Raises
    ------
    PathError
        If the path leads out of the base, or begins with ``~`` and there is none.
    """
    if base is None:
        if os.fspath(path)[:1] == "~":
            raise PathError(
                f"{os.fspath(path)!r} begins with '~', which is not replaced by the home folder",
                hint="use os.path.expanduser(path), or './~...' for a file of that name",
            )
        return Path(path)
    given = Path(path)
    if given.is_absolute() and given.is_relative_to(base):
        return contained(base, given.relative_to(base))
    return contained(base, logical(path))


def named(base: Path | None, path: StrPath) -> Path:
    """Return where a file is to lie; see `located`.

    Raises
    ------
    PathError
        If the path leads out of the base, or names the root or nothing.
    """
    file = located(base, path)
    if not file.name or file == base:
        raise PathError(f"{os.fspath(path)!r} names no file", hint="put a file's name behind it")
    return file


def removable(base: Path | None, path: StrPath) -> Path:
    """Return where something lies that is to be removed, moved or replaced; see `located`.

    With a base that may be the base itself, which its owner empties and keeps.

    Raises
    ------
    PathError
        If the path leads out of the base; without one, if it is or contains the current or the
        home folder, as the empty path and the root of a file system do.
    """
    file = located(base, path)
    if base is not None or not file.is_dir() or file.is_symlink():
        return file
    place = placed(file)
    kept = {"current": os.curdir, "home": os.path.expanduser("~")}  # noqa: PTH111 - never raises
    for name, folder in kept.items():
        if Path(os.path.realpath(folder)).is_relative_to(place):
            raise PathError(
                f"{os.fspath(path)!r} is or contains the {name} folder: it is not removed, moved "
                "or replaced",
                hint="name what lies in it, or give the backend a base_path",
            )
    return file


def placed(file: Path) -> Path:
    """Return the one absolute path of a file or link: links above it are followed, not itself."""
    folder = os.path.realpath(file.parent)
    return Path(os.path.normpath(os.path.join(folder, file.name)))  # noqa: PTH118 - it may be '..'


@contextmanager
def naming(file: StrPath) -> Iterator[None]:
    """Name a file in the system's errors that name none, such as that the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(file)
        raise


def endings(extensions: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return extensions as names end in them; a str is one of them.

    Examples
    --------
    >>> endings(".TIF"), endings(["png", ".ome.tif"])
    (('.tif',), ('.png', '.ome.tif'))
    """
    if extensions is None:
        return None
    given = (extensions,) if isinstance(extensions, str) else extensions
    return tuple("." + extension.lower().lstrip(".") for extension in given)


def matches(name: str, pattern: str | None, extensions: Iterable[str] | None) -> bool:
    """Whether a file's name fits a shell pattern and one of some extensions, in any case."""
    if pattern is not None and not fnmatch.fnmatchcase(name, pattern):
        return False
    wanted = endings(extensions)
    return wanted is None or name.lower().endswith(wanted)
