"""What was found in a plate's folder, kept in the user's cache folder, never in the plate.

An index is used again only while every folder of the plate, every file beside the images and the
files that were opened are as they were: inode, size, times of change. A plane that is added,
removed or renamed changes its folder on most file systems, not on FAT nor in many object stores
that are mounted as folders; a plane that is overwritten in place does so nowhere. Those who rely
on more than that ask for every file to be looked at: then the names in each folder are compared
too, and size and time of every plane. A plate with symbolic links is not kept, nor one that
changed within the last seconds, as one does that is being acquired: a clock may be too coarse to
tell two changes apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hcsflow import microscopes, plate
from hcsflow.errors import PlateError
from hcsflow.microscopes.walk import iter_folders
from hcsflow.plate import (
    Channel,
    FieldGrid,
    Manifest,
    Measured,
    Plate,
    StoredProjection,
    WellFault,
)
from hcsflow.storage import tiff_header

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["IndexCache", "open_plate_again", "sign_folder"]

SCHEMA = "hcsflow.index/2"
SETTLED_NS = 3_000_000_000
"""A plate must be left alone for so long: twice what the coarsest file system's clock takes."""
LIMIT_BYTES = 512 << 20
IMAGES = (".tif", ".tiff")
COLUMNS = ("keys", "folder_ids", "name_offsets", "nbytes", "mtime_ns", "missing")

DIGEST_BYTES = 32


class Signature(NamedTuple):
    """How a plate's folders and the files beside its images were; paths relative to the plate.

    Parameters
    ----------
    states : dict of str to list of int
        Inode, size and times of change of each folder and each file that is no image.
    names : dict of str to str
        Digest of all names in each folder, for file systems where its times do not follow them.
    """

    states: dict[str, list[int]]
    names: dict[str, str]


def sign_folder(root: Path) -> Signature | None:
    """Say how a plate's folders and the files beside its images are now.

    Parameters
    ----------
    root : Path
        The plate's folder, resolved.

    Returns
    -------
    Signature or None
        None where changes could go unnoticed: a symbolic link, or a change within the last
        seconds.

    Raises
    ------
    PlateError
        If a folder cannot be read.
    """
    now = time.time_ns()
    found = Signature({}, {})
    ignored: Counter[str] = Counter()
    for folder in iter_folders(root, ignored):
        found.states[folder.path] = _state(root / folder.path)
        found.names[folder.path] = _names_in(root / folder.path)
        start = f"{folder.path}/" if folder.path else ""
        for name, item in folder.files:
            if item.is_symlink():
                return None
            if not name.lower().endswith(IMAGES):
                found.states[start + name] = _state(root / start / name)
    is_linked = any(reason.startswith("symbolic link") for reason in ignored)
    last = max(max(state[2:]) for state in found.states.values())
    return None if is_linked or last > now - SETTLED_NS else found


