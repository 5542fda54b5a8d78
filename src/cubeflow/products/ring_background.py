"""Ring background: counts around a pixel, scaled by the ratio of acceptances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.products.convolve import Annulus, fft_shape, sum_transformed, transform

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RingBackground:
    """OFF counts and acceptance of a run, and the background which they predict.

    With one ratio for all energies `counts_off`, `acceptance_off` and `alpha` have a single energy bin over the whole
    axis; otherwise (and `background` and `mask` always) they have the energy bins of the counts.

    Parameters
    ----------
    counts_off : Cube of int, (energy or 1, lat, lon)
        Counts in the allowed pixels of the ring about each pixel.
    acceptance_off : Cube, (energy or 1, lat, lon)
        Acceptance of the same pixels; exactly 0 where the ring holds none.
    alpha : Cube, (energy or 1, lat, lon)
        Acceptance of the pixel (summed over its safe energies) / acceptance_off; NaN where that is 0.
    background : Cube, (energy, lat, lon)
        acceptance x counts_off / acceptance_off; NaN where acceptance_off is 0.
    mask : array of bool, shape (n_energy, ny, nx)
        Safe bins that have a background.
    """

    counts_off: Cube
    acceptance_off: Cube
    alpha: Cube
    background: Cube
    mask: BoolArray


@dataclass(frozen=True, eq=False)
class RingInput:
    """What is summed over rings, each of shape (n_planes, ny, nx), and the energy bins of the planes.

    Parameters
    ----------
    counts, acceptance : array
        In allowed bins; zero elsewhere.
    acceptance_on : array
        Acceptance in safe bins, excluded or not.
    axis : Axis
        Energy; a single bin if the planes are summed.
    """

    counts: NDArray[Any]
    acceptance: FloatArray
    acceptance_on: FloatArray
    axis: Axis


def make_map_ring_background(
    counts: Cube,
    acceptance: Cube,
    allowed: BoolArray,
    r_in_deg: float,
    width_deg: float,
    per_energy: bool = False,
    safe: BoolArray | None = None,
) -> RingBackground:
    """Background of each pixel of a run from the counts in a ring about it.

    The ring is made of the pixels whose centres lie from `r_in_deg` to `r_in_deg` + `width_deg` away, both included,
    on the pixel grid. Beyond the map there is nothing: maps must reach the outer radius beyond what is used.

    Parameters
    ----------
    counts : Cube, (energy, lat, lon)
        Counts of the run.
    acceptance : Cube, (energy, lat, lon)
        Predicted hadron background of the run; its scale does not matter.
    allowed : array of bool, shape (n_energy, ny, nx)
        True where the bin is safe and not excluded.
    r_in_deg, width_deg : float
        Inner radius and width of the ring, deg.
    per_energy : bool
        Counts and acceptance from each energy by itself; otherwise one ratio from their sums over energy.
    safe : array of bool, shape (n_energy, ny, nx), optional
        True where the bin is safe, excluded or not; every bin if left out.

    Returns
    -------
    RingBackground
        Pixels without acceptance in their ring have NaN and ``mask`` False.

    Raises
    ------
    ValueError
        If maps and masks do not fit each other, or the ring is impossible or holds no pixel.

    References
    ----------
    Berge, Funk & Hinton 2007, A&A 466, 1219.
    """
    ring = make_ring(r_in_deg, width_deg, counts.geom.pixel_deg)
    safe = np.ones_like(allowed) if safe is None else safe
    planes = make_ring_input(counts, acceptance, allowed, safe, per_energy)
    shape = counts.geom.shape
    padded = fft_shape(shape, ring.r_out)
    counts_off = np.zeros((planes.axis.n_bins, *shape), np.int64)
    acceptance_off = np.zeros(counts_off.shape)
    for k, spectra in enumerate(plane_transforms(planes, padded)):
        if spectra is not None:
            counts_off[k], acceptance_off[k] = off_sums(spectra, planes.acceptance[k], ring, padded)
    return make_ring_result(acceptance, safe, planes, counts_off, acceptance_off)


def make_ring(r_in_deg: float, width_deg: float, pixel_deg: float) -> Annulus:
    """Ring in pixels; ValueError if it is impossible or lies between the pixel centres."""
    if not (0 <= r_in_deg < np.inf and 0 < width_deg < np.inf):
        raise ValueError(f"ring: expected r_in >= 0 deg and width > 0 deg, got {r_in_deg:g} and {width_deg:g} deg")
    ring = Annulus(r_in_deg / pixel_deg, (r_in_deg + width_deg) / pixel_deg)
    reach = np.arange(int(ring.r_out) + 2)
    if not ring.contains(reach[:, None], reach).any():
        raise ValueError(f"ring: no pixel of {pixel_deg:g} deg from {r_in_deg:g} to {r_in_deg + width_deg:g} deg")
    return ring


def make_ring_input(counts: Cube, acceptance: Cube, allowed: BoolArray, safe: BoolArray, per_energy: bool) -> RingInput:
    """Select, and unless `per_energy` sum over energy, what enters the rings."""
    energy = counts.axis("energy")
    if acceptance.geom != counts.geom or acceptance.axes != counts.axes:
        raise ValueError(f"counts and acceptance differ: {counts.geom} {counts.axes}, {acceptance.geom}")
    for name, mask in (("allowed", allowed), ("safe", safe)):
        if mask.shape != counts.data.shape or mask.dtype != np.bool_:
            raise ValueError(f"{name}: expected bool {counts.data.shape}, got {mask.dtype} {mask.shape}")

    def select(values: NDArray[Any], mask: BoolArray) -> NDArray[Any]:
        return np.where(mask, values, 0) if per_energy else np.sum(values, axis=0, where=mask, keepdims=True)

    axis = energy if per_energy else Axis(energy.name, (energy.edges[0], energy.edges[-1]), energy.unit, energy.interp)
    on, off = select(acceptance.data, safe), select(acceptance.data, allowed)
    return RingInput(select(counts.data, allowed), off, on, axis)


def plane_transforms(planes: RingInput, padded: tuple[int, int]) -> Iterator[tuple[NDArray[np.complex128], ...] | None]:
    """Transforms of counts, acceptance and the pixels with acceptance, plane by plane; None for an empty plane."""
    previous: BoolArray | None = None
    for counts, acceptance in zip(planes.counts, planes.acceptance, strict=True):
        support = acceptance > 0
        if not support.any():
            yield None
            continue
        if previous is None or not np.array_equal(support, previous):
            previous, support_transform = support, transform(support, padded)
        yield transform(counts, padded), transform(acceptance, padded), support_transform


def off_sums(
    spectra: tuple[NDArray[np.complex128], ...], acceptance: FloatArray, ring: Annulus, padded: tuple[int, int]
) -> tuple[IntArray, FloatArray]:
    """OFF counts, exact, and OFF acceptance of one plane, each of shape (ny, nx)."""
    shape = (acceptance.shape[0], acceptance.shape[1])
    counts_off, acceptance_off, n_pixels = (sum_transformed(spectrum, ring, shape, padded) for spectrum in spectra)
    # The transform leaves rounding noise where there is nothing. Whole numbers of pixels tell nothing from little,
    # and a ring with one pixel holds at least the smallest acceptance of all.
    least = acceptance[acceptance > 0].min()
    acceptance_off = np.where(np.rint(n_pixels) > 0, np.maximum(acceptance_off, least), 0.0)
    return np.rint(counts_off).astype(np.int64), acceptance_off


def make_ring_result(
    acceptance: Cube, safe: BoolArray, planes: RingInput, counts_off: IntArray, acceptance_off: FloatArray
) -> RingBackground:
    """Background, alpha and mask from the OFF sums (n_planes, ny, nx)."""
    known = acceptance_off > 0
    inverse = np.divide(1.0, acceptance_off, out=np.full(acceptance_off.shape, np.nan), where=known)
    geom, axes = acceptance.geom, (planes.axis,)
    return RingBackground(
        counts_off=Cube(counts_off, "", geom, axes),
        acceptance_off=Cube(acceptance_off, "", geom, axes),
        alpha=Cube(planes.acceptance_on * inverse, "", geom, axes),
        background=Cube(acceptance.data * (counts_off * inverse), "", geom, acceptance.axes),
        mask=safe & known,
    )
