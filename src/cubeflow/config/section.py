"""What every section of the configuration is: frozen, and without unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A section; attributes carry the unit in their name, the keys of the file (aliases) do not."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, values: Any) -> Any:
        """Refuse the first unknown key, naming the closest known one."""
        if isinstance(values, dict):
            check_keys(values, section_keys(cls))
        return values


def section_keys(section: type[BaseModel]) -> list[str]:
    """Keys of a section as the file writes them."""
    return [info.alias or name for name, info in section.model_fields.items()]


def check_keys(values: Iterable[str], known: Iterable[str]) -> None:
    """Refuse the first unknown key with a pydantic error that names the closest known one."""
    known = list(known)
    for key in values:
        if key not in known:
            raise key_error(key, message=unknown_key(key, known))


def key_error(*path: str, message: str) -> PydanticCustomError:
    """Error about the key at `path` below the section that raises it."""
    return PydanticCustomError("key", "{message}", {"path": path, "message": message})


def unknown_key(key: str, known: list[str]) -> str:
    """Say that a key is unknown, and which one may have been meant."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"unknown key; did you mean {close[0]!r}?" if close else f"unknown key; expected one of {', '.join(known)}"
