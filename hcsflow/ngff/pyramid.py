"""Pyramid geometry: how many levels, and the size of a field's tile."""

from __future__ import annotations

__all__ = ["MAX_SMALLEST_PX", "MIN_SIDE_PX", "plan_pyramid"]

MIN_SIDE_PX = 128
"""A level whose longer side would be shorter is not made."""

MAX_SMALLEST_PX = 2048
"""A smallest level whose longer side is longer makes viewers slow: then tiles are padded."""


def plan_pyramid(
    field_yx: tuple[int, int], grid: tuple[int, int], *, is_pyramid: bool = True
) -> tuple[tuple[int, int], int]:
    """Choose the tile pitch and the number of levels of a mosaic.

    Each field is downsampled alone by 2, so that no pixel mixes two fields: levels end where a
    field's side turns odd, or where the next level's longer side would fall under
    `MIN_SIDE_PX`. Only where the smallest level would then be longer than `MAX_SMALLEST_PX` is
    the pitch rounded up, to the smallest power of two that mends it.

    Parameters
    ----------
    field_yx : (int, int)
        A field's size in pixels.
    grid : (int, int)
        Rows and columns of tiles.
    is_pyramid : bool
        False: full resolution only.

    Returns
    -------
    pitch_yx, levels : (int, int), int
        A tile's size at full resolution; levels, full resolution included.

    Examples
    --------
    >>> plan_pyramid((1080, 1080), (3, 3))
    ((1080, 1080), 4)
    >>> plan_pyramid((512, 512), (1, 2))
    ((512, 512), 4)
    >>> plan_pyramid((1081, 1081), (3, 3))
    ((1082, 1082), 2)
    """
    if not is_pyramid:
        return field_yx, 1
    unit = 1
    while unit < 2 * max(field_yx):
        pitch = (_round_up(field_yx[0], unit), _round_up(field_yx[1], unit))
        longer = max(pitch[0] * grid[0], pitch[1] * grid[1])
        levels = _count_levels(pitch, longer)
        if longer >> (levels - 1) <= MAX_SMALLEST_PX:
            return pitch, levels
        unit *= 2
    # more than 2,048 tiles in a row: no pitch helps
    return field_yx, _count_levels(field_yx, max(field_yx[0] * grid[0], field_yx[1] * grid[1]))


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _count_levels(pitch: tuple[int, int], longer: int) -> int:
    levels = 1
    while pitch[0] % 2 == 0 and pitch[1] % 2 == 0 and longer // 2 >= MIN_SIDE_PX:
        pitch = (pitch[0] // 2, pitch[1] // 2)
        longer //= 2
        levels += 1
    return levels
