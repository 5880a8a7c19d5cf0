"""OME-Zarr without I/O: metadata documents, arrays, chunks, shards, regions, pyramids."""
