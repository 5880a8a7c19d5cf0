"""Plates, plane keys, well names, manifests. No I/O."""

from hcsflow.plate.manifest import Manifest, PlaneColumns, PlaneRow, WellFault
from hcsflow.plate.model import (
    COMPONENTS,
    Channel,
    FieldGrid,
    Measured,
    PlaneKey,
    Plate,
    StoredProjection,
)

__all__ = [
    "COMPONENTS",
    "Channel",
    "FieldGrid",
    "Manifest",
    "Measured",
    "PlaneColumns",
    "PlaneKey",
    "PlaneRow",
    "Plate",
    "StoredProjection",
    "WellFault",
]
