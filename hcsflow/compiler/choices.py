"""Which functions a step's chain means: imported by path, or variants of the catalogue's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, cast

from hcsflow.arrays import is_installed
from hcsflow.arrays.libraries import LIBRARIES
from hcsflow.compiler.inputs import Recorded
from hcsflow.compiler.variants import Variant, fewest_conversions
from hcsflow.contracts import contract_of
from hcsflow.errors import FunctionNotFoundError, PlanRefusedError
from hcsflow.functions import catalogue
from hcsflow.pipeline.step import Chain

__all__ = ["VariantChooser"]


class VariantChooser:
    """Finds the functions of one step's chains.

    Of the catalogue's functions it takes those for GPUs where every worker has one, else the
    variants that convert least in all. Where the output holds results already it takes those that
    made them, so that wells stay alike whatever machine goes on.

    Parameters
    ----------
    step : str
        Name of the step, for errors.
    has_gpu, is_all_gpu : bool
        Whether the plan's resources hold a GPU, and one for every worker.
    recorded : Recorded
        What made the results that the output holds.
    """

    def __init__(self, step: str, *, has_gpu: bool, is_all_gpu: bool, recorded: Recorded) -> None:
        self._step = step
        self._has_gpu = has_gpu
        self._is_all_gpu = is_all_gpu
        self._recorded = {name: list(t) for (s, name), t in recorded.items() if s == step}

    def functions(self, chain: Chain) -> list[Callable[..., Any]]:
        """Return a chain's functions in order; chains are asked for in the step's own order.

        Raises
        ------
        FunctionNotFoundError
            If there is none of that name, or a path cannot be imported.
        PlanRefusedError
            If the variant that made the output's results cannot run here.
        """
        found: list[Callable[..., Any] | str] = []
        variants: list[list[Variant]] = []
        for invocation in chain.invocations:
            function = invocation.function
            if isinstance(function, str) and ":" not in function:
                variants.append([Variant(name, name) for name in self._options(function)])
            else:
                function = function if callable(function) else self._imported(function)
                declared = contract_of(function)
                variants.append([Variant(declared.input_type, declared.output_type)])
            found.append(function)
        choices = fewest_conversions(variants)
        return [
            catalogue.find(function, options[choice].input_type)
            if isinstance(function, str)
            else function
            for function, options, choice in zip(found, variants, choices, strict=True)
        ]

    def _options(self, name: str) -> list[str]:
        """Return the memory types to choose from, the preferred one first."""
        types = catalogue.memory_types_of(name)
        earlier = self._recorded.get(name)
        if earlier:
            return [self._kept(name, earlier.pop(0), types)]
        usable = [each for each in types if self._is_usable(each)]
        on_gpu = [each for each in usable if LIBRARIES[each].needs_gpu and self._is_all_gpu]
        return on_gpu or usable or list(types[:1])

    def _kept(self, name: str, memory_type: str, types: tuple[str, ...]) -> str:
        if memory_type in types and self._is_usable(memory_type):
            return memory_type
        lacking = "there is no such variant any more"
        if memory_type in types:
            installed = is_installed(memory_type)
            lacking = "there is no GPU" if installed else f"{memory_type} is not installed here"
        raise PlanRefusedError(
            f"step {self._step!r}: what the output holds was made by {name} on {memory_type} "
            f"arrays, but {lacking}: other wells would get other numbers",
            hint=f"go on where {memory_type} works, choose another output, or start --fresh",
        )

    def _is_usable(self, memory_type: str) -> bool:
        has_device = self._has_gpu or not LIBRARIES[memory_type].needs_gpu
        return is_installed(memory_type) and has_device

    def _imported(self, path: str) -> Callable[..., Any]:
        module_name, _, qualname = path.partition(":")
        try:
            found: Any = importlib.import_module(module_name)
            for part in qualname.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise FunctionNotFoundError(
                f"step {self._step!r}: cannot import {path!r}: {error}",
                hint="the module must be importable where hcsflow runs",
            ) from error
        if not callable(found):
            raise FunctionNotFoundError(f"step {self._step!r}: {path!r} is no function")
        return cast("Callable[..., Any]", found)
