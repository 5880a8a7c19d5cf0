"""What a user holds: `open_plate`, `compile`, Plate, Plan, Run. Thin, over frozen values.

The modules are imported by name, so that opening a plate does not load Dask.
"""