def _state(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def _names_in(folder: Path) -> str:
    """Return a digest of the names of all that lies in a folder."""
    names = b"\0".join(map(os.fsencode, sorted(os.listdir(folder))))  # noqa: PTH208 - as text
    return hashlib.blake2b(names, digest_size=DIGEST_BYTES).hexdigest()


def open_plate_again(
    path: str | Path,
    *,
    microscope: str | None = None,
    acquisition: str | None = None,
    pixel_size_um: float | None = None,
    is_every_file_checked: bool = True,
) -> tuple[Plate, Manifest]:
    """Open a plate as `hcsflow.microscopes.open_plate` does, from a kept index where one holds.

    Parameters
    ----------
    path, microscope, acquisition, pixel_size_um
        As there.
    is_every_file_checked : bool
        Compare the names in every folder, and size and time of every plane, before a kept index
        is used, so that it equals a new one. Otherwise only inode, size and times of the folders
        and of the files that are no images, and size and time of one well's planes. That relies
        on a folder's times to follow what is added, removed and renamed in it, as on the file
        systems of Linux, macOS and Windows except FAT and exFAT, and not on all that are mounted
        by FUSE; and sizes and times of planes overwritten in place are then the older ones.

    Raises
    ------
    HcsflowError
        As there.
    """
    pixel_size_um = microscopes.checked_pixel_size(pixel_size_um)
    root = microscopes.plate_folder(Path(path))
    options = (microscope, acquisition, pixel_size_um)
    indices = IndexCache()
    found = indices.load(root, options, is_every_file_checked=is_every_file_checked)
    if found is not None:
        return found
    try:
        signed = sign_folder(root)
    except (OSError, PlateError):
        signed = None  # opening says what is wrong
    found = microscopes.open_plate(
        path, microscope=microscope, acquisition=acquisition, pixel_size_um=pixel_size_um
    )
    if signed is not None and found[0].microscope in microscopes.MICROSCOPES:
        indices.save(root, options, signed, found)
    return found


class IndexCache:
    """Indices of plates by folder and the options they were opened with.

    It never fails: what cannot be read is left out, what cannot be written is not kept. Nothing is
    kept where the folder is not absolute, as without a home, nor in the plate itself.

    Parameters
    ----------
    folder : Path, optional
        Where indices are kept; the default is ``hcsflow/index`` in the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = user_cache() / "index" if folder is None else folder

    def load(
        self, root: Path, options: tuple[Any, ...], *, is_every_file_checked: bool
    ) -> tuple[Plate, Manifest] | None:
        """Return a plate's index, None where there is none that holds.

        Parameters
        ----------
        root : Path
            The plate's folder, resolved.
        options : tuple
            What else the index depends on.
        is_every_file_checked : bool
            Compare names in every folder, and size and time of every plane, not only one well's.
        """
        if not self._may_keep(root):
            return None
        try:
            file = self._file(root, options)
            stored = _opened(file.read_bytes())
            if stored is None:
                return None
            facts = json.loads(stored.pop("facts").tobytes())
            signed = Signature(*facts["signed"])
            if facts["key"] != _key(root, options) or not _is_unchanged(
                root, signed, are_names_compared=is_every_file_checked
            ):
                return None
            found = _unpack(root, facts, stored)
            if not _are_as_indexed(found[1], is_every_file_checked=is_every_file_checked):
                return None
            os.utime(file)  # the oldest go first
        except (OSError, TypeError, ValueError):  # the latter two: options that JSON cannot hold
            return None
        return found

    def save(
        self,
        root: Path,
        options: tuple[Any, ...],
        signed: Signature,
        found: tuple[Plate, Manifest],
    ) -> None:
        """Keep a plate's index.

        Parameters
        ----------
        root, options : Path, tuple
            As for `load`.
        signed : Signature
            What `sign_folder` said before the plate was opened.
        found : (Plate, Manifest)
            The index.
        """
        model, manifest = found
        is_settled = not len(manifest) or manifest.mtime_ns.max() <= time.time_ns() - SETTLED_NS
        if not is_settled or not self._may_keep(root):
            return
        arrays = {name: getattr(manifest, name) for name in COLUMNS}
        arrays["names"] = np.frombuffer(manifest.name_blob, np.uint8)
        try:
            facts = {"key": _key(root, options), "signed": signed} | _facts(model, manifest)
            arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _replacing(self._file(root, options)) as draft:
                draft.write(_sealed(arrays))
            self._drop_oldest()
        except (OSError, TypeError, ValueError):  # as in `load`
            return

    def _may_keep(self, root: Path) -> bool:
        """Whether the folder is a place of its own, never one in the plate."""
        is_absolute = self.folder.is_absolute()
        return is_absolute and not Path(os.path.realpath(self.folder)).is_relative_to(root)

    def _file(self, root: Path, options: tuple[Any, ...]) -> Path:
        digest = hashlib.sha256(json.dumps(_key(root, options)).encode()).hexdigest()
        return self.folder / f"{digest[:32]}.index"

    def _drop_oldest(self) -> None:
        """Remove what was used longest ago until the rest is within the limit."""
        kept = [(item.stat(), item) for item in self.folder.iterdir()]
        room = LIMIT_BYTES
        for facts, item in sorted(kept, key=lambda one: -one[0].st_mtime_ns):
            room -= facts.st_size
            if room < 0:
                item.unlink(missing_ok=True)


def user_cache() -> Path:
    """Return hcsflow's folder for what can be made again; it need not be there."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given) / "hcsflow"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", tempfile.gettempdir())) / "hcsflow" / "cache"
    return Path(os.path.expanduser("~/.cache")) / "hcsflow"  # noqa: PTH111 - no error without home


def _sealed(arrays: dict[str, NDArray[Any]]) -> bytes:
    """Return arrays as bytes that begin with their own digest."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type]
    content = packed.getvalue()
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest() + content


def _opened(data: bytes) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of `_sealed`, None if the bytes are not what was written."""
    content = data[DIGEST_BYTES:]
    if hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest() != data[:DIGEST_BYTES]:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)


