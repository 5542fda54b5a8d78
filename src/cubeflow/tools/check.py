"""Read every run of a store as a reduction would, and say what is wrong with it; nothing is reduced."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cubeflow.config import load_config
from cubeflow.dl3.index import Store, open_store
from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.errors import MistakeError
from cubeflow.observation import RunRefused
from cubeflow.plan.make import open_configured_store


@dataclass(frozen=True)
class CheckedRun:
    """What is to be known of one run."""

    obs_id: int
    reason: str = ""  # why it is refused, in one line; empty if it is not
    quirks: tuple[str, ...] = ()  # deviations from the format
    repairs: Mapping[str, int] = field(default_factory=dict)  # what was repaired or dropped, with how often
    object_name: str = ""  # what was observed, as the file says
    n_events: int | None = None  # events that are left; None for a refused run
    ontime_s: float | None = None  # sum of the good time intervals
    livetime_s: float | None = None  # that times DEADC


def open_source(source: str, roots: Sequence[str] = ()) -> tuple[Store, ReadOptions]:
    """Open the store that is named, or that a configuration names, and say how its runs are to be read.

    Its files may lie in further folders, `roots`, too. MistakeError if configuration or store cannot be used.
    """
    if not source.endswith((".yaml", ".yml")):
        return open_store(source, roots), ReadOptions()
    config = load_config(source)
    store = open_configured_store(config, roots)
    drop = all(target.observations.duplicates == "drop" for target in config.targets.values())
    return store, ReadOptions(duplicates="drop" if drop else "refuse")


def check_runs(store: Store, options: ReadOptions, obs_ids: Collection[int] = ()) -> Iterator[CheckedRun]:
    """Read runs in order of their ids, all if none are given; MistakeError if an id is not in the store."""
    entries = {entry.obs_id: entry for entry in store.runs}
    if absent := set(obs_ids) - set(entries) - set(store.refused):
        raise MistakeError(f"{store.path}: no run {', '.join(map(str, sorted(absent)))}")
    for obs_id in sorted(obs_ids or {*entries, *store.refused}):
        if obs_id in store.refused:
            yield CheckedRun(obs_id, store.refused[obs_id])
            continue
        entry = entries[obs_id]
        try:
            ways = [replace(options, event_type=kind) for kind in entry.event_types] or [options]
            found = [read_observation(entry, way) for way in ways]
        except RunRefused as error:
            yield CheckedRun(obs_id, str(error), entry.quirks)
            continue
        run, quirks = found[0], tuple(sorted({name for each in found for name in each.quirks}))
        repairs = {name: count for each in found for name, count in each.repairs.items()}
        name = str(run.meta["object"])
        yield CheckedRun(obs_id, "", quirks, repairs, name, len(run.events), run.ontime_s, run.livetime_s)
