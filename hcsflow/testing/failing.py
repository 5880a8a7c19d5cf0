"""A backend that fails on purpose, at the operation that a test names."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from functools import partial
from itertools import count
from typing import Any

from hcsflow.storage.wrappers import WRITES, BackendWrapper, Call

__all__ = ["FailingBackend"]


class FailingBackend(BackendWrapper):
    """A backend whose n-th operation fails, before it has any effect; the others succeed.

    Parameters
    ----------
    inner : backend
        Any.
    on : int
        Which one fails, counted from 1.
    operations : iterable of str
        Those that are counted; the default is every write.
    error : exception
        What is raised; the default is a full disk (ENOSPC).

    Examples
    --------
    >>> from hcsflow.storage.memory import MemoryStorageBackend
    >>> memory = FailingBackend(MemoryStorageBackend(), on=2)
    >>> memory.save([1], "/a")
    >>> memory.save([1], "/b")
    Traceback (most recent call last):
    ...
    OSError: [Errno 28] No space left on device
    >>> memory.list_files("/")
    ['/a']
    """

    def __init__(
        self,
        inner: Any,
        *,
        on: int,
        operations: Iterable[str] = WRITES,
        error: BaseException | None = None,
    ) -> None:
        super().__init__(inner)
        self.on = on
        self.operations = frozenset(operations)
        self.error = error or OSError(errno.ENOSPC, "No space left on device")
        self._numbers = count(1)  # drawing from it is one step for all threads

    def __reduce__(self) -> tuple[Any, ...]:
        again = partial(FailingBackend, on=self.on, operations=self.operations, error=self.error)
        return again, (self.inner,)

    def _call(self, call: Call) -> Any:
        if call.operation in self.operations and next(self._numbers) == self.on:
            raise self.error
        return super()._call(call)
