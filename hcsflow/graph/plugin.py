"""The plan on the workers: shipped once, found by its identifier."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from threading import Lock
from types import ModuleType
from typing import Any

import cloudpickle
from distributed import Worker, WorkerPlugin

from hcsflow.graph.families import register_families
from hcsflow.graph.process import limit_threads, load_libraries, restore_threads, tune_allocator
from hcsflow.graph.worker import measure_idle
from hcsflow.plan import Plan
from hcsflow.plate import Manifest

__all__ = [
    "Bundle",
    "PackedBundle",
    "PlanPlugin",
    "bundle_of",
    "forget",
    "held_bundle",
    "held_packed",
    "packed",
]


@dataclass(frozen=True, slots=True)
class Bundle:
    """All that a task needs besides its own name.

    Parameters
    ----------
    plan, manifest : Plan, Manifest
        What to do, and where the planes lie.
    plate_root, output : str
        Absolute folders of the plate and of the run's output.
    epoch : int
        Number of the run; a commit checks it.
    memory_bytes : int
        Memory of one task; a worker that has less lowers it when it gets the bundle.
    """

    plan: Plan
    manifest: Manifest
    plate_root: str
    output: str
    epoch: int
    memory_bytes: int


_bundles: dict[str, tuple[Bundle, int]] = {}
"""By plan: its bundle, and by how many it is held; one that was packed may be kept by none."""

_lock = Lock()


def bundle_of(plan_id: str) -> Bundle:
    """Return the bundle that this worker was given.

    Raises
    ------
    LookupError
        If no such plan has been shipped here.
    """
    found = _bundles.get(plan_id)
    if found is None:
        raise LookupError(f"plan {plan_id} has not been shipped to this worker")
    return found[0]


@contextmanager
def held_bundle(plan_id: str, bundle: Bundle) -> Iterator[None]:
    """Let tasks in this very process find a plan, without any worker, for the block."""
    with _lock:
        _bundles[plan_id] = bundle, 1
    limit_threads(bundle.plan.resources.threads_per_worker, set_environment=False)
    measure_idle()
    try:
        yield
    finally:
        with _lock:
            del _bundles[plan_id]
        restore_threads()


@dataclass(frozen=True, slots=True)
class PackedBundle:
    """A bundle on its way to processes that get no plugin; see `packed` and `held_packed`."""

    plan_id: str
    payload: bytes


@contextmanager
def held_packed(shipped: PackedBundle) -> Iterator[Bundle]:
    """Let tasks of this process find a bundle, with its threads, for the block.

    It is kept for the next task until a task of another plan comes, or until `forget`.
    """
    plan_id = shipped.plan_id
    with _lock:
        found = _bundles.get(plan_id)
        if found is None:
            register_families()
            for other in [name for name, (_, holders) in _bundles.items() if holders == 0]:
                del _bundles[other]
            found = cloudpickle.loads(shipped.payload), 0
        _bundles[plan_id] = found[0], found[1] + 1
    limit_threads(found[0].plan.resources.threads_per_worker, set_environment=False)
    try:
        yield found[0]
    finally:
        with _lock:
            bundle, holders = _bundles[plan_id]
            _bundles[plan_id] = bundle, holders - 1
        restore_threads()


def forget(shipped: PackedBundle) -> None:
    """Drop a bundle that no task of this process holds."""
    with _lock:
        if _bundles.get(shipped.plan_id, (None, 1))[1] == 0:
            del _bundles[shipped.plan_id]


def packed(plan_id: str, bundle: Bundle) -> PackedBundle:
    """Pickle a bundle: functions of ``__main__`` and of loose files travel by value."""
    with _by_value(_loose_modules(bundle.plan)):
        return PackedBundle(plan_id, cloudpickle.dumps(bundle))


class PlanPlugin(WorkerPlugin):  # type: ignore[misc]
    """Prepare a worker and give it the plan; late and restarted workers get it too.

    Parameters
    ----------
    plan_id : str
        Name of the run among those that a cluster serves.
    bundle : Bundle
        Pickled once, here: functions of ``__main__`` and of files that a worker cannot import
        travel by value.

    Notes
    -----
    Allocator and environment are set in workers that are processes of their own only. What is set
    of threads is set back with the last plan.
    """

    def __init__(self, plan_id: str, bundle: Bundle) -> None:
        self.name = f"hcsflow-{plan_id}"
        self.plan_id = plan_id
        self.client = _this_process()
        self.threads = bundle.plan.resources.threads_per_worker
        self.payload = packed(plan_id, bundle).payload

    def setup(self, worker: Worker) -> None:
        """Set allocator, threads and array families; unpack the plan; note the idle size."""
        own_process = _this_process() != self.client
        if own_process:
            tune_allocator()
            load_libraries()
        register_families()
        with _lock:
            held = _bundles.get(self.plan_id)
            bundle = held[0] if held else cloudpickle.loads(self.payload)
            bundle = replace(bundle, memory_bytes=_share_of(worker, bundle.memory_bytes))
            _bundles[self.plan_id] = bundle, (held[1] if held else 0) + 1
        limit_threads(self.threads, set_environment=own_process)
        measure_idle()

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - Dask's signature
        """Forget the plan, once the last worker of this process has."""
        with _lock:
            held = _bundles.pop(self.plan_id, None)
            if held and held[1] > 1:
                _bundles[self.plan_id] = held[0], held[1] - 1
        if held:
            restore_threads()


def _share_of(worker: Worker, planned: int) -> int:
    """Return the memory of one task of a worker in bytes: planned or its share, the lesser."""
    limit = int(worker.memory_manager.memory_limit or 0) // max(1, worker.state.nthreads)
    return min(limit, planned) if limit and planned else limit or planned


def _this_process() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _functions(plan: Plan) -> Iterator[Any]:
    for step in plan.steps:
        for branch in step.branches:
            yield from (call.func for call in branch.calls)
        yield from (target.materializer for target in step.special_outputs)


def _loose_modules(plan: Plan) -> list[ModuleType]:
    """List the modules of the plan's functions that a worker could not import by name."""
    names = {getattr(func, "__module__", None) for func in _functions(plan)}
    names |= {type(func).__module__ for func in _functions(plan)}
    found = (sys.modules.get(name) for name in names if name and name != "__main__")
    return [module for module in found if module is not None and not _is_importable(module)]


def _is_importable(module: ModuleType) -> bool:
    """Tell whether a fresh process with the same path finds this very module by its name."""
    origin = getattr(module, "__file__", None)
    if origin is None:
        return True
    package = module.__name__.rpartition(".")[0]
    if package and package not in sys.modules:
        return False
    search = sys.modules[package].__path__ if package else None
    for finder in sys.meta_path:
        spec = finder.find_spec(module.__name__, search)
        if spec is not None:
            return bool(spec.origin == origin)
    return False


@contextmanager
def _by_value(modules: list[ModuleType]) -> Iterator[None]:
    """Let cloudpickle take these modules' functions by value for the time being."""
    known = cloudpickle.list_registry_pickle_by_value()
    with ExitStack() as stack:
        for module in modules:
            if module.__name__ not in known:
                cloudpickle.register_pickle_by_value(module)
                stack.callback(cloudpickle.unregister_pickle_by_value, module)
        yield
