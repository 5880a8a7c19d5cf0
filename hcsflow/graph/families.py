"""Array families that Dask as shipped neither counts nor moves rightly.

Dask takes a torch tensor of any size for 80 bytes and refuses to spill one that lies on a GPU; it
restores cupy arrays only with numba or rmm, and knows nothing of the others, nor of what a
dataclass holds. Registration is lazy: it imports nothing.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from functools import partial
from typing import Any

import numpy as np
from dask.sizeof import sizeof
from distributed.protocol import dask_deserialize, dask_serialize, deserialize, serialize

from hcsflow.arrays.families import FAMILIES, classes_of, freeze, nbytes_of, thaw
from hcsflow.storage.families import sizeof as weigh

__all__ = ["REGISTERED", "register_families"]

REGISTERED = tuple(name for name in FAMILIES if name != "numpy")
"""Memory types registered here; numpy Dask knows."""

Header = dict[str, Any]

_plain_sizeof = sizeof.dispatch(object)


def register_families() -> None:
    """Teach Dask in this process to size, move and spill arrays of every library.

    Called on the client and on every worker, before the first array; again is harmless.
    """
    sizeof.register(object, _object_nbytes)
    for name in REGISTERED:
        _register(name, load=False)
        for table in (sizeof, dask_serialize, dask_deserialize):
            for package in FAMILIES[name].packages:
                table.register_lazy(package, partial(_register, name, load=True))


def _register(name: str, *, load: bool) -> None:
    for kind in classes_of(name, load=load):
        sizeof.register(kind, nbytes_of)
        dask_serialize.register(kind, _to_frames)
        dask_deserialize.register(kind, _from_frames)


def _object_nbytes(value: Any) -> int:
    """Count what a dataclass holds; Dask counts the shell alone."""
    if is_dataclass(value) and not isinstance(value, type):
        return weigh(value).nbytes
    return int(_plain_sizeof(value))


def _to_frames(array: Any) -> tuple[Header, list[Any]]:
    """Serialize by way of host memory; gradients do not travel."""
    header, host = freeze(array)
    header["host"], frames = serialize(host)
    # As numpy, since Dask's pickler runs in circles on a memoryview inside a user's own class.
    return header, [np.asarray(frame) for frame in frames]


def _from_frames(header: Header, frames: list[Any]) -> Any:
    """Restore an array on the present device of the kind that it lay on."""
    return thaw(header, deserialize(header["host"], frames))
