"""Whole small plates: read by zarr and ngio, valid for ome-zarr-models and the JSON schemas."""

import importlib.util
import json
import math
import resource
import warnings
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from ome_zarr_models import v04, v05  # before any ngio: after it, 1.7 takes 0.4 for 0.5
from ome_zarr_models.common.omero import Omero
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from hcsflow.config import ZarrConfig
from hcsflow.errors import ContractError, PlateError
from hcsflow.ngff import layout as layouts
from hcsflow.ngff.colors import channel_color
from hcsflow.ngff.layout import plan_image, slot_of
from hcsflow.ngff.metadata import Window, image_attributes
from hcsflow.plan import PlaneSet
from hcsflow.plate import Channel, FieldGrid
from hcsflow.storage.images import ImageWriter
from hcsflow.storage.objects import checksum_of
from hcsflow.storage.plates import (
    list_tables,
    roi_tables,
    write_plate_documents,
    write_roi_table,
    write_table,
    write_well_documents,
)

ROWS = tuple("ABCDEFGH")
COLUMNS = tuple(f"{n:02d}" for n in range(1, 13))
CHANNELS = (
    Channel("w1", "DAPI", 3),
    Channel("w2", "FITC", 3),
    Channel("w3", "FITC_05 (w3)", 1, is_projection=True, projection="Maximum", z_um=12.5),
)
UM, Z_UM = 1.3668, 5.0
SIDE = 128


class SmallWell:
    """Three fields in a 2 × 2 grid; pixels encode their key; labels of 6 nuclei a field."""

    def __init__(
        self,
        *,
        strategy="well",
        timepoints=1,
        z=((0, 1, 2), (0, 1, 2), (0,)),
        um=UM,
        version="0.5",
    ):
        times = tuple(range(timepoints))
        size = (SIDE, SIDE)
        self.planes = PlaneSet((0, 1, 2), times, (0, 1, 2), z, size, "uint16")
        self.label_planes = PlaneSet((0, 1, 2), times, (0,), ((0,),), size, "uint32", ("z",))
        settings = {"chunk_strategy": strategy, "ngff_version": version}
        self.image = self._lay_out("0", "image", self.planes, um, **settings)
        self.labels = self._lay_out("0/labels/nuclei", "label", self.label_planes, um, **settings)

    @staticmethod
    def _lay_out(path, kind, planes, um, **settings):
        return plan_image(
            path=path,
            kind=kind,
            planes=planes,
            grid=FieldGrid(2, 2, ((0, 1), (1, 0), (0, 0)), "drawn"),
            config=ZarrConfig(**settings),
            pixel_size_um=um,
            z_step_um=Z_UM if um else None,
        )

    @staticmethod
    def pixels(field, timepoint, channel, slot):
        code = 1 + field + 10 * timepoint + 100 * channel + 1000 * slot
        return np.full((SIDE, SIDE), code, "uint16")

    @staticmethod
    def nuclei(field):
        plane = np.zeros((SIDE, SIDE), "uint32")
        for n in range(6):
            plane[n * 20 : n * 20 + 9, 30:80] = field * 65536 + n + 1
        return plane

    @property
    def features(self):
        ids = [field * 65536 + n + 1 for field in range(3) for n in range(6)]
        return pd.DataFrame({
            "label": np.array(ids, "uint32"),
            "field": [f"{i // 65536 + 1}" for i in ids],
            "area_um2": [450 * UM**2] * len(ids),
        })  # fmt: skip

    def write(self, root, name):
        """Write everything; return every record."""
        with ImageWriter(root, self.image) as image, ImageWriter(root, self.labels) as labels:
            for key in self.planes.iter_keys():
                slot = slot_of(self.image, key.channel, key.z)
                place = (key.field, key.timepoint, key.channel, slot)
                image.write(*place, self.pixels(*place))
            for key in self.label_planes.iter_keys():
                labels.write(key.field, key.timepoint, 0, 0, self.nuclei(key.field))
            record, label_record = image.close(), labels.close()
        stored = [*record.objects, *label_record.objects]
        stored += write_well_documents(
            root,
            name=name,
            image=self.image,
            record=record,
            channels=CHANNELS,
            labels=[(self.labels, label_record)],
        )
        stages = [(-100.0, 250.5), None, (0.0, 75.25)]
        version = self.image.ngff_version
        rois = roi_tables(self.image, ("3", "7", "9"), stages)
        for table, regions in rois.items():
            stored += write_roi_table(root / "0", table, regions, version=version)
        features = pa.Table.from_pandas(self.features, preserve_index=False)
        stored += write_table(root / "0", "nuclei", features, labels="nuclei", version=version)
        summary = pa.table({"nuclei": [18]})
        stored += write_table(root / "0", "summary", summary, version=version)
        stored += list_tables(root / "0", [*rois, "nuclei", "summary"], version=version)
        return {one.path: one for one in stored}


