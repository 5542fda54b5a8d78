"""Small valid GADF runs and indexes written with astropy, to deviate from in tests.

``write_run(folder, 7)`` writes a good run. Headers deviate by keyword (``events={"DEADC": None}``
removes the key), everything else by an `edit` function that changes the tables before they are written.
"""

import gzip
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

FORMATS = {"f4": "E", "f8": "D", "i2": "I", "i4": "J", "i8": "K", "u1": "B", "b1": "L"}
TT_OFFSET_S = 64.184  # of the reference MJD 51910.000742870370 TT
START_S = 1000.0
ENERGY = np.geomspace(0.1, 100, 6)
THETA = np.array([0.0, 1.0, 2.5, 4.0])
MIGRA = np.linspace(0.2, 5, 13)
RAD = np.linspace(0, 0.6, 31)
BKG_ENERGY = np.geomspace(0.1, 100, 5)
DETX = np.linspace(-3, 3, 7)
DETY = np.linspace(-2, 2, 5)
INDEX_CLASSES = {
    "events": "events",
    "gti": "gti",
    "aeff": "aeff_2d",
    "edisp": "edisp_2d",
    "psf": "psf_table",
    "bkg": "bkg_3d",
    "rad_max": "rad_max_2d",
}


@dataclass
class TableSpec:
    """A table before it is written: columns as name -> (array with rows first, unit), and header."""

    name: str
    columns: dict
    header: dict


Run = dict[str, TableSpec]


def make_run(obs_id: int = 7, n_events: int = 40) -> Run:
    """Tables of a valid run by HDU type; every number differs from its neighbours."""
    return {
        "events": _events(obs_id, n_events),
        "gti": _table(
            "GTI", {"START": ([START_S], "s"), "STOP": ([START_S + 100], "s")}, {"HDUCLAS1": "GTI", **_time()}
        ),
        "aeff": _response("AEFF", "EFF_AREA", "AEFF_2D", {"EFFAREA": (aeff_m2().T, "m2")}, _axes(), thresholds=True),
        "edisp": _response("EDISP", "EDISP", "EDISP_2D", {"MATRIX": (edisp().transpose(2, 1, 0), "")}, _axes("MIGRA")),
        "psf": _response("PSF", "RPSF", "PSF_TABLE", {"RPSF": (psf().transpose(2, 1, 0), "sr-1")}, _axes("RAD")),
        "bkg": bkg_table(("ENERG", "DETX", "DETY")),
    }


def aeff_m2() -> np.ndarray:
    """Areas (n_energy, n_offset)."""
    return 1e4 * np.sqrt(ENERGY[1:])[:, None] * np.array([1.0, 0.8, 0.5])


def edisp() -> np.ndarray:
    """Densities (n_energy, n_migra, n_offset), normalised."""
    centre = 0.5 * (MIGRA[1:] + MIGRA[:-1])
    width = 0.3 + 0.1 * np.arange(5)[:, None, None] + 0.05 * np.arange(3)
    density = np.exp(-0.5 * ((centre[:, None] - 1) / width) ** 2)
    return density / (density * np.diff(MIGRA)[:, None]).sum(axis=1, keepdims=True)


def psf() -> np.ndarray:
    """Densities in sr-1 (n_energy, n_offset, n_rad), normalised."""
    rad, ring = 0.5 * (RAD[1:] + RAD[:-1]), 2 * np.pi * np.diff(-np.cos(np.deg2rad(RAD)))
    sigma = 0.05 + 0.01 * np.arange(5)[:, None, None] + 0.004 * np.arange(3)[:, None]
    density = np.exp(-0.5 * (rad / sigma) ** 2)
    return density / (density * ring).sum(axis=-1, keepdims=True)


def rate_per_mev() -> np.ndarray:
    """Background (n_energy, n_east, n_north) in s-1 MeV-1 sr-1, no two voxels alike."""
    return 1e-6 * (1 + np.arange(4 * 6 * 4).reshape(4, 6, 4)) / BKG_ENERGY[1:, None, None]


def bkg_table(order: tuple[str, ...], fovalign: str | None = "RADEC") -> TableSpec:
    """Background table whose axis columns come in an order; GADF: DETX grows west."""
    edges = {"ENERG": (BKG_ENERGY, "TeV"), "DETX": (DETX, "deg"), "DETY": (DETY, "deg")}
    rate = rate_per_mev()[:, ::-1]
    numpy_order = [("ENERG", "DETX", "DETY").index(name) for name in order[::-1]]
    axes = {name: edges[name] for name in order}
    table = _response("BKG", "BKG", "BKG_3D", {"BKG": (rate.transpose(numpy_order), "s-1 MeV-1 sr-1")}, axes)
    table.header["FOVALIGN"] = fovalign
    return table


