"""Write a small, valid GADF 0.3 store of simulated runs: point sources above a hadronic background.

What is in a run depends on the options and its number alone, so runs can be added to a store later,
and the same options give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.simulate_events import draw_background, draw_source, event_columns
from cubeflow.dl3.simulate_fits import write_gzip
from cubeflow.dl3.simulate_hdus import EVENT_HDUS, GADF, IRF_HDUS, SITE, TIME_FRAME, events_hdu, gti_hdu, response_hdus
from cubeflow.dl3.simulate_plan import RunPlan, SimulationOptions, plan_run, run_responses
from cubeflow.dl3.simulate_responses import TableSizes, make_responses
from cubeflow.fits_bytes import Column, Header, primary_hdu, table_hdu

__all__ = ["SimulationOptions", "simulate_run", "simulate_store", "write_index"]

FloatArray = NDArray[np.float64]

SHARED_IRF_FILE = "irf.fits.gz"
TELESCOPES = b"1,2,3,4"


def simulate_store(folder: Path, options: SimulationOptions) -> list[Path]:
    """Write all runs of a store and its index files.

    Parameters
    ----------
    folder : Path
        Made if absent; files of the same names are replaced.
    options : SimulationOptions
        What to simulate.

    Returns
    -------
    list of Path
        Every file written: runs, the shared responses if any, the two index files.
    """
    runs = [simulate_run(folder, obs_id, options) for obs_id in options.obs_ids]
    shared = [folder / SHARED_IRF_FILE] if options.shared_irf and runs else []
    return [*runs, *shared, *write_index(folder, options)]


def simulate_run(folder: Path, obs_id: int, options: SimulationOptions) -> Path:
    """Write ``obs_<obs_id>.fits.gz`` (and the shared responses, where they are absent); returns its path.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan = plan_run(obs_id, options)
    columns = draw_events(plan, options)
    content = primary_hdu({}) + events_hdu(columns, _run_header(plan, options))
    content += gti_hdu(plan.start_s, plan.stop_s, obs_id)
    responses = _response_bytes(plan.zenith_deg, options.sizes, options.background_scale)
    if not options.shared_irf:
        content += responses
    elif not (folder / SHARED_IRF_FILE).exists():
        write_gzip(folder / SHARED_IRF_FILE, primary_hdu({}) + responses)
    return write_gzip(folder / run_file(obs_id), content)


def draw_events(plan: RunPlan, options: SimulationOptions) -> list[Column]:
    """Columns of the event list, sorted in time; MC_ID is 1 for background, 2, 3, ... for the sources."""
    rng = np.random.default_rng([options.seed, plan.obs_id])
    table, pointing = run_responses(plan, options), (plan.ra_pnt_deg, plan.dec_pnt_deg)
    samples = [draw_background(rng, table, pointing, plan.ontime_s, options.offset_max_deg)]
    livetime = plan.ontime_s * plan.deadc
    samples += [draw_source(rng, table, pointing, source, livetime) for source in options.sources]
    energy, ra, dec, component = event_columns(samples)
    time = _draw_times(rng, plan, len(energy))
    order = np.argsort(time, kind="stable")
    ra_single = ra[order].astype(np.float32)
    return [
        Column("EVENT_ID", np.arange(1, len(energy) + 1, dtype=np.int64)),
        Column("TIME", time[order], "s"),
        Column("RA", np.where(ra_single >= 360.0, np.float32(0.0), ra_single), "deg"),
        Column("DEC", dec[order].astype(np.float32), "deg"),
        Column("ENERGY", energy[order].astype(np.float32), "TeV"),
        Column("MC_ID", component[order]),
    ]


def _draw_times(rng: np.random.Generator, plan: RunPlan, size: int) -> FloatArray:
    """Times uniform within the good time intervals, shape (size,)."""
    length = plan.stop_s - plan.start_s
    elapsed = rng.random(size) * length.sum()
    before = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    interval = np.searchsorted(before, elapsed, side="right") - 1
    return plan.start_s[interval] + (elapsed - before[interval])