def list_wells(store, wells, version="0.5"):
    labels = {"rows": ROWS, "columns": COLUMNS}
    return write_plate_documents(store, "P 1", **labels, wells=wells, version=version)


def write_plate(store, version):
    for well in ("B03", "C05"):
        SmallWell(version=version).write(store / well[0] / well[1:], well)
    list_wells(store, ["C05", "B03"], version)
    return store


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    return write_plate(tmp_path_factory.mktemp("plate") / "images.zarr", "0.5")


@pytest.fixture(scope="module", params=["0.4", "0.5"])
def each_version(request, tmp_path_factory):
    return write_plate(tmp_path_factory.mktemp("plate") / "images.zarr", request.param)


@pytest.fixture(params=["0.4", "0.5"])
def version(request):
    return request.param


@pytest.fixture(params=["well", "file", "adaptive", "timepoints", "flat", "no-pixel-size"])
def any_plate(request, tmp_path, monkeypatch, version):
    monkeypatch.setattr(layouts, "MAX_OBJECT_BYTES", 3 * SIDE * SIDE * 2)
    kinds = {
        "well": {},
        "file": {"strategy": "file"},
        "adaptive": {"strategy": "adaptive"},
        "timepoints": {"timepoints": 2},
        "flat": {"z": ((0,),) * 3},
        "no-pixel-size": {"um": None},
    }
    store = tmp_path / "images.zarr"
    SmallWell(**kinds[request.param], version=version).write(store / "H" / "12", "H12")
    list_wells(store, ["H12"], version)
    return store


def attributes_of(group):
    if (group / ".zgroup").exists():
        return json.loads((group / ".zattrs").read_text())
    return json.loads((group / "zarr.json").read_text())["attributes"]


def ome_of(group):
    found = attributes_of(group)
    return found.get("ome", found)


def documents_of(store):
    """Yield (schema's name, attributes) of everything that NGFF describes."""
    yield "plate", attributes_of(store)
    for file in sorted({*store.rglob("zarr.json"), *store.rglob(".zattrs")}):
        found = attributes_of(file.parent)
        ome = found.get("ome", found)
        for word, model in (("well", "well"), ("image-label", "label"), ("omero", "image")):
            if word in ome:
                yield model, found
        if "image-label" in ome:
            yield "image", found


def test_ome_zarr_models_takes_all_without_a_warning(any_plate, version):
    models = v04 if version == "0.4" else v05

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        group = zarr.open_group(any_plate, mode="r")
        assert models.HCS.from_zarr(group).n_wells == 1
        models.Well.from_zarr(group["H/12"])
        image = models.Image.from_zarr(group["H/12/0"])
        models.ImageLabel.from_zarr(group["H/12/0/labels/nuclei"])
        models.Labels.from_zarr(group["H/12/0/labels"])
    multiscale = image.ome_attributes.multiscales[0]
    assert multiscale.name == "H12"
    omero = Omero.model_validate(ome_of(any_plate / "H/12/0")["omero"])
    assert omero.channels[0].color == "0000FF"


