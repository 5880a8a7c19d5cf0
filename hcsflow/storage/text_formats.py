"""Values to and from streams: JSON, YAML, text, and pickles for those who ask."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any, BinaryIO

import numpy as np
import yaml

__all__ = [
    "plain",
    "read_json",
    "read_pickle",
    "read_text",
    "read_yaml",
    "write_json",
    "write_pickle",
    "write_text",
    "write_yaml",
]


def plain(value: Any) -> Any:
    """Return a value made of dict, list, str, int, float, bool and None only.

    Raises
    ------
    TypeError
        If a part has no such form.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} has no plain form")


def write_json(stream: BinaryIO, data: Any, compress: bool) -> None:  # noqa: ARG001
    """Write plain values as JSON; text is taken to be JSON already.

    Raises
    ------
    ValueError
        If text is not JSON, or a number is not finite.
    """
    if isinstance(data, str):
        json.loads(data)
        text = data
    else:
        text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    stream.write(text.encode())


def read_json(stream: BinaryIO) -> Any:
    """Read JSON."""
    return json.loads(stream.read())


def write_yaml(stream: BinaryIO, data: Any, compress: bool) -> None:  # noqa: ARG001
    """Write plain values as YAML."""
    stream.write(yaml.safe_dump(plain(data), sort_keys=False, allow_unicode=True).encode())


def read_yaml(stream: BinaryIO) -> Any:
    """Read YAML made of plain values.

    Raises
    ------
    ValueError
        If it is not YAML, or names Python objects.
    """
    try:
        return yaml.safe_load(stream.read())
    except yaml.YAMLError as error:
        raise ValueError(f"not plain YAML: {error}") from error


def write_text(stream: BinaryIO, data: Any, compress: bool) -> None:  # noqa: ARG001
    """Write str as UTF-8, or bytes as they are."""
    if not isinstance(data, (str, bytes)):
        raise TypeError("neither str nor bytes")
    stream.write(data.encode() if isinstance(data, str) else data)


def read_text(stream: BinaryIO) -> str:
    """Read UTF-8."""
    return stream.read().decode()


def write_pickle(stream: BinaryIO, data: Any, compress: bool) -> None:  # noqa: ARG001
    """Pickle an object."""
    pickle.dump(data, stream, protocol=5)


def read_pickle(stream: BinaryIO) -> Any:
    """Unpickle an object: runs whatever code the file asks for."""
    return pickle.load(stream)  # noqa: S301 - the caller said allow_pickle=True
