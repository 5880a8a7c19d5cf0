"""Save a well's planes by polystore's zarr backend; write wall and CPU seconds of that call.

    PYTHON_OF_ITS_OWN_VENV polystore_zarr.py PLANES.npy OUTPUT SECONDS.json

``PLANES.npy`` is (field, channel, z, y, x). Imports and a first, tiny batch are not counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from polystore.config import ZarrChunkStrategy, ZarrCompressor, ZarrConfig
from polystore.zarr import ZarrStorageBackend
from polystore.zarr_batch import ZarrBatchAxis, ZarrBatchAxisRole, ZarrBatchLayout


def main() -> None:
    """Save once to warm up, once for the clock."""
    planes, output = np.load(sys.argv[1]), Path(sys.argv[2])
    config = ZarrConfig(ZarrCompressor.ZSTD, 1, ZarrChunkStrategy.WELL)
    backend = ZarrStorageBackend(config)
    save(backend, planes[..., :64, :64].copy(), output.with_name("polystore_warm.zarr"))
    start, processor = time.perf_counter(), time.process_time()
    save(backend, planes, output)
    wall = time.perf_counter() - start
    taken = {"wall_s": wall, "cpu_s": time.process_time() - processor}
    Path(sys.argv[3]).write_text(json.dumps(taken))


def save(backend: ZarrStorageBackend, planes: np.ndarray, store: Path) -> None:
    """Save one well; fields are images of their own, as its callers declare them."""
    axes = tuple(
        ZarrBatchAxis(name, tuple(map(str, range(size))), role)
        for name, size, role in zip(
            ("field", "c", "z"),
            planes.shape[:3],
            (ZarrBatchAxisRole.HCS_IMAGE, ZarrBatchAxisRole.ARRAY, ZarrBatchAxisRole.ARRAY),
            strict=True,
        )
    )
    places = tuple(np.ndindex(*planes.shape[:3]))
    backend.save_batch(
        [planes[place] for place in places],
        [store / f"B03_s{f + 1:03d}_w{c + 1}_z{z + 1:03d}_t001.tif" for f, c, z in places],
        chunk_name="B03",
        batch_layout=ZarrBatchLayout(axes, places),
        row="B",
        col="03",
    )


if __name__ == "__main__":
    main()
