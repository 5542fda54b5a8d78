"""What one run gives to a stack: its maps where they are safe, its responses weighted with its exposure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube, Geometry
from cubeflow.products.coarsen import safe_fraction
from cubeflow.products.share import RunStack, Share


def make_run_stack(
    maps: Mapping[str, Cube], mask: NDArray[np.bool_], irf_weight: Cube, gti_s: NDArray[np.float64], livetime_s: float
) -> RunStack:
    """Contribution of one run: its maps where they are safe.

    Parameters
    ----------
    maps : mapping of str to Cube
        Maps with a reconstructed-energy axis are kept where `mask` holds, those with a single bin
        over all energies (OFF counts of a ring) where it holds at any. ``exposure`` (true energy)
        is kept in pixels that are safe at any energy. ``psf`` and ``edisp`` on the IRF grid are
        weighted by `irf_weight`, and ``edisp`` by the safe fraction at each reconstructed energy: a run
        must not predict counts where its own are masked. Values that are no answer (NaN) outside the
        mask do not count.
    mask : array, shape (energy, lat, lon)
        Safe voxels of this run.
    irf_weight : Cube, shape (energy_true, lat, lon)
        Exposure on the IRF grid, m2 s, zero where the run does not contribute.
    gti_s : array, shape (n, 2)
        Good time intervals.
    livetime_s : float
        Livetime, s.

    Returns
    -------
    RunStack
        Layers: those of `maps` by their names, ``mask_safe``, and for the responses
        ``irf_psf``, ``irf_edisp`` (weighted sums) and ``irf_exposure``.
    """
    geom = maps["counts"].geom
    image: NDArray[np.bool_] = np.any(mask, axis=0)
    layers: dict[str, Share] = {}
    energy: Axis | None = None
    for name, cube in maps.items():
        if name in ("psf", "edisp"):
            layers[f"irf_{name}"] = _weighted(cube, mask, geom, irf_weight)
        elif cube.axes[0].name == "energy_true":
            layers[name] = Share(cube, image, cube.unit)
        else:
            energy = energy if energy is not None and energy.n_bins == len(mask) else cube.axes[0]
            layers[name] = Share(cube, mask if len(cube.data) == len(mask) else image, cube.unit)
    if energy is None:
        raise ValueError("no map in reconstructed energy among the maps to stack")
    layers["mask_safe"] = Share(Cube(mask, "", geom, (energy,)), mask, "")
    layers["irf_exposure"] = Share(irf_weight, np.ones(1), irf_weight.unit)
    ontime_s = float(np.sum(gti_s[:, 1] - gti_s[:, 0]))
    return RunStack(layers, gti_s, ontime_s, livetime_s)


def _weighted(response: Cube, mask: NDArray[np.bool_], geom: Geometry, irf_weight: Cube) -> Share:
    """Response with its weight; that of the energy dispersion depends on the reconstructed energy, too."""
    weight = irf_weight.data[:, None].astype(np.float64)
    if response.axes[1].name == "energy":
        weight = weight * safe_fraction(mask, geom, response.geom)
    return Share(response, weight, f"{response.unit} m2 s".strip())
