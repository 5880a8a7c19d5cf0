"""Cells around their nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from hcsflow.arrays import numpy
from hcsflow.contracts import Limits, contract, special_inputs, special_outputs
from hcsflow.errors import ContractError
from hcsflow.functions.filters import gaussian_plane
from hcsflow.functions.planes import Plane, check_at_least, check_pixels, widened
from hcsflow.functions.threshold import otsu
from hcsflow.materialize import Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["segment_cells"]


@special_inputs("labels")
@special_outputs(("cells", Labels()))
@contract(dtype="uint32", working_planes=0.0, fixed_planes=16.0)
@numpy
def segment_cells(
    stack: NDArray[Any],
    *,
    labels: NDArray[Any],
    scale: Annotated[float, Limits(ge=0)] = 1.0,
    minimum: float | None = None,
    smooth: Annotated[float, Limits(ge=0)] = 1.0,
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Grow each nucleus into its cell.

    The cells' area is what is above Otsu's threshold, nuclei included; it is flooded from the
    nuclei, brightest pixels first (`skimage.segmentation.watershed` of the negative). Area that
    touches no nucleus belongs to no cell. A cell has the number of its nucleus.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        A stain of the whole cell, or the mean of several; any integer or float dtype.
    labels : ndarray, (Z, Y, X) of integers
        Nuclei; 0 is background.
    scale : float
        Factor on Otsu's threshold; below 1 takes in more.
    minimum : float or None
        Least threshold, in grey levels.
    smooth : float
        Sigma of a Gaussian before flooding and thresholding, in pixels.

    Returns
    -------
    stack : ndarray, (Z, Y, X) uint32
        Cells; 0 is background.
    cells : ndarray, (Z, Y, X) uint32
        The same, as special output ``cells``.

    Raises
    ------
    ContractError
        If labels are no integers of the stack's shape.
    """
    check_pixels(stack)
    check_at_least(0, scale=scale, smooth=smooth)
    if labels.shape != stack.shape or labels.dtype.kind not in "iu":
        raise ContractError(
            f"segment_cells takes labels (Z, Y, X) of integers like its planes {stack.shape}, "
            f"found {labels.shape} {labels.dtype}",
            hint="make nuclei and the cells' stain projections of the same z",
        )
    result = np.zeros(stack.shape, np.uint32)
    for index, plane in enumerate(stack):
        smoothed = gaussian_plane(widened(plane, ("float32", "float64")), smooth)
        threshold = otsu(smoothed) * scale
        threshold = threshold if minimum is None else max(threshold, minimum)
        result[index] = _flooded(smoothed, labels[index], smoothed > threshold)
    return result, result


def _flooded(plane: Plane, nuclei: NDArray[Any], area: NDArray[np.bool_]) -> NDArray[np.uint32]:
    from skimage.segmentation import watershed

    markers = nuclei.astype(np.int32)
    return np.asarray(watershed(-plane, markers, mask=area | (markers > 0))).astype(np.uint32)
