"""What the forkserver imports before it makes workers; importing this module is all it does.

The garbage collector waits meanwhile, as imports leave little garbage and many objects to look
through, and leaves what they made alone afterwards: a collection in a worker would write to pages
that all workers share.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from importlib import import_module

from hcsflow.graph.process import LIBRARIES

__all__ = ["PRELOAD"]

PRELOAD = (
    "numpy", "dask", "distributed.nanny", "distributed.worker", "hcsflow.graph.tasks", *LIBRARIES,
    "skimage.segmentation._watershed",
)  # fmt: skip
"""Nothing here may touch a GPU.

Functions load scikit-image when they first flood, a third of a second in each worker; here it is
loaded while the plan is compiled. (The package itself would load nothing: it is lazy.)"""


def _preload() -> None:
    parent = os.getppid()
    for name in (*PRELOAD, "distributed.versions"):
        if os.getppid() != parent:
            raise SystemExit  # the command is over, and whoever reads its output waits for this
        with suppress(ImportError):  # a task that needs it says what is wrong
            import_module(name)
    import_module("distributed.versions").get_versions()  # asked of each worker, and kept


gc.disable()
try:
    _preload()
    gc.freeze()
finally:
    gc.enable()
