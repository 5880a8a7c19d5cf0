"""Is an image any good: focus and grey values, one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hcsflow.arrays import numpy
from hcsflow.contracts import contract, special_outputs
from hcsflow.functions.planes import check_pixels
from hcsflow.functions.projection import laplacian_variance
from hcsflow.materialize import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["measure_quality"]

PERCENTILES = (1, 50, 99)


@special_outputs(("quality", Table()))
@contract(ragged=True, working_planes=0.0, fixed_planes=8.0)
@numpy
def measure_quality(
    stack: NDArray[Any], *, saturation: float | None = None
) -> tuple[NDArray[Any], dict[str, list[Any]]]:
    """Measure focus and grey values of a stack's sharpest plane.

    Sharpness is the variance of the Laplacian, as in `best_focus`: compare it between fields of
    one channel, never between channels.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        Any integer or float dtype; returned as it is.
    saturation : float or None
        Grey level from which a pixel counts as saturated, e.g. 4095 for a 12-bit camera; None is
        the dtype's maximum (1 for floats).

    Returns
    -------
    stack : ndarray
        The input itself.
    quality : dict of str to list
        Special output ``quality``, one row: ``planes``; ``sharpest_plane``, from 1; ``focus``, in
        squared grey levels; of the sharpest plane ``mean``, ``standard_deviation``,
        ``percentile_1``, ``percentile_50``, ``percentile_99``, in grey levels, and
        ``saturated_fraction``.

    Examples
    --------
    >>> import numpy as np
    >>> _, row = measure_quality(np.full((2, 8, 8), 7, np.uint8))
    >>> row["mean"], row["focus"], row["saturated_fraction"]
    ([7.0], [0.0], [0.0])
    """
    check_pixels(stack)
    sharpness = [laplacian_variance(plane) for plane in stack]
    best = int(np.argmax(sharpness))
    plane = stack[best]
    top = saturation
    if top is None:
        top = 1.0 if plane.dtype.kind in "fb" else float(np.iinfo(plane.dtype).max)
    levels = np.percentile(plane, PERCENTILES)
    row: dict[str, list[Any]] = {
        "planes": [len(stack)],
        "sharpest_plane": [best + 1],
        "focus": [sharpness[best]],
        "mean": [float(plane.mean(dtype=np.float64))],
        "standard_deviation": [float(plane.std(dtype=np.float64))],
    }
    row |= {f"percentile_{p}": [float(v)] for p, v in zip(PERCENTILES, levels, strict=True)}
    return stack, row | {"saturated_fraction": [float((plane >= top).mean())]}
