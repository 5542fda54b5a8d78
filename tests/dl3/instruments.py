"""Synthetic stores with the deviations of real instruments; the truth stays that of the simulation.

Each store is made from valid simulated runs by the deviations that the real files show, and nothing else.
"""

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from cubeflow.simulate.array import Responses, make_responses, plan_run
from cubeflow.simulate.store import SimulationOptions, simulate_run

OPTIONS = SimulationOptions(tiny=True, duration_s=600.0, n_runs=2, shared_irf=True)
OBS_IDS = (100001, 100002)
TT_MINUS_UTC_2001_S = 64.184
CLASSES = {"events": "events", "gti": "gti", "aeff": "aeff_2d", "edisp": "edisp_2d", "psf": "psf_3gauss"}
CLASSES |= {"bkg": "bkg_3d", "rad_max": "rad_max_2d"}
NAMES = {"events": "EVENTS", "gti": "GTI", "aeff": "EFFECTIVE AREA", "edisp": "ENERGY DISPERSION"}
NAMES |= {"psf": "POINT SPREAD FUNCTION", "bkg": "BACKGROUND", "rad_max": "RAD_MAX"}
FULL = ("events", "gti", "aeff", "edisp", "psf", "bkg")
POINT_LIKE = ("events", "gti", "aeff", "edisp")

TIME_HEADER = {"MJDREFI": 51910, "MJDREFF": 7.428703703703703e-4, "TIMESYS": "TT", "TIMEUNIT": "s"}
SIMULATED_SHIFT_S = 7.428703703703703e-4 * 86400.0

Column = tuple[str, str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Store:
    """A synthetic store.

    Parameters
    ----------
    index : Path
        Folder of the index files.
    responses : Responses
        What the tables say once read rightly (canonical orientation).
    events : dict of int to FITS_rec
        Events of each run as simulated: sorted, ``0 <= ra < 360``.
    time_shift_s : float
        To add to the simulated TIME for TT seconds since MJD 51910.
    psf_gap : array of bool, shape (n_energy_true, n_offset)
        Cells without a PSF.
    lo_thres_tev : float or None
        Energy threshold that the file gives.
    """

    index: Path
    responses: Responses
    events: dict[int, fits.FITS_rec]
    time_shift_s: float
    psf_gap: np.ndarray
    lo_thres_tev: float | None


def table(name: str, columns: list[Column], header: dict) -> fits.BinTableHDU:
    """Table of columns (name, unit, values); values of one cell keep their numpy order."""
    fits_columns = []
    for column, unit, values in columns:
        cell = values.shape[1:]
        kind = {"f4": "E", "f8": "D", "i4": "J", "i8": "K"}.get(values.dtype.str[1:], "")
        form = f"{int(np.prod(cell))}{kind}" if kind else f"{values.dtype.itemsize}A"
        dim = f"({','.join(str(n) for n in reversed(cell))})" if len(cell) > 1 else None
        fits_columns.append(fits.Column(column, form, unit=unit or None, dim=dim, array=values))
    hdu = fits.BinTableHDU.from_columns(fits_columns, name=name)
    hdu.header.update(header)
    return hdu


def response(name: str, axes: dict[str, tuple[str, np.ndarray]], values: list[Column], header: dict):
    """Response table of axes {prefix: (unit, edges)} and value columns in numpy order."""
    columns = []
    for prefix, (unit, edges) in axes.items():
        columns += [(f"{prefix}_LO", unit, single(edges[:-1])), (f"{prefix}_HI", unit, single(edges[1:]))]
    columns += [(key, unit, single(array)) for key, unit, array in values]
    return table(name, columns, {"HDUCLAS1": "RESPONSE", "HDUCLAS3": "FULL-ENCLOSURE", **header})


def single(values: np.ndarray) -> np.ndarray:
    """One row in single precision."""
    return np.asarray(values, dtype=np.float32)[np.newaxis]


def gadf(kind: str, table_format: str) -> dict:
    return {"HDUCLASS": "GADF", "HDUVERS": "0.3", "HDUCLAS2": kind, "HDUCLAS4": table_format}


def write(path: Path, *hdus: fits.BinTableHDU) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)


def index_row(obs_id: int, kind: str, file_dir: str, file_name: str) -> tuple:
    return obs_id, kind, CLASSES[kind], file_dir, file_name, NAMES[kind]


