"""Ring background: counts around a pixel, scaled by the ratio of acceptances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.axis import Axis
from cubeflow.maps.cube import Cube
from cubeflow.products.convolve import Annulus, count_around, sum_both_around, without_noise

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
class OnOffPlane:
    """What goes into the rings at one energy, or summed over energy; each of shape (ny, nx).

    Parameters
    ----------
    counts, acceptance : array
        In allowed bins; zero elsewhere.
    acceptance_on : array
        Acceptance in safe bins, excluded or not; zero elsewhere.
    """

    counts: NDArray[Any]
    acceptance: FloatArray
    acceptance_on: FloatArray


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
    check_ring_input(counts, acceptance, allowed, safe)
    planes = on_off_planes(counts, acceptance, allowed, safe, per_energy)
    return make_ring_result(acceptance, safe, off_sums(planes, ring), per_energy)


def make_ring(r_in_deg: float, width_deg: float, pixel_deg: float) -> Annulus:
    """Ring in pixels; ValueError if it is impossible or lies between the pixel centres."""
    if not (0 <= r_in_deg < np.inf and 0 < width_deg < np.inf):
        raise ValueError(f"ring: expected r_in >= 0 deg and width > 0 deg, got {r_in_deg:g} and {width_deg:g} deg")
    ring = Annulus(r_in_deg / pixel_deg, (r_in_deg + width_deg) / pixel_deg)
    reach = np.arange(int(ring.r_out) + 2)
    if not ring.contains(reach[:, None], reach).any():
        raise ValueError(f"ring: no pixel of {pixel_deg:g} deg from {r_in_deg:g} to {r_in_deg + width_deg:g} deg")
    return ring


def check_ring_input(counts: Cube, acceptance: Cube, allowed: BoolArray, safe: BoolArray) -> None:
    """Raise ValueError unless maps and masks are on one grid."""
    if acceptance.geom != counts.geom or acceptance.axes != counts.axes:
        raise ValueError(f"counts and acceptance differ: {counts.geom} {counts.axes}, {acceptance.geom}")
    for name, mask in (("allowed", allowed), ("safe", safe)):
        if mask.shape != counts.data.shape or mask.dtype != np.bool_:
            raise ValueError(f"{name}: expected bool {counts.data.shape}, got {mask.dtype} {mask.shape}")


def on_off_planes(
    counts: Cube, acceptance: Cube, allowed: BoolArray, safe: BoolArray, per_energy: bool
) -> Iterator[OnOffPlane]:
    """What goes into the rings, energy by energy, or one plane of the sums over energy."""
    if per_energy:
        for n, a, off, on in zip(counts.data, acceptance.data, allowed, safe, strict=True):
            yield OnOffPlane(np.where(off, n, 0), np.where(off, a, 0.0), np.where(on, a, 0.0))
    else:
        n, a = np.sum(counts.data, axis=0, where=allowed), np.sum(acceptance.data, axis=0, where=allowed)
        yield OnOffPlane(n, a, np.sum(acceptance.data, axis=0, where=safe))


def off_sums(planes: Iterable[OnOffPlane], ring: Annulus) -> Iterator[tuple[OnOffPlane, IntArray, FloatArray]]:
    """Planes with their OFF counts, exact, and OFF acceptance, each of shape (ny, nx)."""
    support = reached = np.zeros(0, np.bool_)
    for plane in planes:
        present = plane.acceptance > 0
        if not np.array_equal(present, support):
            support, reached = present, count_around(present, ring) > 0
        counts_off, acceptance_off = sum_both_around(plane.counts, plane.acceptance, ring)
        yield plane, np.rint(counts_off).astype(np.int64), without_noise(acceptance_off, reached, plane.acceptance)


def make_ring_result(
    acceptance: Cube, safe: BoolArray, planes: Iterable[tuple[OnOffPlane, IntArray, FloatArray]], per_energy: bool
) -> RingBackground:
    """Background, alpha and mask from the planes and their OFF counts and OFF acceptance."""
    energy = acceptance.axis("energy")
    axis = energy if per_energy else Axis(energy.name, (energy.edges[0], energy.edges[-1]), energy.unit, energy.interp)
    shape = (axis.n_bins, *acceptance.geom.shape)
    counts_off, acceptance_off, alpha = np.empty(shape, np.int64), np.empty(shape), np.empty(shape)
    background, mask = np.empty(acceptance.data.shape), np.empty(safe.shape, np.bool_)
    for k, (plane, counts_off[k], acceptance_off[k]) in enumerate(planes):
        known = acceptance_off[k] > 0
        inverse = np.divide(1.0, acceptance_off[k], out=np.full(known.shape, np.nan), where=known)
        np.multiply(plane.acceptance_on, inverse, out=alpha[k])
        ratio = counts_off[k] * inverse
        for e in (k,) if per_energy else range(energy.n_bins):
            np.multiply(acceptance.data[e], ratio, out=background[e])
            np.logical_and(safe[e], known, out=mask[e])
    geom = acceptance.geom
    return RingBackground(
        counts_off=Cube(counts_off, "", geom, (axis,)),
        acceptance_off=Cube(acceptance_off, "", geom, (axis,)),
        alpha=Cube(alpha, "", geom, (axis,)),
        background=Cube(background, "", geom, acceptance.axes),
        mask=mask,
    )
