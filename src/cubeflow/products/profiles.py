"""How well a background follows counts across the field: sums in cells about the pointing, and its relative error.

Only bins from which background may be taken enter: safe, usable and outside the exclusion. The sums are small and
additive, so that they are kept per run and added for any set of runs; the error is that of the sum.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cubeflow.maps import Axis, BoolArray, Cube, FloatArray, sphere
from cubeflow.observation import Pointing

OFFSET_WIDTH_DEG = 0.2
N_SECTORS = 8
MAX_BANDS = 4
DEG2_PER_SR = float(np.rad2deg(1.0) ** 2)
SCATTERS = np.linspace(0.0, 1.0, 401) ** 1.5  # relative errors of which the most likely one is taken
DIFFERS = 4.5  # of ln L, three standard deviations: so much better than that of its band is the own error of a ring


@dataclass(frozen=True, eq=False)
class Profiles:
    """Counts, background and area about the pointing, per energy band.

    Sectors are equal, the first is centred on north, and they go on to the east; rings have the width
    `OFFSET_WIDTH_DEG`, from the pointing outwards.
    """

    counts: FloatArray  # in sectors of rings, shape (n_band, N_SECTORS, n_ring)
    background: FloatArray
    area_deg2: FloatArray  # of the pixels in each ring which enter at any energy of the band, (n_band, n_ring)


class Systematic(NamedTuple):
    """Relative error of a background beyond its counts: most likely value, and its error upwards; NaN for no answer."""

    total: FloatArray  # of the sum over all energies, shape (2,)
    band: FloatArray  # of each energy band, (2, n_band)
    ring: FloatArray  # at each offset: that of its band, but where it is clearly another, (2, n_band, n_ring)


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
    sums = []
    for band in energy_bands(energy):
        cubes = (cube.data[band] for cube in (counts, background))
        images = [np.sum(data, axis=0, where=allowed[band], dtype=float) for data in cubes]
        images.append(np.where(allowed[band].any(axis=0), deg2, 0.0))
        # Sums per sector and ring, shape (N_SECTORS, n_rings); the cells of later rings do not enter.
        flat = (np.bincount(cell, image.ravel(), n_cells)[:n_cells] for image in images)
        *cells, area = (values.reshape(-1, N_SECTORS).T for values in flat)
        sums.append([*cells, area.sum(axis=0)])
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
        short, long = sorted((getattr(first, name), getattr(second, name)), key=lambda values: values.shape[-1])
        sums[name] = long.copy()
        sums[name][..., : short.shape[-1]] += short
    return Profiles(**sums)


def likelihood_of_scatter(counts: FloatArray, predicted: FloatArray) -> FloatArray:
    """ln L, up to a constant, of each of `SCATTERS` as the relative error in each cell, shape (*cells, n_scatter).

    The sum of all cells is taken as normalised: of so many counts those of a cell are binomial, and with an error of
    what is predicted beta-binomial. So neither Poisson fluctuations nor the error of the norm count as an error.
    """
    from scipy.special import betaln  # slow to import

    share = predicted / max(float(predicted.sum()), 1e-300)
    known = (share > 0) & (share < 1)
    p, n = np.where(known, share, 0.5)[..., None], np.where(known, counts, 0.0)[..., None]
    others = counts.sum() - n
    # The relative variance of a share is (1 - p) / p / (a + b + 1).
    spread = np.maximum((1 - p) / (p * SCATTERS[1:] ** 2) - 1, 1e-9)
    a, b = p * spread, (1 - p) * spread
    exact = n * np.log(p) + others * np.log1p(-p)
    return np.where(known[..., None], np.concatenate([exact, betaln(n + a, others + b) - betaln(a, b)], axis=-1), 0.0)


def most_likely_scatter(likelihood: FloatArray) -> FloatArray:
    """Most likely relative error, and how far above it ln L, (*cells, n_scatter), is 1/2 lower: shape (2, *cells)."""
    inside = likelihood >= likelihood.max(axis=-1, keepdims=True) - 0.5
    beyond = np.minimum(len(SCATTERS) - inside[..., ::-1].argmax(axis=-1), len(SCATTERS) - 1)
    best = SCATTERS[likelihood.argmax(axis=-1)]
    return np.where(np.ptp(likelihood, axis=-1) > 0, [best, SCATTERS[beyond] - best], np.nan)


def scatter_by_ring(likelihood: FloatArray) -> FloatArray:
    """As `most_likely_scatter`, shape (2, n_band, n_ring): that of the band, but where a ring clearly differs."""
    whole = likelihood.sum(axis=1, keepdims=True)  # (n_band, 1, n_scatter)
    at_whole = np.take_along_axis(likelihood, whole.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    differs = likelihood.max(axis=-1) - at_whole > DIFFERS
    return np.where(differs, most_likely_scatter(likelihood), most_likely_scatter(whole))


def measure_systematic(profiles: Profiles) -> Systematic:
    """Relative error of the background of a sum of runs: how much its cells scatter beyond their counts."""
    by_band = likelihood_of_scatter(profiles.counts, profiles.background).sum(axis=1)  # (n_band, n_ring, n_scatter)
    total = likelihood_of_scatter(profiles.counts.sum(axis=0), profiles.background.sum(axis=0)).sum(axis=(0, 1))
    return Systematic(most_likely_scatter(total), most_likely_scatter(by_band.sum(axis=1)), scatter_by_ring(by_band))
