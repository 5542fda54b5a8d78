"""Factored form of a reduced run: counts where there are any, responses, pointing and times instead of maps.

The maps follow from them by `cubeflow.steps.reduce.make_maps`, as they did when the run was reduced, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import PsfTable
from cubeflow.irf.table import Nodes
from cubeflow.maps import Cube, Geometry
from cubeflow.observation import EventList, Gti, Observation, Pointing, Site
from cubeflow.steps.reduce import Reduced, gti_array, make_maps, run_geometry
from cubeflow.steps.setup import ReduceSetup
from cubeflow.storage.responses import KINDS, pack_response, unpack_response

FloatArray = NDArray[np.float64]
Datasets = dict[str, Cube | NDArray[Any]]
NAME = "factors"
MAX_VALUES = 1 << 28  # of a map that is made from what a file says


def pack(reduced: Reduced, setup: ReduceSetup) -> tuple[Datasets, dict[str, Any]]:
    """Datasets and plain values from which `unpack` makes the maps of a run again.

    Parameters
    ----------
    reduced : Reduced
        Run that has just been reduced.
    setup : ReduceSetup
        Geometry, axes and cuts.

    Raises
    ------
    ValueError
        If the run was read, not reduced, or a response is of a class that has no factored form.
    """
    source, flat = reduced.source, reduced.maps["counts"].data.ravel()
    if source is None:
        raise ValueError("factored form: expected a run that was reduced, got maps that were read")
    index = np.flatnonzero(flat)
    datasets: Datasets = {"counts.index": index, "counts.value": flat[index], "gti_s": reduced.gti_s}
    if _keeps_mask(setup):
        datasets["mask_safe"] = reduced.maps["mask_safe"]
    responses: dict[str, Any] = {}
    for kind, response in needed_responses(source, setup).items():
        more, responses[kind] = pack_response(kind, response)
        datasets |= more
    site = source.site
    plain = {
        "obs_id": source.obs_id,
        "pointing_deg": [source.pointing.ra_deg, source.pointing.dec_deg],
        "deadc": source.deadc,
        "point_like": source.point_like,
        "site": None if site is None else [float(each) for each in (site.lon_deg, site.lat_deg, site.altitude_m)],
        "responses": responses,
    }
    return datasets, plain


def unpack(
    datasets: Mapping[str, Any], plain: Mapping[str, Any], row: Mapping[str, Any], setup: ReduceSetup
) -> Reduced:
    """Maps of a run from its factored form, which may have been made by anyone.

    Raises
    ------
    ValueError, TypeError, KeyError, RunRefused
        If a part is missing, of another type or shape, not finite or out of range.
    """
    responses = _responses(datasets, plain["responses"])
    nothing = np.zeros(0)
    observation = Observation(
        obs_id=plain["obs_id"],
        events=EventList(nothing, nothing, nothing, nothing),
        gti=_gti(datasets["gti_s"]),
        pointing=Pointing(*_numbers("pointing", plain["pointing_deg"], ((0, 360), (-90, 90)))),
        deadc=_numbers("deadc", [plain["deadc"]], ((0, 1),))[0],
        point_like=plain["point_like"],
        site=None if plain["site"] is None else _site(plain["site"]),
        aeff=responses.get("aeff"),
        edisp=responses.get("edisp"),
        psf=responses.get("psf"),
        background=responses.get("background"),
        rad_max=responses.get("rad_max"),
    )
    counts = _counts(datasets, run_geometry(observation.pointing, setup), setup)
    mask = _mask(datasets["mask_safe"], counts) if _keeps_mask(setup) else None
    with np.errstate(all="ignore"):  # tables of any content
        maps = make_maps(observation, counts, setup, mask)
    return Reduced(maps, gti_array(observation.gti), observation.livetime_s, row)


def needed_responses(observation: Observation, setup: ReduceSetup) -> dict[str, Any]:
    """Responses that there are, without what cannot enter any map.

    The energy dispersion is interpolated to the energies of the maps, or zero where these have no weight, as is a table
    of the PSF.
    """
    found = {kind: getattr(observation, kind) for kind in KINDS}
    centers = setup.energy_true.centers
    if isinstance(found["edisp"], EnergyDispersion):
        found["edisp"] = edisp_at(found["edisp"], centers)
    if isinstance(found["psf"], PsfTable):
        psf = found["psf"]
        is_used = _has_weight(psf.energy_true, centers)
        found["psf"] = replace(psf, density_sr=np.where(is_used[:, None, None], psf.density_sr, 0.0))
    return {kind: response for kind, response in found.items() if response is not None}


def _keeps_mask(setup: ReduceSetup) -> bool:
    """Whether the safe mask is kept as it is: ``edisp-bias`` looks at the whole energy dispersion."""
    return "edisp-bias" in setup.safe_mask["methods"]


def _mask(mask: Any, counts: Cube) -> Cube:
    """Safe mask on the geometry and axes of the counts."""
    if not isinstance(mask, Cube) or mask.data.dtype != bool or (mask.geom, mask.axes) != (counts.geom, counts.axes):
        raise ValueError("mask_safe: expected truth values on the map of the counts")
    return mask


def edisp_at(edisp: EnergyDispersion, energy_true_tev: FloatArray) -> EnergyDispersion:
    """Energy dispersion that gives the same kernels at the given energies, shape (k,), in the smaller of two tables.

    Either the nodes are these energies, at which a hat function is exactly 1 or 0; or the density is zero at nodes that
    have no weight at any of them.
    """
    nodes = edisp.energy_true
    is_used = _has_weight(nodes, energy_true_tev)
    if np.count_nonzero(is_used) <= len(energy_true_tev):
        return replace(edisp, density=np.where(is_used[:, None, None], edisp.density, 0.0))
    density = np.maximum(np.tensordot(nodes.weights(energy_true_tev), edisp.density, axes=1), 0.0)
    lower, upper = min(nodes.lower, energy_true_tev[0]), max(nodes.upper, energy_true_tev[-1])
    return replace(edisp, energy_true=Nodes(energy_true_tev, lower, upper, nodes.log), density=density)


def _has_weight(nodes: Nodes, x: FloatArray) -> NDArray[np.bool_]:
    """Whether each node has a weight at any `x`, shape (n,)."""
    return np.any(nodes.weights(x) != 0, axis=0)


def _responses(arrays: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    if not set(plain) <= set(KINDS):
        raise ValueError(f"responses: expected some of {', '.join(KINDS)}, got {str(sorted(plain))[:80]}")
    return {kind: unpack_response(kind, plain[kind], arrays) for kind in plain}


def _counts(arrays: Mapping[str, Any], geom: Geometry, setup: ReduceSetup) -> Cube:
    """Counts from their flat index and value."""
    index, value = (arrays[f"counts.{name}"] for name in ("index", "value"))
    shape = (setup.energy.n_bins, *geom.shape)
    if any(
        not isinstance(each, np.ndarray) or each.dtype.kind not in "iu" or each.ndim != 1 for each in (index, value)
    ):
        raise ValueError("counts: expected whole numbers")
    if len(index) != len(value) or np.any(value <= 0) or np.any(np.diff(index) <= 0):
        raise ValueError("counts: expected an increasing index and as many counts above 0")
    if len(index) and not 0 <= index[0] <= index[-1] < math.prod(shape):
        raise ValueError(f"counts: index {index[0]} to {index[-1]}, expected 0 to {math.prod(shape) - 1}")
    data = np.zeros(math.prod(shape), dtype=np.int64)
    data[index] = value
    return Cube(data.reshape(shape), "", geom, (setup.energy,))


def _gti(values: Any) -> Gti:
    """Good time intervals."""
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.ndim != 2 or values.shape[1] != 2:
        raise ValueError("gti_s: expected starts and stops")
    flat = values.ravel()
    if not len(flat) or not np.all(np.isfinite(flat)) or np.any(np.diff(flat) < 0):
        raise ValueError("gti_s: expected intervals in order")
    return Gti(np.ascontiguousarray(values[:, 0]), np.ascontiguousarray(values[:, 1]))


def _site(values: Any) -> Site:
    return Site(*_numbers("site", values, ((-360, 360), (-90, 90), (-1e5, 1e5))))


def _numbers(name: str, values: Any, limits: tuple[tuple[float, float], ...]) -> list[float]:
    """Numbers within limits; ValueError for anything else."""
    fits = isinstance(values, list) and len(values) == len(limits) and all(type(value) is float for value in values)
    if not fits or not all(low <= value <= high for value, (low, high) in zip(values, limits, strict=True)):
        raise ValueError(f"{name}: expected numbers within {limits}, got {str(values)[:60]}")
    return list(values)


def check_size(setup: ReduceSetup) -> None:
    """Refuse maps that would fill the memory, for a configuration that a file holds; raises ValueError."""
    for geom, bins in (
        (setup.geometry, max(setup.energy.n_bins, setup.energy_true.n_bins)),
        (setup.irf_geometry, setup.energy_true.n_bins * max(setup.energy.n_bins, setup.rad.n_bins)),
    ):
        side = 2 * setup.offset_max_deg / geom.pixel_deg + 4
        pixels = min(side, geom.nx) * min(side, geom.ny) if setup.trim else side**2
        if pixels * bins > MAX_VALUES:
            raise ValueError(f"maps of {pixels * bins:.0f} values, the limit is {MAX_VALUES}")
