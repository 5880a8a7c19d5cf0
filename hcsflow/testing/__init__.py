"""For tests and the demo: synthetic plates with known truth, comparison, conformance kits."""

from __future__ import annotations

import sys

_KITS = ("array_checks", "arrays", "backends", "compare", "machine")

if "pytest" in sys.modules:  # what a kit's assertion compared is shown as for a test of one's own
    sys.modules["pytest"].register_assert_rewrite(*(f"{__name__}.{kit}" for kit in _KITS))
