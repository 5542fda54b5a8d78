"""How two results differ, bin by bin and key by key, and why: in plain numbers and strings."""

import filecmp
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import Cube, sphere
from cubeflow.pipeline.tasks import FOLDER, JOINT, LIGHT_CURVE, PRODUCTS, TABLES
from cubeflow.store.artifact import read_artifact

Plain = dict[str, Any]
Dataset = Cube | NDArray[Any]
NOT_COMPARED = ("stack", FOLDER, ".snakemake")  # stacks are sums of what is compared
LEFT_OUT = ("stacks", "GADF tables of models", "pictures", "report", "certificates")
ABSENT = "absent"


def compare(first: Path, second: Path, rtol: float = 0.0) -> Plain:
    """Compare two artifacts, or all artifacts below two folders that have the same name but for the key in it.

    Values that differ by at most the fraction `rtol` of the larger one are equal. Raises MistakeError if one is a file
    and the other a folder, or there is nothing to compare; FailedError if an artifact cannot be read.
    Gives ``same``: whether nothing differs; ``same_values``: whether all values are equal, whatever they were made of;
    ``only``: files of one side, by side; ``equal``: number of files without a difference; ``files``: those that differ,
    as from `compare_artifacts`; ``causes``: what differs in their provenance, with the number of files; ``products``:
    other final products and run tables of folders whose bytes differ, which without a tolerance are not the same;
    ``not_compared``: what else there is in folders.
    """
    if first.is_dir() != second.is_dir():
        raise MistakeError(f"{first}, {second}: expected two artifacts or two folders, got one of each")
    pairs, only, products = [(first, second)], {"first": list[str](), "second": list[str]()}, list[str]()
    if first.is_dir():
        pairs, only = _pairs(first, second)
        names = [name for name in (*PRODUCTS, LIGHT_CURVE, *JOINT, *TABLES) if not name.endswith(".h5")]
        found = {path.relative_to(folder) for folder in (first, second) for n in names for path in folder.rglob(n)}
        _, unequal, absent = filecmp.cmpfiles(first, second, sorted(map(str, found)), shallow=False)
        products = sorted(unequal + absent)
        if not pairs and not any(only.values()):
            raise MistakeError(f"{first}, {second}: expected folders with results, found no artifact (.h5) in them")
    differing = [pair for pair in pairs if not filecmp.cmp(*pair, shallow=False)]
    compared = [each for each in (compare_artifacts(*pair, rtol) for pair in differing) if not each["same"]]
    causes: dict[str, Plain] = {}
    for cause in (cause for each in compared for cause in each["causes"]):
        causes.setdefault(repr(sorted(cause.items())), {**cause, "files": 0})["files"] += 1
    return {
        "same": not compared and not any(only.values()) and not (products and rtol == 0.0),
        "same_values": all(each["same_values"] for each in compared) and not any(only.values()),
        "only": only,
        "equal": len(pairs) - len(compared),
        "files": compared,
        "causes": list(causes.values()),
        "products": products,
        "not_compared": list(LEFT_OUT if first.is_dir() else ()),
    }


def _pairs(first: Path, second: Path) -> tuple[list[tuple[Path, Path]], dict[str, list[str]]]:
    """Artifacts below two folders that belong together, and those of one side only, by their path in it."""
    pairs: list[tuple[Path, Path]] = []
    only: dict[str, list[str]] = {"first": [], "second": []}
    sides: dict[Path, tuple[set[Path], set[Path]]] = defaultdict(lambda: (set(), set()))
    for side, folder in enumerate((first, second)):
        for path in (each.relative_to(folder) for each in folder.rglob("*.h5")):
            if not set(path.parts) & set(NOT_COMPARED):
                sides[path.with_name(re.sub(r"-[0-9a-f]{12,64}\.h5$", ".h5", path.name))][side].add(path)
    for one, other in (sides[name] for name in sorted(sides)):
        if len(one - other) == len(other - one) == 1:
            pairs += [(first / path, second / there) for path, there in zip(one - other, other - one, strict=True)]
        else:
            only["first"] += map(str, sorted(one - other))
            only["second"] += map(str, sorted(other - one))
        pairs += [(first / path, second / path) for path in sorted(one & other)]
    return pairs, only