def _time() -> dict:
    return {"MJDREFI": 51910, "MJDREFF": 0.000742870370370241, "TIMEUNIT": "s", "TIMESYS": "TT", "TIMEREF": "LOCAL"}


def _events(obs_id: int, n: int) -> TableSpec:
    rng = np.random.default_rng(obs_id)
    columns = {
        "EVENT_ID": (np.arange(1, n + 1), ""),
        "TIME": (np.sort(START_S + 100 * rng.random(n)), "s"),
        "RA": ((83.6 + rng.normal(0, 1, n)).astype("f4"), "deg"),
        "DEC": ((22.0 + rng.normal(0, 1, n)).astype("f4"), "deg"),
        "ENERGY": ((0.2 / rng.random(n)).astype("f4"), "TeV"),
    }
    header = {
        "HDUCLASS": "GADF",
        "HDUCLAS1": "EVENTS",
        "OBS_ID": obs_id,
        "RA_PNT": 83.6,
        "DEC_PNT": 22.5,
        "ALT_PNT": 60.0,
        "AZ_PNT": 180.0,
        "ONTIME": 100.0,
        "LIVETIME": 90.0,
        "DEADC": 0.9,
        "OBJECT": "Test",
        "TELESCOP": "T",
        "OBS_MODE": "POINTING",
        "RADESYS": "ICRS",
        "TSTART": START_S,
        "TSTOP": START_S + 100,
        "GEOLON": 16.5,
        "GEOLAT": -23.27,
        "ALTITUDE": 1835.0,
        "N_TELS": 4,
        **_time(),
    }
    return _table("EVENTS", columns, header)


def _table(name: str, columns: dict, header: dict) -> TableSpec:
    return TableSpec(name, {key: (np.asarray(values), unit) for key, (values, unit) in columns.items()}, header)


def _axes(between: str = "") -> dict:
    middle = {"MIGRA": {"MIGRA": (MIGRA, "")}, "": {}}.get(between, {})
    last = {"RAD": (RAD, "deg")} if between == "RAD" else {}
    return {"ENERG": (ENERGY, "TeV"), **middle, "THETA": (THETA, "deg"), **last}


def _response(name: str, kind: str, cls: str, arrays: dict, axes: dict, thresholds: bool = False) -> TableSpec:
    columns = {}
    for axis, (edges, unit) in axes.items():
        columns |= {
            f"{axis}_LO": (edges[None, :-1].astype("f4"), unit),
            f"{axis}_HI": (edges[None, 1:].astype("f4"), unit),
        }
    columns |= {key: (np.asarray(values, dtype="f4")[None], unit) for key, (values, unit) in arrays.items()}
    classes = {
        "HDUCLASS": "GADF",
        "HDUCLAS1": "RESPONSE",
        "HDUCLAS2": kind,
        "HDUCLAS3": "FULL-ENCLOSURE",
        "HDUCLAS4": cls,
    }
    return TableSpec(name, columns, classes | ({"LO_THRES": 0.5, "HI_THRES": 50.0} if thresholds else {}))


def gauss_table(**parameters: np.ndarray) -> TableSpec:
    """PSF_3GAUSS table of parameters (n_energy, n_offset); SIGMA_* in deg."""
    base = {"SCALE": 1.0, "SIGMA_1": 0.05, "AMPL_2": 0.2, "SIGMA_2": 0.1, "AMPL_3": 0.0, "SIGMA_3": 0.2}
    arrays = {key: np.broadcast_to(parameters.get(key, value), (5, 3)).T for key, value in base.items()}
    columns = {key: (values, "deg" if "SIGMA" in key else "") for key, values in arrays.items()}
    return _response("PSF", "RPSF", "PSF_3GAUSS", columns, _axes())


def king_table(gamma: float = 2.0, sigma: float = 0.05) -> TableSpec:
    """PSF_KING table of constant parameters."""
    columns = {"GAMMA": (np.full((3, 5), gamma), ""), "SIGMA": (np.full((3, 5), sigma), "deg")}
    return _response("PSF", "RPSF", "PSF_KING", columns, _axes())


