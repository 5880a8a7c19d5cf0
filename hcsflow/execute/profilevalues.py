"""Values in profiles: sizes, durations, counts, certificates."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from hcsflow.errors import ConfigError

__all__ = [
    "Count",
    "Seconds",
    "Share",
    "Size",
    "Strict",
    "Switch",
    "TlsFiles",
    "Whole",
    "found_files",
]

LEAST_BYTES = 10**6

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def _bytes(value: Any) -> Any:
    """Read a size such as ``"16 GiB"``."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?i?)b?\s*", value.lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"expected a size such as '16 GiB', got {value!r}")
    return int(float(match[1]) * _UNITS[match[2]])


def _plausible(size: int) -> int:
    """Refuse a size whose unit was forgotten."""
    if size < LEAST_BYTES:
        raise ValueError(f"{size} bytes are too few: write it with its unit, such as '16 GiB'")
    return size


def _seconds(value: Any) -> Any:
    """Read a duration such as ``"02:00:00"``, ``"1-12:00:00"`` or ``"90 min"``."""
    if not isinstance(value, str):
        raise ValueError("expected a duration in quotes such as '02:00:00'")  # noqa: TRY004 - pydantic's
    if match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", value.strip()):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if match := re.fullmatch(r"\s*(\d+)\s*(s|min|h|d)\s*", value):
        return int(match[1]) * _SECONDS[match[2]]
    raise ValueError(f"expected a duration such as '02:00:00' or '90 min', got {value!r}")


Whole = Annotated[int, Field(strict=True, ge=0)]
Count = Annotated[int, Field(strict=True, ge=1)]
Switch = Annotated[bool, Field(strict=True)]
Size = Annotated[
    Count, BeforeValidator(_bytes, json_schema_input_type=int | str), AfterValidator(_plausible)
]
Seconds = Annotated[Count, BeforeValidator(_seconds, json_schema_input_type=str)]
Share = float | int | str | None
"""Part of a device's memory, bytes, or text such as ``"20 GB"``; understood by dask-cuda."""


class Strict:
    """Unknown keys are an error."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class TlsFiles(Strict):
    """Certificates, for a scheduler that asks for them.

    Parameters
    ----------
    ca_file, cert, key : str
        PEM files: who is trusted, who this is, and the proof of it.
    """

    ca_file: str
    cert: str
    key: str


def found_files(files: TlsFiles, profile: Path) -> TlsFiles:
    """Return certificates with their full paths; a relative one is beside its profile.

    Raises
    ------
    ConfigError
        If one is not there.
    """
    paths = {}
    for item in fields(files):
        place = (profile.parent / Path(getattr(files, item.name)).expanduser()).absolute()
        if not place.is_file():
            raise ConfigError(f"{profile}: security.{item.name}: there is no file {place}")
        paths[item.name] = str(place)
    return TlsFiles(**paths)
