"""A drafted configuration as commented YAML, and its exclusion as DS9 regions."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable

from cubeflow.dl3.quirks import QUIRKS
from cubeflow.steps.draft import Found
from cubeflow.steps.survey import ranges_text

WRAP = 110
MAX_LISTED = 12  # refused runs that are named
_PLAIN = re.compile(r"[A-Za-z/.][\w/.+-]*/[\w/.+-]*", re.ASCII)


def config_text(found: Found, path: str, results: str, exclusion: str | None) -> str:
    """Text of the configuration file.

    Parameters
    ----------
    found : Found
        Store and target.
    path, results : str
        Where the file will lie, and the results.
    exclusion : str or None
        Region file of what is not background.
    """
    energy, true = found.energy_tev, found.energy_true_tev
    parts = [
        *_head(found, path),
        *_data(found),
        *_target(found),
        f"energy: {{min: {energy[0]:g} TeV, max: {energy[1]:g} TeV, bins_per_decade: 8}}",
        f"energy_true: {{min: {true[0]:g} TeV, max: {true[1]:g} TeV, bins_per_decade: 12}}  # wider: energies migrate",
        f"offset_max: {found.offset_max_deg:g} deg  # up to where the effective area is a third of that on axis",
        *_safe_mask(found),
        *([f"exclusion: {quoted(exclusion)}  # what is not background: DS9 regions"] if exclusion else []),
        *_backgrounds(found),
        "significance: {radius: 0.1 deg}",
        f"results: {quoted(results)}",
        *_notes(found),
    ]
    return "\n".join(parts) + "\n"


def regions_text(found: Found) -> str:
    """Text of the DS9 region file of what is not background."""
    lines = [
        "# Region file format: DS9",
        "# What is not background. Radii in degrees, and any DS9 shape may be added.",
        "icrs",
    ]
    for place in found.excluded:
        ra, dec = place.icrs_deg
        name = re.sub(r"[^\w .+-]", " ", place.name)  # other signs may mean something to DS9
        lines += [f"# {name}", f"circle({ra:.4f}, {dec:.4f}, {place.radius_deg:g})"]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Path as YAML, in quotes where it needs them."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _head(found: Found, path: str) -> list[str]:
    runs = f"{len(found.offsets)} of the {found.n_runs} runs of a store"
    return [
        f"# {found.place.name}: {runs}. Drafted by `cubeflow init`, and can be used as it is.",
        "# What each key means, and what else there is: config/README.md",
        f"#   cubeflow plan -c {path}",
        f"#   snakemake --cores 2 --configfile {path}",
    ]


def _data(found: Found) -> list[str]:
    lines = ["data:", f"  store: {quoted(found.store)}"]
    if found.roots:
        lines += [
            f"  roots: [{', '.join(json.dumps(root) for root in found.roots)}]  # its index takes files from here"
        ]
    reach = f"{found.offset_max_deg:g} deg"
    lines += ["observations:", f"  within: {reach}  # from pointing to target; new runs that point there join in"]
    lines += _wrapped("  # today: runs ", ranges_text(list(found.offsets)), "  #   ")
    return [*lines, "  # ids: [...]             # only these runs", '  # where: "ZEN_PNT < 60"  # only such runs']


def _wrapped(first: str, words: Iterable[str], rest: str) -> list[str]:
    """Comma-separated words in lines of a comment."""
    lines = [first]
    for word in words:
        if len(lines[-1]) + len(word) > WRAP:
            lines.append(rest)
        lines[-1] += f"{word}, "
    return [line.rstrip() for line in [*lines[:-1], lines[-1].rstrip(", ")]]


def _target(found: Found) -> list[str]:
    place = found.place
    size = f"width: {found.width_deg:g} deg, pixel: {found.pixel_deg:g} deg"
    return [
        "targets:",
        f"  {place.slug}:",
        f"    position: {{frame: {place.frame}, lon: {place.lon_deg:.9g} deg, lat: {place.lat_deg:.9g} deg}}",
        f"    geometry: {{frame: {place.frame}, projection: TAN, {size}}}  # holds the fields of all runs",
    ]


def _safe_mask(found: Found) -> list[str]:
    if found.has_thresholds:
        found_tev = [fact.lo_thres_tev for fact in found.facts if fact.lo_thres_tev]
        note = f"# thresholds of the runs: {min(found_tev):.2g} to {max(found_tev):.2g} TeV"
        return [f"safe_mask: {{methods: [offset-max, aeff-default]}}  {note}"]
    return [
        "# Not all runs have energy thresholds: energies are used where the effective area is above 10 percent of its",
        "# largest. A smaller aeff_percent reaches to lower energies.",
        "safe_mask: {methods: [offset-max, aeff-max], aeff_percent: 10}",
    ]


def _backgrounds(found: Found) -> list[str]:
    if not found.has_background:
        return [
            "# Not all runs have a background response, as is so for point-like data: counts and exposure only.",
            "backgrounds: {counts: {method: none}}",
        ]
    r_in = max(0.5, round(found.place.radius_deg + 0.15, 2))
    return [
        "backgrounds:",
        "  fov: {method: fov, fit: scale}",
        f"  ring: {{method: ring, r_in: {r_in:g} deg, width: 0.3 deg}}",
    ]


def _notes(found: Found) -> list[str]:
    """Comments on runs that were read: refused ones, and deviations from the format."""
    lines = [
        "",
        f"# {len(found.facts)} of the runs were read. Deviations from the format that were met, and dealt with:",
    ]
    counts = Counter(quirk for fact in found.facts for quirk in fact.quirks)
    lines += [f"#   {name} ({count} runs): {QUIRKS[name].description}" for name, count in sorted(counts.items())]
    if not counts:
        lines += ["#   none"]
    if found.refused:
        lines += ["# Runs that cannot be used; if they are selected, the run table has them with the reason:"]
        reasons = [f"#   {obs_id}: {' '.join(reason.split())}" for obs_id, reason in sorted(found.refused.items())]
        more = [f"#   and {len(reasons) - MAX_LISTED} more"] if len(reasons) > MAX_LISTED else []
        lines += [*reasons[:MAX_LISTED], *more]
    return lines
