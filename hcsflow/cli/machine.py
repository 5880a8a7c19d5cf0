"""``functions``, ``doctor`` and ``schema``."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hcsflow.cli import options as o
from hcsflow.cli.console import emit

__all__ = ["register"]

CORE = (
    "numpy", "zarr", "numcodecs", "dask", "distributed", "tifffile", "imagecodecs",
    "opencv-python-headless", "scikit-image", "scipy", "pandas", "pyarrow", "xarray",
)  # fmt: skip
OPTIONAL = {
    "torch": "functions on torch",
    "cupy-cuda12x": "functions on NVIDIA GPUs",
    "cupy-cuda13x": "functions on NVIDIA GPUs",
    "dask-cuda": "one worker for each NVIDIA GPU",
    "dask-jobqueue": "HPC schedulers",
    "cryptography": "encrypted connections to HPC jobs",
    "tensorstore": "faster reading of stored plates",
    "napari": "looking at stored plates",
}


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(functions)
    app.command()(doctor)
    app.command()(schema)


def functions(
    name: Annotated[str | None, typer.Argument(help="One function, in full.")] = None,
    *,
    as_json: o.JsonFlag = False,
) -> None:
    """List the ready-made step functions, or describe one."""
    from hcsflow.functions import catalogue
    from hcsflow.view.text import render_functions

    chosen = catalogue.names() if name is None else [name]
    document = {
        "schema": "hcsflow.functions/1",
        "functions": [_described(catalogue.entry(each)) for each in chosen],
    }
    emit(document, as_json=as_json, render=render_functions)


def _described(entry: Any) -> dict[str, Any]:
    from hcsflow.cli.docstrings import parameter_meanings
    from hcsflow.functions import catalogue

    meanings = parameter_meanings(catalogue.find(entry.name))
    return {
        "name": entry.name,
        "summary": entry.summary,
        "variants": dict(entry.variants),
        "parameters": [_parameter(each, meanings.get(each.name, "")) for each in entry.parameters],
        "special_inputs": list(entry.special_inputs),
        "special_outputs": list(entry.special_outputs),
    }


def _parameter(parameter: Any, meaning: str) -> dict[str, Any]:
    default = parameter.default
    is_plain = default is None or isinstance(default, (bool, int, float, str))
    return {
        "name": parameter.name,
        "type": parameter.type,
        "required": parameter.required,
        "default": None if parameter.required else default if is_plain else repr(default),
        "allowed": parameter.allowed,
        "meaning": meaning,
    }


def doctor(
    *,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="CLUSTER", help="Run one task on this cluster too; as `hcsflow run`."),
    ] = None,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="A folder that the workers should see too.")
    ] = Path(),
    timeout: Annotated[
        float, typer.Option(min=1.0, help="Longest to wait for a worker, in seconds.")
    ] = 120.0,
    as_json: o.JsonFlag = False,
) -> None:
    """Check what works on this machine; exit 1 if something that a run needs does not."""
    from hcsflow.view.text import render_doctor

    checks = [*_machine(), *_libraries()]
    if cluster is not None:
        from hcsflow.execute.checkup import check_cluster
        from hcsflow.execute.quiet import dask_silenced

        with dask_silenced():
            found = check_cluster(cluster, folder.resolve(), timeout_s=timeout)
            checks += [asdict(check) for check in found]
    is_fit = all(check["ok"] is not False for check in checks)
    document = {"schema": "hcsflow.doctor/1", "cluster": cluster, "ok": is_fit, "checks": checks}
    emit(document, as_json=as_json, render=render_doctor)
    raise typer.Exit(0 if is_fit else 1)


def _check(name: str, ok: bool | None, detail: str, hint: str | None = None) -> dict[str, Any]:
    """Return one finding; ``ok`` is None for what a run does not need."""
    return {"name": name, "ok": ok, "detail": detail, "hint": None if ok else hint}


def _machine() -> Iterator[dict[str, Any]]:
    import psutil

    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    yield _check("Python", True, f"{platform.python_version()} ({sys.executable})")
    yield _check("system", True, f"{platform.system()} {platform.release()} {platform.machine()}")
    yield _check("cores", True, str(cores))
    yield _check(
        "memory",
        memory.available > 500_000_000,
        f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
        "a worker needs about 0.3 GB before any pixel; end other programs",
    )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    yield _check(
        "temporary folder",
        free > 1_000_000_000,
        f"{tempfile.gettempdir()}, {free / 1e9:.1f} GB free",
        "set TMPDIR to a folder with more room: workers spill there",
    )
    methods = multiprocessing.get_all_start_methods()
    yield _check("worker processes", True, f"start methods: {', '.join(methods)}")
    yield _loopback()


def _loopback() -> dict[str, Any]:
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
    except OSError as error:
        hint = "--cluster local needs it; --cluster threads does not"
        return _check("loopback network", False, str(error), hint)
    return _check("loopback network", True, "127.0.0.1")


def _libraries() -> Iterator[dict[str, Any]]:
    yield _check("hcsflow", True, _version("hcsflow") or "run from its source folder")
    for name in CORE:
        version = _version(name)
        yield _check(name, version is not None, version or "absent", "pip install hcsflow")
    for name, purpose in OPTIONAL.items():
        version = _version(name)
        ok = True if version else None
        yield _check(name, ok, version or f"not installed (optional: {purpose})")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def schema(
    name: Annotated[
        str | None,
        typer.Argument(help="A verb, 'config' or 'pipeline' for files; without it all are listed."),
    ] = None,
) -> None:
    """Print the JSON Schema of what a verb's --json prints, of settings or pipeline files."""
    from hcsflow.cli.schemas import NAMES, json_schema

    if name is None:
        print("\n".join(NAMES))
    else:
        print(json.dumps(json_schema(name), indent=1))
