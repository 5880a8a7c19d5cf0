"""The report in a browser: its script runs, and nothing is fetched."""

import re
import shutil
import subprocess

import pytest

from hcsflow.session.plan import compile as compile_plan
from hcsflow.session.plate import open_plate
from hcsflow.testing.plates import write_imagexpress_plate

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHOOSE = """<script>
const metric = document.getElementById("metric");
metric.value = "1";
metric.dispatchEvent(new Event("change"));
</script>"""


@pytest.fixture(scope="module")
def chromium():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium")
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("browser")
    write_imagexpress_plate(root / "plate", wells=("B02", "C03"), fields=1, size=128, nuclei=6)
    plan = compile_plan("count-nuclei", open_plate(root / "plate"), output=root / "out")
    return plan.run(cluster="threads").report()


def _open(chromium, page, profile):
    """Return the page's DOM after its scripts, and what the console said."""
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "--enable-logging=stderr", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run(
        [chromium, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.browser
def test_choosing_a_column_recolours_the_plate(chromium, page, tmp_path):
    before, console = _open(chromium, page, tmp_path / "one")
    assert console == []
    other = tmp_path / "chosen.html"
    other.write_text(page.read_text("utf-8").replace("</body>", CHOOSE + "</body>"), "utf-8")
    after, console = _open(chromium, other, tmp_path / "two")
    assert console == []

    def values(dom):
        return re.findall(r'data-value="(?:B02|C03)"[^>]*>([^<]*)<', dom)

    assert len(values(before)) == 2
    assert values(before) != values(after)
    assert all(float(text) > 0 for text in values(after))