def test_the_official_schemas_take_all_strictly(any_plate, version):
    found = importlib.util.find_spec("ngff_zarr")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("the official JSON schemas come with ngff-zarr, which is not installed")
    folder = Path(next(iter(found.submodule_search_locations))) / f"spec/{version}/schemas"
    schemas = {p.stem: json.loads(p.read_text()) for p in folder.glob("*.schema")}
    registry = Registry().with_resources(
        (s["$id"], Resource.from_contents(s, default_specification=DRAFT202012))
        for s in schemas.values()
    )
    models = set()
    for model, attributes in documents_of(any_plate):
        schema = schemas[f"strict_{model}"]
        jsonschema.Draft202012Validator(schema, registry=registry).validate(attributes)
        models.add(model)
    assert models == {"plate", "well", "image", "label"}


def test_the_documents_say_what_the_arrays_are(plate):
    image = attributes_of(plate / "B/03/0")
    multiscale = image["ome"]["multiscales"][0]
    assert [a["name"] for a in multiscale["axes"]] == ["c", "z", "y", "x"]
    assert [a.get("unit") for a in multiscale["axes"]] == [None, *["micrometer"] * 3]
    for dataset in multiscale["datasets"]:
        array = zarr.open_array(plate / "B/03/0" / dataset["path"], mode="r")
        scale = dataset["coordinateTransformations"][0]["scale"]
        assert array.metadata.dimension_names == ("c", "z", "y", "x")
        assert scale == [1, Z_UM, *[UM * 2 * SIDE / array.shape[-1]] * 2]
    channels = image["ome"]["omero"]["channels"]
    assert [c["label"] for c in channels] == ["DAPI", "FITC", "FITC_05 (w3)"]
    assert [c["wavelength_id"] for c in channels] == ["w1", "w2", "w3"]
    assert len({c["color"] for c in channels}) == 3
    windows = [c["window"] for c in channels]
    assert windows[0] == {"min": 0, "max": 65535, "start": 1, "end": 2003}
    third = image["hcsflow"]["channels"][2]
    assert third == {"label": "w3", "z_slots": [0], "z_um": 12.5, "projection": "Maximum"}


def test_without_a_pixel_size_there_is_no_unit(tmp_path):
    SmallWell(um=None).write(tmp_path, "B03")
    image = attributes_of(tmp_path / "0")
    assert all("unit" not in axis for axis in image["ome"]["multiscales"][0]["axes"])
    assert image["hcsflow"]["pixel_size_um"] is None


def test_ngio_cuts_each_field_out_by_its_roi(each_version):
    import ngio

    well = SmallWell()
    container = ngio.open_ome_zarr_container(each_version / "B/03/0", mode="r")
    image = container.get_image()
    assert container.list_tables() == ["FOV_ROI_table", "well_ROI_table", "nuclei", "summary"]
    rois = container.get_table("FOV_ROI_table")
    assert [roi.name for roi in rois.rois()] == ["FOV_3", "FOV_7", "FOV_9"]
    for field, roi in enumerate(rois.rois()):
        cut = image.get_roi(roi)
        assert cut.shape == (3, 3, SIDE, SIDE)
        for channel, slots in enumerate(well.image.slots):
            for slot in range(3):
                want = well.pixels(field, 0, channel, slot) if slot in slots else 0
                assert (cut[channel, slot] == want).all()
        # ngio cuts only along axes that an array has, and these labels are flat
        label = container.get_label("nuclei").get_roi(roi.remove_slice("z"))
        np.testing.assert_array_equal(label.squeeze(), well.nuclei(field))
    frame = rois.dataframe
    assert frame.loc["FOV_3", "x_micrometer"] == pytest.approx(SIDE * UM)
    assert frame.loc["FOV_3", "x_micrometer_original"] == 250.5
    assert frame.loc["FOV_3", "y_micrometer_original"] == -100.0
    assert math.isnan(frame.loc["FOV_7", "x_micrometer_original"])
    whole = container.get_table("well_ROI_table").rois()[0]
    assert image.get_roi(whole).shape == (3, 3, 2 * SIDE, 2 * SIDE)


