"""Folders that appear whole under their name, or not at all.

What a process that was killed left unfinished goes when another one of the same machine writes to
the folder for the first time. It is told by its name, which says whose it is; what holds the only
copy of something has another name, and is never removed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from uuid import uuid4

from hcsflow.storage.zarr_nodes import BATCHES, PART

__all__ = [
    "copy_folder",
    "made_parents",
    "part_of",
    "put_in_place",
    "refuse_existing",
    "remove",
    "remove_empty",
    "replacing",
    "sweep",
]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def part_of(target: Path) -> Path:
    """Return a new name beside a folder for what is not finished."""
    return target.with_name(f".{uuid4().hex}{PART}")


def _draft_of(target: Path) -> Path:
    """Return such a name for what nobody misses if this process dies."""
    return target.with_name(f".{_here()}-{os.getpid()}-{uuid4().hex}{PART}")


@cache
def _here() -> str:
    """Return what tells the processes that this one can see by number from all others."""
    if sys.platform != "linux":
        return "unknown"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot.replace('-', '')}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return "unknown"


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left unfinished directly in a folder.

    Whether a process lives can be asked on Linux only; elsewhere nothing is removed.
    """
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(PART) and _lives(entry.name) is False:
                shutil.rmtree(entry.path, ignore_errors=True)


_sweep_once = lru_cache(maxsize=4096)(sweep)


def _lives(name: str) -> bool | None:
    """Whether who writes a draft of this name lives; None where that cannot be told."""
    here, _, rest = name[1:].partition("-")
    process = rest.partition("-")[0]
    if here == "unknown" or here != _here() or not process.isdecimal():
        return None
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def remove_empty(folder: Path) -> None:
    """Remove a folder in which nothing is listed: what is left unfinished in it goes too.

    Raises
    ------
    OSError
        If anything else is in it, or a process of this machine is writing into it.
    """
    left = list(folder.iterdir())
    if any(
        one.name != BATCHES and (not one.name.endswith(PART) or _lives(one.name)) for one in left
    ):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(folder))
    for one in left:
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()
    folder.rmdir()


@contextmanager
def _naming(part: Path, target: Path) -> Iterator[None]:
    """Let the errors of the system name ``target`` where they name what is in the making."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            named = error.filename or part, error.filename2
            known = [_known(name, part, target) for name in named if name is not None]
            error.filename, error.filename2 = (*dict.fromkeys(known), None)[:2]
        raise


def _known(name: str | bytes | Path | int, part: Path, target: Path) -> str:
    """Return the name that a caller knows: ``target``'s for all that lies in ``part``."""
    if isinstance(name, int):  # an open file
        return os.fspath(target)
    path = Path(os.fsdecode(name))
    return os.fspath(target if path.is_relative_to(part) else path)


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
    folder = _draft_of(target)
    with made_parents(target), _naming(folder, target):
        _sweep_once(target.parent)
        try:
            yield folder
            _publish(folder, target, overwrite=overwrite, after=after)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def copy_folder(start: Path, end: Path, *, overwrite: bool) -> None:
    """Copy a folder without what is unfinished in it; errors as for `replacing`."""
    with replacing(end, overwrite=overwrite) as folder:
        _copy_below(start, folder)


def _copy_below(start: Path, folder: Path) -> None:
    """Copy a folder; unlike `shutil.copytree` it ends at the first error, which stays as it is.

    Links to folders stay links, as they may lead anywhere, also back here.
    """
    folder.mkdir()
    with os.scandir(start) as entries:
        for entry in entries:
            if entry.name.endswith(PART):
                continue
            if entry.is_dir(follow_symlinks=False):
                _copy_below(Path(entry.path), folder / entry.name)
            elif entry.is_symlink() and not os.path.isfile(entry.path):  # noqa: PTH113 - never raises
                (folder / entry.name).symlink_to(Path(entry.path).readlink())
            else:
                shutil.copy2(entry.path, folder / entry.name)
    shutil.copystat(start, folder)


def refuse_existing(target: Path, *, overwrite: bool) -> None:
    """Refuse a place that is taken; a file is never replaced by a folder."""
    if os.path.lexists(target) and not (overwrite and target.is_dir()):
        what = "exists (overwrite=True replaces it)" if target.is_dir() else "is a file"
        raise FileExistsError(errno.EEXIST, what, str(target))


def remove(target: Path) -> None:
    """Remove a folder and everything in it; no reader meets a half-removed one."""
    old = _draft_of(target)
    with _naming(old, target):
        target.rename(old)
        shutil.rmtree(old)


@contextmanager
def made_parents(target: Path) -> Iterator[None]:
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
    """Put a folder in place; the old one goes to ``folder``.

    What another has put there by the time that ``after`` fails is not taken back.
    """
    ours = _identity(folder)
    is_swap = put_in_place(folder, target, overwrite=overwrite)
    try:
        if after is not None:
            after()
    except BaseException:
        if _identity(target) != ours:
            pass
        elif is_swap:
            _swap(folder, target)
        else:
            target.rename(folder)
        raise


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what tells a folder from another of its name, also from one with its old inode."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def put_in_place(folder: Path, target: Path, *, overwrite: bool) -> bool:
    """Rename a folder; one that has the name goes to ``folder`` instead.

    Atomic on Linux (``renameat2``) where the file system can exchange; elsewhere there is none
    of the two for the moment of a rename.

    Parameters
    ----------
    folder, target : Path
        On one file system; the folder of ``target`` must exist.
    overwrite : bool
        Whether it may take the place of another folder; of an empty one it always may.

    Returns
    -------
    bool
        Whether there is an old one, in ``folder`` now.

    Raises
    ------
    FileExistsError
        If something is there and may not be replaced.
    """
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
        aside = part_of(folder)
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
