"""A file system that fails, stops or kills the process at its n-th change below a folder.

It sits between Python and the system: what a process is about to open for writing, make, rename
or remove is seen by an audit hook, what it writes by the raw files that ``open`` returns. Files
that a native library opens itself (Parquet of the joined tables) are not seen; their renames are.
A hook cannot be taken off again, so this is for processes of their own.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
TAKES_ROOM = ("open", "write", "mkdir")
"""What a full disk refuses; renaming and removing still work."""

Act = Callable[["FaultyDisk", str, str], None]


@dataclass
class FaultyDisk:
    """Counts changes below ``root``; before change number ``at`` (from 1) and after it, it acts.

    Parameters
    ----------
    root : str
        Absolute folder; changes elsewhere go through uncounted.
    at : int
        Number of the change at fault; 0 is none.
    kind : str
        ``"full"`` (ENOSPC from there on), ``"error"`` (EIO once), ``"broken"`` (EIO from there
        on), ``"kill"`` or ``"stop"`` (this process, once).
    """

    root: str
    at: int
    kind: str
    changes: list[str] = field(default_factory=list)

    def install(self) -> None:
        """Watch this process from here on."""
        real = builtins.open
        os_write = os.write

        def open_watched(
            file: Any,
            mode: str = "r",
            buffering: int = -1,
            encoding: str | None = None,
            errors: str | None = None,
            newline: str | None = None,
            closefd: bool = True,
            opener: Any = None,
        ) -> Any:
            if not set(mode) & set("wxa+"):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = _RawFile(self, file, mode.replace("t", ""), closefd, opener)
            if buffering == 0:
                return raw
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            return io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)

        def write_watched(handle: int, data: Any) -> int:
            self.before_write(_name_of(handle), lambda part: os_write(handle, part), data)
            return os_write(handle, data)

        builtins.open = io.open = open_watched  # type: ignore[assignment]
        os.write = write_watched
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(args[2], int) and args[2] & CHANGES and not isinstance(args[0], int):
                self.before("open", _full(args[0]))
        elif event == "os.mkdir":
            path = _full(args[0], args[2])
            if not os.path.lexists(path) and Path(path).parent.is_dir():
                self.before("mkdir", path)
        elif event in ("os.remove", "os.rmdir"):
            path = _full(args[0], args[1])
            if os.path.lexists(path):
                self.before(event.removeprefix("os."), path)
        elif event == "os.rename":
            self.before("rename", _full(args[1], args[3]))
        elif event == "os.link":
            self.before("link", _full(args[1], args[3]))
        elif event == "ctypes.dlsym" and args[1] == "renameat2":
            self.before("exchange", self.root)

    def before_write(self, path: str, write: Callable[[Any], int], data: Any) -> None:
        """Count a write; at the one at fault half of the data arrives first."""
        if self._concerns(path) and self.at == len(self.changes) + 1 and self.kind != "stop":
            view = memoryview(data).cast("B")
            write(view[: len(view) // 2])
        self.before("write", path)

    def before(self, what: str, path: str) -> None:
        """Count a change, and act if it is the one at fault or comes after it."""
        if not self._concerns(path):
            return
        self.changes.append(f"{what} {os.path.relpath(path, self.root)}")
        number = len(self.changes)
        if not self.at or number < self.at:
            return
        if self.kind == "full" and what in TAKES_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if self.kind == "broken" or (self.kind == "error" and number == self.at):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        if number == self.at and self.kind in ("kill", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if self.kind == "kill" else signal.SIGSTOP)

    def _concerns(self, path: str) -> bool:
        return path == self.root or path.startswith(self.root + os.sep)


class _RawFile(io.FileIO):
    """A file whose writes are counted."""

    def __init__(self, disk: FaultyDisk, file: Any, mode: str, closefd: bool, opener: Any) -> None:
        super().__init__(file, mode, closefd, opener)
        self._disk = disk
        self._path = _name_of(self.fileno())

    def write(self, data: Any) -> int | None:
        self._disk.before_write(self._path, super().write, data)
        return super().write(data)


def _name_of(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def _full(path: Any, folder: int = -1) -> str:
    start = _name_of(folder) if folder >= 0 else Path.cwd()
    return os.path.normpath(Path(start, os.fsdecode(path)))