def compare_artifacts(first: Path, second: Path, rtol: float = 0.0) -> Plain:
    """Names and keys of two artifacts, and what differs in provenance (causes), attributes (results) and values."""
    one, other = read_artifact(first), read_artifact(second)
    made = [{"kind": each.kind, "algorithm": each.algorithm, **each.provenance} for each in (one, other)]
    causes = list(plain_differences(made[0], made[1]))
    results = list(plain_differences(one.attributes, other.attributes, rtol))
    datasets = []
    for name in sorted({*one.datasets, *other.datasets}):
        found = _compare_datasets(one.datasets.get(name), other.datasets.get(name), rtol)
        datasets += [{"name": name, **found}] if found else []
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


def plain_differences(first: object, second: object, rtol: float = 0.0, name: str = "") -> Iterator[Plain]:
    """Name (``reduce.energy.edges``), first and second of what differs in plain content, of mappings key by key."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in sorted({*first, *second}):
            below = name if key in name.split(".") else f"{name}.{key}".removeprefix(".")  # options within options
            yield from plain_differences(first.get(key, ABSENT), second.get(key, ABSENT), rtol, below)
    elif not _is_close(first, second, rtol):
        yield {"name": name, "first": first, "second": second}


def _is_close(first: object, second: object, rtol: float) -> bool:
    """Whether two plain values are equal, numbers and lists of numbers within a tolerance."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_is_close(a, b, rtol) for a, b in zip(first, second, strict=True))
    if rtol and isinstance(first, int | float) and isinstance(second, int | float):
        return abs(first - second) <= rtol * max(abs(first), abs(second))
    return bool(first == second)


def _compare_datasets(first: Dataset | None, second: Dataset | None, rtol: float) -> Plain:
    """Difference of one dataset of two artifacts; empty if there is none."""
    if first is None or second is None:
        return {"problem": f"only in the {'second' if first is None else 'first'}"}
    if isinstance(first, Cube) and isinstance(second, Cube):
        for part in ("unit", "axes", "geom"):
            if getattr(first, part) != getattr(second, part):
                sums = " and ".join(f"{np.nansum(each.data):.6g}" for each in (first, second))
                return {"problem": f"another {'geometry' if part == 'geom' else part}; the sums are {sums}"}
    values = [each.data if isinstance(each, Cube) else each for each in (first, second)]
    if values[0].shape != values[1].shape:
        return {"problem": f"shapes {values[0].shape} and {values[1].shape}"}
    found = compare_values(values[0], values[1], rtol)
    return found | {"place": describe_bin(first, found["index"])} if found and isinstance(first, Cube) else found


def compare_values(first: NDArray[Any], second: NDArray[Any], rtol: float = 0.0) -> Plain:
    """Difference of two arrays of the same shape, empty if there is none; NaN equals NaN.

    It has the number of bins that differ, the largest difference where both are finite, absolute and relative to the
    larger value (None if nowhere), and ``index``, ``first`` and ``second`` of the bin that differs most.
    """
    a, b = (np.asarray(each, dtype=float) for each in (first, second))
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
        largest = np.maximum(np.abs(a), np.abs(b))
        differs = ~((a == b) | (np.isnan(a) & np.isnan(b)) | (apart <= rtol * largest))
    if not differs.any():
        return {}
    shown = np.where(differs, np.nan_to_num(apart, nan=np.inf, posinf=np.inf), -1.0)
    index = np.unravel_index(int(np.argmax(shown)), shown.shape)
    finite = differs & np.isfinite(apart)
    return {
        "count": int(differs.sum()),
        "max_abs": float(apart[finite].max()) if finite.any() else None,
        "max_rel": float((apart[finite] / largest[finite]).max()) if finite.any() else None,
        "index": [int(k) for k in index],
        "first": float(a[index]) if np.isfinite(a[index]) else None,
        "second": float(b[index]) if np.isfinite(b[index]) else None,
    }


def describe_bin(cube: Cube, index: Sequence[int]) -> str:
    """Bins of the axes and direction of the pixel centre of one value of a cube."""
    found = zip(cube.axes, index, strict=False)
    bins = [f"{axis.name} {axis.edges[k]:.4g}-{axis.edges[k + 1]:.4g} {axis.unit}".rstrip() for axis, k in found]
    lon, lat = sphere.lon_lat(cube.geom.pixel_to_vectors(np.array([index[-1]]), np.array([index[-2]])))
    return ", ".join([*bins, f"ra {lon[0]:.3f} dec {lat[0]:.3f} deg"])
