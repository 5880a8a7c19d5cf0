"""A plate as OME-Zarr, as one would write it with ngff-zarr.

    PYTHON_OF_ITS_OWN_VENV convert_ngff_zarr.py PLATE OUTPUT --processes 2

A well is one image, with the same pixels, levels, chunks and codec as ours, levels by the mean
(``--method``; ngff-zarr's own default, a Gaussian, is slower), written through
`ngff_zarr.hcs.HCSPlateWriter`. Wells go to processes, each of which computes on one thread. A
chunk is an object; ``--shards yes`` puts each level into one, as ours, which takes longer; then
``--method DASK_BIN_SHRINK`` is the fastest.
"""

from __future__ import annotations

from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dask
import ngff_zarr
import numcodecs
import zarr.codecs
from convert_plate import PIXEL_SIZE_UM, Z_STEP_UM, Files, Job, files_by_well, job_of, read_well
from ngff_zarr.hcs import HCSPlateWriter, write_hcs_well_image

VERSION = "0.5"


def main() -> None:
    """Convert all wells."""
    job = job_of(__doc__.partition("\n")[0], method="ITKWASM_BIN_SHRINK", shards="no")
    wells = files_by_well(job.plate)
    plate = plate_of([well for well, _ in wells])
    store = job.output / "images.zarr"
    with (
        get_context("fork").Pool(job.processes) as pool,  # before anything starts threads
        HCSPlateWriter(str(store), plate),
    ):
        for _ in pool.imap_unordered(partial(convert_well, job, store, plate), wells):
            pass


def plate_of(wells: list[str]) -> Any:
    """Return ngff-zarr's description of the plate."""
    rows, columns = sorted({w[0] for w in wells}), sorted({w[1:] for w in wells})
    return ngff_zarr.Plate(
        rows=[ngff_zarr.PlateRow(name=row) for row in rows],
        columns=[ngff_zarr.PlateColumn(name=column) for column in columns],
        wells=[
            ngff_zarr.PlateWell(
                path=f"{w[0]}/{w[1:]}",
                rowIndex=rows.index(w[0]),
                columnIndex=columns.index(w[1:]),
            )
            for w in wells
        ],
        version=VERSION,
    )


def convert_well(job: Job, store: Path, plate: Any, task: tuple[str, Files]) -> None:
    """Read one well and write its levels."""
    well, files = task
    threads = {"scheduler": "threads", "num_workers": job.threads}
    numcodecs.blosc.set_nthreads(job.threads)
    with dask.config.set(threads if job.threads > 1 else {"scheduler": "synchronous"}):
        array, chunk = read_well(files)
        image = ngff_zarr.to_ngff_image(
            array,
            dims=("c", "z", "y", "x"),
            scale={"c": 1.0, "z": Z_STEP_UM, "y": PIXEL_SIZE_UM, "x": PIXEL_SIZE_UM},
        )
        levels = ngff_zarr.to_multiscales(
            image,
            scale_factors=[{"z": 1, "y": 2**n, "x": 2**n} for n in range(1, job.levels)],
            method=ngff_zarr.Methods[job.options.method],
            chunks={"c": 1, "z": 1, "y": chunk[0], "x": chunk[1]},
            cache=False,
        )
        options = storage(job, array, chunk)
        write_hcs_well_image(
            str(store), levels, plate, well[0], well[1:], version=VERSION, **options
        )


def storage(job: Job, array: Any, chunk: tuple[int, int]) -> dict[str, Any]:
    """Return codec and sharding."""
    codec = zarr.codecs.BloscCodec(
        cname=job.codec.cname,
        clevel=job.codec.clevel,
        shuffle=job.codec.shuffle,
        blocksize=job.codec.blocksize,
        typesize=array.dtype.itemsize,
    )
    options: dict[str, Any] = {"compressors": codec}
    if job.options.shards == "yes":
        channels, heights, y, x = array.shape
        options["chunks_per_shard"] = {
            "c": channels,
            "z": heights,
            "y": y // chunk[0],
            "x": x // chunk[1],
        }
    return options


if __name__ == "__main__":
    main()
