"""Closing what Dask started, in bounded time."""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["CLOSE_TIMEOUT_S", "close_within"]

CLOSE_TIMEOUT_S = 10.0


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
