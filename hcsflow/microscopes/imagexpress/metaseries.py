"""MetaSeries metadata: the XML that MetaXpress and MetaMorph write into each TIFF.

``<MetaData>`` with ``<PlaneInfo>`` full of ``<prop id="…" type="…" value="…"/>`` and
``<custom-prop …/>``. Note that ``pixel-size-x`` is the image's width in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lxml import etree

from hcsflow.errors import PlateError

__all__ = ["PlaneInfo", "parse_metaseries"]

_MICROMETRES = {"um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"}


@dataclass(frozen=True, slots=True)
class PlaneInfo:
    """What one plane's metadata say; None where they do not.

    Parameters
    ----------
    pixel_size_um : float
        ``spatial-calibration-x``.
    stage_yx_um : (float, float)
        The field's centre, absolute, y growing downward.
    z_um : float
        ``z-position``; in a projection the stack's middle.
    z_step : int
        Number of the plane in its stack, from 1; None in projections.
    z_spacing_um : float
        ``Z Projection Step Size``.
    projection : str
        ``Z Projection Method``: ``"Maximum"``, ``"Best Focus"``.
    illumination : str
        ``_IllumSetting_``, the channel's name.
    """

    pixel_size_um: float | None = None
    stage_yx_um: tuple[float, float] | None = None
    z_um: float | None = None
    z_step: int | None = None
    z_spacing_um: float | None = None
    projection: str | None = None
    illumination: str | None = None


def parse_metaseries(description: str, *, file: str) -> PlaneInfo | None:
    """Parse a TIFF's ImageDescription; None if it is no MetaSeries.

    Raises
    ------
    PlateError
        If it declares a document type (DTD), which no microscope does.
    """
    if "<MetaData" not in description:
        return None
    if "<!DOCTYPE" in description or "<!ENTITY" in description:
        raise PlateError(
            f"{file}: expected MetaSeries XML, found a document type declaration (DTD) in it",
            hint="no microscope writes one; do not trust this file",
        )
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    tree = etree.fromstring(description.encode("utf-8", "replace"), parser)
    plane = tree.find("PlaneInfo") if tree is not None else None
    if plane is None:
        return PlaneInfo()
    return _plane_info({item.get("id", ""): item.get("value", "") for item in plane})


def _plane_info(props: Mapping[str, str]) -> PlaneInfo:
    stage_y, stage_x = _number(props, "stage-position-y"), _number(props, "stage-position-x")
    z_step = _number(props, "Z Step")
    return PlaneInfo(
        pixel_size_um=_pixel_size_um(props),
        stage_yx_um=None if stage_y is None or stage_x is None else (stage_y, stage_x),
        z_um=_number(props, "z-position"),
        z_step=None if z_step is None else int(z_step),
        z_spacing_um=_positive(props, "Z Projection Step Size"),
        projection=props.get("Z Projection Method") or None,
        illumination=props.get("_IllumSetting_") or None,
    )


def _pixel_size_um(props: Mapping[str, str]) -> float | None:
    """Return the calibration if it is switched on and in µm."""
    is_on = props.get("spatial-calibration-state", "on").lower() in {"on", "true", "1"}
    is_um = props.get("spatial-calibration-units", "").lower() in _MICROMETRES
    return _positive(props, "spatial-calibration-x") if is_on and is_um else None


def _number(props: Mapping[str, str], key: str) -> float | None:
    try:
        value = float(props[key])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _positive(props: Mapping[str, str], key: str) -> float | None:
    value = _number(props, key)
    return value if value is not None and value > 0 else None
