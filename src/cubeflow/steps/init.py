"""``cubeflow init``: look at a store and write a configuration that runs as it is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

from cubeflow.config import load_config
from cubeflow.dl3.index import Store
from cubeflow.errors import MistakeError
from cubeflow.steps.draft import Found
from cubeflow.steps.draft_text import config_text, regions_text
from cubeflow.steps.names import KNOWN, Place, TargetError, parse_target
from cubeflow.steps.survey import NEAR, objects_of, offsets_of, open_with_roots, sample_runs
from cubeflow.storage.atomic import write_atomic

MAX_OBJECTS = 12
SEES = 2.5  # deg: runs that are read rather than those farther off


class InitError(MistakeError):
    """No configuration can be written; the message says what to do."""


def init_config(
    store_path: str, target: str | None, output: Path | None, force: bool, exclude: bool, say: Callable[[str], None]
) -> Path:
    """Write a configuration, and the regions it excludes beside it under a name that is free.

    Parameters
    ----------
    store_path : str
        Folder of the store, as it will stand in the configuration.
    target : str or None
        Position or name of the target.
    output : Path or None
        File to write; ``config/<target>.yaml`` if None.
    force : bool
        Replace a configuration that is there; never a file of regions.
    exclude : bool
        Exclude the target and known sources from the background.
    say : callable
        Takes one line.

    Returns
    -------
    Path
        The configuration.

    Raises
    ------
    InitError
        If the configuration is there, or no run sees the target.
    TargetError
        If the target is neither a position nor a known name, or None: the message lists the objects of the store.
    StoreError
        If the store cannot be used.
    """
    store, roots = open_with_roots(store_path)
    if target is None:
        raise TargetError(_targets_of(store, store_path))
    place = parse_target(target, (each for each, _ in objects_of(store)))
    path = output or Path("config") / f"{place.slug}.yaml"
    if path.exists() and not force:
        raise InitError(f"{path}: already there; write to another file with -o, or replace it with --force")
    found = look_at(store, store_path, roots, place)
    path.parent.mkdir(parents=True, exist_ok=True)
    regions = str(_write_regions(path, regions_text(found).encode())) if exclude else None
    write_atomic(path, config_text(found, str(path), f"results/{path.stem}", regions).encode())
    load_config([path])
    _say_next(found, path, say)
    return path


def look_at(store: Store, store_path: str, roots: tuple[str, ...], place: Place) -> Found:
    """What is known of a store and a target; InitError if no run sees it."""
    offsets = offsets_of(store, place)
    if not offsets:
        raise InitError(f"{store_path}: no run with a pointing (RA_PNT, DEC_PNT){_first_refusal(store)}")
    closest, offset = next(iter(offsets.items()))
    if offset > NEAR:
        raise InitError(_none_sees(store, place, closest, offset))
    reach = SEES if offset <= SEES else NEAR
    facts, refused = sample_runs([entry for entry in store.runs if offsets.get(entry.obs_id, 999.0) <= reach])
    found = Found(store_path, roots, place, len(store.runs), offsets, facts, {**store.refused, **refused})
    seen = {obs_id: value for obs_id, value in offsets.items() if value <= found.offset_max_deg}
    if not seen:
        raise InitError(_none_sees(store, place, closest, offset))
    return Found(store_path, roots, place, len(store.runs), seen, facts, found.refused)


def _write_regions(config: Path, content: bytes) -> Path:
    """Write the regions beside a configuration, under its name; numbered where that is taken by other content.

    Regions may serve other configurations, too, and may have been edited: none is replaced.
    """
    names = (config.with_name(f"{config.stem}{'' if n == 1 else f'-{n}'}.reg") for n in itertools.count(1))
    path = next(name for name in names if name != config and (not os.path.lexists(name) or _holds(name, content)))
    if not path.exists():
        write_atomic(path, content)
    return path


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _first_refusal(store: Store) -> str:
    """Why the first of the refused runs is, if there are any."""
    return f"; run {next(iter(store.refused))}: {next(iter(store.refused.values()))}" if store.refused else ""


def _none_sees(store: Store, place: Place, closest: int, offset: float) -> str:
    name = f"{place.name} ({place.frame} {place.lon_deg:g} {place.lat_deg:g} deg)"
    objects = ", ".join(repr(each.name) for each, _ in objects_of(store)[:MAX_OBJECTS])
    hint = f". The store names {objects}" if objects else ""
    return f"--target: no run sees {name}; the closest, run {closest}, points {offset:.1f} deg away{hint}"


def _targets_of(store: Store, store_path: str) -> str:
    """Say what can be a target: objects of the store, then well-known sources."""
    lines = [f"--target: expected a position or a name; {store_path} has {len(store.runs)} runs{_first_refusal(store)}"]
    objects = objects_of(store)
    for place, count in objects[:MAX_OBJECTS]:
        position = f"{place.lon_deg:g} {place.lat_deg:g}"
        lines.append(f'  --target "{place.name}"  or  --target "{position}"  # named by {count} runs')
    if len(objects) > MAX_OBJECTS:
        lines.append(f"  and {len(objects) - MAX_OBJECTS} more")
    return "\n".join([*lines, f"Known without a store: {', '.join(place.name for place in KNOWN)}"])


def _say_next(found: Found, path: Path, say: Callable[[str], None]) -> None:
    lower, upper = found.energy_tev
    say(
        f"{path}: {found.place.name}: {len(found.offsets)} of {found.n_runs} runs within {found.offset_max_deg:g} deg, "
        f"{lower:g} to {upper:g} TeV"
    )
    say(f"Next: cubeflow plan -c {path}")
    say(f"then: snakemake --cores 2 --configfile {path}")
