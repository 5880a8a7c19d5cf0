"""The images of a well's fields, where each field is an image of its own. Pure."""

from __future__ import annotations

from dataclasses import replace

from hcsflow.ngff.model import ImageLayout

__all__ = ["image_of", "images_of"]


def images_of(layout: ImageLayout) -> tuple[ImageLayout, ...]:
    """Return the images that a well's layout stands for, in the order of its fields.

    Returns
    -------
    tuple of ImageLayout
        Of a mosaic the layout itself. Otherwise one for each field, at ``"0"``, ``"1"``, … (of
        labels ``"0/labels/nuclei"``, ``"1/labels/nuclei"``, …).
    """
    if not layout.is_per_field:
        return (layout,)
    return tuple(image_of(layout, field) for field in layout.fields)


def image_of(layout: ImageLayout, field: int) -> ImageLayout:
    """Return the image that holds a field.

    Parameters
    ----------
    layout : ImageLayout
        The well's.
    field : int
        Dense field index.

    Raises
    ------
    LookupError
        If the well has an image for each field and none for this one.
    """
    if not layout.is_per_field:
        return layout
    if field not in layout.fields:
        raise LookupError(f"image {layout.path!r} has no field {field}")
    place = str(layout.fields.index(field))
    return replace(
        layout,
        path=_moved(layout.path, place),
        levels=tuple(replace(a, path=_moved(a.path, place)) for a in layout.levels),
        cells=((0, 0),),
        fields=(field,),
        is_per_field=False,
    )


def _moved(path: str, place: str) -> str:
    return "/".join((place, *path.split("/")[1:]))
