"""Which runs of a store belong to a target, and why the others do not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from cubeflow.config.sections import Match, Observations
from cubeflow.dl3.entries import RunEntry, Store, direction_of
from cubeflow.dl3.hdus import Header
from cubeflow.dl3.index import read_infos
from cubeflow.dl3.tables import NoColumn, parse_where
from cubeflow.errors import MistakeError, Say, counted
from cubeflow.maps.arrays import FloatArray, Place
from cubeflow.maps.sphere import angular_distance_deg
from cubeflow.observation import DAY_S
from cubeflow.pipeline.tasks import Refusal

Runs = Sequence[RunEntry]
# Limits of `Match`: the column of the observation index, and after what its values repeat.
COMPARED = {
    "airmass": ("ALT_PNT", np.inf),
    "azimuth_deg": ("AZ_PNT", 360.0),
    "nsb": ("NSBLEVEL", np.inf),
    "time_s": ("TSTART", np.inf),
    "telescopes": ("TELLIST", np.inf),
}
# By what a model leaves out for a run: the column, and the least difference of what it surely does not.
LEFT_OUT = {"run": ("OBS_ID", 1.0), "night": ("TSTART", DAY_S), "target": ("OBJECT", 1.0)}


def select_runs(store: Store, wanted: Observations, target_deg: Place) -> tuple[list[RunEntry], list[Refusal], int]:
    """Runs that a target asks for, those of them that the index rules out, and how many it does not ask for.

    MistakeError if an id asked for is not in the store, or the expression, or a pointing, can be had of no run.
    """
    if absent := set(wanted.ids or ()) - {entry.obs_id for entry in store.runs} - set(store.refused):
        ends = f", {store.runs[0].obs_id} to {store.runs[-1].obs_id}" if store.runs else ""
        has = f"{counted(len(store.runs), 'run')}{ends}"
        raise MistakeError(f"observations.ids: not in the store: {sorted(absent)}; it has {has}")
    place = wanted.within_deg, target_deg
    test = None if wanted.where is None else parse_where(wanted.where)
    named = [entry for entry in store.runs if _is_named(entry.obs_id, wanted)]
    n_near = sum(_is_near(entry.obs_info, *place) for entry in named)
    chosen, odd = _choose(named, n_near, lambda row: _is_near(row, *place, True) and (not test or test(row)))
    refused = [
        Refusal(obs_id, reason)
        for obs_id, reason in store.refused.items()
        if _is_named(obs_id, wanted) and _is_near(store.refused_infos.get(obs_id, {}), *place)
    ]
    return chosen, refused + odd, len(named) - len(chosen) - len(odd) + len(store.runs) - len(named)


def match_runs(
    key: str, entries: Runs, off_runs: Runs, wanted: Match, leave_out: str, say: Say
) -> dict[int, tuple[int, ...]]:
    """OFF runs that are like each run, by run; the nearest first, in differences over their limits.

    They end where they have twice the livetime that is enough, as the index tells it of those that `leave_out` lets
    model the run: some may turn out to be of no use. What no run, or no OFF run, has in the index is not compared,
    which is said by `key`; a run without what others have is like none.
    """
    words: dict[object, int] = {}

    def numbers(column: str, runs: Runs) -> FloatArray:
        """Values of a column, or numbers that stand for its texts; NaN where there is none."""
        found = [run.obs_id if column == "OBS_ID" else run.obs_info.get(column) for run in runs]
        if column in ("TELLIST", "OBJECT"):
            found = [words.setdefault(each, len(words)) if each else None for each in found]
        known = np.array([each if isinstance(each, int | float) else np.nan for each in found], dtype=float)
        return 1 / np.sin(np.deg2rad(np.where(known > 0, known, np.nan))) if column == "ALT_PNT" else known

    compared, limits = [], {**vars(wanted), "telescopes": 0.0 if wanted.telescopes else None}
    for name, (column, period) in COMPARED.items() if entries else ():
        if (limit := limits[name]) is None:
            continue
        pair = [numbers(column, runs) for runs in (entries, off_runs)]
        if any(lack := [bool(np.isnan(each).all()) for each in pair]):
            whose = "" if all(lack) else " of runs" if lack[0] else " of OFF runs"
            say(f"{key}.{name.partition('_')[0]}: not compared: no {column} in the observation index{whose}")
        else:
            own, others = pair if period == np.inf else (each % period for each in pair)
            compared.append((own, others, limit, period))
    ids, matches = np.array([run.obs_id for run in off_runs], dtype=object), {}
    (column, least), livetime_s = LEFT_OUT[leave_out], np.fmax(numbers("LIVETIME", off_runs), 0.0)
    here, there = numbers(column, entries), numbers(column, off_runs)
    for k, entry in enumerate(entries):  # one by one: all pairs of thousands of runs need a gigabyte
        distance = np.zeros(len(ids))
        for own, others, limit, period in compared:
            apart = np.abs(own[k] - others)
            apart = np.minimum(apart, period - apart)
            distance += np.where(apart <= limit, (apart / (limit or 1.0)) ** 2, np.inf)
        near = np.flatnonzero(distance < np.inf)
        near = near[np.argsort(distance[near], kind="stable")]
        may_s = np.where(np.abs(here[k] - there[near]) >= least, livetime_s[near], 0.0)
        matches[entry.obs_id] = tuple(ids[near[np.cumsum(may_s) - may_s < 2 * wanted.livetime_s]])
    return matches


def _choose(named: Runs, n_near: int, is_wanted: Callable[[Header], bool]) -> tuple[list[RunEntry], list[Refusal]]:
    """Runs that are wanted, and those of which it cannot be said: what the index lacks is looked for in EVENTS.

    Raises MistakeError if it can be said of none; if columns are absent, of none of the `n_near` that may be near.
    """
    chosen: list[RunEntry] = []
    errors: dict[int, MistakeError] = {}

    def choose(entries: Iterable[RunEntry]) -> None:
        for entry in entries:
            errors.pop(entry.obs_id, None)
            try:
                chosen.extend([entry] if is_wanted(entry.obs_info) else [])
            except MistakeError as error:
                errors[entry.obs_id] = error

    choose(named)
    if errors and len(errors) == len(named) and all(isinstance(error, NoColumn) for error in errors.values()):
        raise next(iter(errors.values()))
    odd = [entry for entry in named if entry.obs_id in errors]
    found, _ = read_infos(odd)
    for entry in odd:
        known = {key: value for key, value in entry.obs_info.items() if value not in (None, "") and value == value}
        choose([replace(entry, obs_info={**found.get(entry.obs_id, {}), **known})])
    has_no_column = all(isinstance(error, NoColumn) for error in errors.values())
    if errors and len(errors) == (n_near if has_no_column else len(named)):
        raise next(iter(errors.values()))
    return sorted(chosen, key=lambda entry: entry.obs_id), [Refusal(obs_id, str(why)) for obs_id, why in errors.items()]


def _is_named(obs_id: int, wanted: Observations) -> bool:
    """Whether the ids alone leave a run in."""
    return (wanted.ids is None or obs_id in wanted.ids) and obs_id not in wanted.exclude


def _is_near(info: Header, within_deg: float | None, target_deg: Place, must_be_known: bool = False) -> bool:
    """Whether the pointing leaves a run in, as far as it is known; MistakeError if it is not, and must be."""
    pointing = direction_of(info)
    if must_be_known and within_deg is not None and pointing is None:
        got = ", ".join(f"{key} = {info.get(key)!r:.40}" for key in ("RA_PNT", "DEC_PNT"))
        raise MistakeError(f"observations.within: expected a pointing in the observation index or in EVENTS, got {got}")
    return within_deg is None or pointing is None or bool(angular_distance_deg(pointing, target_deg) <= within_deg)