def write_index(folder: Path, rows: list[tuple], obs_columns: list[Column], obs_header: dict, width: int = 7) -> None:
    """Index files; HDU_TYPE is cut to `width` characters."""
    names = ("OBS_ID", "HDU_TYPE", "HDU_CLASS", "FILE_DIR", "FILE_NAME", "HDU_NAME")
    columns = []
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        kind = f"S{width}" if name == "HDU_TYPE" else f"S{max(1, *(len(str(value)) for value in values))}"
        columns.append((name, "", np.array(values, dtype=np.int64 if name == "OBS_ID" else kind)))
    index = {"HDUCLASS": "GADF", "HDUVERS": "0.3", "HDUCLAS1": "INDEX"}
    write(folder / "hdu-index.fits.gz", table("HDU_INDEX", columns, index | {"HDUCLAS2": "HDU"}))
    write(folder / "obs-index.fits.gz", table("OBS_INDEX", obs_columns, index | {"HDUCLAS2": "OBS"} | obs_header))


def obs_columns(time_type: type = np.float64) -> list[Column]:
    """Minimal columns of an observation index."""
    plans = [plan_run(obs_id, OPTIONS) for obs_id in OBS_IDS]
    return [
        ("OBS_ID", "", np.array(OBS_IDS, dtype=np.int64)),
        ("RA_PNT", "deg", np.array([plan.ra_pnt_deg for plan in plans])),
        ("DEC_PNT", "deg", np.array([plan.dec_pnt_deg for plan in plans])),
        ("TSTART", "s", np.array([plan.start_s[0] for plan in plans], dtype=time_type)),
        ("TSTOP", "s", np.array([plan.stop_s[-1] for plan in plans], dtype=time_type)),
    ]


def run_truth() -> Responses:
    return make_responses(plan_run(OBS_IDS[0], OPTIONS).zenith_deg, OPTIONS.tiny, OPTIONS.background_scale)


def no_gap(responses: Responses) -> np.ndarray:
    return np.zeros(responses.area_m2.shape, dtype=bool)


Pair = tuple[fits.BinTableHDU, fits.BinTableHDU]
Edit = Callable[[fits.BinTableHDU, fits.BinTableHDU], Pair]


def edit_runs(scratch: Path, edit: Edit, target: Callable[[int], Path], *more: fits.BinTableHDU) -> dict:
    """Simulate the runs, edit EVENTS and GTI, write them with more HDUs; returns the events as simulated."""
    simulated = {}
    for obs_id in OBS_IDS:
        with fits.open(simulate_run(scratch, obs_id, OPTIONS)) as hdus:
            simulated[obs_id] = hdus["EVENTS"].data.copy()
            events, gti = hdus["EVENTS"].copy(), hdus["GTI"].copy()
            for hdu in (events, gti):
                drop_keys(hdu, "CHECKSUM", "DATASUM")
            write(target(obs_id), *edit(events, gti), *more)
    return simulated


def drop_keys(hdu: fits.BinTableHDU, *prefixes: str) -> None:
    for key in [key for key in hdu.header if key.startswith(prefixes)]:
        del hdu.header[key]


def standard_responses(truth: Responses, scale: str = "sr-1", area: str = "m2") -> dict[str, fits.BinTableHDU]:
    """AEFF, PSF and BKG in the standard's recommended order; longitude of BKG grows west."""
    energy, offset = ("TeV", truth.energy_true_edges_tev), ("deg", truth.offset_edges_deg)
    field = ("deg", truth.field_edges_deg)
    amplitude = truth.psf_fraction / truth.psf_sigma_deg**2
    psf = [("SCALE", scale, amplitude[0].T / (2.0 * np.pi * np.deg2rad(1.0) ** 2))]
    psf += [(f"SIGMA_{i + 1}", "deg", truth.psf_sigma_deg[i].T) for i in range(3)]
    psf += [(f"AMPL_{i + 1}", "", (amplitude[i] / amplitude[0]).T) for i in (1, 2)]
    rate = truth.background[:, ::-1, :].transpose(2, 1, 0)
    polar = {"ENERG": energy, "THETA": offset}
    cube = {"ENERG": ("TeV", truth.energy_edges_tev), "DETX": field, "DETY": field}
    aeff_header = gadf("EFF_AREA", "AEFF_2D") | {"LO_THRES": truth.lo_thres_tev, "HI_THRES": truth.hi_thres_tev}
    return {
        "aeff": response(NAMES["aeff"], polar, [("EFFAREA", area, truth.area_m2.T)], aeff_header),
        "psf": response(NAMES["psf"], polar, psf, gadf("RPSF", "PSF_3GAUSS")),
        "bkg": response(NAMES["bkg"], cube, [("BKG", "s-1 MeV-1 sr-1", rate)], gadf("BKG", "BKG_3D")),
    }


