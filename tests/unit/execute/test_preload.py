"""What workers are forks of."""

import json
import subprocess
import sys

REPORT = """
import gc, json, sys
import hcsflow.execute.preload as preload
print(json.dumps({
    "collects": gc.isenabled(),
    "frozen": gc.get_freeze_count(),
    "missing": [name for name in preload.PRELOAD if name not in sys.modules],
}))
"""


def test_workers_begin_with_the_libraries_and_collect_only_what_is_their_own():
    command = [sys.executable, "-c", REPORT]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)
    assert found["collects"]
    assert found["frozen"] > 100_000
    assert found["missing"] == []
