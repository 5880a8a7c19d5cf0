"""Load 8 planes by name from polystore stores of some wells; print seconds by number of wells.

    PYTHON_OF_ITS_OWN_VENV polystore_planes.py FOLDER ROUNDS WELLS...

The stores are written into FOLDER first: 90 planes of 64 × 64 pixels a well.
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

SHAPE = (9, 2, 5)


def main() -> None:
    """Write the stores, then load from each in turn."""
    folder, rounds, sizes = Path(sys.argv[1]), int(sys.argv[2]), list(map(int, sys.argv[3:]))
    planes = [np.full((64, 64), i, np.uint16) for i in range(90)]
    config = ZarrConfig(ZarrCompressor.ZSTD, 1, ZarrChunkStrategy.WELL)
    for size in sizes:
        backend = ZarrStorageBackend(config)
        for well in range(size):
            save(backend, planes, folder / f"{size}.zarr", well)
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            names = [folder / f"{size}.zarr" / name for name in names_of(0)[37:45]]
            backend = ZarrStorageBackend(config)
            start = time.perf_counter()
            found = backend.load_batch(names)
            taken[size].append(time.perf_counter() - start)
            assert [int(plane.max()) for plane in found] == list(range(37, 45))
    print(json.dumps(taken))


def names_of(well: int) -> list[str]:
    name = f"{chr(65 + well // 24)}{well % 24 + 1:02d}"
    return [f"{name}_s{f + 1:03d}_w{c + 1}_z{z + 1:03d}_t001.tif" for f, c, z in np.ndindex(*SHAPE)]


def save(backend: ZarrStorageBackend, planes: list[np.ndarray], store: Path, well: int) -> None:
    """Save one well; fields are images of their own, as its callers declare them."""
    roles = (ZarrBatchAxisRole.HCS_IMAGE, ZarrBatchAxisRole.ARRAY, ZarrBatchAxisRole.ARRAY)
    axes = tuple(
        ZarrBatchAxis(name, tuple(map(str, range(size))), role)
        for name, size, role in zip(("field", "c", "z"), SHAPE, roles, strict=True)
    )
    backend.save_batch(
        planes,
        [store / name for name in names_of(well)],
        chunk_name=names_of(well)[0][:3],
        batch_layout=ZarrBatchLayout(axes, tuple(np.ndindex(*SHAPE))),
        row=chr(65 + well // 24),
        col=f"{well % 24 + 1:02d}",
    )


if __name__ == "__main__":
    main()
