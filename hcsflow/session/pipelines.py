"""Finding a pipeline: a YAML file, a Python file, or a name in ``graphs/``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import Any

from hcsflow.config.shipped import share_folder
from hcsflow.errors import HcsflowError, PipelineError, nearest
from hcsflow.pipeline import Pipeline, pipeline_from_yaml

__all__ = ["graph_names", "load_pipeline"]


def graph_names() -> list[str]:
    """List the ready-made pipelines."""
    folder = share_folder("graphs")
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if _graph_file(p) is not None)


def load_pipeline(spec: str | Path) -> Pipeline:
    """Load a pipeline.

    Parameters
    ----------
    spec : str or Path
        A ``.yaml`` file, a ``.py`` file that holds ``pipeline``, or a name in ``graphs/``.
        A Python file is run, as importing it would.

    Raises
    ------
    PipelineError
        If there is none (lists the names there are), or it is wrong: names file and place.

    Examples
    --------
    >>> load_pipeline("max-projection").name
    'max-projection'
    """
    path = Path(spec)
    if path.suffix in {".yaml", ".yml", ".py"}:
        return _load_file(path)
    found = _graph_file(share_folder("graphs") / str(spec)) if path.name == str(spec) else None
    if found is None:
        names = graph_names()
        meant = nearest(str(spec), names)
        raise PipelineError(
            f"no pipeline {str(spec)!r}; ready-made ones: {', '.join(names)}",
            hint=f"did you mean {meant!r}?" if meant else "or give a .yaml or .py file",
        )
    return _load_file(found)


def _graph_file(folder: Path) -> Path | None:
    for name in ("pipeline.yaml", "pipeline.py"):
        if (folder / name).is_file():
            return folder / name
    return None


def _load_file(path: Path) -> Pipeline:
    if not path.is_file():
        raise PipelineError(f"no pipeline file {str(path)!r}")
    if path.suffix == ".py":
        return _load_python(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PipelineError(
            f"{str(path)!r} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}",
            hint="save the file as UTF-8",
        ) from error
    try:
        return pipeline_from_yaml(text, name=path.stem, folder=str(path.parent))
    except PipelineError as error:
        raise PipelineError(f"{path.name}: {error.message}", hint=error.hint) from error


class _Blame:
    """Says of whatever goes wrong inside that it is this file's fault, and where in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin to run the file."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, (Exception, SystemExit)):
            where = f"{str(self._path)!r}{self._line(error, trace)}"
            if isinstance(error, HcsflowError):
                raise PipelineError(f"{where}: {error.message}", hint=error.hint) from error
            raise PipelineError(f"{where}: {_told(error)}") from error

    def _line(self, error: BaseException, trace: TracebackType | None) -> str:
        file = str(self._path)
        lines = [line for frame, line in walk_tb(trace) if frame.f_code.co_filename == file]
        if not lines and isinstance(error, SyntaxError) and error.lineno:
            lines = [error.lineno]
        return f", line {lines[-1]}" if lines else ""


def _told(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}"


def _load_python(path: Path) -> Pipeline:
    # Not entered into sys.modules, so that cloudpickle sends its functions by value.
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PipelineError(f"cannot load {str(path)!r} as Python")
    module = importlib.util.module_from_spec(spec)
    with _Blame(path):
        spec.loader.exec_module(module)
    found: Any = getattr(module, "pipeline", None)
    if not isinstance(found, Pipeline):
        raise PipelineError(
            f"{str(path)!r} holds no 'pipeline'", hint="pipeline = hf.Pipeline([...])"
        )
    return found
