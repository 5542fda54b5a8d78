"""A look at a store: which runs see a target, and what a sample of them says of energies, offsets and deviations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.index import RunEntry, Store, StoreError, open_store
from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.irf.background import Background2D, Background3D
from cubeflow.maps import sphere
from cubeflow.observation import Observation, RunRefused
from cubeflow.steps.names import Place

MAX_ROOTS = 8
SAMPLE = 8  # runs that are read
NEAR = 6.0  # deg: no field of view reaches farther
LEAST_AREA = 0.3  # of the area on axis: where it is less, offsets are not used
_ROOT = re.compile(r'roots: \["([^"]+)"\]')


@dataclass(frozen=True, eq=False)
class RunFacts:
    """What the responses and events of a run allow.

    Parameters
    ----------
    obs_id : int
        Run.
    lo_thres_tev, hi_thres_tev : float or None
        Thresholds of the effective area.
    area_threshold_tev : float
        Energy from which the area on axis is above a tenth of its largest.
    energy_true_tev : (float, float)
        Range of the effective area.
    background_tev : (float, float) or None
        Range of energies with a background; None without one.
    offset_max_deg : float
        Largest offset at which the area at 1 TeV is above `LEAST_AREA` of that on axis.
    energies_tev : array, shape (n,)
        Energies of the events within `offset_max_deg`, in no order.
    point_like : bool
        Whether the responses hold inside a directional cut.
    quirks : tuple of str
        Deviations from the format.
    """

    obs_id: int
    lo_thres_tev: float | None
    hi_thres_tev: float | None
    area_threshold_tev: float
    energy_true_tev: tuple[float, float]
    background_tev: tuple[float, float] | None
    offset_max_deg: float
    energies_tev: NDArray[np.float64]
    point_like: bool
    quirks: tuple[str, ...]


def open_with_roots(path: str) -> tuple[Store, tuple[str, ...]]:
    """Open a store, and allow the folders that its index takes files from.

    Returns
    -------
    tuple of Store and tuple of str
        The store, and the roots that the configuration must name; none for most stores.
    """
    roots: list[str] = []
    store = open_store(path)
    for _ in range(MAX_ROOTS):
        found = (_ROOT.search(reason) for reason in store.refused.values())
        root = next((match[1] for match in found if match and match[1] not in roots), None)
        if root is None:
            break
        roots.append(root)
        store = open_store(path, roots)
    return store, tuple(roots)


def objects_of(store: Store) -> list[tuple[Place, int]]:
    """Objects that the store names, with their position and number of runs, the most observed first."""
    found: Counter[Place] = Counter()
    for entry in store.runs:
        name, position = entry.obs_info.get("OBJECT"), direction(entry, "RA_OBJ", "DEC_OBJ")
        if name and position:
            found[Place(str(name), round(position[0] % 360.0, 4), round(position[1], 4))] += 1
    return found.most_common()


def offsets_of(store: Store, place: Place) -> dict[int, float]:
    """Separation of the pointing of each run from a place, deg, the nearest first; without runs whose is unknown."""
    target = sphere.unit_vectors(*place.icrs_deg)
    found = {}
    for entry in store.runs:
        pointing = direction(entry, "RA_PNT", "DEC_PNT")
        if pointing:
            found[entry.obs_id] = float(sphere.separation_deg(sphere.unit_vectors(*pointing), target))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def direction(entry: RunEntry, ra: str, dec: str) -> tuple[float, float] | None:
    """Two values of the observation index, deg; None unless both are numbers."""
    values = [entry.obs_info.get(name) for name in (ra, dec)]
    numbers = [float(value) for value in values if isinstance(value, int | float) and np.isfinite(value)]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def sample_runs(entries: Sequence[RunEntry]) -> tuple[list[RunFacts], dict[int, str]]:
    """Facts of some runs, evenly spread, and the reasons of those that cannot be read.

    Raises
    ------
    StoreError
        If none can be read; the message names the first reason.
    """
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
    directions = sphere.unit_vectors(events.ra_deg, events.dec_deg)
    offset = sphere.separation_deg(directions, sphere.unit_vectors(pointing.ra_deg, pointing.dec_deg))
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


def ranges_text(numbers: Sequence[int]) -> Iterator[str]:
    """Whole numbers as ``23523``, ``33787-33801``: runs of consecutive ones are drawn together."""
    ordered = sorted(numbers)
    start = 0
    for k in range(1, len(ordered) + 1):
        if k == len(ordered) or ordered[k] != ordered[k - 1] + 1:
            first, last = ordered[start], ordered[k - 1]
            yield str(first) if first == last else f"{first}-{last}"
            start = k
