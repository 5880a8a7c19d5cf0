"""Asking and closing what Dask started, in bounded time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

__all__ = ["ASK_TIMEOUT_S", "CLOSE_TIMEOUT_S", "asked", "close_within"]

CLOSE_TIMEOUT_S = 10.0

ASK_TIMEOUT_S = 5.0
"""A scheduler answers within milliseconds; one that is stopped, never."""

LOOP_S = 1.0
"""For the event loop to come to it."""


def asked(
    client: Any,
    method: Callable[..., Any],
    *args: Any,
    timeout_s: float = ASK_TIMEOUT_S,
    **kwargs: Any,
) -> Any:
    """Return what a scheduler answers, or give up: Dask itself would wait for ever.

    Parameters
    ----------
    client : Client
        Connected to it.
    method : callable
        Of the client or of ``client.scheduler``; called in the client's own event loop.
    *args, **kwargs
        Of the method.
    timeout_s : float
        Longest to wait, in seconds.

    Raises
    ------
    TimeoutError
        If there is no answer in time.
    """

    async def ask() -> Any:
        try:
            return await asyncio.wait_for(method(*args, **kwargs), timeout_s)
        except asyncio.CancelledError as error:  # Dask would make nonsense of it
            raise TimeoutError(f"no answer within {timeout_s:g} s") from error

    return client.sync(ask, callback_timeout=timeout_s + LOOP_S)


def close_within(closable: Any, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
    """Close a client or cluster; False if it was not through in time.

    A hang is Dask's known race after a worker's death, so the wait is bounded.
    """
    try:
        closable.close(timeout=timeout_s)
    except (TimeoutError, OSError, RuntimeError) as error:
        logging.getLogger(__name__).debug("closing %s: %s", type(closable).__name__, error)
        return False
    return True
