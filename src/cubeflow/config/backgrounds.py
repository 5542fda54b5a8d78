"""Sections of the background methods: a new method is one class and one line in `Background`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, model_validator

from cubeflow.config.quantity import Angle, AsTuple, Energy, parse_quantity
from cubeflow.config.section import Section, key_error
from cubeflow.config.sky_model import SkySource


def _parse_groups(value: object) -> object:
    """Return a number of groups, or their edges in TeV."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"expected at least 1 group, got {value}")
        return value
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError(
            f"expected a number of groups or a list of their edges such as [1 TeV, 3 TeV], got {value!r:.60}"
        )
    return tuple(parse_quantity(edge, "TeV") for edge in value)


EnergyGroups = Annotated[
    int | tuple[float, ...], BeforeValidator(_parse_groups, json_schema_input_type=int | list[str])
]


class FovSection(Section):
    """Acceptance normalised to the counts outside the exclusion mask."""

    method: Literal["fov"]
    """Field-of-view background."""
    fit: Literal["scale", "tilt"] = "scale"
    """One factor per energy group, or a factor and a power law in energy."""
    energy_groups: EnergyGroups = 1
    """Number of groups of energy bins, or their edges, which must be edges of the energy axis."""
    min_counts: Annotated[int, Field(ge=1)] = 10
    """Groups with fewer counts are merged with their neighbour."""
    norm_min: Annotated[float, Field(gt=0)] = 0.1
    """A smaller norm is a failure."""
    norm_max: Annotated[float, Field(gt=0)] = 10.0
    """A larger norm is a failure."""
    reference_tev: Energy = Field(default=1.0, alias="reference")
    """Energy at which the tilted norm holds."""
    sky_model: Annotated[tuple[SkySource, ...], AsTuple] = ()
    """Sources whose predicted counts are subtracted, instead of an exclusion or beside it."""
    on_failure: Literal["drop", "keep", "error"] = "drop"
    """A run whose norm fails is left out of this label, kept where it has a norm, or refused."""

    @model_validator(mode="after")
    def _check_limits(self) -> FovSection:
        if not self.norm_min < self.norm_max:
            message = f"expected less than norm_max = {self.norm_max:g}, got {self.norm_min:g}"
            raise key_error("norm_min", message=message)
        return self

    @property
    def reach_deg(self) -> float:
        """How far around a pixel counts are needed: not at all."""
        return 0.0


class NoBackground(Section):
    """Counts and exposure only, as for point-like data, which have no background response."""

    method: Literal["none"]
    """No background."""
    on_failure: Literal["drop"] = "drop"
    """There is nothing that could fail."""

    @property
    def reach_deg(self) -> float:
        """How far around a pixel counts are needed: not at all."""
        return 0.0


class RingSection(Section):
    """Counts in a ring about each pixel."""

    method: Literal["ring"]
    """Ring background."""
    r_in_deg: Angle = Field(alias="r_in")
    """Inner radius."""
    width_deg: Angle = Field(alias="width")
    """Outer minus inner radius."""
    per_energy: bool = False
    """One ratio per energy bin, or one from the sum over energy."""
    on_failure: Literal["drop", "error"] = "drop"
    """A run in which no pixel has any OFF is left out of this label, or refused."""

    @property
    def reach_deg(self) -> float:
        """How far around a pixel counts are needed, deg."""
        return self.r_in_deg + self.width_deg


class AdaptiveRingSection(Section):
    """Counts in a ring about each pixel that grows until it is large enough."""

    method: Literal["adaptive-ring"]
    """Adaptive ring background."""
    r_in_deg: Angle = Field(alias="r_in")
    """Inner radius of the first ring."""
    width_deg: Angle = Field(alias="width")
    """Width of the first ring."""
    r_out_max_deg: Angle = Field(alias="r_out_max")
    """Largest outer radius."""
    step_deg: Angle = Field(default=0.02, alias="step")
    """Growth from ring to ring."""
    theta_deg: Angle = Field(default=0.22, alias="theta")
    """Radius of the disc to whose acceptance that of the ring is compared."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Largest ratio of the acceptance in the disc to that in the ring."""
    mode: Literal["fixed_width", "fixed_r_in"] = "fixed_width"
    """What stays as it is while the ring grows."""
    per_energy: bool = False
    """One ratio per energy bin, or one from the sum over energy."""
    on_failure: Literal["drop", "error"] = "drop"
    """A run in which no pixel has any OFF is left out of this label, or refused."""

    @model_validator(mode="after")
    def _check_radii(self) -> AdaptiveRingSection:
        if not self.r_in_deg + self.width_deg <= self.r_out_max_deg:
            first = self.r_in_deg + self.width_deg
            message = f"expected at least r_in + width = {first:g} deg, got {self.r_out_max_deg:g} deg"
            raise key_error("r_out_max", message=message)
        return self

    @property
    def reach_deg(self) -> float:
        """How far around a pixel counts are needed, deg."""
        return self.r_out_max_deg


Background = Annotated[FovSection | RingSection | AdaptiveRingSection | NoBackground, Discriminator("method")]
