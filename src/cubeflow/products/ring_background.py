"""Ring background: counts around a pixel, scaled by the ratio of acceptances; in one ring, or in one that adapts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cubeflow.maps import BoolArray, Cube, FloatArray, IntArray
from cubeflow.products import convolve
from cubeflow.products.convolve import Annulus
from cubeflow.products.exclusion import allowed_bins, usable_bins
from cubeflow.products.setting import Setting

# A ring that holds exactly the acceptance it needs is taken, whatever the last bits.
EQUAL = 1e-9


@dataclass(frozen=True)
class RingOptions:
    """Counts in a ring about each pixel."""

    method: Literal["ring"] = field(default="ring", kw_only=True)
    """Ring background."""
    r_in_deg: float
    """Inner radius."""
    width_deg: float
    """Outer minus inner radius."""
    per_energy: bool = True
    """One ratio per energy bin, or one from the sum over energy, whose dataset has one bin."""
    on_failure: Literal["drop", "error"] = "drop"
    """A run in which no pixel has any OFF is left out of this label, or refused."""


@dataclass(frozen=True)
class AdaptiveRingOptions:
    """Counts in a ring about each pixel that grows until it is large enough."""

    method: Literal["adaptive-ring"] = field(default="adaptive-ring", kw_only=True)
    """Adaptive ring background."""
    r_in_deg: float
    """Inner radius of the first ring."""
    width_deg: float
    """Width of the first ring."""
    r_out_max_deg: float
    """Largest outer radius."""
    step_deg: float = 0.02
    """Growth from ring to ring."""
    theta_deg: float = 0.22
    """Radius of the disc to whose acceptance that of the ring is compared."""
    threshold: Annotated[float, Setting(above=0, below=1)] = 0.25
    """Largest ratio of the acceptance in the disc to that in the ring; where none reaches it, the largest is used."""
    mode: Literal["fixed_width", "fixed_r_in"] = "fixed_width"
    """What stays as it is while the ring grows."""
    per_energy: bool = True
    """One ratio per energy bin, or one from the sum over energy, whose dataset has one bin."""
    on_failure: Literal["drop", "error"] = "drop"
    """A run in which no pixel has any OFF is left out of this label, or refused."""

    def __post_init__(self) -> None:
        if self.mode not in ("fixed_width", "fixed_r_in"):
            raise ValueError(f"mode: expected 'fixed_width' or 'fixed_r_in', got {self.mode!r}")
        for name in ("width_deg", "step_deg", "threshold", "theta_deg"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if not self.r_in_deg + self.width_deg <= self.r_out_max_deg * (1 + 1e-9) < np.inf:
            least = f"r_in + width = {self.r_in_deg + self.width_deg:g} deg"
            raise ValueError(f"r_out_max_deg: expected at least {least}, got {self.r_out_max_deg:g} deg")


@dataclass(frozen=True, eq=False)
class RingBackground:
    """OFF counts and acceptance of a run, and the background which they predict.

    With one ratio for all energies `counts_off`, `acceptance_off` and `alpha` have a single energy bin over the whole
    axis; otherwise (and `background` and `mask` always) they have the energy bins of the counts.
    """

    counts_off: Cube  #: counts, int, in the allowed pixels of the ring about each pixel, (energy or 1, lat, lon)
    acceptance_off: Cube  #: acceptance of the same pixels; exactly 0 where the ring holds none
    alpha: Cube  #: acceptance of the pixel (summed over its usable energies) / acceptance_off; NaN where that is 0
    background: Cube  #: acceptance x counts_off / acceptance_off, (energy, lat, lon); NaN where acceptance_off is 0
    mask: BoolArray  #: usable bins (safe, with acceptance) that have a background, shape (n_energy, ny, nx)
    #: Where no ring holds the acceptance asked for (any at all, if nothing more is): the largest was taken.
    too_small: BoolArray  # shape (n_energy or 1, ny, nx)


def make_map_ring_background(
    acceptance: Cube, counts: Cube, exclusion: BoolArray | None, options: RingOptions, safe: BoolArray | None = None
) -> RingBackground:
    """Background of each pixel of a run from the counts in a ring about it.

    The ring is made of the pixels whose centres lie from the inner radius to that plus the width away, both included,
    on the pixel grid; of them what is safe, has acceptance and is not excluded. Beyond the map there is nothing: maps
    must reach the outer radius beyond what is used. The arguments are those of `make_map_fov_background`; the scale of
    the acceptance does not matter. Pixels without acceptance in their ring have NaN and ``mask`` False.
    ValueError if maps and masks do not fit each other, or the ring is impossible or holds no pixel.

    References
    ----------
    Berge, Funk & Hinton 2007, A&A 466, 1219.
    """
    ring = make_ring(options.r_in_deg, options.width_deg, counts.geom.pixel_deg)
    return _from_rings(acceptance, counts, exclusion, safe, (ring,), options.per_energy)


def make_map_adaptive_ring_background(
    acceptance: Cube,
    counts: Cube,
    exclusion: BoolArray | None,
    options: AdaptiveRingOptions,
    safe: BoolArray | None = None,
) -> RingBackground:
    """Background of each pixel of a run from the counts in the first ring that is large enough.

    The arguments are those of `make_map_ring_background`. Pixels for which no ring is large enough have that of the
    last ring and are ``too_small``; where that holds no acceptance there is NaN and ``mask`` False. ValueError if maps
    and masks do not fit each other, or a ring holds no pixel.
    """
    rings = make_adaptive_rings(options, counts.geom.pixel_deg)
    disc = Annulus(0.0, options.theta_deg / counts.geom.pixel_deg)

    def needed(acceptance_on: FloatArray) -> FloatArray:
        """Acceptance that a ring must hold: that of the disc about each pixel over the threshold."""
        return convolve.sum_around(acceptance_on, disc) / options.threshold * (1 - EQUAL)

    return _from_rings(acceptance, counts, exclusion, safe, rings, options.per_energy, needed)


def make_ring(r_in_deg: float, width_deg: float, pixel_deg: float) -> Annulus:
    """Ring in pixels; ValueError if it is impossible or lies between the pixel centres."""
    if not (0 <= r_in_deg < np.inf and 0 < width_deg < np.inf):
        raise ValueError(f"ring: expected r_in >= 0 deg and width > 0 deg, got {r_in_deg:g} and {width_deg:g} deg")
    ring = Annulus(r_in_deg / pixel_deg, (r_in_deg + width_deg) / pixel_deg)
    if ring.n_pixels == 0:
        raise ValueError(f"ring: no pixel of {pixel_deg:g} deg from {r_in_deg:g} to {r_in_deg + width_deg:g} deg")
    return ring


def make_adaptive_rings(options: AdaptiveRingOptions, pixel_deg: float) -> tuple[Annulus, ...]:
    """Rings in the order in which they are tried; the last still lies within the largest outer radius."""
    room = options.r_out_max_deg - options.r_in_deg - options.width_deg
    grown = options.step_deg * np.arange(int(np.floor(room / options.step_deg + 1e-6)) + 1)
    if options.mode == "fixed_width":
        return tuple(make_ring(options.r_in_deg + more, options.width_deg, pixel_deg) for more in grown)
    return tuple(make_ring(options.r_in_deg, options.width_deg + more, pixel_deg) for more in grown)


def _from_rings(
    acceptance: Cube,
    counts: Cube,
    exclusion: BoolArray | None,
    safe: BoolArray | None,
    rings: Sequence[Annulus],
    per_energy: bool,
    needed: Callable[[FloatArray], FloatArray | float] = lambda _: 0.0,
) -> RingBackground:
    """Background from the first of some rings that holds some acceptance, and as much as is `needed`, (ny, nx)."""
    if acceptance.geom != counts.geom or acceptance.axes != counts.axes:
        raise ValueError(f"counts and acceptance differ: {counts.geom} {counts.axes}, {acceptance.geom}")
    usable = usable_bins(acceptance.data, safe)
    allowed = allowed_bins(usable, exclusion)
    energy, geom = acceptance.axis("energy"), acceptance.geom
    axis = energy if per_energy else energy.in_one_bin()
    shape = (axis.n_bins, *geom.shape)
    counts_off, acceptance_off, alpha = np.empty(shape, np.int64), np.empty(shape), np.empty(shape)
    background, mask, too_small = np.empty(acceptance.data.shape), np.empty(usable.shape, bool), np.empty(shape, bool)
    support, reached = np.zeros(0, bool), dict[Annulus, BoolArray]()
    for k in range(axis.n_bins):
        bins = slice(k, k + 1) if per_energy else slice(None)
        # What goes into the rings: counts and acceptance of allowed bins; that of usable ones is of the pixel itself.
        n, a = (np.sum(cube.data[bins], axis=0, where=allowed[bins]) for cube in (counts, acceptance))
        acceptance_on = np.sum(acceptance.data[bins], axis=0, where=usable[bins])
        if not np.array_equal(a > 0, support):
            support = a > 0
            reached = {ring: convolve.count_around(support, ring) > 0 for ring in rings}
        off, accepted, too_small[k] = _off_sums(n, a, reached, needed(acceptance_on))
        counts_off[k], acceptance_off[k] = off, accepted
        known = accepted > 0
        inverse = np.divide(1.0, accepted, out=np.full(known.shape, np.nan), where=known)
        np.multiply(acceptance_on, inverse, out=alpha[k])
        np.multiply(acceptance.data[bins], off * inverse, out=background[bins])
        np.logical_and(usable[bins], known, out=mask[bins])
    counted, held, ratio = (Cube(values, "", geom, (axis,)) for values in (counts_off, acceptance_off, alpha))
    return RingBackground(counted, held, ratio, Cube(background, "", geom, acceptance.axes), mask, too_small)


def _off_sums(
    counts: NDArray[Any], acceptance: FloatArray, reached: Mapping[Annulus, BoolArray], least: FloatArray | float
) -> tuple[IntArray, FloatArray, BoolArray]:
    """OFF counts, exact, OFF acceptance, and whether no ring holds enough, each of shape (ny, nx).

    At each pixel they are those of the first ring that holds some acceptance, and at `least` as much; of the last ring
    where none does. `reached` says of each ring about which pixels it holds any.
    """
    *_, last = reached
    padded = convolve.fft_shape(counts.shape, max(ring.r_out for ring in reached))
    pair = convolve.transform_pair(counts, acceptance, padded)
    counts_off, acceptance_off = np.zeros(counts.shape, np.int64), np.zeros(counts.shape)
    open_pixels = np.ones(counts.shape, bool)
    for ring, is_reached in reached.items():
        in_ring, accepted = convolve.sum_pair(pair, ring)
        accepted = convolve.without_noise(accepted, is_reached, acceptance)
        enough = (accepted > 0) & (accepted >= least)
        taken = open_pixels if ring is last else open_pixels & enough
        counts_off[taken] = np.rint(in_ring[taken]).astype(np.int64)
        acceptance_off[taken] = accepted[taken]
        open_pixels = open_pixels & ~enough
        if not open_pixels.any():
            break
    return counts_off, acceptance_off, open_pixels
