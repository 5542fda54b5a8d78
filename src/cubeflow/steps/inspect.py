"""What a file holds, in plain numbers and strings: artifacts, FITS files and run tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import Cube
from cubeflow.steps.expand import FACTORED, form_of, read_dense
from cubeflow.storage.artifact import open_artifact, read_summary
from cubeflow.storage.described import describe
from cubeflow.storage.opened import plain_description

ARTIFACTS = (".h5", ".h5.corrupt")
FITS = (".fits", ".fits.gz", ".fit", ".fit.gz")
TABLES = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}


class InspectError(MistakeError):
    """A file is nothing that can be looked into; the message says what can."""


def describe_file(path: Path, dense: bool = False) -> dict[str, Any]:
    """Everything about a file except its values.

    Parameters
    ----------
    path : Path
        An artifact (``.h5``), a FITS file, or a run table (``.ecsv``, ``.csv``).
    dense : bool
        Describe the maps of an artifact of the factored form, not the factors that it holds.

    Returns
    -------
    dict
        Plain content: ``file``, ``format`` (``artifact``, ``fits`` or ``table``), ``bytes``, and what the format has.

    Raises
    ------
    InspectError
        For any other file.
    StorageError, ArtifactDamaged, ArtifactMismatch, OSError
        If it cannot be read.
    """
    name = path.name.lower()
    about: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size}
    if name.endswith(ARTIFACTS):
        return about | {"format": "artifact"} | describe_artifact(path, dense)
    if name.endswith(FITS):
        return about | {"format": "fits", "hdus": describe_fits(path)}
    if path.suffix.lower() in TABLES:
        return about | {"format": "table"} | describe_table(path)
    raise InspectError(f"{path}: expected an artifact (.h5), a FITS file, or a run table (.ecsv, .csv)")


def describe_artifact(path: Path, dense: bool = False) -> dict[str, Any]:
    """Kind, form, key, attributes, provenance and datasets of an artifact, each with its totals."""
    summary = read_summary(path)
    summary["form"] = form_of(summary["attributes"])
    if dense and summary["form"] == FACTORED:
        return summary | _expanded(path)
    with open_artifact(path) as opened:
        for name, about in summary["datasets"].items():
            dataset = opened.dataset(name)
            about["totals"] = totals(dataset.data if isinstance(dataset, Cube) else dataset)
    return summary


def _expanded(path: Path) -> dict[str, Any]:
    """Attributes and datasets that an artifact of the factored form stands for; they are stored nowhere."""
    artifact = read_dense(path)
    datasets = {name: plain_description(describe(name, dataset)) for name, dataset in sorted(artifact.datasets.items())}
    for name, about in datasets.items():
        dataset = artifact.datasets[name]
        about["totals"] = totals(dataset.data if isinstance(dataset, Cube) else np.asarray(dataset))
    return {"attributes": artifact.attributes, "datasets": datasets}


def totals(data: NDArray[Any]) -> dict[str, float | int | None]:
    """Sum, least and largest value of an array, over what is finite, and how much is not.

    Parameters
    ----------
    data : array
        Numbers or truth values of any shape.

    Returns
    -------
    dict
        ``sum``, ``min``, ``max`` (None if nothing is finite) and ``not_finite``.
    """
    finite = data if data.dtype.kind in "iub" else data[np.isfinite(data)]
    ends = (finite.min().item(), finite.max().item()) if finite.size else (None, None)
    total = finite.sum(dtype=float if finite.dtype.kind == "f" else int).item()
    return {"sum": total, "min": ends[0], "max": ends[1], "not_finite": int(data.size - finite.size)}


def describe_fits(path: Path) -> list[dict[str, Any]]:
    """HDUs of a FITS file: images with shape, unit and totals, tables with rows and columns."""
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as hdus:
            return [_describe_hdu(hdu) for hdu in hdus]
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise InspectError(f"{path}: no FITS file that can be read ({error})") from error


def _describe_hdu(hdu: Any) -> dict[str, Any]:
    about: dict[str, Any] = {"name": hdu.name}
    if hdu.data is None:
        return about | {"kind": "empty"}
    if hdu.is_image:
        image = {"kind": "image", "shape": list(hdu.data.shape), "unit": hdu.header.get("BUNIT", "")}
        return about | image | {"totals": totals(hdu.data)}
    columns = {column.name: column.unit or "" for column in hdu.columns}
    return about | {"kind": "table", "rows": len(hdu.data), "columns": columns}


def describe_table(path: Path) -> dict[str, Any]:
    """Rows, columns with units, and the runs by status of a run table."""
    from astropy.table import Table

    try:
        table = Table.read(path, format=TABLES[path.suffix.lower()])
    except (ValueError, TypeError, KeyError) as error:
        raise InspectError(f"{path}: no table that can be read ({error})") from error
    status = Counter(str(value) for value in table["status"]) if "status" in table.colnames else {}
    columns = {
        name: {"unit": str(table[name].unit or ""), "description": table[name].description or ""}
        for name in table.colnames
    }
    return {"rows": len(table), "status": dict(status), "columns": columns, "key": table.meta.get("key", "")}
