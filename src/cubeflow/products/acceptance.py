"""Acceptance: the number of background events that the background model predicts."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from cubeflow.irf.background import BackgroundRate, Interpolation
from cubeflow.maps import Axis, Cube, FloatArray, Geometry, sphere
from cubeflow.maps.horizon import horizontal_offset, zenith_vectors
from cubeflow.observation import Gti, Pointing, Site, to_mjd

BAND_PIXELS = 1 << 13
STEP_DEG = 1.0
SAMPLE_S = 1.0  # spacing of the times at which the rotation of the field is followed


@dataclass(frozen=True)
class AcceptanceOptions:
    """Predicted hadron background."""

    interpolation: Interpolation = "auto"
    """What is linear between the bins of the table in the field of view: the logarithm of the rate, or the rate; auto
    takes the rate where it changes by more than a factor 2 from bin to bin, the logarithm otherwise."""
    model: str | None = None
    """Model of `models` in place of the background response of the files; self: one from the runs of the target; null
    for none."""


class FieldRotation(NamedTuple):
    """How the field of view turns on the sky while the telescopes track, in n steps."""

    zenith: FloatArray  # ICRS unit vectors of the zenith in the middle of each step, shape (n, 3)
    share: FloatArray  # part of the ontime in each step, shape (n,); sums to 1
    start_s: FloatArray  # when each step begins, TT s since the time reference, shape (n,)


def make_field_rotation(gti: Gti, site: Site, pointing: Pointing) -> FieldRotation:
    """Cut the good time intervals into steps within which the field turns by at most `STEP_DEG`.

    Times between the intervals are left out, so that a gap turns nothing.
    """
    parts = []
    for start, stop in zip(gti.start_s, gti.stop_s, strict=True):
        sample = np.linspace(start, stop, max(3, int(np.ceil((stop - start) / SAMPLE_S)) + 1))
        _, east, north = sphere.local_basis(pointing.ra_deg, pointing.dec_deg)
        zenith = zenith_vectors(to_mjd(sample), site.lon_deg, site.lat_deg)
        angle = np.unwrap(np.arctan2(zenith @ east, zenith @ north))
        turned = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(np.rad2deg(angle))))])
        n_steps = max(1, int(np.ceil(turned[-1] / STEP_DEG)))
        # Equal parts of the rotation; times in between are shared out evenly where nothing turns.
        edges = np.interp(np.linspace(0.0, turned[-1], n_steps + 1), turned, sample)
        edges[0], edges[-1] = start, stop
        middle = zenith_vectors(to_mjd(0.5 * (edges[1:] + edges[:-1])), site.lon_deg, site.lat_deg)
        parts.append((middle, np.diff(edges), edges[:-1]))
    zenith, share, start_s = (np.concatenate(each) for each in zip(*parts, strict=True))
    return FieldRotation(zenith, share / share.sum(), start_s)


def make_map_hadron_acceptance(
    pointing: Pointing,
    ontime_s: float,
    background: BackgroundRate,
    geom: Geometry,
    energy: Axis,
    offset_max_deg: float | None = None,
    rotation: FieldRotation | None = None,
    dtype: DTypeLike = np.float64,
) -> Cube:
    """Predict the background counts of an observation, (energy, lat, lon); zero outside the table.

    Background rates are per ontime (the sum of the good time intervals), so it is not the livetime that counts. Pixels
    at or beyond `offset_max_deg` get no acceptance. A model that is aligned with the horizon needs `rotation`:
    ValueError without. Values are computed in float64, whatever their `dtype`.
    """
    acceptance = np.zeros((energy.n_bins, *geom.shape), dtype)
    offset = geom.offset_deg(pointing.ra_deg, pointing.dec_deg)
    disc = offset < (180.0 if offset_max_deg is None else offset_max_deg)
    n_rows = max(1, BAND_PIXELS // geom.nx)
    for start in range(0, geom.ny, n_rows):  # boxes that hold all of the disc and little else: they stay in the cache
        columns = np.flatnonzero(disc[start : start + n_rows].any(axis=0))
        if not columns.size:
            continue
        part = np.s_[start : start + n_rows, int(columns[0]) : int(columns[-1]) + 1]
        vectors = geom.center_vectors[part].reshape(-1, 3)
        if background.alignment != "ALTAZ":
            lon, lat = sphere.sky_offset(vectors, pointing.ra_deg, pointing.dec_deg)
            rate = background.integrate(energy.edges_array, lon, lat)
        elif rotation is None:
            raise ValueError("background: FOVALIGN = ALTAZ needs the position of the observatory and the times")
        else:  # the mean over the rotation of the field
            origin = sphere.unit_vectors(pointing.ra_deg, pointing.dec_deg)
            rate = np.zeros((energy.n_bins, len(vectors)))
            for zenith, share in zip(rotation.zenith, rotation.share, strict=True):
                rate += share * background.integrate(energy.edges_array, *horizontal_offset(vectors, origin, zenith))
        weight = np.where(disc[part], geom.solid_angle_sr[part] * ontime_s, 0.0)
        np.multiply(rate.reshape(-1, *weight.shape), weight, out=acceptance[:, *part], casting="same_kind")
    return Cube(acceptance, "", geom, (energy,))
