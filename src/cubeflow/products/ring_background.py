"""Ring background: counts around a pixel, scaled by the ratio of acceptances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import BoolArray, Cube, FloatArray, IntArray
from cubeflow.products.convolve import Annulus, count_around, fft_shape, sum_pair, transform_pair, without_noise
from cubeflow.products.masked import allowed_bins, usable_bins


@dataclass(frozen=True)
class RingOptions:
    """Counts in a ring about each pixel."""

    method: Literal["ring"] = field(default="ring", kw_only=True)
    """Ring background."""
    r_in_deg: float
    """Inner radius."""
    width_deg: float
    """Outer minus inner radius."""
    per_energy: bool = False
    """One ratio per energy bin, or one from the sum over energy."""
    on_failure: Literal["drop", "error"] = "drop"
    """A run in which no pixel has any OFF is left out of this label, or refused."""


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
        Acceptance of the pixel (summed over its usable energies) / acceptance_off; NaN where that is 0.
    background : Cube, (energy, lat, lon)
        acceptance x counts_off / acceptance_off; NaN where acceptance_off is 0.
    mask : array of bool, shape (n_energy, ny, nx)
        Usable bins (safe, with acceptance) that have a background.
    too_small : array of bool, shape (n_energy or 1, ny, nx)
        Where no ring holds the acceptance that is asked for (any at all, if nothing more is): the largest was taken.
    """

    counts_off: Cube
    acceptance_off: Cube
    alpha: Cube
    background: Cube
    mask: BoolArray
    too_small: BoolArray


class OnOffPlane(NamedTuple):
    """What goes into the rings at one energy, or summed over energy; each of shape (ny, nx)."""

    counts: NDArray[Any]  # in allowed bins, as the acceptance; zero elsewhere
    acceptance: FloatArray
    acceptance_on: FloatArray  # in usable bins, excluded or not; zero elsewhere


