"""Targets of tiles: one for each pixel of HEALPix that the selected runs reach."""

from collections import defaultdict
from dataclasses import replace

from cubeflow.config import Config, TargetConfig
from cubeflow.dl3.entries import Store, direction_of
from cubeflow.errors import MistakeError
from cubeflow.maps import Position, make_geometry
from cubeflow.plan.select import select_runs
from cubeflow.products.tiles import Tile, tiles_reached


def expand_tiles(config: Config, store: Store) -> Config:
    """Put in place of each target of tiles its tiles, ``<name>-<number>``, as targets of their own with their runs.

    MistakeError, which begins with its key, if no run is left for one, or a name is taken.
    """
    targets: dict[str, TargetConfig] = {}
    for name, section in config.targets.items():
        made = {name: section} if section.tiles is None else _tiles_of(name, section, store)
        if taken := sorted(made.keys() & (targets.keys() | config.targets.keys() - {name})):
            raise MistakeError(f"targets.{name}.tiles: expected no target with the name of a tile, got {taken[0]}")
        targets |= made
    return replace(config, targets=targets)


def _tiles_of(name: str, section: TargetConfig, store: Store) -> dict[str, TargetConfig]:
    """Tiles that runs reach, each with those that reach it or its overlap, or that are ruled out and may reach it."""
    assert section.tiles is not None
    nside, overlap_deg, grid = section.tiles.nside, section.tiles.overlap_deg, section.geometry
    entries, refused, _ = select_runs(store, replace(section.observations, within_deg=180.0), (0.0, 0.0))
    runs: dict[int, list[int]] = defaultdict(list)
    reached: set[int] = set()
    for entry in entries:
        if (position := direction_of(entry.obs_info)) is not None:
            reached.update(tiles_reached(nside, position, section.offset_max_deg))
            for number in tiles_reached(nside, position, section.offset_max_deg + overlap_deg):
                runs[number].append(entry.obs_id)
    if not reached:
        raise MistakeError(f"targets.{name}.tiles: no run of {len(store.runs)} is selected, expected some")
    for refusal in refused:
        position = direction_of(store.refused_infos.get(refusal.obs_id, {}))
        may = tiles_reached(nside, position, section.offset_max_deg + overlap_deg) if position else reached
        for number in may:
            runs[number].append(refusal.obs_id)
    found, end = {}, f"-{section.event_type}" if section.event_type else ""
    for number in sorted(reached):
        tile = Tile(nside, number)
        lon_deg, lat_deg = tile.center_deg
        at = Position(lon_deg=lon_deg, lat_deg=lat_deg)
        pixel_deg = grid.pixel_deg
        one = make_geometry(grid.frame, grid.projection, *at.in_frame(grid.frame), (pixel_deg, pixel_deg), pixel_deg)
        width_deg = tile.width_pixels(one, overlap_deg) * pixel_deg
        found[f"{name.removesuffix(end)}-{number:0{len(str(12 * nside**2 - 1))}}{end}"] = replace(
            section,
            tiles=None,
            tile=tile,
            position=at,
            geometry=replace(grid, width_deg=(width_deg, width_deg)),
            observations=replace(section.observations, ids=tuple(sorted(runs[number])), exclude=()),
        )
    return found
