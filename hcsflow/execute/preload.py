"""What the forkserver imports before it makes workers; importing this module is all it does.

The garbage collector waits meanwhile, as imports leave little garbage and many objects to look
through, and leaves what they made alone afterwards: a collection in a worker would write to pages
that all workers share.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from importlib import import_module

from hcsflow.graph.process import LIBRARIES

__all__ = ["PRELOAD"]

PRELOAD = (
    "distributed.nanny", "distributed.worker", "hcsflow.graph.tasks", *LIBRARIES,
    "skimage.segmentation._watershed",
)  # fmt: skip
"""Nothing here may touch a GPU.

Functions load scikit-image when they first flood, a third of a second in each worker; here it is
loaded while the plan is compiled. (The package itself would load nothing: it is lazy.)"""

gc.disable()
for _name in PRELOAD:
    with suppress(ImportError):  # as the forkserver does; a task that needs it says what is wrong
        import_module(_name)
import_module("distributed.versions").get_versions()  # asked of each worker; kept once looked up
gc.freeze()
gc.enable()
