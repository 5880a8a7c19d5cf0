"""The catalogue: ready-made step functions by name and memory type.

One table, here. Other distributions add functions by entry points of the group
``hcsflow.functions``: ``my_filter = "package.module:function"`` for numpy,
``my_filter.torch = "package.module:by_torch"`` for another memory type.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from hcsflow.arrays import MEMORY_TYPES
from hcsflow.contracts import contract_of
from hcsflow.errors import FunctionNotFoundError, PipelineError, nearest
from hcsflow.functions.parameters import Parameter, parameters_of

__all__ = [
    "CatalogueEntry",
    "entry",
    "find",
    "memory_types_of",
    "name_of",
    "names",
    "variant_of",
]

GROUP = "hcsflow.functions"

_NUMPY = {
    "background": ("black_tophat", "flat_field", "subtract_background", "white_tophat"),
    "cells": ("segment_cells",),
    "filters": ("gaussian_filter", "mean_filter", "median_filter"),
    "intensity": (
        "add_constant",
        "clip",
        "invert",
        "multiply_constant",
        "normalize_range",
        "subtract_constant",
    ),
    "masks": (
        "binary_closing",
        "binary_dilation",
        "binary_erosion",
        "binary_opening",
        "fill_holes",
        "remove_small_objects",
    ),
    "measure": ("measure_objects",),
    "objects": ("count_objects", "keep_labels", "label_objects", "split_touching"),
    "projection": (
        "best_focus",
        "max_projection",
        "mean_projection",
        "median_projection",
        "min_projection",
        "sum_projection",
    ),
    "quality": ("measure_quality",),
    "threshold": ("threshold_fixed", "threshold_local", "threshold_otsu"),
}

_TORCH = (
    "add_constant",
    "gaussian_filter",
    "max_projection",
    "mean_projection",
    "min_projection",
    "multiply_constant",
    "subtract_constant",
    "sum_projection",
    "threshold_fixed",
)

_CUPY = (
    *_TORCH,
    "count_objects",
    "label_objects",
    "subtract_background",
    "threshold_otsu",
    "white_tophat",
)

Variants = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One function of the catalogue.

    Parameters
    ----------
    name, summary : str
        Name, and first line of the docstring.
    variants : mapping of str to str
        Import path ``module:qualname`` by memory type, the preferred one first.
    parameters : tuple of Parameter
        What a user may set, special inputs left out.
    special_inputs, special_outputs : tuple of str
        Names from the contract.
    """

    name: str
    summary: str
    variants: Variants
    parameters: tuple[Parameter, ...]
    special_inputs: tuple[str, ...] = ()
    special_outputs: tuple[str, ...] = ()


def _own() -> dict[str, dict[str, str]]:
    table = {
        name: {"numpy": f"hcsflow.functions.{module}:{name}"}
        for module, functions in _NUMPY.items()
        for name in functions
    }
    for name in _TORCH:
        table[name]["torch"] = f"hcsflow.functions.by_torch:{name}"
    for name in _CUPY:
        table[name]["cupy"] = f"hcsflow.functions.by_cupy:{name}"
    return table


def _with_entry_points(
    table: dict[str, dict[str, str]], points: Iterable[EntryPoint]
) -> dict[str, dict[str, str]]:
    """Add third-party functions; a taken place is refused."""
    for point in points:
        head, _, tail = point.name.rpartition(".")
        name, memory_type = (head, tail) if tail in MEMORY_TYPES and head else (point.name, "numpy")
        variants = table.setdefault(name, {})
        if memory_type in variants:
            raise PipelineError(
                f"entry point {point.value!r} wants the name {name!r} for {memory_type}, "
                f"which {variants[memory_type]!r} has",
                hint="uninstall one of the two distributions, or rename its entry point",
            )
        variants[memory_type] = point.value
    return table


@cache
def _table() -> Mapping[str, Variants]:
    table = _with_entry_points(_own(), entry_points(group=GROUP))
    return dict(sorted(table.items()))


def names() -> list[str]:
    """Return all names, sorted.

    Examples
    --------
    >>> "gaussian_filter" in names()
    True
    """
    return list(_table())


def _variants(name: str) -> Variants:
    table = _table()
    if name not in table:
        near = nearest(name, table)
        raise FunctionNotFoundError(
            f"no function {name!r} in the catalogue",
            hint=f"did you mean {near!r}?" if near else "`hcsflow functions` lists them",
        )
    return table[name]


def memory_types_of(name: str) -> tuple[str, ...]:
    """Return the memory types that a function has variants for, the preferred one first.

    Raises
    ------
    FunctionNotFoundError
        If there is no function of that name (the nearest is named).

    Examples
    --------
    >>> memory_types_of("gaussian_filter")
    ('numpy', 'torch', 'cupy')
    """
    variants = _variants(name)
    return tuple(sorted(variants, key=lambda memory_type: memory_type != "numpy"))


def find(name: str, memory_type: str | None = None) -> Callable[..., Any]:
    """Return a function of the catalogue.

    Parameters
    ----------
    name : str
        Its name.
    memory_type : str, optional
        Variant wanted; None takes numpy's, or the first there is.

    Raises
    ------
    FunctionNotFoundError
        If there is none of that name (the nearest is named), or not for that memory type, or it
        cannot be imported.

    Examples
    --------
    >>> find("max_projection").__name__
    'max_projection'
    """
    variants = _variants(name)
    if memory_type is None:
        memory_type = memory_types_of(name)[0]
    if memory_type not in variants:
        raise FunctionNotFoundError(
            f"{name!r} has no variant for {memory_type}; there are: {', '.join(variants)}"
        )
    module, _, qualname = variants[memory_type].partition(":")
    try:
        found: Any = import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise FunctionNotFoundError(
            f"cannot import {name!r} for {memory_type} from {variants[memory_type]!r}: {error}"
        ) from error
    return cast("Callable[..., Any]", found)


def name_of(path: str) -> str | None:
    """Return the name under which a function stands in the catalogue; None if it does not.

    Examples
    --------
    >>> name_of("hcsflow.functions.by_torch:max_projection")
    'max_projection'
    """
    return next((name for name, found in _table().items() if path in found.values()), None)


def variant_of(path: str, memory_type: str) -> Callable[..., Any] | None:
    """Return the same function for another memory type; None if the catalogue has none.

    Parameters
    ----------
    path : str
        Import path ``module:qualname`` of any variant.
    memory_type : str
        Variant wanted.

    Raises
    ------
    FunctionNotFoundError
        If there is one and it cannot be imported.

    Examples
    --------
    >>> variant_of("hcsflow.functions.by_torch:max_projection", "numpy").__module__
    'hcsflow.functions.projection'
    >>> variant_of("somewhere:else", "numpy") is None
    True
    """
    for name, variants in _table().items():
        if path in variants.values() and memory_type in variants:
            return find(name, memory_type)
    return None


def entry(name: str) -> CatalogueEntry:
    """Return all about one function.

    Raises
    ------
    FunctionNotFoundError
        As `find`.

    Examples
    --------
    >>> [parameter.name for parameter in entry("gaussian_filter").parameters]
    ['sigma']
    """
    func = find(name)
    declared = contract_of(func)
    return CatalogueEntry(
        name=name,
        summary=(inspect.getdoc(func) or "").partition("\n")[0],
        variants=dict(_variants(name)),
        parameters=tuple(parameters_of(func)),
        special_inputs=declared.special_inputs,
        special_outputs=tuple(output.name for output in declared.special_outputs),
    )
