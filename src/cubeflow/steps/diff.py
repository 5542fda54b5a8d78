"""How two results differ, bin by bin and key by key, and why: in plain numbers and strings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import Cube, sphere
from cubeflow.plan.inventory import envelope_of
from cubeflow.steps.expand import read_dense
from cubeflow.storage.artifact import Artifact

Plain = dict[str, Any]
NOT_COMPARED = ("stack", ".cubeflow", ".snakemake")  # stacks are named by their content
ABSENT = "absent"


class DiffError(MistakeError):
    """Two paths cannot be compared; the message says what can."""


def compare(first: Path, second: Path, rtol: float = 0.0) -> Plain:
    """Compare two artifacts, or all artifacts below two folders.

    Parameters
    ----------
    first, second : Path
        Two files, or two folders: whole results, or a part of them.
    rtol : float
        Values that differ by at most this fraction of the larger one are equal.

    Returns
    -------
    dict
        ``same``: whether nothing differs; ``same_values``: whether all values are equal, whatever they were made of;
        ``only``: files of one side, by side; ``equal``: number of files without a difference; ``files``: those
        that differ, as from `compare_artifacts`; ``causes``: what differs in their provenance, with the
        number of files.

    Raises
    ------
    DiffError
        If one is a file and the other a folder, or there is nothing to compare.
    StorageError, ArtifactDamaged, ArtifactMismatch
        If an artifact cannot be read.
    """
    if first.is_dir() != second.is_dir():
        raise DiffError(f"{first}, {second}: expected two artifacts or two folders, got one of each")
    if not first.is_dir():
        return _summary([compare_artifacts(first, second, rtol)], {"first": [], "second": []}, 0)
    found = _artifacts(first), _artifacts(second)
    if not any(found):
        raise DiffError(f"{first}, {second}: expected folders with results, found no artifact (.h5) in them")
    both = sorted(found[0] & found[1])
    differing = [name for name in both if not _is_equal(first / name, second / name)]
    compared = [compare_artifacts(first / name, second / name, rtol) for name in differing]
    only = {"first": sorted(found[0] - found[1]), "second": sorted(found[1] - found[0])}
    return _summary(compared, only, len(both) - len(differing))


def _artifacts(folder: Path) -> set[str]:
    """Artifacts below a folder, by their path in it."""
    paths = (path.relative_to(folder) for path in folder.rglob("*.h5"))
    return {str(path) for path in paths if not set(path.parts) & set(NOT_COMPARED)}


def _is_equal(first: Path, second: Path) -> bool:
    """Whether the first blocks say that two files hold the same."""
    found = envelope_of(first)
    return found is not None and found == envelope_of(second)


def _summary(compared: list[Plain], only: Mapping[str, list[str]], equal: int) -> Plain:
    """Result over all files."""
    differing = [each for each in compared if not each["same"]]
    causes: dict[str, Plain] = {}
    for each in differing:
        for cause in each["causes"]:
            known = causes.setdefault(repr(sorted(cause.items())), {**cause, "files": 0})
            known["files"] += 1
    absent = bool(only["first"] or only["second"])
    return {
        "same": not differing and not absent,
        "same_values": all(each["same_values"] for each in differing) and not absent,
        "only": dict(only),
        "equal": equal + len(compared) - len(differing),
        "files": differing,
        "causes": list(causes.values()),
    }


def compare_artifacts(first: Path, second: Path, rtol: float = 0.0) -> Plain:
    """Compare two artifacts, of either form.

    Returns
    -------
    dict
        ``names``, ``key``: a pair each; ``kind``: of the first; ``same``, ``same_values``; ``causes``: differences
        of kind, algorithm and provenance; ``results``: of the attributes; ``datasets``: of the values, as from
        `compare_values`.
    """
    one, other = read_dense(first), read_dense(second)
    made = [{"kind": each.kind, "algorithm": each.algorithm, **each.provenance} for each in (one, other)]
    causes = [_difference(*found) for found in plain_differences(made[0], made[1])]
    results = [_difference(*found) for found in plain_differences(one.attributes, other.attributes, rtol)]
    datasets = [found for found in _compare_datasets(one, other, rtol) if found]
    same_values = not datasets and not results
    return {
        "names": [str(first), str(second)],
        "kind": one.kind,
        "key": [one.key, other.key],
        "same": same_values and not causes and one.key == other.key,
        "same_values": same_values,
        "causes": causes,
        "results": results,
        "datasets": datasets,
    }


def _difference(name: str, first: Any, second: Any) -> Plain:
    return {"name": name, "first": first, "second": second}


def plain_differences(first: Any, second: Any, rtol: float = 0.0, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Differences of nested plain content: name (``reduce.energy.edges``) and both values, of mappings key by key."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in sorted({*first, *second}):
            below = f"{name}.{key}" if name else key
            yield from plain_differences(first.get(key, ABSENT), second.get(key, ABSENT), rtol, below)
    elif not _is_close(first, second, rtol):
        yield name, first, second


def _is_close(first: Any, second: Any, rtol: float) -> bool:
    """Whether two plain values are equal, numbers and lists of numbers within a tolerance."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_is_close(a, b, rtol) for a, b in zip(first, second, strict=True))
    if rtol and all(isinstance(value, (int, float)) for value in (first, second)):
        return bool(abs(first - second) <= rtol * max(abs(first), abs(second)))
    return bool(first == second)