def edisp(truth: Responses, density: np.ndarray, prefix: str = "ENERG", header: dict | None = None):
    """Energy dispersion of values of shape (n_energy, n_migra, n_offset)."""
    energy, offset = ("TeV", truth.energy_true_edges_tev), ("deg", truth.offset_edges_deg)
    axes = {prefix: energy, "MIGRA": ("", truth.migra_edges), "THETA": offset}
    values = [("MATRIX", "", density.transpose(2, 1, 0))]
    return response(NAMES["edisp"], axes, values, header or gadf("EDISP", "EDISP_2D"))


def cta_1dc(folder: Path) -> Store:
    """ctools: OGIP classes, BGD, ETRUE, unsorted events, negative RA, GTI without unit, one file of responses."""
    truth = run_truth()
    symmetric = truth.background + truth.background[:, ::-1]
    symmetric = 0.25 * (symmetric + symmetric[:, :, ::-1])
    truth = replace(truth, background=0.5 * (symmetric + symmetric.transpose(0, 2, 1)))
    gap = no_gap(truth)
    gap[0], gap[1, -1] = True, True
    responses = standard_responses(truth)
    for name in ("SIGMA_1", "SCALE"):
        responses["psf"].data[name][0][gap.T] = 0.0
    field, energy = ("deg", truth.field_edges_deg), ("TeV", truth.energy_edges_tev)
    responses["bkg"] = response(
        NAMES["bkg"],
        {"DETX": field, "DETY": field, "ENERG": energy},
        [("BGD", "1/s/MeV/sr", truth.background)],
        gadf("BKG", "BKG_3D"),
    )
    norm = np.random.default_rng(1).uniform(0.6, 1.1, truth.area_m2.shape)
    responses["edisp"] = edisp(truth, truth.migra_density * norm[:, np.newaxis], "ETRUE")
    for kind, table_format in (("aeff", "2D"), ("edisp", "2D"), ("psf", "3GAUSS"), ("bkg", "3D")):
        responses[kind].header.update({"HDUCLASS": "OGIP", "HDUCLAS4": table_format})
    responses["aeff"].header.remove("LO_THRES")
    responses["aeff"].header.remove("HI_THRES")
    write(folder / "caldb" / "irf_file.fits", *responses.values())

    def edit(events: fits.BinTableHDU, gti: fits.BinTableHDU) -> Pair:
        drop_keys(events, "HDUCLAS", "HDUDOC", "HDUVERS", "FOVALIGN")
        events.data[:] = events.data[np.random.default_rng(2).permutation(len(events.data))]
        events.data["RA"] -= 360.0
        drop_keys(events, "RADESYS", "OBS_MODE", "EQUINOX")
        unitless = [(name, "", np.asarray(gti.data[name], dtype=float)) for name in ("START", "STOP")]
        events.header.update({"RADECSYS": "FK5", "ALT_PNT": 90.0, "AZ_PNT": 0.0, "DATE_OBS": "2004-10-20"})
        return events, table("GTI", unitless, TIME_HEADER)

    simulated = edit_runs(folder / "scratch", edit, lambda obs_id: folder / "data" / f"gps_{obs_id}.fits")
    rows = [
        index_row(obs_id, kind, "../../data", f"gps_{obs_id}.fits")
        if kind in ("events", "gti")
        else index_row(obs_id, kind, "../../caldb", "irf_file.fits")
        for obs_id in OBS_IDS
        for kind in FULL
    ]
    write_index(folder / "index" / "gps", rows, obs_columns(), TIME_HEADER)
    return Store(folder / "index" / "gps", truth, simulated, SIMULATED_SHIFT_S, gap, None)


