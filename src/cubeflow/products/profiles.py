"""How well a run's background follows its counts across the field: sums in rings and sectors about the pointing.

Only bins from which background may be taken enter: safe, usable and outside the exclusion. The sums are small and
additive, so that they are kept per run and added for any set of runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cubeflow.maps import Axis, BoolArray, Cube, FloatArray, sphere
from cubeflow.observation import Pointing

OFFSET_WIDTH_DEG = 0.2
N_SECTORS = 8
MAX_BANDS = 4
DEG2_PER_SR = float(np.rad2deg(1.0) ** 2)


@dataclass(frozen=True, eq=False)
class Profiles:
    """Counts, background and area about the pointing, per energy band.

    Rings have the width `OFFSET_WIDTH_DEG`, from the pointing outwards; sectors are equal, the first is centred on
    north, and they go on to the east.
    """

    offset_counts: FloatArray  # in rings, shape (n_band, n_offset)
    offset_background: FloatArray
    area_deg2: FloatArray  # of the pixels in each ring which enter at any energy of the band
    sector_counts: FloatArray  # in sectors, shape (n_band, N_SECTORS)
    sector_background: FloatArray


def make_profiles(counts: Cube, background: Cube, allowed: BoolArray, pointing: Pointing) -> Profiles:
    """Sums of a run's counts and background, (energy, lat, lon), in rings and sectors about the pointing.

    Bins that enter are `allowed`, shape (n_energy, ny, nx); ValueError if maps and mask do not fit each other.
    """
    if not counts.data.shape == background.data.shape == allowed.shape:
        raise ValueError(f"expected one shape, got {counts.data.shape}, {background.data.shape}, {allowed.shape}")
    energy = counts.axis("energy")
    # Where a pixel has no position it is in the last ring there can be, and in sector 0.
    offset = np.nan_to_num(counts.geom.offset_deg(pointing.ra_deg, pointing.dec_deg), nan=180.0)
    ring = (offset / OFFSET_WIDTH_DEG).astype(np.int64)
    _, east, north = sphere.local_basis(pointing.ra_deg, pointing.dec_deg)
    vectors = counts.geom.center_vectors
    turn = np.nan_to_num(np.arctan2(vectors @ east, vectors @ north)) / (2.0 * np.pi)
    sector = np.floor(turn * N_SECTORS + 0.5).astype(np.int64) % N_SECTORS
    n_rings = 1 + int(ring[allowed.any(axis=0)].max(initial=-1))
    n_cells = n_rings * N_SECTORS
    cell = (np.minimum(ring, n_rings) * N_SECTORS + sector).ravel()
    deg2 = counts.geom.solid_angle_sr * DEG2_PER_SR
    sums: list[list[FloatArray]] = []
    for band in energy_bands(energy):
        cubes = (cube.data[band] for cube in (counts, background))
        images = [np.sum(data, axis=0, where=allowed[band], dtype=float) for data in cubes]
        images.append(np.where(allowed[band].any(axis=0), deg2, 0.0))
        # Sums per ring and sector, shape (n_rings, N_SECTORS); the cells of later rings do not enter.
        cells = (np.bincount(cell, image.ravel(), n_cells)[:n_cells].reshape(-1, N_SECTORS) for image in images)
        counted, predicted, area = cells
        rings = [each.sum(axis=1) for each in (counted, predicted, area)]
        sums.append([*rings, counted.sum(axis=0), predicted.sum(axis=0)])
    return Profiles(*(np.array(parts) for parts in zip(*sums, strict=True)))


def energy_bands(energy: Axis) -> list[slice]:
    """Up to `MAX_BANDS` bands of neighbouring energy bins, as equal in number as can be."""
    parts = np.array_split(np.arange(energy.n_bins), min(MAX_BANDS, energy.n_bins))
    return [slice(int(part[0]), int(part[-1]) + 1) for part in parts]


def band_edges_tev(energy: Axis) -> list[tuple[float, float]]:
    """Lower and upper edge of each band, TeV."""
    return [(energy.edges[band.start], energy.edges[band.stop]) for band in energy_bands(energy)]


def add_profiles(first: Profiles | None, second: Profiles | None) -> Profiles | None:
    """Sum of the profiles of two runs or sums of runs, whose fields may be of different size; None is nothing."""
    if first is None or second is None:
        return second if first is None else first
    sums = {}
    for name in Profiles.__dataclass_fields__:
        short, long = sorted((getattr(first, name), getattr(second, name)), key=lambda values: values.shape[1])
        sums[name] = long.copy()
        sums[name][:, : short.shape[1]] += short
    return Profiles(**sums)
