"""Dask's dashboard of a running plate, as a real browser shows it: tasks are grouped by step."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(280)]

CommandLine = Callable[..., "subprocess.CompletedProcess[str]"]

STEPS = {"project", "smooth", "background", "threshold", "split", "label", "measure"}

NAMES_SHOWN = """
JSON.stringify([...new Set((window.Bokeh ? Bokeh.documents : []).flatMap(
    (document) => [...document._all_models.values()]
        .filter((model) => model.type === "ColumnDataSource" && "name" in model.data)
        .flatMap((model) => Array.from(model.data.name))
))])
"""
"""The names in the data that the page's plots draw: pixels on a canvas are no text."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a browser; give the address under which it is told what to do."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.skip("no Chromium is installed")
    profile = tmp_path_factory.mktemp("profile")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    with (profile / "log.txt").open("wb") as log:
        browser = subprocess.Popen([found, *options], stdout=log, stderr=log)
        try:
            port = wait_for(lambda: first_line(profile / "DevToolsActivePort"))
            yield f"127.0.0.1:{port}"
        finally:
            browser.terminate()
            browser.wait(timeout=30)


@pytest.fixture(scope="module")
def running(cli: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What ``run --detach`` says of a run that goes on while the tests look at it."""
    from hcsflow.testing.plates import write_imagexpress_plate

    root = tmp_path_factory.mktemp("dashboard")
    wells = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)]
    write_imagexpress_plate(root / "PLATE", wells=wells, fields=1, channels=2, z=2, size=384)
    started = cli(
        *("run", "count-nuclei", root / "PLATE", "-o", root / "OUT", "--workers", "1"),
        *("--granularity", "step", "--no-report", "--detach", "--json"),
    )
    assert started.returncode == 0, started.stderr
    try:
        yield json.loads(started.stdout)
    finally:
        cli("cancel", root / "OUT")
        wait_for(
            lambda: json.loads(cli("status", root / "OUT", "--json").stdout)["running"] is None
        )


def first_line(path: Path) -> str | None:
    return path.read_text().splitlines()[0] if path.exists() and path.read_text() else None


def wait_for(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def names_on(chromium: str, page: str, wanted: set[str]) -> set[str]:
    """Open a page; return the names in its plots once all that are wanted are among them."""
    return asyncio.run(_names_on(chromium, page, wanted))


async def _names_on(chromium: str, page: str, wanted: set[str]) -> set[str]:
    from tornado.websocket import websocket_connect

    request = urllib.request.Request(f"http://{chromium}/json/new?{page}", method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        target = json.load(answer)
    tab = await websocket_connect(target["webSocketDebuggerUrl"])
    asked = {"expression": NAMES_SHOWN, "returnByValue": True}
    names: set[str] = set()
    end = time.monotonic() + 60
    while not wanted <= names and time.monotonic() < end:
        await tab.write_message(
            json.dumps({"id": 1, "method": "Runtime.evaluate", "params": asked})
        )
        answer = json.loads(await tab.read_message())
        names |= set(json.loads(answer["result"]["result"].get("value", "[]")))
        await asyncio.sleep(0.2)
    tab.close()
    while await tab.read_message() is not None:
        pass
    return names


def test_the_dashboard_is_on_loopback_and_the_way_there_is_told(running: dict[str, Any]) -> None:
    port = running["dashboard"].removeprefix("http://127.0.0.1:").removesuffix("/status")
    assert port.isdigit()
    assert running["tunnel"].startswith(f"ssh -L {port}:127.0.0.1:{port} ")
    assert running["tunnel"].endswith(f"@{running['host']}")


@pytest.mark.parametrize("page", ["individual-progress", "individual-task-stream", "status"])
def test_tasks_are_grouped_by_step(chromium: str, running: dict[str, Any], page: str) -> None:
    link = running["dashboard"].removesuffix("status") + page
    assert names_on(chromium, link, STEPS) >= STEPS
