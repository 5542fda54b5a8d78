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
from cubeflow.products.masked import masked_any, masked_counts, masked_sum

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
    image = allowed.any(axis=0)
    ring, sector = ring_index(counts.geom, pointing), sector_index(counts.geom, pointing)
    n_rings = 1 + int(ring[image].max(initial=-1))
    cell = np.minimum(ring, n_rings) * N_SECTORS + sector
    plane, pixel, number = masked_counts(counts.data, allowed)
    deg2 = counts.geom.solid_angle_sr * DEG2_PER_SR
    sums: list[list[FloatArray]] = []
    for band in energy_bands(energy):
        found = (plane >= band.start) & (plane < band.stop)
        counted = _sums(cell.reshape(-1)[pixel[found]], number[found], n_rings)
        predicted = _sums(cell, masked_sum(background.data[band], allowed[band]), n_rings)
        area = _sums(cell, np.where(masked_any(allowed[band]), deg2, 0.0), n_rings)
        rings = [each.sum(axis=1) for each in (counted, predicted, area)]
        sums.append([*rings, counted.sum(axis=0), predicted.sum(axis=0)])
    return Profiles(*(np.array(parts) for parts in zip(*sums, strict=True)))


def _sums(cell: NDArray[np.int64], values: NDArray[Any], n_rings: int) -> FloatArray:
    """Sum of values per ring and sector, shape (n_rings, N_SECTORS); the cells of later rings do not enter."""
    n_cells = n_rings * N_SECTORS
    found = np.bincount(cell.ravel(), values.ravel(), n_cells)[:n_cells].astype(np.float64)
    return found.reshape(n_rings, N_SECTORS)


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
