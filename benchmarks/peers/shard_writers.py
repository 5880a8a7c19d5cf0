"""Write one array as one shard by zarr-python or tensorstore; tell seconds of that call.

    PYTHON_OF_ITS_OWN_VENV shard_writers.py WRITER PLANES.npy OUTPUT SECONDS.json BLOCK_BYTES

``WRITER`` is ``zarr-python``, ``tensorstore`` or ``tensorstore-no-sync`` (which does not wait for
the disk, as the others do not). ``PLANES.npy`` is (field, channel, z, y, x); a plane is an inner
chunk. ``BLOCK_BYTES`` is blosc's block size, 0 its own choice. Imports and a first write are not
counted.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np


def main() -> None:
    """Write once to warm up, once for the clock."""
    name, planes, output = sys.argv[1], np.load(sys.argv[2]), Path(sys.argv[3])
    stack = planes.reshape(-1, *planes.shape[-2:])
    write = writer_of(name)
    for path in (output.with_suffix(".warm"), output):
        shutil.rmtree(path, ignore_errors=True)
        start, processor = time.perf_counter(), time.process_time()
        write(path, stack, int(sys.argv[5]))
        wall, cpu = time.perf_counter() - start, time.process_time() - processor
    shutil.rmtree(output.with_suffix(".warm"))
    package = "zarr" if name == "zarr-python" else "tensorstore"
    taken = {"wall_s": wall, "cpu_s": cpu, "version": version(package)}
    Path(sys.argv[4]).write_text(json.dumps(taken))


def writer_of(name: str) -> Callable[[Path, np.ndarray, int], None]:
    """Import a writer."""
    if name == "zarr-python":
        import zarr
        from zarr.codecs import BloscCodec

        return lambda path, stack, block_bytes: by_zarr_python(
            zarr, BloscCodec, path, stack, block_bytes
        )
    import tensorstore

    context = {"file_io_sync": False} if name.endswith("no-sync") else {}
    return lambda path, stack, block_bytes: by_tensorstore(
        tensorstore, context, path, stack, block_bytes
    )


def by_zarr_python(
    zarr: object, blosc: Callable[..., object], path: Path, stack: np.ndarray, block_bytes: int
) -> None:
    """Write one shard in one call."""
    zarr.create_array(
        path,
        data=stack,
        chunks=(1, *stack.shape[1:]),
        shards=stack.shape,
        compressors=blosc(cname="zstd", clevel=1, shuffle="shuffle", blocksize=block_bytes),
    )


def by_tensorstore(
    tensorstore: object,
    context: dict[str, object],
    path: Path,
    stack: np.ndarray,
    block_bytes: int,
) -> None:
    """Write the same shard."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    blosc = {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "typesize": stack.itemsize}
    sharding = {
        "chunk_shape": [1, *stack.shape[1:]],
        "codecs": [little, {"name": "blosc", "configuration": blosc | {"blocksize": block_bytes}}],
        "index_codecs": [little, {"name": "crc32c"}],
    }
    metadata = {
        "shape": list(stack.shape),
        "data_type": stack.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(stack.shape)}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }
    store = {"driver": "file", "path": str(path)}
    spec = {"driver": "zarr3", "kvstore": store, "metadata": metadata, "context": context}
    tensorstore.open(spec, create=True).result().write(stack).result()


if __name__ == "__main__":
    main()
