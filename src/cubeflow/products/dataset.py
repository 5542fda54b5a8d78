"""Final maps as the dataset that gammapy opens."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cubeflow.maps import Cube, scratch_zeros

COMMON = ("counts", "mask_safe", "mask_fit", "exposure", "psf", "edisp", "irf_exposure")


@dataclass(frozen=True)
class ExportOptions:
    """Datasets for modelling."""

    per: Literal["none", "run", "interval", "group"] = "none"
    """Beside the stack a dataset per run, interval or batch, in a list for a joint fit."""
    fit_radius_deg: float | None = None
    """A fit uses what is within this distance from the target (MASK_FIT); null for the whole map."""


def dataset_maps(maps: Mapping[str, Cube]) -> dict[str, Cube]:
    """Maps of a dataset with a background, or with ON and OFF if the background was measured in rings.

    A ring background that is one ratio for all energies has OFF counts for their sum only: its dataset has a single
    energy bin. From the maps of `cubeflow.products.final.Final` it makes those which
    `cubeflow.store.fits.write_dataset_fits` takes: with ``background``, with ``counts_off``, ``acceptance`` and
    ``acceptance_off``, whose ratio is alpha, or with neither.
    """
    chosen = {name: maps[name] for name in COMMON if name in maps}
    if "psf" not in chosen and "edisp" not in chosen:
        chosen.pop("irf_exposure", None)
    if "background" not in maps:
        return chosen
    if "alpha" not in maps:
        return chosen | {"background": maps["background"]}
    off = maps["counts_off"]
    is_summed = off.axes[0].n_bins != maps["counts"].axes[0].n_bins
    acceptance = _in_one_bin(maps["acceptance"]) if is_summed else maps["acceptance"]
    if is_summed:
        chosen = {name: _in_one_bin(cube) for name, cube in chosen.items()}
    acceptance_off = scratch_zeros(acceptance.data.shape, acceptance.data.dtype)
    planes = zip(acceptance.data, maps["alpha"].data, maps["acceptance_off"].data, strict=True)
    for k, (on, alpha, unknown) in enumerate(planes):  # without alpha, the OFF acceptance itself
        known = alpha > 0
        acceptance_off[k] = np.where(known, np.divide(on, alpha, out=np.zeros_like(on), where=known), unknown)
    chosen |= {"counts_off": off, "acceptance": acceptance}
    return chosen | {"acceptance_off": Cube(acceptance_off, "", off.geom, off.axes)}


def _in_one_bin(cube: Cube) -> Cube:
    """Map on one bin over all reconstructed energies; of truth values, whether any is True."""
    position = next((k for k, axis in enumerate(cube.axes) if axis.name == "energy"), None)
    if position is None or cube.axes[position].n_bins == 1:
        return cube
    add = np.any if cube.data.dtype.kind == "b" else np.sum
    axes = (*cube.axes[:position], cube.axes[position].in_one_bin(), *cube.axes[position + 1 :])
    return Cube(add(cube.data, axis=position, keepdims=True), cube.unit, cube.geom, axes)


def response_exposure(maps: Mapping[str, Cube], response: str) -> Cube:
    """Exposure by which ``psf`` or ``edisp`` was averaged, with one bin along its second axis as gammapy has it."""
    exposure = maps["irf_exposure"]
    axes = exposure.axes[0], maps[response].axes[1].in_one_bin()
    return Cube(exposure.data[:, None], exposure.unit, exposure.geom, axes)
