"""Files and folders copied and moved whole: after an error source and target are as before."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hcsflow.storage.zarr_commit import made_parents, part_of, put_in_place
from hcsflow.storage.zarr_nodes import PART

__all__ = ["copy_whole", "move_whole", "rename_new"]


def copy_whole(
    start: Path,
    end: Path,
    *,
    overwrite: bool,
    copy_file: Callable[[Path, Path], object] = shutil.copy2,
) -> None:
    """Copy a file or folder under a hidden name, then give it its own.

    Links in a folder stay links. What is unfinished in it is not copied.

    Parameters
    ----------
    start, end : Path
        Neither lies within the other. The folders of ``end`` are made.
    overwrite : bool
        Whether what is at ``end`` is replaced, be it a file or a folder.
    copy_file : callable
        Makes the copy of one file.

    Raises
    ------
    FileExistsError
        If something is there and may not be replaced, also where it came in the meantime.
    OSError
        If a file cannot be copied, which the error names, or is no file and no folder.
    """
    staged = part_of(end)
    with made_parents(end):
        try:
            _copy(Path(os.path.realpath(start)), staged, copy_file)
            _place(staged, end, overwrite=overwrite)
        finally:
            _discard(staged)


def move_whole(start: Path, end: Path, *, overwrite: bool) -> None:
    """Move a file or folder, to another file system too; see `copy_whole`.

    Raises
    ------
    FileNotFoundError
        If there is no source, also where another has moved it meanwhile.
    FileExistsError, OSError
        As `copy_whole`.
    """
    staged = kept = part_of(end)
    with made_parents(end):
        try:
            if not _renamed(start, staged):
                _copy(start, staged, shutil.copy2)
                kept = part_of(start)
                start.rename(kept)
            try:
                _place(staged, end, overwrite=overwrite)
            except BaseException:
                kept.rename(start)
                raise
        finally:
            _discard(staged)
    _discard(kept)


def rename_new(file: Path, target: Path) -> None:
    """Rename a file; unlike by `os.rename`, another's is never replaced.

    Raises
    ------
    FileExistsError
        If something is there.
    """
    if not file.is_symlink():
        try:
            target.hardlink_to(file)
        except FileExistsError as error:
            raise _taken(target) from error
        except OSError:  # a file system without hard links
            pass
        else:
            file.unlink()
            return
    if os.path.lexists(target):
        raise _taken(target)
    file.rename(target)


def _taken(target: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "exists (overwrite=True replaces it)", str(target))


def _renamed(start: Path, end: Path) -> bool:
    """Rename, if both are on one file system."""
    try:
        start.rename(end)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _copy(start: Path, end: Path, copy_file: Callable[[Path, Path], object]) -> None:
    """Copy a file, a link or a folder; the first error ends it and names what was copied."""
    mode = start.lstat().st_mode
    if not (stat.S_ISLNK(mode) or stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise OSError(errno.EINVAL, "neither a file nor a folder", str(start))
    try:
        if stat.S_ISLNK(mode):
            end.symlink_to(start.readlink())
        elif stat.S_ISDIR(mode):
            end.mkdir()
        else:
            copy_file(start, end)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(start)) from error
    if stat.S_ISDIR(mode):
        for entry in start.iterdir():
            if not entry.name.endswith(PART):
                _copy(entry, end / entry.name, copy_file)
        shutil.copystat(start, end)


def _place(staged: Path, target: Path, *, overwrite: bool) -> None:
    """Rename a file or folder; a folder that was there goes to ``staged``."""
    is_folder = _is_folder(staged)
    if overwrite and os.path.lexists(target) and is_folder != _is_folder(target):
        aside = part_of(target)
        target.rename(aside)
        try:
            staged.rename(target)
        except BaseException:
            aside.rename(target)
            raise
        _discard(aside)
    elif is_folder:
        put_in_place(staged, target, overwrite=overwrite)
    elif overwrite:
        staged.replace(target)
    else:
        rename_new(staged, target)


def _is_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.is_symlink()


def _discard(entry: Path) -> None:
    """Remove a file or folder, as far as that is possible."""
    if _is_folder(entry):
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with suppress(OSError):
            entry.unlink()
