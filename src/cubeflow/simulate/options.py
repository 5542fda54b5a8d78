"""What a simulated store contains: the options, and how each run is taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cubeflow.errors import MistakeError
from cubeflow.maps.arrays import FloatArray
from cubeflow.maps.sphere import local_basis, lon_lat
from cubeflow.observation import DAY_S
from cubeflow.simulate.responses import REFERENCE_ZENITH_DEG

FIRST_NIGHT_S = 1.2e8  # about October 2004
RUNS_PER_NIGHT = 4
ZENITHS_DEG = (20.0, 27.0, 34.0, 46.0, 24.0)


@dataclass(frozen=True)
class SimulationOptions:
    """What to simulate."""

    seed: int = 42  # of the random numbers; each run draws its own from (seed, number)
    n_runs: int = 6
    first_obs_id: int = 100001
    duration_s: float = 1680.0  # from start to end of a run; every fifth has a gap of a tenth in the middle
    centre: tuple[float, float] = (83.633, 22.014)  # ICRS, deg: wobble pointings surround it at 0.5 to 0.7 deg
    sources: tuple[tuple[float, float, float], ...] = ((83.633, 22.014, 1.0),)  # ICRS, deg, and flux in Crab nebulae
    background_scale: float = 1.0  # factor on the background rate, in the events and in the table
    offset_max_deg: float = 3.0  # background events reach this far from the pointing; below 4 deg
    tiny: bool = False  # small tables, for stores of thousands of runs
    shared_irf: bool = False  # one file of responses for all runs instead of responses in each

    def __post_init__(self) -> None:
        if self.n_runs < 0 or self.first_obs_id < 0 or self.seed < 0 or self.first_obs_id + self.n_runs >= 2**63:
            raise MistakeError(
                f"n_runs {self.n_runs}, first_obs_id {self.first_obs_id} and seed {self.seed}: expected none below 0,"
                " and numbers of runs below 2**63"
            )
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
    distance, angle = np.deg2rad(0.5 + 0.1 * (obs_id % 3)), np.deg2rad(90.0 * (obs_id % 4))
    local = np.array([np.cos(distance), np.sin(distance) * np.sin(angle), np.sin(distance) * np.cos(angle)])
    ra, dec = lon_lat(local @ local_basis(*options.centre))
    zenith = REFERENCE_ZENITH_DEG if options.shared_irf else ZENITHS_DEG[obs_id % 5]
    azimuth = float((137 * obs_id) % 360)
    deadc = 0.936 + 0.002 * (obs_id % 5)
    return RunPlan(obs_id, float(ra), float(dec), zenith, azimuth, times[::2], times[1::2], round(deadc, 3))