def cta_prod5(folder: Path) -> Store:
    """prod5: units m**2 and sr^(-1), EDISP summed to 1 per bin, BKG axis columns ENERG, DETX, DETY."""
    truth = run_truth()
    responses = standard_responses(truth, scale="sr^(-1)", area="m**2")
    responses["edisp"] = edisp(truth, truth.migra_density * np.diff(truth.migra_edges)[:, np.newaxis])
    write(folder / "prod5.fits.gz", *responses.values())
    simulated = edit_runs(folder / "scratch", lambda *hdus: hdus, lambda obs_id: folder / f"run_{obs_id}.fits.gz")
    rows = [
        index_row(obs_id, kind, ".", f"run_{obs_id}.fits.gz" if kind in ("events", "gti") else "prod5.fits.gz")
        for obs_id in OBS_IDS
        for kind in FULL
    ]
    write_index(folder, rows, obs_columns(), TIME_HEADER)
    return Store(folder, truth, simulated, SIMULATED_SHIFT_S, no_gap(truth), truth.lo_thres_tev)


def magic(folder: Path, hdu_type_width: int = 7) -> Store:
    """MAGIC: point-like with RAD_MAX_2D, one theta bin, RA of 440 deg, TIMESYS utc, a poor index."""
    truth = one_offset(run_truth())
    responses = standard_responses(truth)
    energy, offset = ("TeV", truth.energy_true_edges_tev), ("deg", truth.offset_edges_deg)
    rad_max = 0.1 + 0.1 / (1.0 + np.arange(truth.area_m2.size))
    more = [responses["aeff"], edisp(truth, truth.migra_density)]
    more.append(
        response(
            NAMES["rad_max"],
            {"ENERG": energy, "THETA": offset},
            [("RAD_MAX", "deg", rad_max[np.newaxis])],
            gadf("RAD_MAX", "RAD_MAX_2D"),
        )
    )
    for hdu in more:
        hdu.header.update({"HDUCLAS3": "POINT-LIKE"})

    def edit(events: fits.BinTableHDU, gti: fits.BinTableHDU) -> Pair:
        events.data["RA"] += 360.0
        events.data["EVENT_ID"] //= 2
        for hdu in (events, gti):
            hdu.header.update({"MJDREFI": 51910, "MJDREFF": 0.0, "TIMESYS": "utc"})
        return events, gti

    simulated = edit_runs(folder / "scratch", edit, lambda obs_id: folder / f"{obs_id}.fits.gz", *more)
    for obs_id in OBS_IDS:  # astropy writes no blank into TDIM
        path = folder / f"{obs_id}.fits.gz"
        content = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(content.replace(b"'(8,1)   '", b"'(8, 1)  '"), mtime=0))
    runs = (*OBS_IDS, 199999)
    rows = [index_row(i, kind, ".", f"{i}.fits.gz") for i in runs for kind in (*POINT_LIKE, "rad_max")]
    columns = [(name, unit, values[::-1]) for name, unit, values in obs_columns(np.float32)]
    write_index(folder, rows[::-1], columns, {}, hdu_type_width)
    return Store(folder, truth, simulated, TT_MINUS_UTC_2001_S, no_gap(truth), truth.lo_thres_tev)


def veritas(folder: Path) -> Store:
    """VERITAS: MJDREFI a float, FILE_DIR masked, RAD_MAX a key, thresholds that are the table's edges."""
    truth = run_truth()
    more = [standard_responses(truth)["aeff"], edisp(truth, truth.migra_density)]
    for hdu in more:
        hdu.header.update({"HDUCLAS3": "POINT-LIKE", "RAD_MAX": 0.1})
    low, high = truth.energy_true_edges_tev[[0, -1]]
    more[0].header.update({"LO_THRES": low, "HI_THRES": high, "CREF5": "(ENERG_LO:ENERG_HI,THETA_LO:THETA_HI)"})
    more[1].header["CREF7"] = "(ETRUE_LO:ETRUE_HI,MIGRA_LO:MIGRA_HI,THETA_LO:THETA_HI)"

    def edit(events: fits.BinTableHDU, gti: fits.BinTableHDU) -> Pair:
        for hdu in (events, gti):
            hdu.header["MJDREFI"] = 51910.0
        return events, gti

    simulated = edit_runs(folder / "scratch", edit, lambda obs_id: folder / f"{obs_id}.fits.gz", *more)
    rows = [index_row(obs_id, kind, "", f"{obs_id}.fits.gz") for obs_id in OBS_IDS for kind in POINT_LIKE]
    write_index(folder, rows, obs_columns(), TIME_HEADER)
    return Store(folder, truth, simulated, SIMULATED_SHIFT_S, no_gap(truth), float(low))


