"""The report as a browser shows it, with no network."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

CommandLine = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def chromium() -> list[str]:
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.skip("no Chromium is installed")
    # No name is resolved, so whatever the page wants from elsewhere fails and is seen.
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    return [found, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", offline]


@pytest.fixture(scope="module")
def demo(cli: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished demo."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    result = cli("demo", "-o", folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_the_report_needs_nothing_from_elsewhere(demo: Path) -> None:
    html = next(demo.rglob("report.html")).read_text("utf-8")
    wanted = re.findall(r"""(?:src|href)\s*=\s*["']([^"'#][^"']*)""", html)
    assert not [link for link in wanted if not link.startswith("data:")]


def test_the_report_shows_wells_failures_and_pictures(demo: Path, chromium: list[str]) -> None:
    page = next(demo.rglob("report.html"))
    profile = f"--user-data-dir={demo / 'profile'}"
    shown = subprocess.run(
        [*chromium, profile, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    for word in ("B02", "C05", "B03", "C04", "cut short", "there is no file", "count-nuclei"):
        assert word in shown
    assert shown.count("<img") + shown.count("<svg") > 2


def test_the_page_is_not_blank(demo: Path, chromium: list[str]) -> None:
    page, picture = next(demo.rglob("report.html")), demo / "report.png"
    profile = f"--user-data-dir={demo / 'profile'}"
    size = "--window-size=1200,1600"
    subprocess.run(
        [*chromium, profile, size, f"--screenshot={picture}", page.as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    pixels = matplotlib.image.imread(picture)
    assert len(np.unique((pixels[::4, ::4, :3] * 255).astype(np.uint8).reshape(-1, 3), axis=0)) > 50
