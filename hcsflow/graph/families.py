"""Array families that Dask as shipped neither counts nor moves rightly.

Dask takes a torch tensor of any size for 80 bytes and refuses to spill one that lies on a GPU; it
knows nothing of pyclesperanto. numpy and cupy it knows. Registration is lazy: it imports nothing.
"""

from __future__ import annotations

import sys
from typing import Any

from dask.sizeof import sizeof
from distributed.protocol import dask_deserialize, dask_serialize, deserialize, serialize

from hcsflow.arrays import convert, to_numpy
from hcsflow.arrays.libraries import LIBRARIES
from hcsflow.arrays.libraries import memory_type_of as type_of

__all__ = ["FAMILIES", "register_families"]

FAMILIES = ("torch", "tensorflow", "pyclesperanto")
"""Memory types registered here."""

Header = dict[str, Any]


def register_families() -> None:
    """Teach Dask in this process to size, move and spill arrays of `FAMILIES`.

    Called on the client and on every worker, before the first array; again is harmless.
    """
    for name in FAMILIES:
        for module, attribute in LIBRARIES[name].classes:
            package = module.partition(".")[0]
            if module in sys.modules:
                _register(module, attribute)
            for table in (sizeof, dask_serialize, dask_deserialize):
                table.register_lazy(package, lambda m=module, a=attribute: _register(m, a))


def _register(module: str, attribute: str) -> None:
    kind = getattr(sys.modules.get(module), attribute, None)
    if isinstance(kind, type):
        sizeof.register(kind, _nbytes)
        dask_serialize.register(kind, _to_frames)
        dask_deserialize.register(kind, _from_frames)


def _nbytes(array: Any) -> int:
    return int(array.nbytes)


def _to_frames(array: Any) -> tuple[Header, list[Any]]:
    """Serialize by way of host memory; gradients do not travel."""
    header, frames = serialize(to_numpy(array))
    device = getattr(getattr(array, "device", None), "type", "cpu")
    return {"host": header, "memory_type": type_of(array), "device": str(device)}, frames


def _from_frames(header: Header, frames: list[Any]) -> Any:
    """Restore an array on the present device of the kind that it lay on."""
    host = deserialize(header["host"], frames)
    on_device = header["memory_type"] == "torch" and header["device"] != "cpu"
    return convert(host, header["memory_type"], device=header["device"] if on_device else None)
