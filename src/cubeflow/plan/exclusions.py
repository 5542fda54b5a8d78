"""What the exclusion files and sky models of a target hold, and how much is excluded, before any job needs them."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.dl3.files import FileRefused, read_content
from cubeflow.errors import MistakeError, Say
from cubeflow.pipeline.tasks import PlannedExclusion, PlannedSkyModel, Target
from cubeflow.plan.digests import DigestCache
from cubeflow.products.exclusion import POLARITY, Areas, ExclusionError, ExclusionFile, excluded_by
from cubeflow.store.keys import from_plain, make_key

LEAST_KEPT = 0.05  # of the field must be left


def plan_exclusions(place: str, files: Sequence[ExclusionFile], cache: DigestCache) -> tuple[PlannedExclusion, ...]:
    """Digests of the exclusion files of a section of the configuration, and what they exclude unless it is an image.

    MistakeError with its place if one cannot be read or used.
    """

    def areas(path: Path, sha256: str) -> Areas | None:
        content = read_exclusion(path, sha256).content
        return content if isinstance(content, Areas) else None

    planned = []
    try:
        for file in files:
            sha256 = _digest(file.path, cache)
            key = make_key("exclusion", 1, {}, {"file": sha256})
            plain = cache.fact(key, partial(areas, file.path, sha256))
            planned.append(PlannedExclusion(file, sha256, None if plain is None else from_plain(Areas, plain)))
    except MistakeError as error:
        raise MistakeError(f"{place}.exclusion: {error}") from error
    return tuple(planned)


def plan_sky_model(path: Path, cache: DigestCache) -> PlannedSkyModel:
    """Digests of a file of models and of the templates that it names; MistakeError if it cannot be read or used."""
    from ruamel.yaml import YAML, YAMLError  # for a sky model alone

    files, parts = {str(path): _digest(path, cache)}, []
    try:
        parts = [YAML(typ="safe", pure=True).load(read_content(path).decode())]
    except (FileRefused, UnicodeDecodeError, YAMLError) as error:
        raise MistakeError(f"{path}: expected models as gammapy writes them: {' '.join(str(error).split())}") from error
    while parts:
        part = parts.pop()
        parts += list(part.values()) if isinstance(part, dict) else part if isinstance(part, list) else []
        if isinstance(part, dict) and isinstance(name := part.get("filename"), str):
            files[os.path.expandvars(name)] = _digest(Path(os.path.expandvars(name)), cache)
    planned = PlannedSkyModel(files)
    cache.fact(make_key("sky-model", 1, {}, list(files.values())), lambda: len(planned.read()))
    return planned


def _digest(path: Path, cache: DigestCache) -> str:
    """Digest of a file; MistakeError if it cannot be read."""
    if not path.is_file():
        raise MistakeError(f"{path}: expected a regular file, found none")
    try:
        return cache.digest(path)
    except (OSError, ValueError) as error:
        raise MistakeError(str(error)) from error


def excluded_shares(targets: Mapping[str, Target], cache: DigestCache, say: Say) -> dict[str, dict[str, float]]:
    """Share of the field that each exclusion file takes from a target, by its name; says which has no effect at all.

    ExclusionError if a file cannot be used, or all but 5 % of the field from which background is taken are excluded.
    """
    found: dict[str, dict[str, float]] = {}
    for name, target in targets.items():
        files = [(each.sha256, each.file.energy_min_tev, each.file.energy_max_tev) for each in target.exclusions]
        key = make_key("excluded", 1, {"options": target.reduce, "exclusion": files}, {})
        try:
            *shares, total = cache.fact(key, partial(_shares, target)) if files else [0.0]
        except ExclusionError as error:
            raise ExclusionError(f"targets.{name}.exclusion: {error}") from error
        paths = [str(each.file.path) for each in target.exclusions]
        if 1.0 - total < LEAST_KEPT:
            left = f"{1.0 - total:.1%} of the field is left, expected at least {LEAST_KEPT:.0%}. {POLARITY}"
            raise ExclusionError(f"targets.{name}.exclusion: {', '.join(paths)}: {left}")
        found[name] = dict(zip(paths, shares, strict=True))
    for path in dict.fromkeys(path for shares in found.values() for path in shares):
        if not any(shares.get(path) for shares in found.values()):
            names = ", ".join(name for name, shares in found.items() if path in shares)
            say(f"exclusion {path}: excludes nothing of the field of {names}: expected areas, and energies, of it")
    return found


def _shares(target: Target) -> list[float]:
    """Share of the field, mean over energies, that each exclusion takes, and all of them together."""
    options, masks = target.reduce, target.exclusion_masks()
    geom = options.irf_geometry
    margin = int(np.ceil(options.offset_max_deg / geom.pixel_deg))  # what lies around the map counts, too
    field = geom.cutout(-margin, -margin, geom.nx + 2 * margin, geom.ny + 2 * margin)
    grids = field, options.geometry  # what is too small for the first is looked for in the second
    shares = [
        next((share for grid in grids if (share := float(excluded_by(each, grid, options.energy).mean()))), 0.0)
        for each in masks.exclusions
    ]
    return [*shares, float(masks.mask(field, options.energy).mean())]
