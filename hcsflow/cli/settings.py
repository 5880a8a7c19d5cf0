"""``config show``: every setting that would hold, and where it was said."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcsflow.cli import options as o
from hcsflow.cli.console import emit
from hcsflow.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hcsflow.pipeline import Pipeline

__all__ = ["register", "show"]

PRECEDENCE = (
    "The command line wins over HCSFLOW_ variables, these over a cluster profile, a step, the "
    "pipeline, your own file and the defaults, in this order. `hcsflow schema config` prints the "
    "JSON Schema of such files."
)


def register(app: typer.Typer) -> None:
    """Add the verb; its one subject is ``show``."""
    config = typer.Typer(no_args_is_help=True, context_settings=app.info.context_settings)
    config.command(epilog=PRECEDENCE)(show)
    config.callback()(_config)
    app.add_typer(config, name="config")


def _config() -> None:
    """Show settings: what holds, and where it was said."""


def show(
    pipeline: Annotated[
        str | None,
        typer.Argument(metavar="[PIPELINE]", help="Its settings, its steps' and its parameters."),
    ] = None,
    *,
    config: o.ConfigFile = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="CLUSTER", envvar="HCSFLOW_CLUSTER", help="Its profile's settings."),
    ] = None,
    settings: o.Set = None,
    as_json: o.JsonFlag = False,
) -> None:
    """List every setting with its value and where it comes from; nothing is run."""
    from hcsflow.config import user_config_file
    from hcsflow.session.pipelines import load_pipeline
    from hcsflow.session.settings import profile_file, settle

    given = o.parse_settings(settings)
    chosen = None
    if pipeline is not None:
        chosen = load_pipeline(pipeline).with_settings(given)
    elif given:
        raise UsageError(
            f"--set {next(iter(given))}: parameters belong to a pipeline, and none is named",
            hint="name one, or write settings into a file for --config",
        )
    settled = settle(chosen, o.file_sources(config), cluster=cluster)
    profile = profile_file(cluster) if cluster else None
    files = [user_config_file(os.environ), *(file for file in (profile, config) if file)]
    document = {
        "schema": "hcsflow.config-show/1",
        "pipeline": chosen.name if chosen is not None else None,
        "files": [{"path": str(file), "found": file.is_file()} for file in files],
        "settings": [asdict(setting) for setting in settled.all()],
        "parameters": list(_parameters(chosen, given)),
    }
    emit(document, as_json=as_json, render=_render, soft_wrap=True)


def _parameters(pipeline: Pipeline | None, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pipeline's parameters, and those of steps that ``--set`` gives."""
    declared = pipeline.parameters if pipeline is not None else {}
    where = f"pipeline {pipeline.name!r}" if pipeline is not None else ""
    for name, value in {**declared, **given}.items():
        plain = value is None or isinstance(value, (bool, int, float, str, list, dict))
        yield {
            "name": name,
            "value": value if plain else repr(value),
            "origin": "--set" if name in given else where,
        }


def _render(document: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    files = [
        Text(f"{file['path']}{'' if file['found'] else '  (not there)'}", style="dim")
        for file in document["files"]
    ]
    rows = [
        (f"{each['step']}: {each['name']}" if each["step"] else each["name"], each)
        for each in document["settings"]
    ]
    parts: list[RenderableType] = [_table("setting", rows)]
    if document["parameters"]:
        parts += [
            "",
            _table("parameter", [(each["name"], each) for each in document["parameters"]]),
        ]
    return Group(*parts, "", Text("files looked for", style="dim"), *files)


def _table(heading: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> RenderableType:
    """Show names, values and origins; what is not a default stands out."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for title in (heading, "value", "from"):
        table.add_column(title, overflow="fold")
    for name, each in rows:
        style = "dim" if each["origin"] == "default" else None
        table.add_row(name, _shown(each["value"]), each["origin"], style=style)
    return table


def _shown(value: Any) -> str:
    words = {None: "–", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
