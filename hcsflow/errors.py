"""One error tree. Every error also inherits the builtin that a caller would expect.

A message says whose fault it is, what was expected, what was found and what to do next;
``hint`` carries the last part, so that a terminal can set it apart.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ChecksumError",
    "ConfigError",
    "ContractError",
    "FencedError",
    "FunctionNotFoundError",
    "HcsflowError",
    "MemoryConversionError",
    "MissingPlaneError",
    "OutOfMemoryError",
    "OutputError",
    "OutputLockedError",
    "PathError",
    "PipelineError",
    "PlanRefusedError",
    "PlaneError",
    "PlateError",
    "PlateNotFoundError",
    "ReadOnlyError",
    "StorageResolutionError",
    "StoreFullError",
    "UnknownSettingError",
    "UsageError",
    "nearest",
]


class HcsflowError(Exception):
    """Root of every error that hcsflow raises on purpose.

    Parameters
    ----------
    message : str
        What happened: subject, expected, found.
    hint : str, optional
        What to do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[HcsflowError], message: str, hint: str | None) -> HcsflowError:
    """Restore an error after pickling, whatever its subclass's signature."""
    error = kind.__new__(kind)
    HcsflowError.__init__(error, message, hint=hint)
    return error


class UsageError(HcsflowError, ValueError):
    """The command or call cannot be understood (exit 2)."""

    exit_code = 2


class ConfigError(HcsflowError, ValueError):
    """A setting is unknown or has a wrong value (exit 2)."""

    exit_code = 2


class UnknownSettingError(ConfigError, AttributeError, TypeError):
    """No setting has this name, as a key, an attribute or an argument (exit 2)."""


class PlateError(HcsflowError, ValueError):
    """The input folder cannot be read as a plate (exit 2)."""

    exit_code = 2


class PlateNotFoundError(PlateError, FileNotFoundError):
    """No plate lies at the given path (exit 2)."""


class PlaneError(HcsflowError, ValueError):
    """One image file is not what the manifest promises; fails its well.

    ``file`` names the plane's file, relative to the plate.
    """

    def __init__(self, message: str, *, hint: str | None = None, file: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_plane, (type(self), self.message, self.hint, self.file))


def _rebuild_plane(
    kind: type[PlaneError], message: str, hint: str | None, file: str | None
) -> PlaneError:
    return kind(message, hint=hint, file=file)


class MissingPlaneError(PlaneError, FileNotFoundError):
    """A plane is expected and not there; fails its well unless told otherwise."""


class PipelineError(HcsflowError, ValueError):
    """A pipeline or one of its steps is declared wrongly (exit 2)."""

    exit_code = 2


class FunctionNotFoundError(PipelineError, LookupError):
    """No step function has this name (exit 2)."""


class ContractError(HcsflowError, TypeError):
    """A step function returned something else than its contract says; fails its well."""


class OutOfMemoryError(HcsflowError, MemoryError):
    """A step function ran out of memory, and so did all that was tried instead; fails its well."""


class PlanRefusedError(HcsflowError, ValueError):
    """The plan is sound as a declaration but cannot be run as it is (exit 3)."""

    exit_code = 3


class OutputError(HcsflowError, ValueError):
    """The output folder belongs to something else, or lies where it must not (exit 2)."""

    exit_code = 2


class OutputLockedError(OutputError, BlockingIOError):
    """Another run is alive on this output folder (exit 2)."""


class FencedError(HcsflowError, RuntimeError):
    """A newer run has taken the output folder over; nothing was written."""


class StorageResolutionError(HcsflowError, LookupError):
    """No storage backend of that name, or none that can do this."""


class StoreFullError(HcsflowError, OSError):
    """A store holds as much as its settings allow; nothing was stored."""


class ReadOnlyError(HcsflowError, PermissionError):
    """A write was asked of a backend that only reads."""


class ChecksumError(HcsflowError, ValueError):
    """What is stored is not what was stored: it was damaged or changed behind our back."""


class PathError(HcsflowError, ValueError):
    """A path leads out of the root it belongs to."""


class MemoryConversionError(HcsflowError, TypeError):
    """An array cannot go from one memory type to another as asked.

    Parameters
    ----------
    source_type, target_type : str
        Memory types, e.g. ``"cupy"`` and ``"torch"``.
    method : str
        The road that was tried, e.g. ``"dlpack"``.
    reason : str
        Why it is closed.
    """

    def __init__(self, source_type: str, target_type: str, method: str, reason: str) -> None:
        super().__init__(f"cannot convert {source_type} to {target_type} by {method}: {reason}")
        self.source_type = source_type
        self.target_type = target_type
        self.method = method
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.source_type, self.target_type, self.method, self.reason))


def nearest(name: str, candidates: Iterable[object]) -> str | None:
    """Return the candidate that a mistyped name most likely meant, or None.

    Examples
    --------
    >>> nearest("gausian_filter", ["gaussian_filter", "median_filter"])
    'gaussian_filter'
    """
    matches = difflib.get_close_matches(name, [str(c) for c in candidates], n=1, cutoff=0.6)
    return matches[0] if matches else None
