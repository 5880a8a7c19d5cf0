"""Dask's own report of a run: task stream, profile, bandwidth, as one HTML file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import performance_report

from hcsflow.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["check_report_path", "reporting"]


def check_report_path(path: Path) -> None:
    """Refuse a path that no report can be written to.

    Raises
    ------
    UsageError
        If its folder does not exist, or it is a folder itself.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"{path}: expected a file in a folder that exists",
            hint="give a path such as performance.html",
        )


@contextmanager
def reporting(client: Client, path: Path | None) -> Iterator[None]:
    """Write the report of what happens in the block; nothing where the path is None.

    The file holds its scripts, so it can be looked at without a network. It is written after an
    error too, but not where the cluster is gone.
    """
    if path is None:
        yield
        return
    with client.as_current():
        report = performance_report(filename=str(path), mode="inline")
        report.__enter__()
        try:
            yield
        finally:
            with suppress(OSError, TimeoutError, RuntimeError):
                report.__exit__(None, None, None)
