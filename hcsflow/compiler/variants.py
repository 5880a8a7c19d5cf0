"""Which variant of each function of a chain: that with which arrays are converted least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hcsflow.arrays import conversion_path

__all__ = ["Variant", "fewest_conversions"]

BETWEEN_STEPS = "numpy"
"""Memory type of what a step takes and keeps."""


class Variant(NamedTuple):
    """Memory types that a function takes and returns."""

    input_type: str
    output_type: str


class _Way(NamedTuple):
    """How a chain got so far: conversions, how often not the preferred variant, the choices."""

    conversions: int
    detours: int
    choices: tuple[int, ...]


def fewest_conversions(chain: Sequence[Sequence[Variant]]) -> tuple[int, ...]:
    """Choose a variant for each function of a chain, with the fewest conversions in all.

    A conversion that goes through host memory counts as the two that it is. Of ways that are
    alike the one that takes earlier, preferred variants wins, so that nothing but numpy is chosen
    where numpy alone would do.

    Parameters
    ----------
    chain : sequence of sequence of Variant
        For each function its variants, the preferred one first.

    Returns
    -------
    tuple of int
        The index of the variant of each function.

    Examples
    --------
    >>> numpy, torch = Variant("numpy", "numpy"), Variant("torch", "torch")
    >>> fewest_conversions([[torch], [numpy, torch], [torch]])
    (0, 1, 0)
    """
    ways = {BETWEEN_STEPS: _Way(0, 0, ())}
    for variants in chain:
        following: dict[str, _Way] = {}
        for index, variant in enumerate(variants):
            way = min(
                _Way(
                    way.conversions + _conversions(current, variant.input_type),
                    way.detours + index,
                    (*way.choices, index),
                )
                for current, way in ways.items()
            )
            kept = following.get(variant.output_type)
            following[variant.output_type] = way if kept is None else min(kept, way)
        ways = following
    ends = (
        way._replace(conversions=way.conversions + _conversions(current, BETWEEN_STEPS))
        for current, way in ways.items()
    )
    return min(ends).choices


def _conversions(source: str, target: str) -> int:
    return len(conversion_path(source, target)) - 1