def test_ngio_reads_features_tied_to_labels(each_version):
    import ngio

    container = ngio.open_ome_zarr_container(each_version / "B/03/0", mode="r")
    table = container.get_table("nuclei")
    assert table.table_type() == "feature_table"
    assert table.reference_label == "nuclei"
    assert table.dataframe.index.name == "label"
    assert list(table.dataframe.index) == list(SmallWell().features["label"])
    assert container.get_table("summary").dataframe["nuclei"].tolist() == [18]
    values = set(np.unique(container.get_label("nuclei").get_as_numpy())) - {0}
    assert values == set(table.dataframe.index)


def test_ngio_lists_wells_and_channels(each_version):
    import ngio

    opened = ngio.open_ome_zarr_plate(each_version, mode="r")
    assert opened.wells_paths() == ["B/03", "C/05"]
    image = ngio.open_ome_zarr_container(each_version / "C/05/0", mode="r").get_image()
    assert image.channel_labels == ["DAPI", "FITC", "FITC_05 (w3)"]
    assert (image.pixel_size.x, image.pixel_size.z) == (UM, Z_UM)


def test_roi_tables_state_true_extents_where_tiles_are_padded():
    planes = PlaneSet((0, 1), (0,), (0,), ((0,),), (1031, 1033), "uint16")
    layout = plan_image(
        path="0",
        kind="image",
        planes=planes,
        grid=FieldGrid(2, 2, ((0, 0), (1, 1)), "drawn"),
        config=ZarrConfig(),
        pixel_size_um=0.5,
        z_step_um=None,
    )
    assert layout.pitch_yx == (1032, 1034)
    fields = roi_tables(layout, ("1", "2"), [None, None])["FOV_ROI_table"]
    assert fields["y_micrometer"] == (0, 516)
    assert fields["x_micrometer"] == (0, 517)
    assert fields["len_y_micrometer"] == (515.5,) * 2
    assert fields["len_x_micrometer"] == (516.5,) * 2


def test_every_label_has_a_colour_and_the_background_none(each_version):
    colors = ome_of(each_version / "B/03/0/labels/nuclei")["image-label"]["colors"]
    drawn = {c["label-value"]: c["rgba"] for c in colors}
    assert drawn[0] == [0, 0, 0, 0]
    assert set(drawn) == {0, *SmallWell().features["label"]}
    assert len({tuple(c) for c in drawn.values()}) == len(drawn)


def test_records_cover_every_file_of_the_well(tmp_path, version):
    stored = SmallWell(strategy="file", version=version).write(tmp_path, "B03")
    files = {p.relative_to(tmp_path).as_posix(): p for p in tmp_path.rglob("*") if p.is_file()}
    assert set(files) == set(stored)
    for path, file in files.items():
        data = file.read_bytes()
        assert stored[path][1:] == (len(data), checksum_of(data))


def test_the_same_well_gives_the_same_bytes(tmp_path, hash_tree, version):
    for folder in ("a", "b"):
        SmallWell(version=version).write(tmp_path / folder, "B03")
    assert hash_tree(tmp_path / "a") == hash_tree(tmp_path / "b")


def test_the_plate_lists_exactly_the_wells_given(tmp_path):
    store = tmp_path / "images.zarr"
    list_wells(store, ["C05", "B12", "B03"])
    plate = attributes_of(store)["ome"]["plate"]
    assert [w["path"] for w in plate["wells"]] == ["B/03", "B/12", "C/05"]
    assert plate["wells"][1] == {"path": "B/12", "rowIndex": 1, "columnIndex": 11}
    assert len(plate["rows"]) == 8
    assert len(plate["columns"]) == 12
    assert sorted(p.name for p in store.iterdir()) == ["B", "C", "zarr.json"]
    list_wells(store, ["C05"])
    assert [w["path"] for w in attributes_of(store)["ome"]["plate"]["wells"]] == ["C/05"]
    assert not list(store.rglob("*.part"))
    assert list_wells(store, []) == ()
    assert not (store / "zarr.json").exists()