def write_index(folder: Path, options: SimulationOptions, obs_ids: Iterable[int] | None = None) -> list[Path]:
    """Write ``hdu-index.fits.gz`` and ``obs-index.fits.gz``.

    Parameters
    ----------
    folder : Path
        The store.
    options : SimulationOptions
        Those the runs were made with.
    obs_ids : iterable of int or None
        Runs to list, in any order; None lists every run file of the folder.

    Returns
    -------
    list of Path
        The HDU index and the observation index.
    """
    found = [int(path.name[4:-8]) for path in folder.glob("obs_*.fits.gz")] if obs_ids is None else obs_ids
    plans = [plan_run(obs_id, options) for obs_id in sorted(found)]
    index_header: Header = {**GADF, "HDUCLAS1": "INDEX"}
    hdu_table = table_hdu(_hdu_columns(plans, options), "HDU_INDEX", index_header | {"HDUCLAS2": "HDU"})
    obs_header = index_header | {"HDUCLAS2": "OBS", **TIME_FRAME, **SITE}
    obs_table = table_hdu(_obs_columns(plans, options), "OBS_INDEX", obs_header)
    return [
        write_gzip(folder / "hdu-index.fits.gz", primary_hdu({}) + hdu_table),
        write_gzip(folder / "obs-index.fits.gz", primary_hdu({}) + obs_table),
    ]


def run_file(obs_id: int) -> str:
    """Name of the file of a run."""
    return f"obs_{obs_id}.fits.gz"


@lru_cache(maxsize=16)
def _response_bytes(zenith_deg: float, sizes: TableSizes, background_scale: float) -> bytes:
    """Response HDUs; they carry no run number, so all runs at one zenith share them."""
    return response_hdus(make_responses(zenith_deg, sizes, background_scale))


def _run_header(plan: RunPlan, options: SimulationOptions) -> Header:
    """Keywords of the EVENTS table that depend on the run."""
    ra, dec, _ = options.sources[0] if options.sources else (*options.centre, 0.0)
    return {
        "OBS_ID": plan.obs_id,
        "OBJECT": "simulated source" if options.sources else "empty field",
        "RA_OBJ": float(ra),
        "DEC_OBJ": float(dec),
        "OBS_MODE": "POINTING",
        "RA_PNT": plan.ra_pnt_deg,
        "DEC_PNT": plan.dec_pnt_deg,
        "ALT_PNT": 90.0 - plan.zenith_deg,
        "AZ_PNT": plan.azimuth_deg,
        "RADESYS": "ICRS",
        "EQUINOX": 2000.0,
        "FOVALIGN": "RADEC",
        "TSTART": float(plan.start_s[0]),
        "TSTOP": float(plan.stop_s[-1]),
        "TELAPSE": float(plan.stop_s[-1] - plan.start_s[0]),
        "ONTIME": plan.ontime_s,
        "LIVETIME": plan.ontime_s * plan.deadc,
        "DEADC": plan.deadc,
        "N_TELS": 4,
        "TELLIST": TELESCOPES.decode("ascii"),
    }


def _hdu_columns(plans: list[RunPlan], options: SimulationOptions) -> list[Column]:
    """Columns of the HDU index: one row per run and HDU."""
    rows = [
        (plan.obs_id, hdu_type, hdu_class, SHARED_IRF_FILE if shared else run_file(plan.obs_id), name)
        for plan in plans
        for hdus, shared in ((EVENT_HDUS, False), (IRF_HDUS, options.shared_irf))
        for hdu_type, hdu_class, name in hdus
    ]
    return [
        Column("OBS_ID", np.array([row[0] for row in rows], dtype=np.int64)),
        Column("HDU_TYPE", np.array([row[1] for row in rows], dtype="S6")),
        Column("HDU_CLASS", np.array([row[2] for row in rows], dtype="S10")),
        Column("FILE_DIR", np.full(len(rows), b".", dtype="S1")),
        Column("FILE_NAME", np.array([row[3] for row in rows], dtype="S32")),
        Column("HDU_NAME", np.array([row[4] for row in rows], dtype="S21")),
    ]


def _obs_columns(plans: list[RunPlan], options: SimulationOptions) -> list[Column]:
    """Columns of the observation index: one row per run."""
    headers = [_run_header(plan, options) for plan in plans]
    units = {"ONTIME": "s", "LIVETIME": "s", "TSTART": "s", "TSTOP": "s"}
    units |= dict.fromkeys(("RA_PNT", "DEC_PNT", "ALT_PNT", "AZ_PNT", "RA_OBJ", "DEC_OBJ"), "deg")
    numbers = [*units, "DEADC"]
    return [
        Column("OBS_ID", np.array([plan.obs_id for plan in plans], dtype=np.int64)),
        *(Column(key, np.array([row[key] for row in headers], dtype=float), units.get(key, "")) for key in numbers),
        Column("ZEN_PNT", np.array([plan.zenith_deg for plan in plans], dtype=float), "deg"),
        Column("N_TELS", np.full(len(plans), 4, dtype=np.int32)),
        Column("TELLIST", np.full(len(plans), TELESCOPES, dtype="S7")),
        Column("OBJECT", np.array([row["OBJECT"] for row in headers], dtype="S16")),
    ]
