"""Calling a materializer, whichever of the three function forms it has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from hcsflow.errors import PipelineError

__all__ = ["call_materializer", "kind_of"]

Kind = Literal["table", "labels", "function"]


def kind_of(materializer: Callable[..., Any]) -> Kind:
    """Say what a materializer writes: a planned table or label, or files of its own.

    Raises
    ------
    PipelineError
        If it is not callable, or a function that takes none of the known arguments.
    """
    _form(materializer)
    kinds: dict[object, Kind] = {"table": "table", "labels": "labels"}
    return kinds.get(getattr(materializer, "kind", None), "function")


def call_materializer(
    func: Callable[..., Any],
    data: Any,
    path: str,
    filemanager: Any,
    backend: str,
) -> str:
    """Call a materializer and return the primary path it wrote.

    Parameters
    ----------
    func : callable
        ``(data, path, filemanager)``, ``(data, path, filemanager, backend)`` or
        ``(data, path, filemanager, backends, backend_kwargs=None)``.
    data : object
        The special output's value.
    path : str
        Base path; the function chooses suffixes.
    filemanager : FileManager
        What it writes through.
    backend : str
        Backend to write to, ``"disk"`` or ``"zarr"``.

    Raises
    ------
    PipelineError
        If the function has none of these forms.
    """
    form = _form(func)
    if form == "plain":
        written = func(data, path, filemanager)
    elif form == "backend":
        written = func(data, path, filemanager, backend)
    else:
        written = func(data, path, filemanager, [backend])
    return str(written) if written is not None else path


def _form(func: Callable[..., Any]) -> Literal["plain", "backend", "backends"]:
    if not callable(func):
        raise PipelineError(f"a materializer must be callable, got {type(func).__name__}")
    signature = inspect.signature(func)
    if _binds(signature, 4):
        return "backends" if "backends" in signature.parameters else "backend"
    if _binds(signature, 3):
        return "plain"
    name = getattr(func, "__name__", type(func).__name__)
    raise PipelineError(
        f"materializer {name!r} takes {signature}",
        hint="expected (data, path, filemanager), (data, path, filemanager, backend) "
        "or (data, path, filemanager, backends, backend_kwargs=None)",
    )


def _binds(signature: inspect.Signature, positional: int) -> bool:
    try:
        signature.bind(*range(positional))
    except TypeError:
        return False
    return True
