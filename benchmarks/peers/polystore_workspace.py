"""Open a virtual workspace by polystore twice; write the seconds of each.

    PYTHON_OF_ITS_OWN_VENV polystore_workspace.py PLATE SECONDS.json

``PLATE`` holds ``openhcs_metadata.json`` with a ``workspace_mapping``. Each time: a new workspace,
its names listed, its first and last plane loaded. Imports are not counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["POLYSTORE_METADATA_FILENAME"] = "openhcs_metadata.json"

from polystore.disk import DiskStorageBackend
from polystore.virtual_workspace import VirtualWorkspaceBackend


def main() -> None:
    """Open it twice."""
    plate, disk = Path(sys.argv[1]), DiskStorageBackend()
    taken = []
    for _ in range(2):
        start, processor = time.perf_counter(), time.process_time()
        workspace = VirtualWorkspaceBackend(plate)
        workspace.bind_registry({"disk": disk})
        names = workspace.list_files(plate)
        planes = [workspace.load(name) for name in (names[0], names[-1])]
        taken.append(
            {
                "wall_s": time.perf_counter() - start,
                "cpu_s": time.process_time() - processor,
                "names": len(names),
                "sums": [int(plane.sum()) for plane in planes],
            }
        )
    Path(sys.argv[2]).write_text(json.dumps(taken))


if __name__ == "__main__":
    main()
