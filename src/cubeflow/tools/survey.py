"""A look at a store: which runs see a target, and what a sample of them says of energies, offsets and deviations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.entries import direction_of
from cubeflow.dl3.index import RunEntry, Store, StoreError, open_store
from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.irf.background import Background2D, Background3D
from cubeflow.maps.sphere import Position, angular_distance_deg
from cubeflow.observation import Observation, RunRefused
from cubeflow.tools.targets import Place

MAX_ROOTS = 8
SAMPLE = 8  # runs that are read
NEAR = 6.0  # deg: no field of view reaches farther
LEAST_AREA = 0.3  # of the area on axis: where it is less, offsets are not used
_ROOT = re.compile(r'roots: \["([^"]+)"\]')


@dataclass(frozen=True, eq=False)
class RunFacts:
    """What the responses and events of a run allow."""

    obs_id: int
    lo_thres_tev: float | None  # thresholds of the effective area
    hi_thres_tev: float | None
    area_threshold_tev: float  # from here on the area on axis is above a tenth of its largest
    energy_true_tev: tuple[float, float]  # range of the effective area
    background_tev: tuple[float, float] | None  # range of energies with a background; None without one
    offset_max_deg: float  # the area at 1 TeV is above `LEAST_AREA` of that on axis
    energies_tev: NDArray[np.float64]  # of the events within `offset_max_deg`, in no order
    point_like: bool  # the responses hold inside a directional cut
    quirks: tuple[str, ...]  # deviations from the format


def open_with_roots(path: str) -> tuple[Store, tuple[str, ...]]:
    """Open a store, and allow the folders that its index takes files from: the roots that a configuration must name."""
    roots: list[str] = []
    store = open_store(path)
    for _ in range(MAX_ROOTS):
        named = [root for reason in store.refused.values() for root in _ROOT.findall(reason) if root not in roots]
        if not named:
            break
        roots.append(named[0])
        store = open_store(path, roots)
    return store, tuple(roots)


def objects_of(store: Store) -> list[tuple[Place, int]]:
    """Objects that the store names, with their position and number of runs, the most observed first."""
    found: Counter[Place] = Counter()
    for entry in store.runs:
        name, position = entry.obs_info.get("OBJECT"), direction_of(entry.obs_info, "OBJ")
        if name and position:
            rounded = Position(lon_deg=round(position[0] % 360.0, 4), lat_deg=round(position[1], 4))
            found[Place(str(name), rounded)] += 1
    return found.most_common()


def offsets_of(store: Store, place: Place) -> dict[int, float]:
    """Separation of the pointing of each run from a place, deg, the nearest first; without runs whose is unknown."""
    found = {
        entry.obs_id: float(angular_distance_deg(pointing, place.position.icrs_deg))
        for entry in store.runs
        if (pointing := direction_of(entry.obs_info))
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def sample_runs(entries: Sequence[RunEntry]) -> tuple[list[RunFacts], dict[int, str]]:
    """Facts of some runs, evenly spread, and why others cannot be read; StoreError, with a reason, if none can."""
    chosen = [entries[k] for k in sorted({round(k) for k in np.linspace(0, len(entries) - 1, SAMPLE)})]
    facts: list[RunFacts] = []
    refused: dict[int, str] = {}
    for entry in chosen:
        try:
            facts.append(run_facts(read_observation(entry, ReadOptions(require=(), duplicates="drop"))))
        except RunRefused as error:
            refused[entry.obs_id] = str(error)
    if not facts:
        raise StoreError(f"none of {len(chosen)} runs can be read; the first: {next(iter(refused.values()))}")
    return facts, refused


def run_facts(observation: Observation) -> RunFacts:
    """Facts of one run that has been read."""
    area = observation.aeff
    if area is None:
        raise RunRefused(f"run {observation.obs_id}: no effective area")
    on_axis = area.evaluate(area.energy_true.values, [0.0])[:, 0]
    threshold = area.energy_true.values[np.argmax(on_axis >= 0.1 * on_axis.max())]
    offset_max_deg = reach_deg(area.offset.values, area.evaluate([1.0], area.offset.values)[0])
    events, pointing = observation.events, observation.pointing
    offset = angular_distance_deg((events.ra_deg, events.dec_deg), (pointing.ra_deg, pointing.dec_deg))
    return RunFacts(
        observation.obs_id,
        area.lo_thres_tev,
        area.hi_thres_tev,
        float(threshold),
        (area.energy_true.lower, area.energy_true.upper),
        background_range(observation.background),
        offset_max_deg,
        events.energy_tev[offset <= offset_max_deg],
        observation.point_like,
        observation.quirks,
    )


def reach_deg(offset_deg: NDArray[np.float64], area_m2: NDArray[np.float64]) -> float:
    """Largest offset whose area is above `LEAST_AREA` of the first, down to half a degree but at least that."""
    enough = offset_deg[area_m2 >= LEAST_AREA * area_m2[0]]
    return max(0.5, float(np.floor(enough.max() * 2 + 1e-6) / 2)) if enough.size else 0.5


def background_range(background: object) -> tuple[float, float] | None:
    """Energies between which a background is not zero, TeV; None without one."""
    if not isinstance(background, Background2D | Background3D):
        return None
    filled = np.nonzero(background.rate.reshape(len(background.rate), -1).sum(axis=1) > 0)[0]
    edges = background.energy_edges_tev
    return (float(edges[filled[0]]), float(edges[filled[-1] + 1])) if filled.size else None
