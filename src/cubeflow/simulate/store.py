"""Write a small, valid GADF 0.3 store of simulated runs: point sources above a hadronic background.

What is in a run depends on the options and its number alone, so runs can be added to a store later,
and the same options give the same bytes.
"""

import gzip
from collections.abc import Iterable, Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from cubeflow.maps.arrays import FloatArray
from cubeflow.simulate.array import RunPlan, SimulationOptions, make_responses, plan_run
from cubeflow.simulate.events import Columns, draw_events
from cubeflow.store.atomic import write_atomic

Header = Mapping[str, str | int | float]

SHARED_IRF_FILE = "irf.fits.gz"
BLOCK = 2880
FORMAT = "https://github.com/open-gamma-ray-astro/gamma-astro-data-formats"
GADF: Header = {"HDUCLASS": "GADF", "HDUDOC": FORMAT, "HDUVERS": "0.3"}
REFERENCE: Header = {"MJDREFI": 51910, "MJDREFF": 0.00074287037037037}
TIME_FRAME: Header = {**REFERENCE, "TIMEUNIT": "s", "TIMESYS": "TT", "TIMEREF": "LOCAL"}
SITE: Header = {"GEOLON": 16.5002222, "GEOLAT": -23.2717778, "ALTITUDE": 1835.0}
ARRAY: Header = {"TELESCOP": "DEMO", "INSTRUME": "DEMO", "ORIGIN": "cubeflow", "CREATOR": "cubeflow simulate"}
# HDU_TYPE, HDU_CLASS, EXTNAME as the HDU index lists them
EVENT_HDUS = (("events", "events", "EVENTS"), ("gti", "gti", "GTI"))
IRF_HDUS = (
    ("aeff", "aeff_2d", "EFFECTIVE AREA"),
    ("edisp", "edisp_2d", "ENERGY DISPERSION"),
    ("psf", "psf_3gauss", "POINT SPREAD FUNCTION"),
    ("bkg", "bkg_3d", "BACKGROUND"),
)


def simulate_store(folder: Path, options: SimulationOptions) -> list[Path]:
    """Write all runs of a store, shared responses if any, and its two index files, whatever is there; returns paths."""
    runs = [simulate_run(folder, obs_id, options) for obs_id in options.obs_ids]
    shared = [folder / SHARED_IRF_FILE] if options.shared_irf and runs else []
    return [*runs, *shared, *write_index(folder, options)]


