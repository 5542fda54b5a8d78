"""Section of what is not background: files, and the energies at which each holds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from cubeflow.config.quantity import AsTuple, Energy, FilePath
from cubeflow.config.section import Section, key_error


def _as_paths(value: object) -> object:
    """No exclusion, one, or several, as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, (str, dict)) else value


class ExclusionFile(Section):
    """A file of what is not background at some energies."""

    path: FilePath
    """The file."""
    energy_min_tev: Energy | None = Field(default=None, alias="energy_min")
    """It holds from this energy on; null for all."""
    energy_max_tev: Energy | None = Field(default=None, alias="energy_max")
    """It holds up to this energy; null for all."""

    @model_validator(mode="after")
    def _check_range(self) -> ExclusionFile:
        lower, upper = self.energy_min_tev, self.energy_max_tev
        if lower is not None and upper is not None and not lower < upper:
            message = f"expected less than energy_max = {upper:g} TeV, got {lower:g} TeV"
            raise key_error("energy_min", message=message)
        return self


def _kind_of_exclusion(value: object) -> str:
    """Whether an exclusion is a path or has keys."""
    return "keys" if isinstance(value, (dict, ExclusionFile)) else "path"


Exclusion = Annotated[
    tuple[
        Annotated[
            Annotated[FilePath, Tag("path")] | Annotated[ExclusionFile, Tag("keys")], Discriminator(_kind_of_exclusion)
        ],
        ...,
    ],
    AsTuple,
    BeforeValidator(_as_paths, json_schema_input_type=str | ExclusionFile | list[str | ExclusionFile] | None),
]
