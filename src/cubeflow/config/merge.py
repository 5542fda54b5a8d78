"""How an override changes a section: key by key.

Two cases replace instead of merging: a new ``method`` or ``type`` replaces the section that had another, and a way
to give energy bins (``edges``; ``bins``; ``bins_per_decade``) replaces the other ways. A label of ``backgrounds``
set to null is taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KINDS = ("method", "type")
_EXCLUDES: Mapping[str, tuple[str, ...]] = {
    "edges": ("min", "max", "bins", "bins_per_decade"),
    "bins": ("bins_per_decade", "edges"),
    "bins_per_decade": ("bins", "edges"),
    "min": ("edges",),
    "max": ("edges",),
}


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of `base`, changed by those of `override`; neither is changed itself."""
    merged = dict(base)
    for key, value in override.items():
        merged[key] = _merge_value(key, base.get(key), value)
    return merged


def _merge_value(key: str, base: Any, override: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(override, Mapping)):
        return override
    if any(kind in override and override[kind] != base.get(kind) for kind in _KINDS):
        return override
    if key in ("energy", "energy_true"):
        replaced = {name for given in override for name in _EXCLUDES.get(given, ()) if name not in override}
        base = {name: value for name, value in base.items() if name not in replaced}
    merged = merge(base, override)
    if key == "backgrounds":
        merged = {label: section for label, section in merged.items() if section is not None}
    return merged
