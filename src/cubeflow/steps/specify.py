"""From the configuration to what the plan needs: plain numbers, and digests of the files it names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cubeflow.config import Config, TargetConfig
from cubeflow.errors import MistakeError
from cubeflow.plan.model import Selection, TargetSpec
from cubeflow.steps.setup import ReduceSetup


class SpecificationError(MistakeError):
    """The configuration names a file that cannot be read; the message names the key."""


def target_specs(config: Config) -> list[TargetSpec]:
    """Specification of every target of a configuration.

    Raises
    ------
    SpecificationError
        If an exclusion file cannot be read.
    """
    return [target_spec(config, name) for name in config.targets]


def target_spec(config: Config, name: str) -> TargetSpec:
    """Specification of one target; errors as in `target_specs`."""
    target = config.targets[name]
    ra_deg, dec_deg = target.icrs_deg
    observations = target.observations
    exclusion = [_digest_exclusion(name, file) for file in target.to_plain("exclusion")]
    return TargetSpec(
        name=name,
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        selection=Selection(observations.ids, observations.exclude, observations.within_deg, observations.where),
        reduce=reduce_setup(target).to_plain(),
        backgrounds=background_plains(target, exclusion),
        export={
            "significance": target.to_plain("significance"),
            "ra_deg": ra_deg,
            "dec_deg": dec_deg,
            "spectrum": target.to_plain("spectrum"),
        },
        settings={
            "compression": config.artifacts.compression,
            "form": config.artifacts.form,
            "exclusion": target.to_plain("exclusion"),
        },
        batch=target.stack.batch,
        fanout=target.stack.fanout,
    )


def background_plains(target: TargetConfig, exclusion: Sequence[Any] = ()) -> dict[str, dict[str, Any]]:
    """Configuration of each background by label, with the disc about the target and the digests of exclusion files."""
    ra_deg, dec_deg = target.icrs_deg
    source = {"ra_deg": ra_deg, "dec_deg": dec_deg, "radius_deg": target.significance.radius_deg}
    common = {"exclusion": list(exclusion), "source": source}
    return {label: {**plain, **common} for label, plain in target.to_plain("backgrounds").items()}


def reduce_setup(target: TargetConfig) -> ReduceSetup:
    """Configuration of the step ``reduce`` as objects."""
    return ReduceSetup(
        geometry=target.geometry(),
        irf_geometry=target.irf_geometry(),
        energy=target.energy_axis(),
        energy_true=target.energy_true_axis(),
        rad=target.rad_axis(),
        offset_max_deg=target.offset_max_deg,
        gti_filter=target.gti_filter,
        trim=target.reach_deg == 0.0,
        duplicates=target.observations.duplicates,
        time_mjd=target.observations.time_mjd,
        split=target.observations.split_s,
        interpolation=target.acceptance.interpolation,
        safe_mask=target.to_plain("safe_mask"),
        spectrum=target.to_plain("spectrum"),
    )


def _digest_exclusion(name: str, file: str | dict[str, Any]) -> Any:
    """Digest of the content of an exclusion file, and the energies at which it holds if any are given."""
    if not isinstance(file, str):
        return {**file, "path": _digest_exclusion(name, file["path"])}
    path = file
    if not Path(path).is_file():
        raise SpecificationError(f"targets.{name}.exclusion: {path}: expected a regular file, found none")
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise SpecificationError(f"targets.{name}.exclusion: {path}: {error.strerror or error}") from error
