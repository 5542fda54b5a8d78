"""Spectra that may be assumed for the exposure in reconstructed energy; only their shape matters."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Discriminator, Field, model_validator

from cubeflow.config.quantity import AsTuple, Energy
from cubeflow.config.section import Section, key_error


class PowerLaw(Section):
    """E^-index."""

    type: Literal["power-law"] = "power-law"
    """Power law."""
    index: float = 2.0
    """Index; positive falls."""


class LogParabola(Section):
    """(E/reference)^-(alpha + beta ln(E/reference))."""

    type: Literal["log-parabola"]
    """Log parabola, natural logarithm."""
    alpha: float
    """Index at the reference energy; positive falls."""
    beta: float
    """Curvature."""
    reference_tev: Energy = Field(default=1.0, alias="reference")
    """Reference energy."""


class ExponentialCutoff(Section):
    """E^-index exp(-E/cutoff)."""

    type: Literal["exp-cutoff"]
    """Power law with exponential cut-off."""
    index: float
    """Index; positive falls."""
    cutoff_tev: Energy = Field(alias="cutoff")
    """Cut-off energy."""


class TableSpectrum(Section):
    """Values between which the logarithms are interpolated."""

    type: Literal["table"]
    """Table."""
    energy_tev: Annotated[tuple[Energy, ...], AsTuple, Field(min_length=2)] = Field(alias="energy")
    """Energies, increasing."""
    dnde: Annotated[tuple[Annotated[float, Field(gt=0)], ...], AsTuple]
    """Differential flux at each energy, in any unit."""

    @model_validator(mode="after")
    def _check_table(self) -> TableSpectrum:
        if len(self.energy_tev) != len(self.dnde):
            message = f"expected one value per energy, got {len(self.dnde)} for {len(self.energy_tev)}"
            raise key_error("dnde", message=message)
        if any(not low < high for low, high in itertools.pairwise(self.energy_tev)):
            raise key_error("energy", message=f"expected increasing energies, got {list(self.energy_tev)} TeV")
        return self


Spectrum = Annotated[PowerLaw | LogParabola | ExponentialCutoff | TableSpectrum, Discriminator("type")]
