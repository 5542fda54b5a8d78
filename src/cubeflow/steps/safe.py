"""The safe mask of a run, by the methods that the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cubeflow.maps import Cube, Geometry
from cubeflow.observation import Observation, RunRefused
from cubeflow.products.safe_mask import EnergyRange, make_mask_safe, range_aeff_default
from cubeflow.steps.setup import ReduceSetup


def make_run_mask(observation: Observation, geom: Geometry, setup: ReduceSetup) -> Cube:
    """Safe mask of a run.

    Parameters
    ----------
    observation : Observation
        Its pointing and responses.
    geom : Geometry
        Cutout of the run.
    setup : ReduceSetup
        With the methods in ``safe_mask["methods"]``.

    Returns
    -------
    Cube of bool, (energy, lat, lon)
        True where every method says safe.

    Raises
    ------
    RunRefused
        If a method needs a response that the run does not have.
    """
    methods = setup.safe_mask["methods"]
    ranges = tuple(RANGES[name](observation) for name in methods if name in RANGES)
    offset_max = setup.offset_max_deg if "offset-max" in methods else None
    return make_mask_safe(observation.pointing, geom, setup.energy, ranges, offset_max)


def _aeff_default(observation: Observation) -> EnergyRange:
    if observation.aeff is None:
        raise RunRefused("safe_mask: aeff-default needs an effective area, and the run has none")
    return range_aeff_default(observation.aeff)


RANGES: Mapping[str, Callable[[Observation], EnergyRange]] = {"aeff-default": _aeff_default}
