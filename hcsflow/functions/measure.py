"""Measuring objects: one row each, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hcsflow.arrays import numpy
from hcsflow.contracts import contract, special_inputs, special_outputs
from hcsflow.errors import ContractError
from hcsflow.functions.planes import check_pixels
from hcsflow.materialize import Table
from hcsflow.plate import PlaneKey

__all__ = ["measure_objects"]

REDUCTIONS = ("max", "mean")

Column = NDArray[Any]


@special_inputs("labels", "pixel_size_um", "plane_keys", "channel_names")
@special_outputs(("objects", Table(labels="labels")))
@contract(ragged=True, working_planes=0.0, fixed_planes=14.0)
@numpy
def measure_objects(
    stack: NDArray[Any],
    *,
    labels: NDArray[Any],
    pixel_size_um: float | None = None,
    plane_keys: Sequence[PlaneKey] | None = None,
    channel_names: Sequence[str] | None = None,
    z_reduction: Literal["max", "mean"] = "max",
) -> tuple[NDArray[Any], dict[str, Column]]:
    """Measure size, place and every channel's intensity of each object of a field.

    Parameters
    ----------
    stack : ndarray, (Z, Y, X)
        All planes of one field: every channel, every z, in any order; returned as it is.
    labels : ndarray, (1, Y, X) or (Y, X) of integers
        Objects; 0 is background.
    pixel_size_um : float or None
        Side of a pixel in µm; None leaves the ``_um`` columns out.
    plane_keys : sequence of PlaneKey, optional
        Which plane of the stack is which; without it each plane is a channel of its own.
    channel_names : sequence of str, optional
        By channel index; without it ``c1``, ``c2`` … .
    z_reduction : "max" or "mean"
        How a channel's planes become one before pixels are averaged.

    Returns
    -------
    stack : ndarray
        The input itself.
    objects : dict of str to ndarray
        Special output ``objects``, one entry per object, in order of its label:
        ``label_in_field`` int64; ``area_px`` int64, number of pixels; ``area_um2``;
        ``centroid_y_px``, ``centroid_x_px``, mean of pixel indices, so 0 is the middle of the
        first pixel; ``centroid_y_um``, ``centroid_x_um``, the same times the pixel size, within
        the field; ``mean_intensity_<channel>``, mean over the object's pixels of the channel's
        maximum (or mean) over all acquired z, in grey levels of the stack.

    Raises
    ------
    ContractError
        If labels are not one integer plane of the stack's size, or keys do not fit the stack.
    ValueError
        If the reduction is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[0, 1], [0, 1]], np.uint32)
    >>> _, table = measure_objects(np.full((1, 2, 2), 5, np.uint16), labels=labels)
    >>> table["area_px"].tolist(), table["mean_intensity_c1"].tolist()
    ([2], [5.0])
    """
    check_pixels(stack)
    if z_reduction not in REDUCTIONS:
        raise ValueError(f"z_reduction must be one of {REDUCTIONS}, got {z_reduction!r}")
    plane = _label_plane(labels, stack.shape[1:])
    members = _channel_members(len(stack), plane_keys)
    where = np.flatnonzero(plane != 0)
    ids = plane.ravel()[where].astype(np.intp)
    areas = np.bincount(ids)
    present = np.flatnonzero(areas)
    table = _geometry(ids, where, areas, present, plane.shape[1])
    if pixel_size_um is not None:
        _add_um(table, pixel_size_um)
    for channel, planes in members.items():
        pixels = _reduced(stack, planes, where, z_reduction)
        sums = np.bincount(ids, weights=pixels, minlength=len(areas))
        name = f"c{channel + 1}" if channel_names is None else channel_names[channel]
        table[f"mean_intensity_{name}"] = sums[present] / areas[present]
    return stack, table


def _label_plane(labels: NDArray[Any], shape_yx: tuple[int, ...]) -> NDArray[Any]:
    plane = labels[0] if labels.ndim == 3 and len(labels) == 1 else labels
    if plane.shape != shape_yx or plane.dtype.kind not in "iu":
        raise ContractError(
            f"measure_objects takes labels (1, Y, X) of integers and {shape_yx} pixels, "
            f"found {labels.shape} {labels.dtype}",
            hint="label a projection: objects of a field are measured in one plane",
        )
    return plane


def _channel_members(planes: int, plane_keys: Sequence[PlaneKey] | None) -> dict[int, list[int]]:
    """Return the stack's indices of each channel, by channel."""
    channels = range(planes) if plane_keys is None else [key.channel for key in plane_keys]
    if len(channels) != planes:
        raise ContractError(f"measure_objects got {len(channels)} keys for {planes} planes")
    members: dict[int, list[int]] = {}
    for index, channel in enumerate(channels):
        members.setdefault(channel, []).append(index)
    return dict(sorted(members.items()))


def _geometry(
    ids: Column, where: Column, areas: Column, present: Column, width: int
) -> dict[str, Column]:
    y, x = np.divmod(where, width)
    area = areas[present]
    return {
        "label_in_field": present.astype(np.int64),
        "area_px": area.astype(np.int64),
        "centroid_y_px": np.bincount(ids, weights=y)[present] / area,
        "centroid_x_px": np.bincount(ids, weights=x)[present] / area,
    }


def _add_um(table: dict[str, Column], pixel_size_um: float) -> None:
    table["area_um2"] = table["area_px"] * pixel_size_um**2
    for axis in "yx":
        table[f"centroid_{axis}_um"] = table[f"centroid_{axis}_px"] * pixel_size_um


def _reduced(stack: NDArray[Any], planes: list[int], where: Column, reduction: str) -> Column:
    """Return one channel's pixels inside objects, reduced over its planes, as float64."""
    result = stack[planes[0]].ravel()[where].astype(np.float64)
    combine = np.maximum if reduction == "max" else np.add
    for index in planes[1:]:
        combine(result, stack[index].ravel()[where], out=result)
    return np.asarray(result if reduction == "max" else result / len(planes))
