"""Adaptive ring background: the first ring about each pixel that holds enough acceptance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps.cube import Cube
from cubeflow.products.convolve import (
    Annulus,
    count_around,
    fft_shape,
    sum_around,
    sum_pair,
    transform_pair,
    without_noise,
)
from cubeflow.products.ring_background import (
    BoolArray,
    FloatArray,
    IntArray,
    OnOffPlane,
    RingBackground,
    check_ring_input,
    make_ring,
    make_ring_result,
    on_off_planes,
)

# A ring that holds exactly the acceptance it needs is taken, whatever the last bits.
EQUAL = 1e-9


@dataclass(frozen=True)
class AdaptiveRingOptions:
    """Which rings are tried, and when one is good enough.

    Parameters
    ----------
    method : {"fixed_width", "fixed_r_in"}
        Whether the inner radius or the width grows.
    r_in_deg, width_deg : float
        Inner radius and width of the first ring, deg.
    r_out_max_deg : float
        No ring reaches farther out, deg.
    step_deg : float
        By how much the ring grows from one try to the next, deg.
    alpha_max : float
        A ring is taken if the acceptance within `theta_deg` of the pixel is at most this fraction of its own.
    theta_deg : float
        Radius of that disc, deg.
    """

    method: Literal["fixed_width", "fixed_r_in"]
    r_in_deg: float
    width_deg: float
    r_out_max_deg: float
    step_deg: float
    alpha_max: float
    theta_deg: float

    def __post_init__(self) -> None:
        if self.method not in ("fixed_width", "fixed_r_in"):
            raise ValueError(f"method: expected 'fixed_width' or 'fixed_r_in', got {self.method!r}")
        for name in ("width_deg", "step_deg", "alpha_max", "theta_deg"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if not self.r_in_deg + self.width_deg <= self.r_out_max_deg * (1 + 1e-9) < np.inf:
            raise ValueError(
                f"r_out_max_deg: expected at least r_in + width = {self.r_in_deg + self.width_deg:g} deg, "
                f"got {self.r_out_max_deg:g}"
            )


def make_adaptive_rings(options: AdaptiveRingOptions, pixel_deg: float) -> tuple[Annulus, ...]:
    """Rings in the order in which they are tried; the last still lies within the largest outer radius."""
    room = options.r_out_max_deg - options.r_in_deg - options.width_deg
    grown = options.step_deg * np.arange(int(np.floor(room / options.step_deg + 1e-6)) + 1)
    if options.method == "fixed_width":
        return tuple(make_ring(options.r_in_deg + more, options.width_deg, pixel_deg) for more in grown)
    return tuple(make_ring(options.r_in_deg, options.width_deg + more, pixel_deg) for more in grown)


def make_map_adaptive_ring_background(
    counts: Cube,
    acceptance: Cube,
    allowed: BoolArray,
    options: AdaptiveRingOptions,
    per_energy: bool = False,
    safe: BoolArray | None = None,
) -> RingBackground:
    """Background of each pixel of a run from the counts in the first ring that is large enough.

    Parameters
    ----------
    counts, acceptance, allowed, per_energy, safe
        As for `make_map_ring_background`.
    options : AdaptiveRingOptions
        Rings and the fraction of acceptance which they must reach.

    Returns
    -------
    RingBackground
        Pixels for which no ring is large enough have counts_off and acceptance_off 0, NaN and ``mask`` False.

    Raises
    ------
    ValueError
        If maps and masks do not fit each other, or a ring holds no pixel.
    """
    rings = make_adaptive_rings(options, counts.geom.pixel_deg)
    disc = Annulus(0.0, options.theta_deg / counts.geom.pixel_deg)
    safe = np.ones_like(allowed) if safe is None else safe
    check_ring_input(counts, acceptance, allowed, safe)
    planes = on_off_planes(counts, acceptance, allowed, safe, per_energy)
    return make_ring_result(acceptance, safe, _adaptive_off_sums(planes, rings, disc, options.alpha_max), per_energy)


def _adaptive_off_sums(
    planes: Iterable[OnOffPlane], rings: tuple[Annulus, ...], disc: Annulus, alpha_max: float
) -> Iterator[tuple[OnOffPlane, IntArray, FloatArray]]:
    """Planes with OFF counts and OFF acceptance of the ring taken at each pixel, 0 where none is taken."""
    reached: dict[Annulus, NDArray[np.bool_]] = {}
    support = np.zeros(0, np.bool_)
    for plane in planes:
        present = plane.acceptance > 0
        if not np.array_equal(present, support):
            support, reached = present, {ring: count_around(present, ring) > 0 for ring in rings}
        shape = (present.shape[0], present.shape[1])
        pair = transform_pair(plane.counts, plane.acceptance, fft_shape(shape, max(ring.r_out for ring in rings)))
        needed = sum_around(plane.acceptance_on, disc) / alpha_max * (1 - EQUAL)
        counts_off, acceptance_off = np.zeros(shape, np.int64), np.zeros(shape)
        open_pixels = np.ones(shape, np.bool_)
        for ring in rings:
            counts_ring, acceptance_ring = sum_pair(pair, ring)
            acceptance_ring = without_noise(acceptance_ring, reached[ring], plane.acceptance)
            taken = open_pixels & (acceptance_ring > 0) & (acceptance_ring >= needed)
            counts_off[taken] = np.rint(counts_ring[taken]).astype(np.int64)
            acceptance_off[taken] = acceptance_ring[taken]
            open_pixels &= ~taken
            if not open_pixels.any():
                break
        yield plane, counts_off, acceptance_off
