"""What a function's file needs: the user's own files that it imports, and installed libraries."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

__all__ = ["Dependencies", "dependencies_of", "is_installed_at", "versions_of"]

ALWAYS = ("hcsflow", "numpy", "numcodecs")
"""What decides the bytes of every step: pixels between steps are numpy's, numcodecs packs them."""

OWN = "hcsflow"
READY_MADE = "hcsflow.functions."
"""Of hcsflow itself only functions are followed; the rest counts by its version."""

_DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "yaml": "PyYAML",
}
"""Modules whose distribution has another name; the rest is looked up, which takes half a second."""

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_PYTHON = Path(sysconfig.get_paths()["stdlib"])


class Dependencies(NamedTuple):
    """What a file needs.

    Parameters
    ----------
    digests : tuple of str
        Of the file and of the user's own files that it imports, however indirectly.
    libraries : frozenset of str
        Top-level modules of installed libraries, those of hcsflow itself left out.
    """

    digests: tuple[str, ...]
    libraries: frozenset[str]


class _Source(NamedTuple):
    """A file's digest, and the modules that it imports anywhere: (name, dots before it)."""

    digest: str
    imports: tuple[tuple[str, int], ...]


def dependencies_of(file: Path, module: str) -> Dependencies:
    """Follow a file's imports: own files by content, installed libraries by name.

    Parameters
    ----------
    file : Path
        Python source.
    module : str
        The name it was imported by; relative imports start there.
    """
    family = module.partition(".")[0]
    digests: dict[Path, str] = {}
    libraries: set[str] = set()
    queue = [(file, module)]
    while queue:
        path, name = queue.pop()
        if path in digests:
            continue
        source = _source_of(path)
        digests[path] = source.digest
        for imported in _absolute(source.imports, name):
            top = imported.partition(".")[0]
            if top in sys.stdlib_module_names:
                continue
            if top == OWN:
                queue += _loaded(imported) if imported.startswith(READY_MADE) else ()
            elif top == family or _is_local(top):
                queue += _loaded(imported)
            else:
                libraries.add(top)
    return Dependencies((digests.pop(file), *sorted(digests.values())), frozenset(libraries))


def is_installed_at(file: Path) -> bool:
    """Tell whether a file is a library's or Python's own, rather than the user's."""
    return bool(_INSTALLED & set(file.parts)) or file.is_relative_to(_PYTHON)


def versions_of(libraries: Iterable[str]) -> str:
    """Return ``name=version`` of libraries and of what every step needs, those not there left out.

    Examples
    --------
    >>> "numpy=" in versions_of([])
    True
    """
    found: dict[str, str] = {}
    for module in (*ALWAYS, *libraries):
        found |= _versions(module)
    return ",".join(f"{name}={version}" for name, version in sorted(found.items()))


@cache
def _versions(module: str) -> dict[str, str]:
    name = _DISTRIBUTIONS.get(module, module)
    try:
        return {name: importlib.metadata.version(name)}
    except importlib.metadata.PackageNotFoundError:
        owners = _owners().get(module, [])
        return {owner: importlib.metadata.version(owner) for owner in owners}


@cache
def _owners() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


@cache
def _is_local(top: str) -> bool:
    """Tell whether a module is the user's own: found, and not where libraries are installed."""
    spec = PathFinder.find_spec(top)
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    known = [place for place in places if place]
    return bool(known) and not any(_INSTALLED & set(Path(place).parts) for place in known)


def _loaded(name: str) -> Iterator[tuple[Path, str]]:
    """Yield the source of a module that has been imported."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if file and file.endswith(".py") and Path(file).is_file():
        yield Path(file), name


def _absolute(imports: Iterable[tuple[str, int]], module: str) -> Iterator[str]:
    loaded = sys.modules.get(module)
    package = getattr(loaded, "__package__", None) or module.rpartition(".")[0]
    for name, dots in imports:
        try:
            yield importlib.util.resolve_name("." * dots + name, package) if dots else name
        except ImportError:
            continue  # of a file that was loaded without its package


def _source_of(path: Path) -> _Source:
    facts = path.stat()
    return _parsed(str(path), facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=1024)
def _parsed(file: str, mtime_ns: int, nbytes: int) -> _Source:  # noqa: ARG001 - the cache's key
    data = Path(file).read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:16]
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):  # changed since it was imported
        return _Source(digest, ())
    found: dict[tuple[str, int], None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, 0): None for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found[base, node.level] = None
            names = (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
            found |= {(name, node.level): None for name in names}
    return _Source(digest, tuple(found))
