"""Names of planes: one to one with the planes, in natural order, for any manifest."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hcsflow.plate import Channel, FieldGrid, Manifest, Measured, PlaneRow, Plate
from hcsflow.storage import virtual_workspace
from hcsflow.storage.paths import natural
from hcsflow.storage.virtual_workspace import VirtualWorkspaceBackend

WELLS = ("A01", "A02", "A10", "B01", "P24", "AA01", "AF48")
KEYS = st.tuples(
    st.integers(0, len(WELLS) - 1),
    st.sampled_from([0, 1, 8, 9, 99, 998, 999, 1200]),
    st.integers(0, 12),
    st.integers(0, 3),
    st.sampled_from([0, 1, 2, 9, 10, 99, 1000]),
)


def workspace_of(keys):
    rows = [PlaneRow(*key, f"f{key[1]}", f"{number}.tif", number, 0)
            for number, key in enumerate(sorted(keys))]  # fmt: skip
    plate = Plate(
        name="p", microscope="imagexpress", layout="flat", uuid=None, rows=(), columns=(),
        acquisition="", acquisitions=(), wells=WELLS, fields=(), timepoints=(),
        channels=(Channel("w1", "c", 1),), z=(), shape_yx=(2, 2), dtype="uint16",
        pixel_size=Measured(None, ""), z_step=Measured(None, ""),
        grid=FieldGrid(1, 1, ((0, 0),), ""),
    )  # fmt: skip
    return VirtualWorkspaceBackend(Manifest.from_rows("/plate", rows), plate)


@given(st.sets(KEYS, max_size=60))
def test_names_and_planes_are_one_to_one(keys):
    workspace = workspace_of(keys)
    names = workspace.list_files("")
    assert len(set(names)) == len(names) == len(keys)
    for row, (key, path) in enumerate(workspace.manifest):
        name = workspace.generate_filename(key)
        assert workspace.row(name) == row
        assert workspace.workspace_mapping()[name] == path
    assert dict(workspace.planes()) == {name: workspace.workspace_mapping()[name] for name in names}


@given(st.sets(KEYS, max_size=40), KEYS)
def test_no_other_name_is_there(keys, other):
    workspace = workspace_of(keys)
    well, field, timepoint, channel, z = other
    name = workspace.generate_filename(
        {"well": well, "field": field, "timepoint": timepoint, "channel": channel, "z": z}
    )
    assert workspace.is_file(name) == (other in keys)


@given(st.sets(KEYS, min_size=1, max_size=40))
def test_names_of_a_well_come_in_natural_order(keys):
    for well in WELLS:
        names = [n for n in workspace_of(keys).names() if n.startswith(f"{well}_")]
        assert names == natural(names)


def test_planes_come_in_the_same_order_block_by_block(monkeypatch):
    keys = [tuple(key) for key in np.ndindex(3, 4, 2, 2, 5)]
    whole = list(workspace_of(keys).planes())
    monkeypatch.setattr(virtual_workspace, "BLOCK_ROWS", 7)
    assert list(workspace_of(keys).planes()) == whole
    names = [name for name, _ in whole]
    assert names == natural(names)
    assert len(names) == len(keys)