def simulate_run(folder: Path, obs_id: int, options: SimulationOptions) -> Path:
    """Write ``obs_<obs_id>.fits.gz`` (and the shared responses, where they are absent); returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = plan_run(obs_id, options)
    header = {**GADF, "HDUCLAS1": "EVENTS", **ARRAY, **_run_header(plan, options), **TIME_FRAME, **SITE}
    intervals: Columns = {"START": (plan.start_s, "s"), "STOP": (plan.stop_s, "s")}
    gti = _table("GTI", intervals, {**GADF, "HDUCLAS1": "GTI", "OBS_ID": obs_id, **TIME_FRAME})
    content = _fits_bytes(_table("EVENTS", draw_events(plan, options), header), gti)
    responses = _response_bytes(plan.zenith_deg, options.tiny, options.background_scale)
    if not options.shared_irf:
        content += responses[BLOCK:]  # without its primary HDU
    elif not (folder / SHARED_IRF_FILE).exists():
        write_gzip(folder / SHARED_IRF_FILE, responses)
    return write_gzip(folder / f"obs_{obs_id}.fits.gz", content)


def write_index(folder: Path, options: SimulationOptions, obs_ids: Iterable[int] | None = None) -> list[Path]:
    """Write ``hdu-index.fits.gz`` and ``obs-index.fits.gz`` of some runs, or of every run file of the folder."""
    found = [int(path.name[4:-8]) for path in folder.glob("obs_*.fits.gz")] if obs_ids is None else obs_ids
    plans = [plan_run(obs_id, options) for obs_id in sorted(found)]
    index = {**GADF, "HDUCLAS1": "INDEX"}
    obs_header = {**index, "HDUCLAS2": "OBS", **TIME_FRAME, **SITE}
    hdu = _fits_bytes(_table("HDU_INDEX", _hdu_columns(plans, options), {**index, "HDUCLAS2": "HDU"}))
    obs = _fits_bytes(_table("OBS_INDEX", _obs_columns(plans, options), obs_header))
    return [write_gzip(folder / "hdu-index.fits.gz", hdu), write_gzip(folder / "obs-index.fits.gz", obs)]


def write_gzip(path: Path, content: bytes) -> Path:
    """Compress and write a file, whole or not at all (StorageError); returns `path`."""
    write_atomic(path, gzip.compress(content, compresslevel=6, mtime=0))
    return path


def _table(name: str, columns: Columns, header: Header) -> fits.BinTableHDU:
    """Binary table; cells keep their numpy order, so that TDIM lists it reversed."""
    first, _ = next(iter(columns.values()))
    rows = np.empty(len(first), [(key, values.dtype, values.shape[1:]) for key, (values, _) in columns.items()])
    for key, (values, _) in columns.items():
        rows[key] = values
    table = fits.BinTableHDU(rows, name=name)
    for key, (_, unit) in columns.items():
        table.columns[key].unit = unit or None
    table.update_header()
    table.header.update(header)
    return table


def _fits_bytes(*tables: fits.BinTableHDU) -> bytes:
    """FITS file of tables, with checksums that hold no date."""
    hdus, stream = fits.HDUList([fits.PrimaryHDU(), *tables]), BytesIO()
    for hdu in hdus:
        hdu.add_checksum(when="of the simulation")
    hdus.writeto(stream)
    return stream.getvalue()


@lru_cache(maxsize=16)
def _response_bytes(zenith_deg: float, tiny: bool, background_scale: float) -> bytes:
    """File of AEFF_2D, EDISP_2D, PSF_3GAUSS and BKG_3D; no run number, so all runs at one zenith share it."""
    table = make_responses(zenith_deg, tiny, background_scale)
    energy, theta = _axis("ENERG", table.energy_true_edges_tev, "TeV"), _axis("THETA", table.offset_edges_deg, "deg")
    polar, migra = energy | theta, energy | _axis("MIGRA", table.migra_edges, "") | theta
    detx, dety = (_axis(name, table.field_edges_deg, "deg") for name in ("DETX", "DETY"))
    field = _axis("ENERG", table.energy_edges_tev, "TeV") | detx | dety
    amplitude = table.psf_fraction / table.psf_sigma_deg**2
    gaussians = {"SCALE": _cell((amplitude[0] / (2.0 * np.pi * np.deg2rad(1.0) ** 2)).T, "sr-1")}
    for k, sigma in enumerate(table.psf_sigma_deg, start=1):
        if k > 1:
            gaussians[f"AMPL_{k}"] = _cell((amplitude[k - 1] / amplitude[0]).T, "")
        gaussians[f"SIGMA_{k}"] = _cell(sigma.T, "deg")
    thresholds = {"LO_THRES": table.lo_thres_tev, "HI_THRES": table.hi_thres_tev}
    area = {"EFFAREA": _cell(table.area_m2.T, "m2")}
    density = {"MATRIX": _cell(table.migra_density.transpose(2, 1, 0), "")}
    # (DETY, DETX, energy); DETX grows to the west, the longitude of the table to the east
    rate = {"BKG": _cell(table.background[:, ::-1, :].transpose(2, 1, 0), "s-1 MeV-1 sr-1")}
    tables: tuple[tuple[Columns, str, str, Header], ...] = (
        (polar | area, "EFF_AREA", "AEFF_2D", thresholds),
        (migra | density, "EDISP", "EDISP_2D", {}),
        (polar | gaussians, "RPSF", "PSF_3GAUSS", {}),
        (field | rate, "BKG", "BKG_3D", {"FOVALIGN": "RADEC"}),
    )
    made = []
    for (_, _, name), (columns, kind, table_format, more) in zip(IRF_HDUS, tables, strict=True):
        classes = {"HDUCLAS1": "RESPONSE", "HDUCLAS2": kind, "HDUCLAS3": "FULL-ENCLOSURE", "HDUCLAS4": table_format}
        made.append(_table(name, columns, {**GADF, **classes, **ARRAY, **more}))
    return _fits_bytes(*made)


def _axis(name: str, edges: FloatArray, unit: str) -> dict[str, tuple[NDArray[Any], str]]:
    return {f"{name}_LO": _cell(edges[:-1], unit), f"{name}_HI": _cell(edges[1:], unit)}


def _cell(values: FloatArray, unit: str) -> tuple[NDArray[Any], str]:
    """Values of the only row in single precision, and their unit."""
    return values[np.newaxis].astype(np.float32), unit


def _run_header(plan: RunPlan, options: SimulationOptions) -> dict[str, str | int | float]:
    """Keywords of the EVENTS table that depend on the run."""
    ra, dec, _ = options.sources[0] if options.sources else (*options.centre, 0.0)
    name, start, stop = "simulated source" if options.sources else "empty field", plan.start_s[0], plan.stop_s[-1]
    target: Header = {"OBJECT": name, "RA_OBJ": float(ra), "DEC_OBJ": float(dec), "OBS_MODE": "POINTING"}
    pointing = {"RA_PNT": plan.ra_pnt_deg, "DEC_PNT": plan.dec_pnt_deg, "ALT_PNT": 90.0 - plan.zenith_deg}
    frame: Header = {"AZ_PNT": plan.azimuth_deg, "RADESYS": "ICRS", "EQUINOX": 2000.0, "FOVALIGN": "RADEC"}
    times = {"TSTART": float(start), "TSTOP": float(stop), "TELAPSE": float(stop - start), "ONTIME": plan.ontime_s}
    array: Header = {"LIVETIME": plan.ontime_s * plan.deadc, "DEADC": plan.deadc, "N_TELS": 4, "TELLIST": "1,2,3,4"}
    return {"OBS_ID": plan.obs_id, **target, **pointing, **frame, **times, **array}


def _hdu_columns(plans: list[RunPlan], options: SimulationOptions) -> Columns:
    """Columns of the HDU index: one row per run and HDU."""
    rows = [
        (plan.obs_id, hdu_type, hdu_class, ".", SHARED_IRF_FILE if shared else f"obs_{plan.obs_id}.fits.gz", name)
        for plan in plans
        for hdus, shared in ((EVENT_HDUS, False), (IRF_HDUS, options.shared_irf))
        for hdu_type, hdu_class, name in hdus
    ]
    kinds = {"OBS_ID": "i8", "HDU_TYPE": "S6", "HDU_CLASS": "S10", "FILE_DIR": "S1", "FILE_NAME": "S32"}
    kinds |= {"HDU_NAME": "S21"}
    table = np.array(rows, dtype=list(kinds.items()))
    return {name: (table[name], "") for name in kinds}


def _obs_columns(plans: list[RunPlan], options: SimulationOptions) -> Columns:
    """Columns of the observation index: one row per run."""
    headers = [_run_header(plan, options) | {"ZEN_PNT": plan.zenith_deg} for plan in plans]
    units = {"ONTIME": "s", "LIVETIME": "s", "TSTART": "s", "TSTOP": "s"}
    units |= dict.fromkeys(("RA_PNT", "DEC_PNT", "ALT_PNT", "AZ_PNT", "RA_OBJ", "DEC_OBJ"), "deg")
    kinds = {"OBS_ID": "i8", **dict.fromkeys((*units, "DEADC", "ZEN_PNT"), "f8")}
    kinds |= {"N_TELS": "i4", "TELLIST": "S7", "OBJECT": "S16"}
    units["ZEN_PNT"] = "deg"
    return {name: (np.array([row[name] for row in headers], kind), units.get(name, "")) for name, kind in kinds.items()}
