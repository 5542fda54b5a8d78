"""Read every run of a store as a reduction would, and say what is wrong with it; nothing is reduced."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cubeflow.config import load_config
from cubeflow.dl3.index import RunEntry, Store, open_store
from cubeflow.dl3.quirks import QUIRKS
from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.errors import MistakeError
from cubeflow.observation import RunRefused

CONFIG_ENDINGS = (".yaml", ".yml")


class CheckError(MistakeError):
    """What is to be checked is not there; the message names it."""


@dataclass(frozen=True)
class CheckedRun:
    """What is to be known of one run.

    Parameters
    ----------
    obs_id : int
        Its number.
    reason : str
        Why it is refused, in one line; empty if it is not.
    quirks : tuple of str
        Deviations from the format.
    repairs : mapping of str to int
        What was repaired or dropped, with how often.
    object_name : str
        What was observed, as the file says.
    n_events : int or None
        Events that are left; None for a refused run.
    ontime_s, livetime_s : float or None
        Sum of the good time intervals, and that times DEADC; None for a refused run.
    """

    obs_id: int
    reason: str = ""
    quirks: tuple[str, ...] = ()
    repairs: Mapping[str, int] = field(default_factory=dict)
    object_name: str = ""
    n_events: int | None = None
    ontime_s: float | None = None
    livetime_s: float | None = None


def open_source(source: str, roots: Sequence[str] = ()) -> tuple[Store, ReadOptions]:
    """Open the store that is named, or that a configuration names.

    Parameters
    ----------
    source : str
        Store (as `open_store` takes it) or configuration file (``.yaml``).
    roots : sequence of str
        Folders outside the store in which its files may lie, beside those of the configuration.

    Returns
    -------
    store, options : Store, ReadOptions
        The store, and how the configuration wants its runs to be read.

    Raises
    ------
    MistakeError
        If the configuration or the store cannot be used.
    """
    if not source.endswith(CONFIG_ENDINGS):
        return open_store(source, roots), ReadOptions()
    config = load_config(source)
    data = config.data
    store = open_store(str(Path(data.store) / data.pattern) if data.pattern else data.store, [*data.roots, *roots])
    drop = all(target.observations.duplicates == "drop" for target in config.targets.values())
    return store, ReadOptions(duplicates="drop" if drop else "refuse")


def check_runs(store: Store, options: ReadOptions, obs_ids: Collection[int] = ()) -> Iterator[CheckedRun]:
    """Check the runs of a store one by one, in order of their ids; all if no ids are given.

    Raises
    ------
    CheckError
        If an id is not in the store.
    """
    entries = {entry.obs_id: entry for entry in store.runs}
    absent = set(obs_ids) - set(entries) - set(store.refused)
    if absent:
        raise CheckError(f"{store.path}: no run {', '.join(map(str, sorted(absent)))}")
    for obs_id in sorted(obs_ids or {*entries, *store.refused}):
        if obs_id in store.refused:
            yield CheckedRun(obs_id, store.refused[obs_id])
        else:
            yield check_run(entries[obs_id], options)


def check_run(entry: RunEntry, options: ReadOptions) -> CheckedRun:
    """Read a run and say what was met."""
    try:
        observation = read_observation(entry, options)
    except RunRefused as error:
        return CheckedRun(entry.obs_id, str(error), entry.quirks)
    return CheckedRun(
        entry.obs_id,
        quirks=observation.quirks,
        repairs=observation.repairs,
        object_name=str(observation.meta["object"]),
        n_events=len(observation.events),
        ontime_s=observation.ontime_s,
        livetime_s=observation.livetime_s,
    )


def count_quirks(runs: Iterable[CheckedRun]) -> dict[str, int]:
    """Number of runs that show each quirk, by name, in the order of the registry."""
    shown = [name for run in runs for name in run.quirks]
    return {name: shown.count(name) for name in QUIRKS if name in shown}


def quirk_description(name: str) -> str:
    """What files with this quirk do, and how they are read."""
    return QUIRKS[name].description
