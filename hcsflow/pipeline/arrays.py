"""Arrays as parameters: short ones stand in YAML, longer ones in a .npy file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.errors import PipelineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_INLINE_BYTES", "ArrayFile", "as_parameter", "as_plain"]

MAX_INLINE_BYTES = 4096
"""Longest array that stands in a pipeline's text."""

INLINE, FILE = {"array", "dtype"}, {"npy"}


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """An array in a .npy file, read when a plan is made; it counts by its content.

    Parameters
    ----------
    npy : str
        Path as written, relative to the pipeline's file.
    folder : str
        Where that file lies; ``""`` is the current folder.
    """

    npy: str
    folder: str = field(default="", compare=False)

    def load(self) -> NDArray[Any]:
        """Return the array. Nothing is unpickled.

        Raises
        ------
        PipelineError
            If there is no such file, or it holds no plain array.
        """
        path = Path(self.folder) / self.npy
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise PipelineError(f"cannot read the array {str(path)!r}: {error}") from error
        if not isinstance(found, np.ndarray):
            raise PipelineError(
                f"{str(path)!r} holds several arrays, expected one", hint="write it with np.save"
            )
        return found


def as_parameter(value: Any, folder: str, at: str = "") -> Any:
    """Turn what YAML says of arrays into arrays, also inside lists and mappings.

    ``{array: [[1, 2]], dtype: uint16}`` becomes an array, ``{npy: flat.npy}`` an `ArrayFile`.

    Parameters
    ----------
    value : object
        As YAML gave it.
    folder : str
        Folder of the pipeline's file.
    at : str
        Its place in the file, for errors.

    Raises
    ------
    PipelineError
        If the numbers make no array of that dtype, or are too many.

    Examples
    --------
    >>> as_parameter({"array": [1, 2], "dtype": "uint8"}, "")
    array([1, 2], dtype=uint8)
    """
    if isinstance(value, Mapping):
        if set(value) == INLINE:
            return _inline(value["array"], value["dtype"], at)
        if set(value) == FILE and isinstance(value["npy"], str):
            return ArrayFile(value["npy"], folder)
        return {key: as_parameter(item, folder, f"{at}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [as_parameter(item, folder, f"{at}[{i}]") for i, item in enumerate(value)]
    return value


def _inline(numbers: Any, dtype: Any, at: str) -> NDArray[Any]:
    try:
        found = np.array(numbers, dtype=np.dtype(dtype))
    except (TypeError, ValueError, OverflowError) as error:
        raise PipelineError(f"{at}: no array of {dtype!r}: {error}") from error
    if found.dtype.kind not in "biuf":
        raise PipelineError(f"{at}: an array holds bool, integers or floats, got {dtype!r}")
    if found.nbytes > MAX_INLINE_BYTES:
        raise PipelineError(
            f"{at}: an array of {found.nbytes} bytes; at most {MAX_INLINE_BYTES} stand in a text",
            hint="save it with np.save and write {npy: file.npy}",
        )
    return found


def as_plain(value: Any) -> Any:
    """Turn arrays into what YAML can say; the opposite of `as_parameter`.

    Raises
    ------
    PipelineError
        If an array is too long for a text.
    """
    if isinstance(value, np.ndarray):
        if value.nbytes > MAX_INLINE_BYTES:
            raise PipelineError(
                f"an array of {value.nbytes} bytes; at most {MAX_INLINE_BYTES} stand in a text",
                hint="save it with np.save and give ArrayFile('file.npy') instead",
            )
        return {"array": value.tolist(), "dtype": value.dtype.name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, ArrayFile):
        return {"npy": value.npy}
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value
