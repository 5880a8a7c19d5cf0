"""Pixel sizes that a user gives; those that are taken are tested with the index cache."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from hcsflow.errors import UsageError
from hcsflow.microscopes import open_plate
from hcsflow.microscopes.index_cache import open_plate_again


@pytest.mark.parametrize(
    "size",
    ["0.5", "x", True, 0, -1, 1e6, float("nan"), 10**400, Decimal("sNaN"), 1j, [0.5], np.zeros(1)],
    ids=lambda size: f"{size!r:.20}",
)
def test_what_is_no_pixel_size_is_refused(tmp_path, size):
    for function in (open_plate_again, open_plate):
        with pytest.raises(UsageError, match="pixel size in µm above 0"):
            function(tmp_path, pixel_size_um=size)
