"""Read every run of a store as a reduction would, and say what is wrong with it; nothing is reduced."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cubeflow.config import load_config
from cubeflow.dl3.index import Store, open_store
from cubeflow.dl3.reader import ReadOptions, read_observation
from cubeflow.errors import MistakeError
from cubeflow.observation import RunRefused
from cubeflow.plan.make import open_configured_store
from cubeflow.plan.select import select_runs
from cubeflow.plan.tiles import expand_tiles


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


def open_source(source: str, roots: Sequence[str] = ()) -> tuple[Store, ReadOptions, set[int]]:
    """Open the store that is named, or that a configuration names; how its runs are to be read, and which it selects.

    Its files may lie in further folders, `roots`, too. MistakeError if configuration or store cannot be used.
    """
    if not source.endswith((".yaml", ".yml")):
        store = open_store(source, roots)
        return store, ReadOptions(), {*(entry.obs_id for entry in store.runs), *store.refused}
    config = load_config(source)
    store = open_configured_store(config, roots)
    targets = expand_tiles(config, store).targets.values()
    drop = all(target.observations.duplicates == "drop" for target in targets)
    wanted = [(target.observations, target.icrs_deg) for target in targets]
    wanted += [(model.observations, (0.0, 0.0)) for model in config.models.values()]
    chosen = {each.obs_id for asked in wanted for some in select_runs(store, *asked)[:2] for each in some}
    return store, ReadOptions(duplicates="drop" if drop else "refuse"), chosen


def check_runs(store: Store, options: ReadOptions, obs_ids: Collection[int]) -> Iterator[CheckedRun]:
    """Read runs in order of their ids; MistakeError if an id is not in the store."""
    entries = {entry.obs_id: entry for entry in store.runs}
    if absent := set(obs_ids) - set(entries) - set(store.refused):
        raise MistakeError(f"{store.path}: no run {', '.join(map(str, sorted(absent)))}")
    for obs_id in sorted(obs_ids):
        if obs_id in store.refused:
            yield CheckedRun(obs_id, store.refused[obs_id])
            continue
        entry = entries[obs_id]
        kinds: Sequence[str | None] = entry.event_types or [None]
        try:
            found = {kind: read_observation(entry, replace(options, event_type=kind)) for kind in kinds}
        except RunRefused as error:
            yield CheckedRun(obs_id, str(error), entry.quirks)
            continue
        quirks = tuple(sorted({name for each in found.values() for name in each.quirks}))
        lists: dict[tuple[Path, str], Counter[str]] = defaultdict(Counter)  # of events: types may share one
        for kind, run in found.items():
            at = next((ref.path, ref.hdu_name) for ref in entry.of_event_type(kind).hdus if ref.hdu_type == "events")
            lists[at] |= Counter({**run.repairs, "events": len(run.events)})
        repairs, name = dict(sum(lists.values(), Counter())), str(run.meta["object"])
        n_events = repairs.pop("events", 0)
        yield CheckedRun(obs_id, "", quirks, repairs, name, n_events, run.ontime_s, run.livetime_s)
