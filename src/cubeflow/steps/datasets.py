"""Final maps as a dataset that gammapy opens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import Axis, Cube
from cubeflow.observation import TIME_REFERENCE_MJD
from cubeflow.products.stack import Stack
from cubeflow.storage.fits import FitsDataset
from cubeflow.storage.slabs import Grid, Map, derive, dtype_of, sum_rows

COMMON = ("counts", "mask_safe", "exposure", "psf", "edisp", "irf_exposure")


def make_fits_dataset(maps: Mapping[str, Map], stacked: Stack, key: str) -> FitsDataset:
    """Dataset for FITS from final maps.

    Parameters
    ----------
    maps : mapping of str to Cube or CubeStream
        Final maps, as in `cubeflow.steps.final.Final`.
    stacked : Stack
        For the good time intervals and the livetime.
    key : str
        Key of the final products, for the header.
    """
    chosen = dataset_maps(maps)
    return FitsDataset(chosen, stacked.gti_s, float(TIME_REFERENCE_MJD), stacked.livetime_s, {"CFKEY": key[:16]})


def dataset_maps(maps: Mapping[str, Map]) -> dict[str, Map]:
    """Maps of a dataset with a background, or with ON and OFF if the background was measured in rings.

    A ring background that is one ratio for all energies has OFF counts for their sum only: its
    dataset has a single energy bin.

    Parameters
    ----------
    maps : mapping of str to Cube or CubeStream
        Final maps, as in `cubeflow.steps.final.Final`.

    Returns
    -------
    dict of str to Cube or CubeStream
        As in `cubeflow.storage.fits.FitsDataset`.
    """
    chosen = {name: maps[name] for name in COMMON if name in maps}
    if "psf" not in chosen and "edisp" not in chosen:
        chosen.pop("irf_exposure", None)
    if "background" not in maps:
        return chosen
    if "alpha" not in maps:
        chosen["background"] = maps["background"]
    else:
        chosen |= _on_off(maps)
        if maps["counts_off"].axes[0].n_bins != maps["counts"].axes[0].n_bins:
            chosen = {name: _in_one_bin(cube) for name, cube in chosen.items()}
    return chosen


def _on_off(maps: Mapping[str, Map]) -> dict[str, Map]:
    """OFF counts and acceptances whose ratio is alpha; on one bin over all energies if alpha is."""
    alpha, on = maps["alpha"], maps["acceptance"]
    if alpha.axes[0].n_bins != on.axes[0].n_bins:
        on = Cube(sum_rows(on), "", alpha.geom, alpha.axes)
    grid = Grid("", alpha.geom, alpha.axes)
    off = derive(grid, dtype_of(on).str, _acceptance_off, on, alpha, maps["acceptance_off"])
    return {
        "counts_off": maps["counts_off"],
        "acceptance": derive(grid, dtype_of(on).str, np.asarray, on),
        "acceptance_off": off,
    }


def _acceptance_off(on: NDArray[Any], alpha: NDArray[Any], unknown: NDArray[Any]) -> NDArray[Any]:
    """Acceptance over alpha; the OFF acceptance where there is no alpha."""
    known = alpha > 0
    return np.where(known, np.divide(on, alpha, out=np.zeros_like(on), where=known), unknown)


def _in_one_bin(cube: Map) -> Map:
    """Map on one bin over all reconstructed energies."""
    position = next((k for k, axis in enumerate(cube.axes) if axis.name == "energy"), None)
    if position is None or cube.axes[position].n_bins == 1:
        return cube
    energy = cube.axes[position]
    whole = Axis("energy", (energy.edges[0], energy.edges[-1]), energy.unit, energy.interp)
    axes = (*cube.axes[:position], whole, *cube.axes[position + 1 :])
    if position == 0:
        return Cube(sum_rows(cube), cube.unit, cube.geom, axes)
    grid = Grid(cube.unit, cube.geom, axes)
    return derive(grid, dtype_of(cube).str, lambda slab: slab.sum(axis=position, keepdims=True), cube)
