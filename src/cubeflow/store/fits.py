"""FITS products: datasets that gammapy models, images that viewers open.

An image HDU ``X`` with non-spatial axes is followed by ``X_BANDS``: one row per plane, the last axis of the array
(the first of the FITS axes after the sky) running fastest.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from cubeflow.irf.background import Background2D, BackgroundRate
from cubeflow.maps import Axis, Cube, release, scratch_zeros
from cubeflow.observation import TIME_KEYWORDS
from cubeflow.products.dataset import response_exposure
from cubeflow.store.atomic import PathLike, replacing, write_atomic
from cubeflow.store.content import wcs_keywords

if TYPE_CHECKING:
    from astropy.io import fits
    from astropy.table import Table

Keywords = Mapping[str, str | bool | int | float]
# Name, type and file of a dataset, and the relative error of the norm of its background, which is None without a norm.
DatasetEntry = tuple[str, str, str, float | None]
# On exposure, background and PSF cubes ISA-L writes 2 % more than zlib at level 1, in a ninth of the time.
GZIP_LEVEL = 1
PIECE_BYTES = 1 << 22
_OF_ENERGY = ("counts", "background", "counts_off", "acceptance", "acceptance_off", "mask_safe", "mask_fit")
_AXES = {
    **dict.fromkeys(_OF_ENERGY, ("energy",)),
    **dict.fromkeys(("exposure", "irf_exposure"), ("energy_true",)),
    "edisp": ("energy_true", "energy"),
    "psf": ("energy_true", "rad"),
}
_ON_OFF = ("counts_off", "acceptance", "acceptance_off")
_RESPONSES = ("edisp", "psf")
_NORM = ("norm", 1.0, "", False), ("tilt", 0.0, "", True), ("reference", 1.0, "TeV", True)  # name, value, unit, frozen


def write_dataset_fits(
    path: PathLike,
    maps: Mapping[str, Cube],
    gti_s: NDArray[np.float64],
    livetime_s: float,
    keywords: Keywords | None = None,
    is_pointlike: bool = False,
) -> None:
    """Write a dataset for ``gammapy.datasets.MapDataset.read`` (or ``MapDatasetOnOff.read``).

    Raises ValueError if a map is missing or has other axes or another geometry than its companions, StorageError if the
    disk does not take it; a file that was there before is untouched.

    Parameters
    ----------
    path : path-like, ending in ``.fits.gz``
    maps : mapping of str to Cube
        ``counts``, ``mask_safe`` (energy, lat, lon), ``exposure`` (energy_true, lat, lon; m2 s), and
        ``background``, or ``counts_off``, ``acceptance``, ``acceptance_off``, or neither. Optional, on a grid of their
        own: ``psf`` (energy_true, rad, lat, lon; sr-1), ``edisp`` (energy_true, energy, lat, lon) with
        ``irf_exposure`` (energy_true, lat, lon; m2 s), the exposure by which they were averaged.
        Counts become floats, as gammapy has them: exact, in float32 up to 2**24 a pixel.
    gti_s : array, shape (n, 2), start and stop of the good time intervals, TT seconds since the time reference
    livetime_s : float, in s
    keywords : mapping, optional, of the primary header, such as the key of what this was made from
    is_pointlike : bool
        Whether the exposure holds inside a directional cut only; gammapy then corrects for no containment.
    """
    from astropy.io import fits

    _check_maps(maps)
    if gti_s.ndim != 2 or gti_s.shape[1] != 2:
        raise ValueError(f"gti_s: expected shape (n, 2), got {gti_s.shape}")
    hdus = [fits.PrimaryHDU(header=fits.Header({"CREATOR": "cubeflow", **(keywords or {})}))]
    about: Keywords = {"livetime": f"{livetime_s!r} s", "is_pointlike": is_pointlike}
    for name, cube in maps.items():
        if name == "irf_exposure":
            continue
        meta = about if name == "exposure" else {}
        hdus += _image_hdus(name.upper(), cube, meta, is_float=cube.data.dtype.kind in "iu")
        if name in _RESPONSES:
            hdus += _image_hdus(f"{name.upper()}_EXPOSURE", response_exposure(maps, name), about)
    columns = [fits.Column(name, "D", "s", array=gti_s[:, k]) for k, name in enumerate(("START", "STOP"))]
    header = fits.Header({**TIME_KEYWORDS, "HDUCLASS": "GADF", "HDUCLAS1": "GTI"})
    _write(path, [*hdus, fits.BinTableHDU.from_columns(columns, header, name="GTI")])


def write_image_fits(path: PathLike, images: Cube | Mapping[str, Cube], keywords: Keywords | None = None) -> None:
    """Write maps for image viewers (DS9, Aladin); gammapy's ``Map.read`` opens them too.

    `path` ends in ``.fits.gz``. The first of several images is the primary one, with `keywords`, the others are
    extensions of their names. A cube whose axes have one bin only is written as an image. Raises ValueError if there is
    no image, StorageError if the disk does not take it; a file that was there before is untouched.
    """
    named = {"image": images} if isinstance(images, Cube) else images
    if not named:
        raise ValueError(f"{os.fspath(path)}: no image to write")
    hdus: list[Any] = []
    for name, cube in named.items():
        if all(axis.n_bins == 1 for axis in cube.axes):
            cube = Cube(cube.data.reshape(cube.geom.shape), cube.unit, cube.geom, ())
        hdus += _image_hdus(name.upper(), cube, primary=None if hdus else {"CREATOR": "cubeflow", **(keywords or {})})
    _write(path, hdus)


def datasets_yaml(datasets: Sequence[DatasetEntry]) -> bytes:
    """List of datasets for ``gammapy.datasets.Datasets.read``, whose files are relative to the list."""
    return _yaml({"datasets": [{"name": name, "type": kind, "filename": file} for name, kind, file, _ in datasets]})


def models_yaml(datasets: Sequence[DatasetEntry]) -> bytes:
    """Models of backgrounds for ``gammapy.modeling.models.Models.read``: norm, with a prior if its error is known."""
    components = []
    for name, systematic in ((name, error) for name, _, _, error in datasets if error is not None):
        parameters = [dict[str, object](zip(("name", "value", "unit", "frozen"), each, strict=True)) for each in _NORM]
        if systematic > 0:
            prior = [{"name": key, "value": value, "unit": ""} for key, value in (("mu", 1.0), ("sigma", systematic))]
            parameters[0]["prior"] = {"type": "GaussianPrior", "parameters": prior, "weight": 1}
        spectral = {"type": "PowerLawNormSpectralModel", "parameters": parameters}
        about = {"type": "FoVBackgroundModel", "name": f"{name}-bkg", "datasets_names": [name]}
        components.append({**about, "spectral": spectral})
    return _yaml({"components": components})


def _yaml(content: object) -> bytes:
    """Text with the checksum that gammapy verifies: of the text in the form in which it writes it."""
    import yaml

    text = yaml.safe_dump(content, sort_keys=False, indent=4, width=80, default_flow_style=False)
    checksum = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return f"{text}checksum: {checksum}\n".encode()


class _Gzip(igzip.IGzipFile):
    """One gzip member without a name or a time, compressed some megabytes at a time."""

    def write(self, data: Any) -> int:
        rest = np.frombuffer(data, np.uint8)
        for start in range(0, len(rest), PIECE_BYTES):
            super().write(rest[start : start + PIECE_BYTES].data)
        return len(rest)


def write_background_fits(
    path: PathLike, responses: Sequence[tuple[BackgroundRate, NDArray[np.float64] | None, Keywords]], keywords: Keywords
) -> None:
    """Write background responses, each with its errors, if any, and keywords, as GADF tables.

    BKG_3D are named BACKGROUND_1, ..., BKG_2D (whose bins of offset are equal) RADIAL_1, ... `path` ends in
    ``.fits.gz``; StorageError if the disk does not take it. See
    https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/full_enclosure/bkg/
    """
    from astropy.io import fits

    hdus = [fits.PrimaryHDU(header=fits.Header({"CREATOR": "cubeflow", **keywords}))]
    classes = {"HDUCLASS": "GADF", "HDUVERS": "0.3", "HDUCLAS1": "RESPONSE", "HDUCLAS2": "BKG"}
    names = {"BKG_3D": "BACKGROUND", "BKG_2D": "RADIAL"}
    for response, error, about in responses:
        columns, edges, tables = [], {"ENERG": response.energy_edges_tev}, {"BKG": response.rate, "BKG_ERR": error}
        if isinstance(response, Background2D):
            edges["THETA"] = np.linspace(response.offset.lower, response.offset.upper, len(response.offset) + 1)
        else:  # DETX grows with decreasing right ascension or azimuth.
            edges |= {"DETX": -response.lon_edges_deg[::-1], "DETY": response.lat_edges_deg}
            tables = {name: None if values is None else values[:, ::-1] for name, values in tables.items()}
        for name, values in edges.items():
            unit = "TeV" if name == "ENERG" else "deg"
            for end, part in (("LO", values[:-1]), ("HI", values[1:])):
                columns.append(fits.Column(f"{name}_{end}", f"{len(part)}D", unit, array=part[None]))
        dim = str(tuple(len(values) - 1 for values in edges.values()))
        for name, values in ((name, values) for name, values in tables.items() if values is not None):
            columns.append(fits.Column(name, f"{values.size}D", "s-1 MeV-1 sr-1", dim=dim, array=1e-6 * values.T[None]))
        kind = "BKG_2D" if "THETA" in edges else "BKG_3D"
        more = {"HDUCLAS3": "FULL-ENCLOSURE", "HDUCLAS4": kind, "FOVALIGN": response.alignment}
        number = 1 + sum(hdu.name.startswith(names[kind]) for hdu in hdus)
        header = fits.Header({**classes, **more, **about})
        hdus.append(fits.BinTableHDU.from_columns(columns, header, name=f"{names[kind]}_{number}"))
    _write(path, hdus)


def write_tables_fits(path: PathLike, tables: "Mapping[str, Table]") -> None:
    """Write tables by their names; `path` ends in ``.fits.gz``. StorageError if the disk does not take it."""
    from astropy.io import fits

    _write(path, [fits.PrimaryHDU(), *(fits.table_to_hdu(table, name=name) for name, table in tables.items())])


def write_coverage_fits(path: PathLike, ranges: NDArray[np.int64], order: int) -> None:
    """Write a coverage map (IVOA MOC 2.0) of an order, of ranges of HEALPix numbers of order 29, shape (n, 2)."""
    from astropy.io import fits

    keywords = {"MOCVERS": "2.0", "MOCDIM": "SPACE", "ORDERING": "RANGE", "COORDSYS": "C", "MOCORD_S": order}
    table = fits.BinTableHDU.from_columns([fits.Column("RANGE", "K", array=ranges.ravel())], fits.Header(keywords))
    with_checksums([fits.PrimaryHDU(), table]).writeto(content := BytesIO())  # plain: readers of coverage know no gzip
    write_atomic(path, content.getvalue())


def with_checksums(hdus: Sequence[Any]) -> "fits.HDUList":
    """Give HDUs CHECKSUM and DATASUM, without dates; they must not be changed after that."""
    from astropy.io import fits

    listed = fits.HDUList(hdus)
    listed.update_extend()
    for hdu in listed:
        hdu.add_checksum(when="")  # 0.01 s for 70 MB
    return listed


def _write(path: PathLike, hdus: Sequence[Any]) -> None:
    listed = with_checksums(hdus)
    with replacing(path) as file, _Gzip("", "wb", GZIP_LEVEL, file, mtime=0) as compressed:
        listed.writeto(compressed)


def _check_maps(maps: Mapping[str, Cube]) -> None:
    off = [name for name in _ON_OFF if name in maps]
    needed = {"counts", "exposure", "mask_safe", *(_ON_OFF if off else ())}
    needed |= {"irf_exposure"} if maps.keys() & _RESPONSES else set()
    if missing := sorted(needed - set(maps)):
        raise ValueError(f"a dataset needs the maps {sorted(needed)}; missing: {missing}")
    if off and "background" in maps:
        raise ValueError(f"a dataset has either a background or {off}")
    energies = {"energy": maps["counts"].axes[0], "energy_true": maps["exposure"].axes[0]}
    for name, cube in maps.items():
        if name not in _AXES:
            raise ValueError(f"{name}: not a map of a dataset, expected one of {sorted(_AXES)}")
        if tuple(axis.name for axis in cube.axes) != _AXES[name]:
            raise ValueError(f"{name}: expected the axes {_AXES[name]}, got {[axis.name for axis in cube.axes]}")
        partner = maps["irf_exposure" if name in (*_RESPONSES, "irf_exposure") else "counts"]
        if cube.geom != partner.geom:
            raise ValueError(f"{name}: is on {cube.geom}, its companions are on {partner.geom}")
        if any(energies.get(axis.name, axis) != axis for axis in cube.axes):
            raise ValueError(f"{name}: has other energies than counts and exposure")


def _image_hdus(
    name: str, cube: Cube, meta: Keywords | None = None, *, is_float: bool = False, primary: Keywords | None = None
) -> list[Any]:
    """Image HDU of a cube, the primary one where its keywords are given, and the table ``<name>_BANDS``."""
    from astropy.io import fits

    sizes = (cube.geom.nx, cube.geom.ny, *(axis.n_bins for axis in reversed(cube.axes)))
    header = fits.Header({"EXTNAME": name, **wcs_keywords(cube.geom), **_axis_keywords(cube.axes)})
    header["WCSSHAPE"] = f"({','.join(map(str, sizes))})"
    header["BUNIT"], header["META"] = cube.unit, json.dumps(meta or {}, sort_keys=True)
    if cube.axes:
        header["BANDSHDU"] = f"{name}_BANDS"
    header.update(primary or {})
    kind = fits.ImageHDU if primary is None else fits.PrimaryHDU
    image = kind(_big_endian(cube.data, is_float), header)
    if not cube.axes:
        return [image]
    # CHANNEL, then centre, lower and upper edge of each axis, first FITS axis first.
    indices = np.indices(tuple(axis.n_bins for axis in cube.axes)).reshape(len(cube.axes), -1)
    columns = [fits.Column("CHANNEL", "K", array=np.arange(indices.shape[1]))]
    for axis, index in zip(reversed(cube.axes), reversed(indices), strict=True):
        edges = axis.edges_array
        arrays = zip((axis.name.upper(), *_edge_columns(axis)), (axis.centers, edges[:-1], edges[1:]), strict=True)
        columns += [fits.Column(column, "D", axis.unit, array=array[index]) for column, array in arrays]
    keywords = fits.Header(_axis_keywords(cube.axes))
    return [image, fits.BinTableHDU.from_columns(columns, keywords, name=f"{name}_BANDS")]


def _big_endian(data: NDArray[Any], is_float: bool) -> NDArray[Any]:
    """Copy values as FITS has them: truth values as 0 and 1."""
    dtype = data.dtype
    if is_float:
        largest = max(int(data.max(initial=0)), -int(data.min(initial=0)))
        dtype = np.dtype("f4" if largest <= 1 << 24 else "f8")
    elif dtype.kind == "b":
        dtype = np.dtype("u1")
    elif dtype.kind == "u" and dtype.itemsize > 1:  # FITS has no such integers
        dtype = np.dtype(f"i{min(8, 2 * dtype.itemsize)}")
    out = scratch_zeros(data.shape, dtype.newbyteorder(">"))
    for plane, values in zip(out, data, strict=True):
        plane[...] = values
        release(out)
        release(data)
    return out


def _axis_keywords(axes: tuple[Axis, ...]) -> dict[str, str]:
    """Keywords that name the columns and the spacing of each axis, first FITS axis first."""
    cards: dict[str, str] = {}
    for number, axis in enumerate(reversed(axes), 1):
        cards |= {f"AXCOLS{number}": ",".join(_edge_columns(axis)), f"INTERP{number}": axis.interp}
    return cards


def _edge_columns(axis: Axis) -> tuple[str, str]:
    stem = "E" if axis.name == "energy" else axis.name.upper()
    return f"{stem}_MIN", f"{stem}_MAX"
