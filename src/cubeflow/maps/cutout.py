"""The part of a map that one observation can fill."""

from __future__ import annotations

import numpy as np

from cubeflow.maps import sphere
from cubeflow.maps.geom import Geometry, GeometryError, shared

N_RINGS = 9


class NoOverlap(ValueError):
    """An observation does not touch the map; the message says how far away it is."""


def make_cutout(geom: Geometry, ra_deg: float, dec_deg: float, radius_deg: float) -> Geometry:
    """Bounding box, on the pixel grid of `geom`, of a disc on the sky about an ICRS position (the pointing).

    It is whole, also beyond the border of `geom`: what a run says of its background does not depend on the map.
    NoOverlap if no pixel centre of `geom` lies within the disc.
    """
    x0, y0, x1, y1 = _bounding_box(geom, ra_deg, dec_deg, radius_deg)
    inner = max(x0, 0), max(y0, 0), min(x1, geom.nx), min(y1, geom.ny)
    if inner[0] < inner[2] and inner[1] < inner[3]:
        whole = shared(geom.cutout(x0, y0, x1 - x0, y1 - y0))
        on_map = np.s_[inner[1] - y0 : inner[3] - y0, inner[0] - x0 : inner[2] - x0]
        if np.any(whole.offset_deg(ra_deg, dec_deg)[on_map] < radius_deg):
            return whole
    distance = sphere.angular_distance_deg(geom.center_deg, (ra_deg, dec_deg))
    raise NoOverlap(
        f"no pixel of the map lies within {radius_deg:g} deg of the pointing "
        f"({ra_deg:.4f}, {dec_deg:.4f}), which is {distance:.2f} deg from the map centre"
    )


def _bounding_box(geom: Geometry, ra_deg: float, dec_deg: float, radius_deg: float) -> tuple[int, int, int, int]:
    """Pixel box [x0, x1) x [y0, y1) that holds every pixel centre within the disc."""
    # Positions on rings that fill the disc, from its rim inwards, shape (n, 3).
    angle = np.linspace(0.0, 2.0 * np.pi, 721)
    radius = np.deg2rad(radius_deg) * np.linspace(1.0, 0.0, N_RINGS)[:, None, None]
    outward, east, north = sphere.local_basis(ra_deg, dec_deg)
    rim = np.cos(angle)[..., None] * east + np.sin(angle)[..., None] * north
    x, y = geom.vectors_to_pixel((np.cos(radius) * outward + np.sin(radius) * rim).reshape(-1, 3))
    good = np.isfinite(x) & np.isfinite(y)
    if not np.any(good):
        return 0, 0, 0, 0
    x, y = x[good], y[good]
    box = [x.min(), y.min(), x.max(), y.max()]
    # A disc that is torn apart by the edge of an all-sky projection, or holds a pole, may fill the whole map.
    if np.ptp(x) * geom.pixel_deg > 180.0 or np.ptp(y) * geom.pixel_deg > 180.0:
        box = [0, 0, geom.nx - 1, geom.ny - 1]
    if not np.all(np.isfinite(box)):
        raise GeometryError(f"no bounding box for a disc of {radius_deg} deg at ({ra_deg}, {dec_deg})")
    x0, y0 = (int(np.floor(value)) for value in box[:2])
    x1, y1 = (int(np.ceil(value)) + 1 for value in box[2:])
    return x0, y0, x1, y1