def bkg_2d_table() -> TableSpec:
    """BKG_2D table, rate falling with offset."""
    rate = 1e-6 * np.arange(12, 0, -1).reshape(3, 4)
    axes = {"ENERG": (BKG_ENERGY, "TeV"), "THETA": (THETA, "deg")}
    return _response("BKG", "BKG", "BKG_2D", {"BKG": (rate, "s-1 MeV-1 sr-1")}, axes)


def rad_max_table() -> TableSpec:
    """RAD_MAX_2D table, 0.1 to 0.24 deg."""
    radius = 0.1 + 0.01 * np.arange(15).reshape(3, 5)
    return _response("RAD_MAX", "RAD_MAX", "RAD_MAX_2D", {"RAD_MAX": (radius, "deg")}, _axes())


def to_hdu(table: TableSpec) -> fits.BinTableHDU:
    """Table as an astropy HDU; header values of None are left out."""
    columns = []
    for name, (values, unit) in table.columns.items():
        cell = values.shape[1:]
        kind = values.dtype.str[1:]
        form = f"{kind[1:]}A" if kind[0] == "S" else f"{int(np.prod(cell, dtype=int))}{FORMATS[kind]}"
        dim = "(" + ",".join(str(n) for n in cell[::-1]) + ")" if len(cell) > 1 else None
        columns.append(fits.Column(name, form, unit=unit or None, dim=dim, array=values))
    hdu = fits.BinTableHDU.from_columns(columns, name=table.name)
    for key, value in table.header.items():
        if value is not None:
            hdu.header[key] = value
    return hdu


def to_bytes(run: Run | Iterable[TableSpec], checksum: bool = False) -> bytes:
    """FITS file of the tables."""
    import io

    tables = run.values() if isinstance(run, dict) else run
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *(to_hdu(table) for table in tables)]).writeto(stream, checksum=checksum)
    return stream.getvalue()


def write_run(
    folder: Path,
    obs_id: int = 7,
    edit: Callable[[Run], object] | None = None,
    suffix: str = ".fits.gz",
    **headers: dict,
) -> Path:
    """Write a run that is valid but for the deviations given.

    Parameters
    ----------
    folder, obs_id, suffix
        Where, which run, and ``.fits`` or ``.fits.gz``.
    edit : callable
        Changes the tables (`make_run`) in place.
    headers : dict by HDU type
        Header values to set; None removes the key.
    """
    run = make_run(obs_id)
    for hdu_type, values in headers.items():
        run[hdu_type].header.update(values)
    if edit is not None:
        edit(run)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"run_{obs_id}{suffix}"
    content = to_bytes(run)
    path.write_bytes(gzip.compress(content, 1, mtime=0) if suffix.endswith(".gz") else content)
    return path


def index_rows(
    obs_id: int, path: str, file_dir: str = ".", types: Iterable[str] = tuple(INDEX_CLASSES)[:6]
) -> list[dict]:
    """Rows of an HDU index for one run in one file."""
    return [
        {
            "OBS_ID": obs_id,
            "HDU_TYPE": hdu_type,
            "HDU_CLASS": INDEX_CLASSES[hdu_type],
            "FILE_DIR": file_dir,
            "FILE_NAME": path,
            "HDU_NAME": hdu_type.upper(),
        }
        for hdu_type in types
    ]


def write_rows(path: Path, rows: list[dict], name: str, header: dict | None = None) -> Path:
    """Write a table of plain values, one column a key."""
    columns = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        text = isinstance(values[0], str)
        columns[key] = (np.array([v.encode() for v in values]) if text else np.asarray(values), "")
    path.write_bytes(to_bytes([TableSpec(name, columns, header or {})]))
    return path


def write_index(
    folder: Path, rows: list[dict], obs_ids: Iterable[int] | None = None, header: dict | None = None
) -> Path:
    """Write `hdu-index.fits`, and `obs-index.fits` of the given runs (default: all of the rows)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "hdu-index.fits", rows, "HDU_INDEX", header)
    obs_ids = sorted({row["OBS_ID"] for row in rows}) if obs_ids is None else list(obs_ids)
    if obs_ids:
        info = [{"OBS_ID": i, "RA_PNT": 83.6, "DEC_PNT": 22.5, "ZEN_PNT": 30.0, "OBJECT": f"T{i}"} for i in obs_ids]
        write_rows(folder / "obs-index.fits", info, "OBS_INDEX")
    return folder
