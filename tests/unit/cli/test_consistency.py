"""What holds for every verb: one document each, and exit statuses as the help says."""

from __future__ import annotations

import pytest
import typer.main

from hcsflow import errors
from hcsflow.cli.app import app
from hcsflow.cli.main import main
from hcsflow.cli.schemas import DOCUMENTS

NO_DOCUMENT = {"schema", "view"}
"""The one prints schemas; the other opens a window."""


def commands(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name}-")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", sorted(set(COMMANDS) - NO_DOCUMENT))
def test_every_reporting_verb_prints_a_document_with_a_schema(verb):
    assert verb in DOCUMENTS
    assert "--json" in {option for each in COMMANDS[verb].params for option in each.opts}


def test_plan_takes_every_option_that_decides_what_run_compiles():
    plan, run = ({p.name for p in COMMANDS[verb].params} for verb in ("plan", "run"))
    assert {"pipeline", "plate", "output", "cluster", "settings", "config", "wells"} <= plan & run


EXITS = {
    errors.UsageError: 2,
    errors.ConfigError: 2,
    errors.UnknownSettingError: 2,
    errors.PlateError: 2,
    errors.PlateNotFoundError: 2,
    errors.PipelineError: 2,
    errors.FunctionNotFoundError: 2,
    errors.OutputError: 2,
    errors.OutputLockedError: 2,
    errors.PlanRefusedError: 3,
}


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n != "nearest"])
def test_every_error_ends_the_command_as_documented(name):
    kind = getattr(errors, name)
    assert issubclass(kind, errors.HcsflowError)
    assert kind.exit_code == EXITS.get(kind, 1)
    assert len(kind.__mro__) > len(errors.HcsflowError.__mro__) or kind is errors.HcsflowError


def test_a_group_of_verbs_without_one_is_a_usage_error(capsys):
    assert main(["config"]) == 2
    assert "show" in "".join(capsys.readouterr())