def _compare_datasets(one: Artifact, other: Artifact, rtol: float) -> Iterator[Plain | None]:
    """Difference of each dataset of either artifact."""
    for name in sorted({*one.datasets, *other.datasets}):
        first, second = one.datasets.get(name), other.datasets.get(name)
        if first is None or second is None:
            yield {"name": name, "problem": f"only in the {'second' if first is None else 'first'}"}
            continue
        problem = _unlike(first, second)
        if problem:
            yield {"name": name, "problem": problem}
            continue
        found = compare_values(_values(first), _values(second), rtol)
        if found and isinstance(first, Cube):
            found["place"] = describe_bin(first, found["index"])
        yield {"name": name, **found} if found else None


def _values(dataset: Any) -> NDArray[Any]:
    return dataset.data if isinstance(dataset, Cube) else np.asarray(dataset)


def _unlike(first: Any, second: Any) -> str:
    """What keeps two datasets from being compared bin by bin; nothing if they can be."""
    if isinstance(first, Cube) and isinstance(second, Cube):
        for part in ("unit", "axes", "geom"):
            if getattr(first, part) != getattr(second, part):
                sums = " and ".join(f"{np.nansum(each.data):.6g}" for each in (first, second))
                return f"another {'geometry' if part == 'geom' else part}; the sums are {sums}"
        return ""
    shapes = _values(first).shape, _values(second).shape
    return "" if shapes[0] == shapes[1] else f"shapes {shapes[0]} and {shapes[1]}"


def compare_values(first: NDArray[Any], second: NDArray[Any], rtol: float = 0.0) -> Plain:
    """Difference of two arrays of the same shape; NaN equals NaN.

    Returns
    -------
    dict
        Empty if there is none. ``count``: bins that differ; ``max_abs``, ``max_rel``: largest difference, absolute and
        relative to the larger value (None where one of them is not finite); ``index``, ``first``,
        ``second``: the bin that differs most.
    """
    a, b = (np.asarray(each, dtype=float) for each in (first, second))
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
        largest = np.maximum(np.abs(a), np.abs(b))
        differs = ~((a == b) | (np.isnan(a) & np.isnan(b)) | (apart <= rtol * largest))
    if not differs.any():
        return {}
    shown = np.where(differs, np.where(np.isfinite(apart), apart, np.inf), -1.0)
    index = np.unravel_index(int(np.argmax(shown)), shown.shape)
    finite = differs & np.isfinite(apart)
    return {
        "count": int(differs.sum()),
        "max_abs": float(apart[finite].max()) if finite.any() else None,
        "max_rel": float((apart[finite] / largest[finite]).max()) if finite.any() else None,
        "index": [int(k) for k in index],
        "first": _number(a[index]),
        "second": _number(b[index]),
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def describe_bin(cube: Cube, index: list[int]) -> str:
    """Bins of the axes and direction of the pixel centre of one value of a cube."""
    bins = [
        f"{axis.name} {axis.edges[k]:.4g}-{axis.edges[k + 1]:.4g} {axis.unit}".rstrip()
        for axis, k in zip(cube.axes, index, strict=False)
    ]
    lon, lat = sphere.lon_lat(cube.geom.pixel_to_vectors(np.array([index[-1]]), np.array([index[-2]])))
    return ", ".join([*bins, f"ra {lon[0]:.3f} dec {lat[0]:.3f} deg"])