@contextlib.contextmanager
def _replacing(file: Path) -> Iterator[Any]:
    """Open a draft that takes the file's place when it is whole."""
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as draft:
        try:
            yield draft
            draft.close()
            Path(draft.name).replace(file)
        finally:
            Path(draft.name).unlink(missing_ok=True)


def _key(root: Path, options: tuple[Any, ...]) -> list[Any]:
    return [SCHEMA, _code_state(), str(root), *options]


@cache
def _code_state() -> str:
    """Return a digest of the code that makes indices: those of other code are not taken."""
    try:
        found = hashlib.blake2b(version("hcsflow").encode(), digest_size=DIGEST_BYTES)
    except PackageNotFoundError:  # run from a folder
        found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    files = [Path(str(tiff_header.__file__))]
    for package in (microscopes, plate):
        files += sorted(Path(str(package.__file__)).parent.rglob("*.py"))
    for file in files:
        found.update(hashlib.blake2b(file.read_bytes()).digest())
    return found.hexdigest()


def _is_unchanged(root: Path, signed: Signature, *, are_names_compared: bool) -> bool:
    if not all(_state(root / path) == state for path, state in signed.states.items()):
        return False
    names = signed.names.items() if are_names_compared else ()
    return all(_names_in(root / path) == digest for path, digest in names)


def _are_as_indexed(manifest: Manifest, *, is_every_file_checked: bool) -> bool:
    """Whether planes have the size and time they had; else those of the well that was opened."""
    rows = np.arange(len(manifest))
    if not is_every_file_checked and len(manifest):
        rows = np.flatnonzero(manifest.keys[:, 0] == np.bincount(manifest.keys[:, 0]).argmax())
    places = [f"{manifest.root}/{path}" for path in manifest.paths(rows)]
    found = [(facts.st_size, facts.st_mtime_ns) for facts in map(os.stat, places)]
    expected = np.stack([manifest.nbytes[rows], manifest.mtime_ns[rows]], axis=1)
    return bool(np.array_equal(np.array(found, np.int64).reshape(-1, 2), expected))


def _facts(model: Plate, manifest: Manifest) -> dict[str, Any]:
    """Return what is not a column."""
    return {
        "plate": asdict(model),
        "folders": manifest.folders,
        "absent": manifest.absent,
        "missing_wells": manifest.missing_wells,
        "projections": manifest.projections,
        "ignored": manifest.ignored,
        "faults": manifest.faults,
    }


def _unpack(
    root: Path, facts: dict[str, Any], columns: dict[str, NDArray[Any]]
) -> tuple[Plate, Manifest]:
    blob = columns.pop("names").tobytes()
    for column in columns.values():
        column.flags.writeable = False
    manifest = Manifest(
        root=str(root),
        name_blob=blob,
        folders=tuple(facts["folders"]),
        absent=facts["absent"],
        missing_wells=tuple(facts["missing_wells"]),
        projections=tuple(StoredProjection(*one) for one in facts["projections"]),
        ignored=_tuples(facts["ignored"]),
        faults=tuple(WellFault(*one) for one in facts["faults"]),
        **columns,
    )
    values = {name: _tuples(value) for name, value in facts["plate"].items()}
    values["channels"] = tuple(
        Channel(**{name: _tuples(value) for name, value in one.items()})
        for one in facts["plate"]["channels"]
    )
    values["grid"] = FieldGrid(**{n: _tuples(v) for n, v in facts["plate"]["grid"].items()})
    values["pixel_size"] = Measured(**facts["plate"]["pixel_size"])
    values["z_step"] = Measured(**facts["plate"]["z_step"])
    return Plate(**values), manifest


def _tuples(value: Any) -> Any:
    """Turn JSON's lists back into tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