def make_map_ring_background(
    acceptance: Cube, counts: Cube, exclusion: BoolArray | None, options: RingOptions, safe: BoolArray | None = None
) -> RingBackground:
    """Background of each pixel of a run from the counts in a ring about it.

    The ring is made of the pixels whose centres lie from the inner radius to that plus the width away, both included,
    on the pixel grid; of them what is safe, has acceptance and is not excluded. Beyond the map there is nothing: maps
    must reach the outer radius beyond what is used.

    Parameters
    ----------
    acceptance : Cube, (energy, lat, lon)
        Predicted hadron background of the run; its scale does not matter.
    counts : Cube, (energy, lat, lon)
        Counts of the run.
    exclusion : array of bool, shape (ny, nx) or (n_energy, ny, nx), or None
        True where counts must not be used; None for nowhere.
    options : RingOptions
        Radii; whether each energy has a ratio by itself, or all have one from the sums over energy.
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
    ring = make_ring(options.r_in_deg, options.width_deg, counts.geom.pixel_deg)
    planes, usable = on_off_planes(acceptance, counts, exclusion, safe, options.per_energy)
    return make_ring_result(acceptance, usable, off_sums(planes, (ring,)), options.per_energy)


def make_ring(r_in_deg: float, width_deg: float, pixel_deg: float) -> Annulus:
    """Ring in pixels; ValueError if it is impossible or lies between the pixel centres."""
    if not (0 <= r_in_deg < np.inf and 0 < width_deg < np.inf):
        raise ValueError(f"ring: expected r_in >= 0 deg and width > 0 deg, got {r_in_deg:g} and {width_deg:g} deg")
    ring = Annulus(r_in_deg / pixel_deg, (r_in_deg + width_deg) / pixel_deg)
    reach = np.arange(int(ring.r_out) + 2)
    if not ring.contains(reach[:, None], reach).any():
        raise ValueError(f"ring: no pixel of {pixel_deg:g} deg from {r_in_deg:g} to {r_in_deg + width_deg:g} deg")
    return ring


def on_off_planes(
    acceptance: Cube, counts: Cube, exclusion: BoolArray | None, safe: BoolArray | None, per_energy: bool
) -> tuple[Iterator[OnOffPlane], BoolArray]:
    """What goes into the rings, energy by energy or one plane of the sums over energy; and the usable bins."""
    if acceptance.geom != counts.geom or acceptance.axes != counts.axes:
        raise ValueError(f"counts and acceptance differ: {counts.geom} {counts.axes}, {acceptance.geom}")
    usable = usable_bins(acceptance.data, safe)
    allowed = allowed_bins(usable, exclusion)

    def planes() -> Iterator[OnOffPlane]:
        if per_energy:
            for n, a, off, on in zip(counts.data, acceptance.data, allowed, usable, strict=True):
                yield OnOffPlane(np.where(off, n, 0), np.where(off, a, 0.0), np.where(on, a, 0.0))
        else:
            n, a = np.sum(counts.data, axis=0, where=allowed), np.sum(acceptance.data, axis=0, where=allowed)
            yield OnOffPlane(n, a, np.sum(acceptance.data, axis=0, where=usable))

    return planes(), usable


def off_sums(
    planes: Iterable[OnOffPlane],
    rings: Sequence[Annulus],
    needed: Callable[[OnOffPlane], FloatArray | float] = lambda _: 0.0,
) -> Iterator[tuple[OnOffPlane, IntArray, FloatArray, BoolArray]]:
    """Planes with their OFF counts, exact, OFF acceptance, and whether no ring holds enough, each of shape (ny, nx).

    At each pixel they are those of the first ring that holds some acceptance, and as much as is `needed`; of the last
    ring where none does.
    """
    support, reached = np.zeros(0, np.bool_), dict[Annulus, BoolArray]()
    for plane in planes:
        present = plane.acceptance > 0
        if not np.array_equal(present, support):
            support, reached = present, {ring: count_around(present, ring) > 0 for ring in rings}
        ny, nx = present.shape
        pair = transform_pair(plane.counts, plane.acceptance, fft_shape((ny, nx), max(ring.r_out for ring in rings)))
        least = needed(plane)
        counts_off, acceptance_off = np.zeros(present.shape, np.int64), np.zeros(present.shape)
        open_pixels = np.ones(present.shape, np.bool_)
        for ring in rings:
            counts, acceptance = sum_pair(pair, ring)
            acceptance = without_noise(acceptance, reached[ring], plane.acceptance)
            enough = (acceptance > 0) & (acceptance >= least)
            taken = open_pixels if ring is rings[-1] else open_pixels & enough
            counts_off[taken] = np.rint(counts[taken]).astype(np.int64)
            acceptance_off[taken] = acceptance[taken]
            open_pixels = open_pixels & ~enough
            if not open_pixels.any():
                break
        yield plane, counts_off, acceptance_off, open_pixels


def make_ring_result(
    acceptance: Cube,
    usable: BoolArray,
    planes: Iterable[tuple[OnOffPlane, IntArray, FloatArray, BoolArray]],
    per_energy: bool,
) -> RingBackground:
    """Background, alpha and mask from what `off_sums` gives."""
    energy = acceptance.axis("energy")
    axis = energy if per_energy else energy.in_one_bin()
    shape = (axis.n_bins, *acceptance.geom.shape)
    counts_off, acceptance_off, alpha = np.empty(shape, np.int64), np.empty(shape), np.empty(shape)
    background, mask, too_small = np.empty(acceptance.data.shape), np.empty(usable.shape, bool), np.empty(shape, bool)
    for k, (plane, off, accepted, open_pixels) in enumerate(planes):
        counts_off[k], acceptance_off[k], too_small[k] = off, accepted, open_pixels
        known = accepted > 0
        inverse = np.divide(1.0, accepted, out=np.full(known.shape, np.nan), where=known)
        np.multiply(plane.acceptance_on, inverse, out=alpha[k])
        ratio = off * inverse
        for e in (k,) if per_energy else range(energy.n_bins):
            np.multiply(acceptance.data[e], ratio, out=background[e])
            np.logical_and(usable[e], known, out=mask[e])
    geom = acceptance.geom
    return RingBackground(
        counts_off=Cube(counts_off, "", geom, (axis,)),
        acceptance_off=Cube(acceptance_off, "", geom, (axis,)),
        alpha=Cube(alpha, "", geom, (axis,)),
        background=Cube(background, "", geom, acceptance.axes),
        mask=mask,
        too_small=too_small,
    )
