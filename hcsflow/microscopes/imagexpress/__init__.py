"""ImageXpress (Molecular Devices): database layout, exported layout with HTD, flat names."""

from hcsflow.microscopes.imagexpress.files import is_plate_file
from hcsflow.microscopes.imagexpress.reader import (
    LOOKS_FOR,
    open_plate,
    read_stage_positions,
    stage_position,
)

__all__ = ["LOOKS_FOR", "is_plate_file", "open_plate", "read_stage_positions", "stage_position"]
