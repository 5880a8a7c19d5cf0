"""Input files known by their contents, where names, sizes and dates are not to be trusted."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hcsflow.compiler.fingerprints import input_fingerprint, missing_policy
from hcsflow.plan import Plan
from hcsflow.plate import Manifest

__all__ = ["known_by_contents"]

READERS = 4
"""Files read at a time: hashing runs outside Python's lock, and servers answer several readers."""


def known_by_contents(plan: Plan, manifest: Manifest) -> Plan:
    """Return a plan whose wells are known by what is in their files, not by the files' dates.

    Reads every file of the plan's wells once, about as long as copying them takes; a file that
    cannot be read counts as such, and fails its well when that is processed.
    """
    numbers = {well: i for i, well in enumerate(plan.plate.wells)}
    rows = {well: manifest.rows_of(numbers[well]) for well in plan.wells}
    paths = sorted({manifest.path(row) for span in rows.values() for row in span})
    root = Path(manifest.root)
    with ThreadPoolExecutor(READERS) as readers:
        digests = dict(zip(paths, readers.map(lambda p: _digest(root / p), paths), strict=True))
    policy = missing_policy(plan.config)
    return plan.replace(
        fingerprints={
            well: input_fingerprint(
                plan.plate,
                manifest,
                numbers[well],
                policy,
                contents=[digests[manifest.path(row)] for row in span],
            )
            for well, span in rows.items()
        }
    )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        return f"unreadable: {error.errno}"
