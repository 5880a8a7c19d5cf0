"""A run's progress where `Plan.run` is called: in a notebook it shows itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hcsflow.journal import Event
from hcsflow.view.progress import notebook_progress

__all__ = ["shown_in_notebook"]

Listener = Callable[[Event], None]


@contextmanager
def shown_in_notebook(listener: Listener | None) -> Iterator[Listener | None]:
    """Give what takes a run's events: the listener, and a notebook's progress where there is one.

    Parameters
    ----------
    listener : callable or None
        The user's own.
    """
    progress = notebook_progress()
    if progress is None:
        yield listener
        return

    def both(event: Event) -> None:
        progress(event)
        if listener is not None:
            listener(event)

    with progress:
        yield both
