"""What a file holds, in plain numbers and strings: artifacts, FITS files and run tables."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubeflow.errors import MistakeError
from cubeflow.maps import Cube
from cubeflow.store.artifact import open_artifact

Plain = dict[str, Any]
ARTIFACTS = (".h5", ".h5.corrupt")
TABLES = {".ecsv": "ascii.ecsv", ".csv": "ascii.csv"}


def describe_file(path: Path) -> Plain:
    """Everything about an artifact, a FITS file or a run table except its values.

    ``file``, ``format`` (``artifact``, ``fits`` or ``table``), ``bytes``, and what the format has. Raises MistakeError
    for any other file or what is no regular file, FailedError or OSError if it cannot be read.
    """
    if not path.is_file():
        raise MistakeError(f"{path}: expected a regular file")
    name = path.name.lower()
    about: Plain = {"file": str(path), "bytes": path.stat().st_size}
    if name.endswith(ARTIFACTS):
        return about | {"format": "artifact"} | describe_artifact(path)
    if name.endswith((".fits", ".fit", ".fits.gz", ".fit.gz")):
        return about | {"format": "fits", "hdus": describe_fits(path)}
    if path.suffix.lower() in TABLES:
        return about | {"format": "table"} | describe_table(path)
    raise MistakeError(f"{path}: expected an artifact (.h5), a FITS file, or a run table (.ecsv, .csv)")


def describe_artifact(path: Path) -> Plain:
    """Kind, key, attributes, provenance and datasets of an artifact, each with its totals."""
    with open_artifact(path) as opened:
        datasets = {}
        for name in opened.names:  # one at a time: all of them may be more than fits into memory
            dataset = opened.dataset(name)
            data = dataset.data if isinstance(dataset, Cube) else dataset
            about: Plain = {"kind": "array", "shape": list(data.shape), "dtype": data.dtype.str[1:]}
            if isinstance(dataset, Cube):
                axes = [asdict(axis) | {"edges": list(axis.edges)} for axis in dataset.axes]
                about |= {"kind": "cube", "unit": dataset.unit, "axes": axes, "geometry": asdict(dataset.geom)}
            datasets[name] = about | {"totals": totals(data)}
        made = opened.artifact
    found = {name: getattr(made, name) for name in ("kind", "key", "algorithm", "attributes", "provenance")}
    return found | {"datasets": datasets}


def totals(data: NDArray[Any]) -> dict[str, float | int | None]:
    """Sum, least and largest value (None if nothing is finite) of what is finite in an array, and how much is not."""
    finite = data if data.dtype.kind in "iub" else data[np.isfinite(data)]
    ends = (finite.min().item(), finite.max().item()) if finite.size else (None, None)
    total = finite.sum(dtype=float if finite.dtype.kind == "f" else int).item()
    return {"sum": total, "min": ends[0], "max": ends[1], "not_finite": int(data.size - finite.size)}


def describe_fits(path: Path) -> list[Plain]:
    """HDUs of a FITS file: images with shape, unit and totals, tables with rows and columns."""
    from astropy.io import fits

    found = []
    try:
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus:
                about: Plain = {"name": hdu.name, "kind": "empty"}
                if hdu.data is not None and hdu.is_image:
                    image = {"kind": "image", "shape": list(hdu.data.shape), "unit": hdu.header.get("BUNIT", "")}
                    about |= image | {"totals": totals(hdu.data)}
                elif hdu.data is not None:
                    columns = {column.name: column.unit or "" for column in hdu.columns}
                    about |= {"kind": "table", "rows": len(hdu.data), "columns": columns}
                found.append(about)
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise MistakeError(f"{path}: no FITS file that can be read ({error})") from error
    return found


def describe_table(path: Path) -> Plain:
    """Rows, columns with units, and the runs by status of a run table."""
    from astropy.table import Table

    try:
        table = Table.read(path, format=TABLES[path.suffix.lower()])
    except (ValueError, TypeError, KeyError) as error:
        raise MistakeError(f"{path}: no table that can be read ({error})") from error
    status = Counter(str(value) for value in table["status"]) if "status" in table.colnames else {}
    about = ((each.name, str(each.unit or ""), each.description or "") for each in table.itercols())
    columns = {name: {"unit": unit, "description": description} for name, unit, description in about}
    return {"rows": len(table), "status": dict(status), "columns": columns, "key": table.meta.get("key", "")}
