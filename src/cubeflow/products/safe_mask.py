"""Safe masks: where and at which reconstructed energies the responses can be trusted.

A bin is safe only if the whole bin is: a threshold in energy must not lie above its lower edge. Thresholds
that are found in true energy (effective area) are applied in reconstructed energy as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.maps import sphere
from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.maps.geom import Geometry
from cubeflow.observation import Observation, RunRefused
from cubeflow.products.safe_energy import threshold_aeff_max, threshold_bkg_peak, threshold_edisp_bias

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

METHODS = ("offset-max", "aeff-default", "aeff-max", "edisp-bias", "bkg-peak")
# Relative slack with which a bin edge may lie beyond a threshold: rounding of the edges, not physics.
EDGE_TOLERANCE = 1e-9
OFFSET_STEP_DEG = 0.01  # thresholds at each pixel's own offset are linear between such steps


@dataclass(frozen=True)
class SafeMaskOptions:
    """Which conditions must hold.

    Parameters
    ----------
    methods : tuple of str
        ``offset-max``: offset below the largest; ``aeff-default``: LO_THRES and HI_THRES of the effective area;
        ``aeff-max``: effective area of at least `aeff_percent` of its maximum; ``edisp-bias``: energy bias of at
        most `bias_percent`; ``bkg-peak``: from the peak of the background per logarithm of the energy on.
    aeff_percent, bias_percent : float
        Limits in percent.
    target : (float, float) or None
        ICRS position in deg at whose offset ``aeff-max`` and ``edisp-bias`` find the energy of the run; None for
        each pixel's own offset.

    Raises
    ------
    ValueError
        For a method that does not exist.
    """

    methods: tuple[str, ...] = ("offset-max", "aeff-default")
    aeff_percent: float = 10.0
    bias_percent: float = 10.0
    target: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"safe_mask.methods: expected some of {', '.join(METHODS)}, got {method!r}")


def make_mask_safe(
    observation: Observation, geom: Geometry, energy: Axis, offset_max_deg: float, options: SafeMaskOptions
) -> Cube:
    """Safe mask of a run.

    Parameters
    ----------
    observation : Observation
        Pointing and responses.
    geom : Geometry
        Pixel grid.
    energy : Axis
        Reconstructed energy, TeV.
    offset_max_deg : float
        Largest offset, deg; for ``offset-max`` (pixel centres below it) and ``bkg-peak``.
    options : SafeMaskOptions
        Conditions that must all hold.

    Returns
    -------
    mask : Cube of bool, (energy, lat, lon)
        True where safe.

    Raises
    ------
    RunRefused
        If a condition needs a response that the run does not have.
    """
    pointing, methods = observation.pointing, options.methods
    offset = geom.offset_deg(pointing.ra_deg, pointing.dec_deg)
    image = offset < offset_max_deg if "offset-max" in methods else np.isfinite(offset)
    bins = np.ones(energy.n_bins, dtype=bool)
    if "aeff-default" in methods:
        bins &= bins_aeff_default(_response(observation, "aeff", "aeff-default"), energy)
    if "bkg-peak" in methods:
        background = _response(observation, "background", "bkg-peak")
        bins &= _above(energy, threshold_bkg_peak(background, energy, offset_max_deg))
    mask = bins[:, None, None] & image
    for threshold in _thresholds(observation, options):
        if options.target is None:
            mask &= _above(energy, _at_own_offset(threshold, offset))
        else:
            at = sphere.unit_vectors(pointing.ra_deg, pointing.dec_deg), sphere.unit_vectors(*options.target)
            mask &= _above(energy, threshold(np.atleast_1d(sphere.separation_deg(*at))))[..., None]
    return Cube(mask, "", geom, (energy,))


def bins_aeff_default(aeff: EffectiveArea, energy: Axis) -> BoolArray:
    """Bins inside LO_THRES to HI_THRES, shape (n_bins,); a threshold that is missing or zero does not cut."""
    upper = aeff.hi_thres_tev or float("inf")
    return _above(energy, aeff.lo_thres_tev or 0.0) & (energy.edges_array[1:] <= upper * (1 + EDGE_TOLERANCE))


def _above(energy: Axis, threshold_tev: float | FloatArray) -> BoolArray:
    """Bins whose lower edge is not below a threshold of shape (...); shape (n_bins, ...)."""
    lower = energy.edges_array[:-1].reshape(-1, *(1,) * np.ndim(threshold_tev))
    return lower >= np.asarray(threshold_tev) * (1 - EDGE_TOLERANCE)


def _thresholds(observation: Observation, options: SafeMaskOptions) -> list[Callable[[FloatArray], FloatArray]]:
    """Functions from offsets, shape (o,), to thresholds in TeV, of the methods that depend on the offset."""
    found: list[Callable[[FloatArray], FloatArray]] = []
    if "aeff-max" in options.methods:
        aeff = _response(observation, "aeff", "aeff-max")
        found.append(lambda offset: threshold_aeff_max(aeff, options.aeff_percent, offset))
    if "edisp-bias" in options.methods:
        edisp = _response(observation, "edisp", "edisp-bias")
        found.append(lambda offset: threshold_edisp_bias(edisp, options.bias_percent, offset))
    return found


def _at_own_offset(threshold: Callable[[FloatArray], FloatArray], offset_deg: FloatArray) -> FloatArray:
    """Threshold at each pixel's offset, shape (ny, nx); infinity where there is none beside it."""
    farthest = float(np.nanmax(offset_deg))
    steps = np.arange(0.0, farthest + 2 * OFFSET_STEP_DEG, OFFSET_STEP_DEG)
    values = threshold(steps)
    index = np.nan_to_num(offset_deg / OFFSET_STEP_DEG).astype(np.int64)
    fraction = offset_deg / OFFSET_STEP_DEG - index
    with np.errstate(invalid="ignore"):
        own = values[index] + fraction * (values[index + 1] - values[index])
    return np.where(np.isfinite(own), own, np.inf)


def _response(observation: Observation, name: str, method: str) -> Any:
    """Response of the run, which the method needs."""
    response = getattr(observation, name)
    if response is None:
        raise RunRefused(f"run {observation.obs_id}: safe mask {method} needs {name}, which the run does not have")
    return response