def point_like(truth: Responses) -> list[fits.BinTableHDU]:
    """AEFF, EDISP and RAD_MAX_2D inside a cut on direction."""
    energy, offset = ("TeV", truth.energy_true_edges_tev), ("deg", truth.offset_edges_deg)
    rad_max = [("RAD_MAX", "deg", np.full(truth.area_m2.T.shape, 0.2))]
    made = [standard_responses(truth)["aeff"], edisp(truth, truth.migra_density)]
    made.append(response("RAD_MAX", {"ENERG": energy, "THETA": offset}, rad_max, gadf("RAD_MAX", "RAD_MAX_2D")))
    for hdu in made:
        hdu.header["HDUCLAS3"] = "POINT-LIKE"
    return made


LST_EPOCH = {"MJDREFI": 58392, "MJDREFF": 0.0, "TIMEUNIT": "s", "TIMESYS": "UTC", "TIMEREF": "TOPOCENTER"}
TT_MINUS_UTC_2018_S = 69.184


def lst(folder: Path) -> Store:
    """LST-1 (lstchain): TIMESYS UTC, one GTI, POINTING of a row, GH_CUTS, GAMMANESS; BASE_DIR of another machine."""
    truth = one_offset(run_truth())
    energy = ("TeV", truth.energy_true_edges_tev)
    cuts = np.full((len(energy[1]) - 1, 1), 0.7)
    gh_cuts = response(
        "GH_CUTS", {"ENERG": energy, "THETA": ("deg", np.array([0.0, 4.0]))}, [("GH_CUTS", "", cuts.T)], {}
    )
    gh_cuts.header.update({"HDUCLASS": "GADF", "HDUVERS": "0.3", "HDUCLAS2": "GH_CUTS", "HDUCLAS3": "POINT-LIKE"})
    shift_s = (58392 - 51910) * 86400.0 + TT_MINUS_UTC_2018_S - SIMULATED_SHIFT_S
    about = {"ORIGIN": "CTA", "TELESCOP": "CTA-N", "CREATOR": "lstchain v0.11", "HDUVERS": "0.3", "HDUCLASS": "GADF"}
    site = {"GEOLON": -17.89149, "GEOLAT": 28.76149, "ALTITUDE": 2184.0}

    def edit(events: fits.BinTableHDU, gti: fits.BinTableHDU) -> Pair:
        score = np.random.default_rng(3).uniform(0.7, 1.0, len(events.data)).astype("f4")
        more = [fits.Column("GAMMANESS", "E", array=score), fits.Column("MULTIP", "K", array=np.ones(len(score)))]
        events = fits.BinTableHDU.from_columns(events.columns + fits.ColDefs(more), events.header)
        events.data["TIME"] -= shift_s
        start, stop = gti.data["START"].min() - shift_s, gti.data["STOP"].max() - shift_s
        drop_keys(events, "RADESYS", "EQUINOX")
        events.header.update(about | site | LST_EPOCH | {"N_TELS": 1, "TELLIST": "LST-1", "INSTRUME": "LST-1"})
        events.header.update({"TSTART": start, "TSTOP": stop, "TIME-OBS": "01:02:03.456", "OBS_MODE": "POINTING"})
        columns = [("START", "s", np.array([start])), ("STOP", "s", np.array([stop]))]
        header = about | LST_EPOCH | {"HDUCLAS1": "GTI", "OBS_ID": events.header["OBS_ID"]}
        return events, table("GTI", columns, header)

    pointing = table(
        "POINTING",
        [("TIME", "s", np.zeros(1)), ("RA_PNT", "deg", np.full(1, 83.0)), ("DEC_PNT", "deg", np.full(1, 22.0))],
        about | site | LST_EPOCH | {"HDUCLAS1": "POINTING", "MEAN_ZEN": "20.1 deg", "B_DELTA": "37.4 deg"},
    )
    file = "dl3_LST-1.Run{}.fits.gz"
    simulated = edit_runs(
        folder / "scratch",
        edit,
        lambda obs_id: folder / "dl3" / file.format(obs_id),
        pointing,
        *point_like(truth),
        gh_cuts,
    )
    kinds = (*POINT_LIKE, "rad_max")
    rows = [index_row(obs_id, kind, "../dl3", file.format(obs_id)) for obs_id in OBS_IDS for kind in kinds]
    rows += [(obs_id, "pointing", "pointing", "../dl3", file.format(obs_id), "POINTING") for obs_id in OBS_IDS]
    write_index(folder / "index", rows, obs_columns(), {"MJDREFI": 58392, "MJDREFF": 0.0})
    with fits.open(folder / "index" / "hdu-index.fits.gz", mode="update") as hdus:
        hdus[1].header["BASE_DIR"] = "/fefs/aswg/data/real/DL3"
    return Store(folder / "index", truth, simulated, SIMULATED_SHIFT_S, no_gap(truth), truth.lo_thres_tev)


