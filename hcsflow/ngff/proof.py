"""Proofs about layouts, analytic: they cost the same for one field and for a thousand."""

from __future__ import annotations

from math import prod

from hcsflow.errors import PlanRefusedError
from hcsflow.ngff.fields import image_of
from hcsflow.ngff.model import ArrayLayout, ImageLayout

__all__ = ["prove_labels", "prove_regions"]


def prove_regions(layout: ImageLayout) -> None:
    """Prove that regions are disjoint, lie on chunk edges and cover all but absent slots.

    A region is one chunk, found by (timepoint, channel, slot, cell). If the chunk grid is the
    product of these axes, each index occurs once and each is inside the grid, then different
    planes have different chunks, and a chunk without a plane is an absent slot or an empty
    cell. So it is enough to check axes and index lists; no region is enumerated. Fields that are
    images of their own lie in different folders if none recurs.

    Raises
    ------
    PlanRefusedError
        Naming the array and what does not hold.
    """
    if layout.is_per_field:
        _prove_fields(layout)
        prove_regions(image_of(layout, layout.fields[0]))  # the others are like it
        return
    _prove_indices(layout)
    rows, columns = (
        size // pitch
        for size, pitch in zip(layout.levels[0].shape[-2:], layout.pitch_yx, strict=True)
    )
    if not all(0 <= row < rows and 0 <= column < columns for row, column in layout.cells):
        raise PlanRefusedError(f"image {layout.path!r}: a field lies outside its mosaic")
    sizes = {"t": len(layout.timepoints), "c": len(layout.channels), "z": layout.z}
    if layout.kind == "label":
        del sizes["c"]
    for level, array in enumerate(layout.levels):
        tile = (layout.pitch_yx[0] >> level, layout.pitch_yx[1] >> level)
        lead = tuple(sizes.get(axis, 0) for axis in array.axes[:-2])
        if prod(lead) != prod(sizes.values()):
            raise PlanRefusedError(f"array {array.path!r}: axes {array.axes} lack planes {sizes}")
        found = (array.chunks, array.shape)
        expected = (
            (*(1 for _ in lead), *tile),
            (*lead, rows * tile[0], columns * tile[1]),
        )
        halves = all(t << level == p for t, p in zip(tile, layout.pitch_yx, strict=True))
        if found != expected or not halves or not _is_cut_between_chunks(array):
            raise PlanRefusedError(
                f"array {array.path!r}: chunks and shape {found} do not tile the fields, "
                f"expected {expected}"
            )


def _is_cut_between_chunks(array: ArrayLayout) -> bool:
    """Tell whether each chunk lies in one object: objects are whole chunks."""
    sizes = zip(array.shards or array.chunks, array.chunks, array.shape, strict=True)
    return all(stored % chunk == 0 and chunk <= stored <= total for stored, chunk, total in sizes)


def _prove_fields(layout: ImageLayout) -> None:
    """Prove that each field has one image and fills it from its corner."""
    if len(set(layout.fields)) != len(layout.fields):
        raise PlanRefusedError(f"image {layout.path!r}: two planes would share a region")
    if layout.cells != ((0, 0),) * len(layout.fields):
        raise PlanRefusedError(f"image {layout.path!r}: a plane has no region")


def _prove_indices(layout: ImageLayout) -> None:
    lists: tuple[tuple[object, ...], ...] = (
        layout.cells,
        layout.fields,
        layout.timepoints,
        layout.channels,
        layout.heights,
        *layout.slots,
    )
    if any(len(set(one)) != len(one) for one in lists):
        raise PlanRefusedError(f"image {layout.path!r}: two planes would share a region")
    stacks = 1 if layout.kind == "label" else len(layout.channels)
    if (len(layout.fields), stacks, layout.z) != (
        len(layout.cells),
        len(layout.slots),
        len(layout.heights),
    ):
        raise PlanRefusedError(f"image {layout.path!r}: a plane has no region")
    if any(not 0 <= slot < layout.z for stack in layout.slots for slot in stack):
        raise PlanRefusedError(f"image {layout.path!r}: a z slot lies outside the stack")


def prove_labels(image: ImageLayout, labels: ImageLayout) -> None:
    """Prove that labels lie on their image: same images, levels and times; z equal or flat.

    Raises
    ------
    PlanRefusedError
        Naming both and what differs.
    """
    for what, ours, theirs in (
        ("images", _images(labels), _images(image)),
        ("levels", [a.shape[-2:] for a in labels.levels], [a.shape[-2:] for a in image.levels]),
        ("timepoints", labels.timepoints, image.timepoints),
        ("z", labels.heights if labels.z > 1 else (), image.heights if labels.z > 1 else ()),
    ):
        if ours != theirs:
            raise PlanRefusedError(
                f"labels {labels.path!r} do not fit image {image.path!r}: {what} {ours}, "
                f"the image has {theirs}",
                hint="make labels of the planes that the last step returns",
            )


def _images(layout: ImageLayout) -> tuple[int, ...] | None:
    """Return the fields that are images of their own, None for a mosaic."""
    return layout.fields if layout.is_per_field else None
