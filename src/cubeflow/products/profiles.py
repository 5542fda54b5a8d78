"""How well a run's background follows its counts across the field: sums in rings and sectors about the pointing.

Only bins from which background may be taken enter: safe, usable and outside the exclusion. The sums are small and
additive, so that they are kept per run and added for any set of runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry, sphere
from cubeflow.observation import Pointing
from cubeflow.products.masked import masked_counts, masked_planes

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
OFFSET_WIDTH_DEG = 0.2
N_SECTORS = 8
MAX_BANDS = 4
LAST_RING = 180.0 / OFFSET_WIDTH_DEG
DEG2_PER_SR = float(np.rad2deg(1.0) ** 2)


@dataclass(frozen=True, eq=False)
class Profiles:
    """Counts, background and area about the pointing, per energy band.

    Parameters
    ----------
    offset_counts, offset_background, area_deg2 : array, shape (n_band, n_offset)
        In rings of `OFFSET_WIDTH_DEG` from the pointing outwards; the area is that of the pixels which enter at any
        energy of the band.
    sector_counts, sector_background : array, shape (n_band, N_SECTORS)
        In sectors of equal width; the first is centred on north and they go on to the east.
    """

    offset_counts: FloatArray
    offset_background: FloatArray
    area_deg2: FloatArray
    sector_counts: FloatArray
    sector_background: FloatArray


def make_profiles(counts: Cube, background: Cube, allowed: BoolArray, pointing: Pointing) -> Profiles:
    """Sums of counts and background in rings and sectors about the pointing.

    Parameters
    ----------
    counts, background : Cube, (energy, lat, lon)
        Of one run.
    allowed : array of bool, shape (n_energy, ny, nx)
        Bins that enter.
    pointing : Pointing
        Centre of rings and sectors.

    Raises
    ------
    ValueError
        If maps and mask do not fit each other.
    """
    if not counts.data.shape == background.data.shape == allowed.shape:
        raise ValueError(f"expected one shape, got {counts.data.shape}, {background.data.shape}, {allowed.shape}")
    energy = counts.axis("energy")
    ring, sector = ring_index(counts.geom, pointing).ravel(), sector_index(counts.geom, pointing).ravel()
    n_rings = 1 + int(ring[allowed.any(axis=0).ravel()].max(initial=-1))
    plane, pixel, number = masked_counts(counts.data, allowed)
    deg2 = counts.geom.solid_angle_sr * DEG2_PER_SR
    sums: list[list[FloatArray]] = []
    for band in energy_bands(energy):
        found = (plane >= band.start) & (plane < band.stop)
        at, weight = pixel[found], number[found]
        predicted = _allowed_sum(background.data[band], allowed[band])
        area = np.where(allowed[band].any(axis=0), deg2, 0.0)
        rings = [_sums(ring[at], weight, n_rings), _sums(ring, predicted, n_rings), _sums(ring, area, n_rings)]
        sums.append([*rings, _sums(sector[at], weight, N_SECTORS), _sums(sector, predicted, N_SECTORS)])
    return Profiles(*(np.array(parts) for parts in zip(*sums, strict=True)))


def _allowed_sum(planes: NDArray[Any], allowed: BoolArray) -> FloatArray:
    """Sum over energy of what is allowed, shape (ny, nx); plane by plane, which stays in the cache."""
    total = np.zeros(planes.shape[1:])
    for plane in masked_planes(planes, allowed, np.float64):
        total += plane
    return total


def _sums(index: NDArray[np.int64], values: NDArray[Any], n_sums: int) -> FloatArray:
    """Sum of values, shape (n,) or (ny, nx), per ring or sector, shape (n_sums,); nothing lies in later ones."""
    return np.bincount(index, values.ravel(), n_sums)[:n_sums].astype(np.float64)


def energy_bands(energy: Axis) -> list[slice]:
    """Up to `MAX_BANDS` bands of neighbouring energy bins, as equal in number as can be."""
    parts = np.array_split(np.arange(energy.n_bins), min(MAX_BANDS, energy.n_bins))
    return [slice(int(part[0]), int(part[-1]) + 1) for part in parts]


def band_edges_tev(energy: Axis) -> list[tuple[float, float]]:
    """Lower and upper edge of each band, TeV."""
    return [(energy.edges[band.start], energy.edges[band.stop]) for band in energy_bands(energy)]


def ring_index(geom: Geometry, pointing: Pointing) -> NDArray[np.int64]:
    """Ring of each pixel, shape (ny, nx); the last one there can be where a pixel has no position."""
    rings = np.nan_to_num(geom.offset_deg(pointing.ra_deg, pointing.dec_deg) / OFFSET_WIDTH_DEG, nan=LAST_RING)
    return rings.astype(np.int64)


def sector_index(geom: Geometry, pointing: Pointing) -> NDArray[np.int64]:
    """Sector of each pixel, shape (ny, nx); 0 where a pixel has no position."""
    _, east, north = sphere.local_basis(pointing.ra_deg, pointing.dec_deg)
    vectors = geom.center_vectors
    turn = np.nan_to_num(np.arctan2(vectors @ east, vectors @ north)) / (2.0 * np.pi)
    return np.floor(turn * N_SECTORS + 0.5).astype(np.int64) % N_SECTORS


def profiles_to_plain(profiles: Profiles) -> dict[str, list[list[float]]]:
    """Plain numbers with seven digits, for the row of a run."""
    return {
        name: [[float(f"{value:.7g}") for value in line] for line in getattr(profiles, name)]
        for name in Profiles.__dataclass_fields__
    }


def sum_profiles(plain: Iterable[Mapping[str, Any]], start: Profiles | None = None) -> Profiles | None:
    """Sum of the profiles of any number of runs, from plain numbers, and of `start`; None without any."""
    total: dict[str, FloatArray] = {} if start is None else dict(vars(start))
    for each in plain:
        for name in Profiles.__dataclass_fields__:
            values = np.asarray(each[name], dtype=float)
            total[name] = _added(total[name], values) if name in total else values
    return Profiles(**total) if total else None


def _added(first: FloatArray, second: FloatArray) -> FloatArray:
    """Sum of two arrays of shape (n_band, n): zeros behind the last ring of a run with a smaller field."""
    short, long = sorted((first, second), key=lambda values: values.shape[1])
    total = long.copy()
    total[:, : short.shape[1]] += short
    return total