def test_a_plate_of_0_4_lists_its_wells_at_the_top(tmp_path):
    store = tmp_path / "images.zarr"
    list_wells(store, ["C05", "B03"], "0.4")
    plate = attributes_of(store)["plate"]
    assert [w["path"] for w in plate["wells"]] == ["B/03", "C/05"]
    assert plate["version"] == "0.4"
    files = {p.relative_to(store).as_posix() for p in store.rglob("*") if p.is_file()}
    assert files == {".zattrs", ".zgroup", "B/.zgroup", "C/.zgroup"}


@pytest.mark.parametrize(("before", "after"), [("0.4", "0.5"), ("0.5", "0.4")])
def test_a_plate_written_in_the_other_version_is_one_plate(tmp_path, before, after):
    store = tmp_path / "images.zarr"
    list_wells(store, ["B03", "C05"], before)
    list_wells(store, ["B03"], after)
    assert zarr.open_group(store, mode="r").metadata.zarr_format == (2 if after == "0.4" else 3)
    files = {p.name for p in store.iterdir() if p.is_file()}
    assert files == ({".zattrs", ".zgroup"} if after == "0.4" else {"zarr.json"})
    list_wells(store, [], after)
    assert not [p for p in store.iterdir() if p.is_file()]


@pytest.mark.parametrize(("before", "after"), [("0.4", "0.5"), ("0.5", "0.4")])
def test_a_plate_that_cannot_be_written_in_the_other_version_stays(tmp_path, before, after):
    store = tmp_path / "images.zarr"
    list_wells(store, ["B03", "C05"], before)
    kept = attributes_of(store)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="large"):
            list_wells(store, ["B03"], after)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert attributes_of(store) == kept
    assert not list(store.rglob("*.part"))


def test_a_well_outside_the_plate_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(PlateError, match="'J01' lies on no row"):
        list_wells(tmp_path / "images.zarr", ["B03", "J01"])
    assert not (tmp_path / "images.zarr").exists()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"area": [1.0]}, "has no column 'label', only"),
        ({"label": [3, 3]}, "label 3 occurs more than once"),
    ],
)
def test_a_table_that_cannot_be_tied_to_its_labels_is_refused(tmp_path, columns, message):
    with pytest.raises(ContractError, match=message):
        write_table(tmp_path / "0", "nuclei", pa.table(columns), labels="nuclei")
    assert not (tmp_path / "0").exists()


def test_regions_of_one_name_are_refused(tmp_path):
    with pytest.raises(ContractError, match="a FieldIndex occurs more than once"):
        write_roi_table(tmp_path / "0", "FOV_ROI_table", {"FieldIndex": ("FOV_1", "FOV_1")})
    assert not (tmp_path / "0").exists()


def test_an_empty_table_keeps_its_columns(tmp_path):
    rows = pa.table({"label": np.zeros(0, "uint32"), "area_um2": np.zeros(0)})
    write_table(tmp_path / "0", "nuclei", rows, labels="nuclei")
    table = pq.read_table(tmp_path / "0/tables/nuclei/table.parquet")
    assert table.column_names == ["label", "area_um2"]


@pytest.mark.parametrize(
    ("name", "color"),
    [("DAPI", "0000FF"), ("FITC_05", "00FF00"), ("Cy5", "FF00FF"), ("Channel 4", None)],
)
def test_channels_have_their_usual_colour(name, color):
    assert channel_color(name) == color


def test_channels_of_one_fluorophore_differ_in_colour():
    channels = tuple(Channel(f"w{n}", f"DAPI {n}", 1) for n in range(8))
    planes = PlaneSet((0,), (0,), tuple(range(8)), ((0,),) * 8, (64, 64), "uint16")
    layout = SmallWell._lay_out("0", "image", planes, UM)
    windows = [Window(0, 1, 0, 1)] * 8
    found = image_attributes(layout, name="x", channels=channels, windows=windows)
    assert len({c["color"] for c in found["ome"]["omero"]["channels"]}) == 8