CTAO_IDS = {100001: 5000000251, 100002: 5000000252}


def ctao_gadf(folder: Path) -> Store:
    """Bundles of the data model of CTAO: OBS_ID of ten digits as text, TIMESYS tai, MD5 and MTIME, no BKG."""
    truth = run_truth()
    responses = standard_responses(truth)
    epoch = {"MJDREFI": 58119, "MJDREFF": 0.000428240738983731, "TIMEUNIT": "s", "TIMESYS": "tai", "TIMEREF": "LOCAL"}
    shift_s = (58119 - 51910 + epoch["MJDREFF"]) * 86400.0 + 32.184 - SIMULATED_SHIFT_S
    more = [responses["aeff"], edisp(truth, truth.migra_density), responses["psf"]]
    for hdu in more:
        hdu.header["HDUCLASS"] = "CTAO-GADF"
    about = {"ORIGIN": "CTAO", "TELESCOP": "CTAO", "INSTRUME": "CTAO-North", "HDUCLASS": "CTAO-GADF", "HDUVERS": "0.3"}

    def edit(events: fits.BinTableHDU, gti: fits.BinTableHDU) -> Pair:
        events.data["TIME"] -= shift_s
        obs_id = str(CTAO_IDS[events.header["OBS_ID"]])
        extra = {"N_TELS": "6", "TELLIST": "", "EV_CLASS": " ", "EQUINOX": 2000, "RADESYS": "ICRS", "NMCIDS": 7}
        events.header.update(about | epoch | extra | {"OBS_ID": obs_id, "OBS_MODE": "POINTING", "EUNIT": "TeV"})
        columns = [(name, "s", np.asarray(gti.data[name]) - shift_s) for name in ("START", "STOP")]
        return events, table("GTI", columns, about | epoch | {"HDUCLAS1": "GTI", "OBS_ID": obs_id})

    simulated = edit_runs(folder / "scratch", edit, lambda obs_id: folder / f"{CTAO_IDS[obs_id]}.fits", *more)
    files = {obs_id: folder / f"{obs_id}.fits" for obs_id in CTAO_IDS.values()}
    kinds = [kind for kind in FULL if kind != "bkg"]
    rows = [index_row(obs_id, kind, ".", file.name) for obs_id, file in files.items() for kind in kinds]
    write_index(folder, rows, obs_columns(), {})
    with fits.open(folder / "hdu-index.fits.gz") as hdus:
        listed = [files[obs_id] for obs_id in hdus[1].data["OBS_ID"]]
        more = [
            fits.Column("SIZE", "K", array=[file.stat().st_size for file in listed]),
            fits.Column("MTIME", "D", array=[file.stat().st_mtime for file in listed]),
            fits.Column("MD5", "32A", array=[hashlib.md5(file.read_bytes()).hexdigest() for file in listed]),
        ]
        index = fits.BinTableHDU.from_columns(hdus[1].columns + fits.ColDefs(more), hdus[1].header)
        index.header["HDUCLASS"] = "CTAO-GADF"
    write(folder / "hdu-index.fits.gz", index)
    with fits.open(folder / "obs-index.fits.gz") as hdus:
        column = fits.Column("OBS_ID", "10A", array=[str(obs_id) for obs_id in files])
        columns = fits.ColDefs([column, *hdus[1].columns[1:]])
        write(folder / "obs-index.fits.gz", fits.BinTableHDU.from_columns(columns, name="OBS_INDEX"))
    return Store(folder, truth, simulated, SIMULATED_SHIFT_S, no_gap(truth), truth.lo_thres_tev)


def one_offset(responses: Responses) -> Responses:
    """First offset only, as one bin from 0 to 4 deg."""
    return replace(
        responses,
        offset_edges_deg=responses.offset_edges_deg[[0, -1]],
        area_m2=responses.area_m2[:, :1],
        migra_density=responses.migra_density[:, :, :1],
        psf_sigma_deg=responses.psf_sigma_deg[:, :, :1],
        psf_fraction=responses.psf_fraction[:, :, :1],
    )
