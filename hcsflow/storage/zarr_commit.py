"""Folders that appear whole under their name, or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from hcsflow.storage.zarr_nodes import PART

__all__ = ["copy_folder", "part_of", "refuse_existing", "relocate", "remove", "replacing"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def part_of(target: Path) -> Path:
    """Return a new name beside a folder for what is not finished."""
    return target.with_name(f".{uuid4().hex}{PART}")


@contextmanager
def replacing(
    target: Path, *, overwrite: bool, after: Callable[[], None] | None = None
) -> Iterator[Path]:
    """Give a name in the same folder that becomes ``target`` at the end.

    After an error ``target`` is what it was, and no folder was made for it. On Linux a reader
    finds the old folder or the new one at any moment; elsewhere none for the moment of a rename.

    Parameters
    ----------
    target : Path
        Its folders are made.
    overwrite : bool
        Whether it may replace a folder.
    after : callable, optional
        Called when the folder is in place; if it fails, everything is taken back.

    Raises
    ------
    FileExistsError
        If something is there and may not be replaced, also where it came in the meantime.
    """
    refuse_existing(target, overwrite=overwrite)
    folder = part_of(target)
    with _made_parents(target):
        try:
            yield folder
            _publish(folder, target, overwrite=overwrite, after=after)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def copy_folder(start: Path, end: Path, *, overwrite: bool) -> None:
    """Copy a folder without what is unfinished in it; errors as for `replacing`."""
    with replacing(end, overwrite=overwrite) as folder:
        shutil.copytree(start, folder, ignore=shutil.ignore_patterns(f"*{PART}"))


def refuse_existing(target: Path, *, overwrite: bool) -> None:
    """Refuse a place that is taken; a file is never replaced by a folder."""
    if os.path.lexists(target) and not (overwrite and target.is_dir()):
        what = "exists (overwrite=True replaces it)" if target.is_dir() else "is a file"
        raise FileExistsError(errno.EEXIST, what, str(target))


def remove(target: Path) -> None:
    """Remove a folder and everything in it; no reader meets a half-removed one."""
    old = part_of(target)
    target.rename(old)
    shutil.rmtree(old)


def relocate(start: Path, end: Path, *, overwrite: bool) -> None:
    """Move a folder, to another file system too; after an error it is where it was.

    Raises
    ------
    FileExistsError
        If something is there and may not be replaced.
    """
    refuse_existing(end, overwrite=overwrite)
    staged = part_of(end)
    with _made_parents(end):
        shutil.move(start, staged)
        try:
            _publish(staged, end, overwrite=overwrite, after=None)
        except BaseException:
            shutil.move(staged, start)
            raise
    shutil.rmtree(staged, ignore_errors=True)


@contextmanager
def _made_parents(target: Path) -> Iterator[None]:
    """Make the folders above a path; after an error those that are empty go again."""
    made = []
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        made.append(folder)
        folder = folder.parent
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _publish(
    folder: Path, target: Path, *, overwrite: bool, after: Callable[[], None] | None
) -> None:
    """Put a folder in place; the old one goes to ``folder``."""
    is_swap = _put(folder, target, overwrite=overwrite)
    try:
        if after is not None:
            after()
    except BaseException:
        if is_swap:
            _swap(folder, target)
        else:
            target.rename(folder)
        raise


def _put(folder: Path, target: Path, *, overwrite: bool) -> bool:
    """Rename or swap a folder into place; return whether there is an old one."""
    while True:
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if not overwrite or error.errno == errno.ENOTDIR:
                text = "written by another meanwhile"
                raise FileExistsError(errno.EEXIST, text, str(target)) from error
        else:
            return False
        with suppress(FileNotFoundError):  # removed by another meanwhile: rename again
            _swap(folder, target)
            return True


def _swap(folder: Path, target: Path) -> None:
    """Swap two folders, at once where the system can."""
    if not _exchange(folder, target):
        aside = part_of(target)
        target.rename(aside)
        folder.rename(target)
        aside.rename(folder)


def _exchange(folder: Path, target: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    renameat2 = getattr(libc, "renameat2", None)
    if renameat2 is None:
        return False
    paths = os.fsencode(folder), os.fsencode(target)
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(target))
