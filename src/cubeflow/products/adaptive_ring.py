"""Adaptive ring background: the first ring about each pixel that holds enough acceptance."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np

from cubeflow.maps import BoolArray, Cube, FloatArray
from cubeflow.products.convolve import Annulus, sum_around
from cubeflow.products.ring_background import (
    OnOffPlane,
    RingBackground,
    make_ring,
    make_ring_result,
    off_sums,
    on_off_planes,
)
from cubeflow.products.setting import Setting

# A ring that holds exactly the acceptance it needs is taken, whatever the last bits.
EQUAL = 1e-9


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
    per_energy: bool = False
    """One ratio per energy bin, or one from the sum over energy."""
    on_failure: Literal["drop", "error"] = "drop"
    """A run in which no pixel has any OFF is left out of this label, or refused."""

    def __post_init__(self) -> None:
        if self.mode not in ("fixed_width", "fixed_r_in"):
            raise ValueError(f"mode: expected 'fixed_width' or 'fixed_r_in', got {self.mode!r}")
        for name in ("width_deg", "step_deg", "threshold", "theta_deg"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if not self.r_in_deg + self.width_deg <= self.r_out_max_deg * (1 + 1e-9) < np.inf:
            raise ValueError(
                f"r_out_max_deg: expected at least r_in + width = {self.r_in_deg + self.width_deg:g} deg, "
                f"got {self.r_out_max_deg:g} deg"
            )


def make_adaptive_rings(options: AdaptiveRingOptions, pixel_deg: float) -> tuple[Annulus, ...]:
    """Rings in the order in which they are tried; the last still lies within the largest outer radius."""
    room = options.r_out_max_deg - options.r_in_deg - options.width_deg
    grown = options.step_deg * np.arange(int(np.floor(room / options.step_deg + 1e-6)) + 1)
    if options.mode == "fixed_width":
        return tuple(make_ring(options.r_in_deg + more, options.width_deg, pixel_deg) for more in grown)
    return tuple(make_ring(options.r_in_deg, options.width_deg + more, pixel_deg) for more in grown)


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
    planes, usable = on_off_planes(acceptance, counts, exclusion, safe, options.per_energy)

    def needed(plane: OnOffPlane) -> FloatArray:
        return sum_around(plane.acceptance_on, disc) / options.threshold * (1 - EQUAL)

    return make_ring_result(acceptance, usable, off_sums(planes, rings, needed), options.per_energy)
