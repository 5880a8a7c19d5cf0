"""What B1 to B3 share: the plate, how hcsflow is started, and what is stored below a folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import zarr
from measure import HERE

CLI = [sys.executable, "-c", "import sys; from hcsflow.cli.main import main; sys.exit(main())"]
TOOLS = HERE.parents[1] / "shared" / "tools"
FIELDS, CHANNELS, HEIGHTS = 4, 2, 3


def write_plate(folder: Path, wells: int, size: int) -> str:
    """Write a plate of 4 fields × 2 channels × 3 z in the exported layout; return by what.

    By ``shared/tools/make_plate.py``, as `plate P1` is made; where it is not there, by the
    project's own writer.
    """
    maker = TOOLS / "make_plate.py"
    if not maker.exists():
        from hcsflow.testing.plates import write_imagexpress_plate

        names = [f"{'ABCDEFGH'[n // 12]}{n % 12 + 1:02d}" for n in range(wells)]
        shape = {"fields": FIELDS, "channels": CHANNELS, "z": HEIGHTS}
        write_imagexpress_plate(folder, wells=names, size=size, **shape)
        return "hcsflow.testing.plates (make_plate.py was not there)"
    cells = max(2, round(150 * (size / 1024) ** 2))
    shape = ["--fields", FIELDS, "--channels", CHANNELS, "--z", HEIGHTS, "--cells", cells]
    options = ["--out", folder, "--layout", "nested", "--wells", wells, "--size", size, *shape]
    command = [sys.executable, maker, *options]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return "make_plate.py"


def emptied(folder: Path) -> Path:
    """Remove a folder of an earlier round."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def size_of(folder: Path, *, read: bool = False) -> int:
    """Return the bytes of all files below a folder, reading them where asked."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(len(path.read_bytes()) if read else path.stat().st_size for path in files)


def arrays_of(root: Path) -> dict[str, zarr.Array]:
    """Return all zarr arrays below a folder by relative path."""
    nodes = (path for path in root.rglob("zarr.json"))
    arrays = (n.parent for n in nodes if json.loads(n.read_text())["node_type"] == "array")
    return {a.relative_to(root).as_posix(): zarr.open_array(str(a), mode="r") for a in arrays}
