"""Final maps as a dataset that gammapy opens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cubeflow.maps import Axis, Cube
from cubeflow.observation import TIME_REFERENCE_MJD
from cubeflow.products.stack import Stack
from cubeflow.storage.fits import FitsDataset

COMMON = ("counts", "mask_safe", "exposure", "psf", "edisp", "irf_exposure")


def make_fits_dataset(maps: Mapping[str, Cube], stacked: Stack, key: str) -> FitsDataset:
    """Dataset for FITS from final maps.

    Parameters
    ----------
    maps : mapping of str to Cube
        Final maps, as in `cubeflow.steps.final.Final`.
    stacked : Stack
        For the good time intervals and the livetime.
    key : str
        Key of the final products, for the header.
    """
    chosen = dataset_maps(maps)
    return FitsDataset(chosen, stacked.gti_s, float(TIME_REFERENCE_MJD), stacked.livetime_s, {"CFKEY": key[:16]})


def dataset_maps(maps: Mapping[str, Cube]) -> dict[str, Cube]:
    """Maps of a dataset with a background, or with ON and OFF if the background was measured in rings.

    A ring background that is one ratio for all energies has OFF counts for their sum only: its
    dataset has a single energy bin.

    Parameters
    ----------
    maps : mapping of str to Cube
        Final maps, as in `cubeflow.steps.final.Final`.

    Returns
    -------
    dict of str to Cube
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
        if len(maps["counts_off"].data) != len(maps["counts"].data):
            chosen = {name: _in_one_bin(name, cube) for name, cube in chosen.items()}
    return chosen


def _on_off(maps: Mapping[str, Cube]) -> dict[str, Cube]:
    """OFF counts and acceptances whose ratio is alpha; on one bin over all energies if alpha is."""
    alpha, acceptance = maps["alpha"], maps["acceptance"]
    on = acceptance.data if len(alpha.data) == len(acceptance.data) else acceptance.data.sum(axis=0, keepdims=True)
    known = alpha.data > 0
    off = np.where(known, np.divide(on, alpha.data, out=np.zeros_like(on), where=known), maps["acceptance_off"].data)
    return {
        "counts_off": maps["counts_off"],
        "acceptance": Cube(on, "", alpha.geom, alpha.axes),
        "acceptance_off": Cube(off, "", alpha.geom, alpha.axes),
    }


def _in_one_bin(name: str, cube: Cube) -> Cube:
    """Map on one bin over all reconstructed energies."""
    position = next((k for k, axis in enumerate(cube.axes) if axis.name == "energy"), None)
    if position is None or cube.axes[position].n_bins == 1:
        return cube
    energy = cube.axes[position]
    whole = Axis("energy", (energy.edges[0], energy.edges[-1]), energy.unit, energy.interp)
    axes = (*cube.axes[:position], whole, *cube.axes[position + 1 :])
    if name == "mask_safe":
        return Cube(np.asarray(cube.data.any(axis=0, keepdims=True)), cube.unit, cube.geom, axes)
    return Cube(cube.data.sum(axis=position, keepdims=True), cube.unit, cube.geom, axes)
