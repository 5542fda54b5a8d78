"""The simulated array: the options of a store, how each run is taken, and responses as plain tables of a generic IACT.

Tables are multilinear between bin centres, linear in the outermost half bins and zero outside their edges; drawing
events and writing responses use the same numbers.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cubeflow.errors import MistakeError
from cubeflow.irf.table import nodes_from_edges
from cubeflow.maps.arrays import FloatArray, Pair
from cubeflow.maps.sphere import local_basis, lon_lat
from cubeflow.observation import DAY_S

FIRST_NIGHT_S = 1.2e8  # about October 2004
RUNS_PER_NIGHT = 4
ZENITHS_DEG = (20.0, 27.0, 34.0, 46.0, 24.0)
REFERENCE_ZENITH_DEG = 20.0
BACKGROUND_INDEX = 2.7
LON_GRADIENT = 0.12  # per deg to the east
LAT_GRADIENT = -0.04  # per deg to the north
FULL, TINY = (24, 5, 60, 12, 20), (8, 3, 20, 5, 8)  # bins of true energy, offset, migra; energy, field of view


@dataclass(frozen=True)
class SimulationOptions:
    """What to simulate."""

    seed: int = 42  #: of the random numbers; each run draws its own from (seed, number)
    n_runs: int = 6  #: number of runs
    first_obs_id: int = 100001  #: number of the first
    duration_s: float = 1680.0  #: from start to end of a run; every fifth has a gap of a tenth in the middle
    centre: tuple[float, float] = (83.633, 22.014)  #: ICRS, deg: wobble pointings surround it at 0.5 to 0.7 deg
    sources: tuple[tuple[float, float, float], ...] = ((83.633, 22.014, 1.0),)  #: ICRS, deg, and flux in Crab nebulae
    background_scale: float = 1.0  #: factor on the background rate, in the events and in the table
    offset_max_deg: float = 3.0  #: background events reach this far from the pointing; below 4 deg
    tiny: bool = False  #: small tables, for stores of thousands of runs
    shared_irf: bool = False  #: one file of responses for all runs instead of responses in each

    def __post_init__(self) -> None:
        if self.n_runs < 0 or self.first_obs_id < 0 or self.seed < 0 or self.first_obs_id + self.n_runs >= 2**63:
            given = f"n_runs {self.n_runs}, first_obs_id {self.first_obs_id} and seed {self.seed}"
            raise MistakeError(f"{given}: expected none below 0, and numbers of runs below 2**63")
        if not 0.0 < self.duration_s <= 5.0 * 3600.0:
            raise MistakeError(f"duration_s {self.duration_s}: expected more than 0 and at most 18000 s")
        if not 0.0 < self.offset_max_deg < 4.0:
            raise ValueError(f"offset_max_deg {self.offset_max_deg}: expected more than 0 and less than 4 deg")
        if self.background_scale <= 0.0 or any(scale < 0.0 for _, _, scale in self.sources):
            raise ValueError("background_scale must be positive and the fluxes of sources must not be negative")

    @property
    def obs_ids(self) -> range:
        """Numbers of the runs of the store."""
        return range(self.first_obs_id, self.first_obs_id + self.n_runs)


@dataclass(frozen=True, eq=False)
class RunPlan:
    """How a run is taken: all that follows from its number."""

    obs_id: int
    ra_pnt_deg: float
    dec_pnt_deg: float
    zenith_deg: float
    azimuth_deg: float
    start_s: FloatArray  # good time intervals on the file's time axis, shape (n_intervals,)
    stop_s: FloatArray
    deadc: float  # livetime over ontime

    @property
    def ontime_s(self) -> float:
        """Sum of the good time intervals."""
        return float(np.sum(self.stop_s - self.start_s))


def plan_run(obs_id: int, options: SimulationOptions) -> RunPlan:
    """Pointing, times and dead time of a run."""
    night, slot = divmod(obs_id % 100000, RUNS_PER_NIGHT)
    start = FIRST_NIGHT_S + DAY_S * night + (np.ceil(options.duration_s) + 120.0) * slot
    edges = np.array([0.0, 1.0]) if obs_id % 5 != 2 else np.array([0.0, 0.45, 0.55, 1.0])
    times = start + np.round(edges * options.duration_s, 3)
    local = local_directions(0.5 + 0.1 * (obs_id % 3), np.deg2rad(90.0 * (obs_id % 4)))
    ra, dec = lon_lat(local @ local_basis(*options.centre))
    zenith = REFERENCE_ZENITH_DEG if options.shared_irf else ZENITHS_DEG[obs_id % 5]
    azimuth = float((137 * obs_id) % 360)
    deadc = 0.936 + 0.002 * (obs_id % 5)
    return RunPlan(obs_id, float(ra), float(dec), zenith, azimuth, times[::2], times[1::2], round(deadc, 3))


def local_directions(distance_deg: FloatArray | float, angle_rad: FloatArray) -> FloatArray:
    """Vectors (outward, east, north) at a distance and a position angle east of north; shape (..., 3)."""
    distance = np.deg2rad(distance_deg)
    sine = np.sin(distance)
    return np.stack([np.cos(distance), sine * np.sin(angle_rad), sine * np.cos(angle_rad)], axis=-1)


@dataclass(frozen=True, eq=False)
class Responses:
    """Response tables of one run; the area, the energy dispersion and the PSF share their axes."""

    energy_true_edges_tev: FloatArray
    offset_edges_deg: FloatArray
    migra_edges: FloatArray  # of migra = E / E_true
    area_m2: FloatArray  # effective area, shape (n_energy_true, n_offset)
    migra_density: FloatArray  # per unit of migra, shape (n_energy_true, n_migra, n_offset); sums to 1 over migra
    psf_sigma_deg: FloatArray  # widths of three Gaussians, shape (3, n_energy_true, n_offset)
    psf_fraction: FloatArray  # and their weights, which sum to 1, the same shape
    energy_edges_tev: FloatArray  # of the background
    field_edges_deg: FloatArray  # of its longitude and of its latitude
    background: FloatArray  # s-1 MeV-1 sr-1, shape (n_energy, n_lon, n_lat); longitude grows **east**, latitude north
    lo_thres_tev: float  # energies between which the run is meant to be analysed
    hi_thres_tev: float


@lru_cache(maxsize=16)
def make_responses(zenith_deg: float, tiny: bool = False, background_scale: float = 1.0) -> Responses:
    """Responses at a zenith angle below 70 deg, with which threshold and area grow; `tiny` ones have few bins."""
    n_true, n_offset, n_migra, n_energy, n_field = TINY if tiny else FULL
    depth = math.cos(math.radians(REFERENCE_ZENITH_DEG)) / math.cos(math.radians(zenith_deg))
    energy_true_edges = np.geomspace(0.1, 100.0, n_true + 1)
    offset_edges = np.linspace(0.0, 4.0, n_offset + 1)
    migra_edges = np.linspace(0.2, 2.6, n_migra + 1)
    energy_edges = np.geomspace(0.2, 100.0, n_energy + 1)
    field_edges = np.linspace(-4.0, 4.0, n_field + 1)
    energy_true, offset = centres(energy_true_edges, log=True), centres(offset_edges)
    sigma, fraction = _three_gaussians(energy_true, offset)
    return Responses(
        energy_true_edges_tev=energy_true_edges,
        offset_edges_deg=offset_edges,
        migra_edges=migra_edges,
        area_m2=_effective_area(energy_true, offset, depth),
        migra_density=_migra_density(energy_true, migra_edges, offset),
        psf_sigma_deg=sigma,
        psf_fraction=fraction,
        energy_edges_tev=energy_edges,
        field_edges_deg=field_edges,
        background=background_scale * _background(centres(energy_edges, log=True), centres(field_edges), depth),
        lo_thres_tev=round(0.6 * depth**2, 3),
        hi_thres_tev=60.0,
    )


def centres(edges: FloatArray, log: bool = False) -> FloatArray:
    """Bin centres, shape (n,), of n + 1 edges; geometric ones if `log`."""
    return nodes_from_edges(edges[:-1], edges[1:], log).values


def _effective_area(energy_tev: FloatArray, offset_deg: FloatArray, depth: float) -> FloatArray:
    """Log-logistic rise with energy, wider field at higher energy; m2, shape (n_energy, n_offset)."""
    rise = 1.0 / (1.0 + (energy_tev / (0.45 * depth**2)) ** -2.6)
    plateau = 1.6e5 * depth * (energy_tev**0.12)
    width_deg = 2.3 + 0.35 * np.log10(energy_tev)
    camera = np.exp(-0.5 * (offset_deg / width_deg[:, np.newaxis]) ** 2.5)
    return (rise * plateau)[:, np.newaxis] * camera


def _migra_density(energy_tev: FloatArray, edges: FloatArray, offset_deg: FloatArray) -> FloatArray:
    """Log-normal with a bias at low energy and about 15 % width; shape (n_energy, n_migra, n_offset)."""
    median = 1.0 + 0.06 * (energy_tev / 0.4) ** -1.5 - 0.03 * np.log10(np.maximum(energy_tev, 1.0))
    width = 0.15 * energy_tev[:, np.newaxis] ** -0.06 * (1.0 + 0.05 * offset_deg)
    score = np.log(edges / median[:, np.newaxis])[:, :, np.newaxis] / width[:, np.newaxis, :]
    cumulative = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2.0)), otypes=[float])(score)
    probability = np.diff(cumulative, axis=1)
    return probability / probability.sum(axis=1, keepdims=True) / np.diff(edges)[:, np.newaxis]


def _three_gaussians(energy_tev: FloatArray, offset_deg: FloatArray) -> Pair:
    """Widths in deg and weights of three Gaussians; both of shape (3, n_energy, n_offset)."""
    core = 0.040 + 0.012 * energy_tev[:, np.newaxis] ** -0.5 + 0.0 * offset_deg
    core = core * (1.0 + 0.06 * offset_deg**2)
    sigma = core * np.array([1.0, 2.0, 4.0])[:, np.newaxis, np.newaxis]
    return sigma, np.broadcast_to(np.array([0.72, 0.25, 0.03])[:, np.newaxis, np.newaxis], sigma.shape)


def _background(energy_tev: FloatArray, field_deg: FloatArray, depth: float) -> FloatArray:
    """Power law with a threshold, falling with the offset, times two gradients; (n_energy, n_lon, n_lat)."""
    spectrum = 4.5e-4 * energy_tev**-BACKGROUND_INDEX / (1.0 + (energy_tev / (0.6 * depth**2)) ** -4.0)
    lon, lat = field_deg[:, np.newaxis], field_deg[np.newaxis, :]
    gradient = 1.0 + LON_GRADIENT * lon + LAT_GRADIENT * lat
    width_deg = 2.0 + 0.25 * np.log10(energy_tev)[:, np.newaxis, np.newaxis]
    return spectrum[:, np.newaxis, np.newaxis] * gradient * np.exp(-0.5 * (lon**2 + lat**2) / width_deg**2)
