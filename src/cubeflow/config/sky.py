"""Sections about the sky: where a target is, and the pixels of its maps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from cubeflow.config.quantity import Angle, AsTuple, Latitude, Longitude, Quantity
from cubeflow.config.section import Section, key_error

PROJECTIONS = ("TAN", "CAR", "AIT", "ZEA", "SIN", "STG", "ARC", "MOL", "SFL", "CEA", "MER", "PAR")
Width = Annotated[float, Quantity("deg", above=0.0, most=360.0)]


def _as_pair(value: object) -> object:
    """Two widths; one given stands for both."""
    return [value, value] if isinstance(value, str) else value


class Position(Section):
    """A direction on the sky."""

    frame: Literal["icrs", "galactic"] = "icrs"
    """Frame of lon and lat."""
    lon_deg: Longitude = Field(alias="lon")
    """Right ascension or galactic longitude."""
    lat_deg: Latitude = Field(alias="lat")
    """Declination or galactic latitude."""


class MapGeometry(Section):
    """Pixel grid of the maps, centred on the target."""

    frame: Literal["icrs", "galactic"] = "icrs"
    """Frame of the map."""
    projection: Literal[PROJECTIONS] = "TAN"  # type: ignore[valid-type]
    """FITS code of the projection."""
    width_deg: Annotated[
        tuple[Width, Width], AsTuple, BeforeValidator(_as_pair, json_schema_input_type=str | list[str])
    ] = Field(alias="width")
    """Widths along longitude and latitude; one value for both."""
    pixel_deg: Angle = Field(default=0.02, alias="pixel")
    """Pixel size."""

    @model_validator(mode="after")
    def _check_pixels(self) -> MapGeometry:
        if min(self.width_deg) < self.pixel_deg:
            message = f"expected at most the width {min(self.width_deg):g} deg, got {self.pixel_deg:g} deg"
            raise key_error("pixel", message=message)
        return self
