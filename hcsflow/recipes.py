"""How an output is made, as a hash: the one definition of what a unit's fingerprint covers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["counted", "hash_of_recipe", "hash_of_unit", "recipe_text"]

UNCOUNTED = frozenset({"lists_wells", "objects_per_well", "raw_bytes_per_well"})
"""What of an output decides no byte of a well: what its plate group says, and sums."""


def counted(write: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of an output's plan that decide the bytes of its wells.

    Examples
    --------
    >>> counted({"store": "images.zarr", "lists_wells": True})
    {'store': 'images.zarr'}
    """
    return {name: value for name, value in write.items() if name not in UNCOUNTED}


def recipe_text(steps: Sequence[str], write: Mapping[str, Any]) -> str:
    """Return how an output is made, whatever the well, as text.

    Parameters
    ----------
    steps : sequence of str
        Fingerprints of the steps up to the one that makes it.
    write : mapping
        The output, as ``plan.json`` says it.
    """
    return json.dumps([list(steps), counted(write)], sort_keys=True)


def hash_of_recipe(recipe: str) -> str:
    """Return the hash of `recipe_text`."""
    return hashlib.sha256(recipe.encode()).hexdigest()


def hash_of_unit(inputs: str, recipe: str) -> str:
    """Return the fingerprint of a unit: that of its well's inputs, and `recipe_text`."""
    return hashlib.sha256(f"{json.dumps(inputs)}{recipe}".encode()).hexdigest()
