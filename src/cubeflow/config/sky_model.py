"""Sources whose predicted counts are taken out of what the background is normalised to."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from cubeflow.config.quantity import Energy, Quantity
from cubeflow.config.section import Section
from cubeflow.config.sky import Position
from cubeflow.config.spectrum import PowerLaw, Spectrum

FLUX_UNIT = "m-2 s-1 TeV-1"


def _parse_amplitude(value: object) -> float:
    """Differential flux in m-2 s-1 TeV-1."""
    from astropy import units

    expected = f"expected a differential flux such as '3.45e-11 cm-2 s-1 TeV-1', got {value!r:.60}"
    if not isinstance(value, str):
        raise ValueError(expected)
    try:
        amplitude = float(units.Quantity(value).to_value(FLUX_UNIT))
    except (TypeError, ValueError) as error:
        raise ValueError(expected) from error
    if not 0 < amplitude < float("inf"):
        raise ValueError(expected)
    return amplitude


Amplitude = Annotated[float, BeforeValidator(_parse_amplitude)]


class SkySource(Section):
    """A point source, or a Gaussian one, with a spectrum."""

    position: Position
    """Where it is."""
    sigma_deg: Annotated[float, Quantity("deg", least=0.0, most=30.0)] = Field(default=0.0, alias="sigma")
    """Width of a Gaussian; 0 for a point source."""
    amplitude: Amplitude
    """Differential flux at the reference energy."""
    reference_tev: Energy = Field(default=1.0, alias="reference")
    """Energy at which the amplitude holds."""
    spectrum: Spectrum = PowerLaw()
    """Shape of the spectrum."""
