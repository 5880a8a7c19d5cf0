"""What a numpydoc docstring says about each parameter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

__all__ = ["parameter_meanings"]

_SECTION = re.compile(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"^(\S[^\n:]*?) *(?::[^\n]*)?\n((?:[ \t]+[^\n]*(?:\n|\Z)|\n)*)", re.MULTILINE)


def parameter_meanings(func: Callable[..., Any]) -> dict[str, str]:
    """Return the description of each parameter, units included, as one line each.

    Examples
    --------
    >>> def smooth(stack, *, sigma=1.0):
    ...     '''Smooth.
    ...
    ...     Parameters
    ...     ----------
    ...     sigma : float
    ...         Width, in
    ...         pixels.
    ...     '''
    >>> parameter_meanings(smooth)
    {'sigma': 'Width, in pixels.'}
    """
    section = _SECTION.search(inspect.getdoc(func) or "")
    if section is None:
        return {}
    return {
        name.strip().lstrip("*"): " ".join(text.split())
        for names, text in _ENTRY.findall(section[1])
        for name in names.split(",")
    }
