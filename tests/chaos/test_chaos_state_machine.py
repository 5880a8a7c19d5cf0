"""Runs, faults, damage and changes in any order: see ``weekend.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

SCRIPT = Path(__file__).with_name("weekend.py")
EXAMPLES = int(os.environ.get("CHAOS_EXAMPLES", "120"))
STEPS = 20
SEEDS = (20240229, 20240301)
"""A process for each; they share the examples."""


def test_any_order_of_faults(tiny_pipeline, arena, tally):
    tally.scenario = "7 any order of runs, faults and damage"
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, tiny_pipeline, tempfile.mkdtemp(dir=arena)]
            + [str(number) for number in (EXAMPLES // len(SEEDS), STEPS, seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in SEEDS
    ]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        *steps, last = out.splitlines()
        found = json.loads(last)
        tally.faults += found["faults"]
        tally.runs += found["runs"]
        tally.steps += found["steps"]
        tally.expect(not found["wrong"], "\n".join([*steps, err, found["wrong"]]))
