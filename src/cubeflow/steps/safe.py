"""The safe mask of a run, by the methods that the configuration names."""

from __future__ import annotations

from cubeflow.maps import Cube, Geometry, sphere
from cubeflow.observation import Observation
from cubeflow.products.safe_mask import SafeMaskOptions, make_mask_safe
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
        With the methods and limits in ``safe_mask``; ``position: target`` means the centre of the final geometry.

    Returns
    -------
    Cube of bool, (energy, lat, lon)
        True where every method says safe.

    Raises
    ------
    RunRefused
        If a method needs a response that the run does not have.
    """
    plain = dict(setup.safe_mask)
    at_target = plain.pop("position", "own") == "target"
    plain["methods"] = tuple(plain["methods"])
    options = SafeMaskOptions(**plain, target=_center(setup.geometry) if at_target else None)
    return make_mask_safe(observation, geom, setup.energy, setup.offset_max_deg, options)


def _center(geom: Geometry) -> tuple[float, float]:
    """ICRS position of the centre of a geometry, deg."""
    lon, lat = sphere.lon_lat(geom.pixel_to_vectors((geom.nx - 1) / 2, (geom.ny - 1) / 2))
    return float(lon), float(lat)
