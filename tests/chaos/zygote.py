"""A process that has everything imported and runs each request in a fork of itself.

Requests and answers are JSON, one a line. So a run costs a tenth of a second, may be killed or
stopped at any change of a file like any process, and leaves nothing behind in the test's process.

A request has ``do``: ``"run"`` (plate, output, pipeline, parameters, wells, fresh; ``at`` and
``kind`` of a `FaultyDisk`; ``prelude``, Python text to begin with; ``twice``, again without faults
in the same process; ``verify`` afterwards), ``"verify"`` (output), ``"warm"`` (compile here, as
``"run"``) or ``"wake"`` (pid). An answer has ``end``: ``"exit"``, ``"killed"``, ``"stopped"`` or
``"hung"``; and pid, changes, counts, findings, error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2  # noqa: F401
import numcodecs.blosc  # noqa: F401
import pyarrow.csv
import pyarrow.dataset
import pyarrow.pandas_compat
import pyarrow.parquet  # noqa: F401
import scipy.ndimage  # noqa: F401
from faulty_disk import FaultyDisk

import hcsflow as hf
import hcsflow.cli.main
import hcsflow.execute.run
import hcsflow.functions
import hcsflow.session.plan
import hcsflow.session.run
from hcsflow.errors import HcsflowError
from hcsflow.execute.status import verify_output

PATIENCE_S = 60
"""After this long a run counts as hung; its alarm ends it."""


def main() -> None:
    """Answer requests until the input ends."""
    with tempfile.TemporaryDirectory(prefix="answers-") as answers:
        _answer_all(Path(answers))


def _answer_all(answers: Path) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "warm":
            _compiled(request)
            print("{}", flush=True)
            continue
        if request["do"] == "wake":
            pid = request["pid"]
            os.kill(pid, signal.SIGCONT)
        else:
            pid = os.fork()
            if pid == 0:
                _serve(request, answers)
        print(json.dumps(_awaited(pid, answers / str(pid))), flush=True)


def _awaited(pid: int, answer: Path) -> dict[str, Any]:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return {"end": "stopped", "pid": pid}
    if os.WIFSIGNALED(status):
        end = "hung" if os.WTERMSIG(status) == signal.SIGALRM else "killed"
        return {"end": end, "pid": pid, "signal": os.WTERMSIG(status)}
    found = json.loads(answer.read_text())
    answer.unlink()
    return {"end": "exit", "pid": pid, "status": os.WEXITSTATUS(status), **found}


def _serve(request: dict[str, Any], answers: Path) -> None:
    """Run one request in this new process, and end it."""
    signal.alarm(request.get("patience", PATIENCE_S))
    answer = answers / str(os.getpid())
    exec(request.get("prelude") or "")
    disk = FaultyDisk(request["output"], request.get("at", 0), request.get("kind", ""))
    disk.install()
    result: dict[str, Any] = {"error": None, "counts": {}, "findings": ["not verified"]}
    try:
        if request.get("twice"):
            with suppress(HcsflowError, OSError):
                _run(request)
            disk.at = 0
        if request["do"] == "run":
            result["counts"] = _run(request)
        if request["do"] == "verify" or request.get("verify"):
            found = verify_output(Path(request["output"]))
            result["findings"] = [asdict(finding) for finding in found]
    except (HcsflowError, OSError) as error:
        result["error"] = f"{type(error).__name__}: {error}"
    except BaseException as error:  # noqa: BLE001 - what no user should ever see
        result["error"] = f"BUG {type(error).__name__}: {error}"
        import traceback

        result["trace"] = traceback.format_exc()
    result["changes"] = disk.changes
    answer.write_text(json.dumps(result))
    os._exit(0)


def _compiled(request: dict[str, Any]) -> Any:
    return hf.compile(
        request["pipeline"],
        hf.open_plate(request["plate"]),
        output=request["output"],
        parameters=request.get("parameters"),
        wells=request.get("wells"),
        workers=1,
    )


def _run(request: dict[str, Any]) -> dict[str, Any]:
    plan = _compiled(request)
    done = plan.run(cluster="serial", fresh=request.get("fresh", False))
    return {
        outcome.well: [outcome.status, outcome.error, outcome.message] for outcome in done.outcomes
    }


if __name__ == "__main__":
    main()
