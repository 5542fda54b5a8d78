"""GADF 0.3 HDUs of a simulated run, as bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubeflow.dl3.simulate_responses import Responses
from cubeflow.fits_bytes import Column, Header, table_hdu

FloatArray = NDArray[np.float64]

GADF: Header = {
    "HDUCLASS": "GADF",
    "HDUDOC": "https://github.com/open-gamma-ray-astro/gamma-astro-data-formats",
    "HDUVERS": "0.3",
}
TIME_FRAME: Header = {
    "MJDREFI": 51910,
    "MJDREFF": 7.428703703703703e-4,
    "TIMEUNIT": "s",
    "TIMESYS": "TT",
    "TIMEREF": "LOCAL",
}
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


def events_hdu(columns: list[Column], run_header: Header) -> bytes:
    """EVENTS table."""
    return table_hdu(columns, "EVENTS", {**GADF, "HDUCLAS1": "EVENTS", **ARRAY, **run_header, **TIME_FRAME, **SITE})


def gti_hdu(start_s: FloatArray, stop_s: FloatArray, obs_id: int) -> bytes:
    """GTI table of intervals of shape (n,)."""
    columns = [Column("START", start_s, "s"), Column("STOP", stop_s, "s")]
    return table_hdu(columns, "GTI", {**GADF, "HDUCLAS1": "GTI", "OBS_ID": obs_id, **TIME_FRAME})


def response_hdus(table: Responses) -> bytes:
    """AEFF_2D, EDISP_2D, PSF_3GAUSS and BKG_3D tables, one after the other."""
    return b"".join([_aeff_hdu(table), _edisp_hdu(table), _psf_hdu(table), _background_hdu(table)])


def _aeff_hdu(table: Responses) -> bytes:
    """Effective area, array axes (offset, energy)."""
    columns = [
        *_axis("ENERG", table.energy_true_edges_tev, "TeV"),
        *_axis("THETA", table.offset_edges_deg, "deg"),
        _cell("EFFAREA", table.area_m2.T, "m2"),
    ]
    thresholds: Header = {"LO_THRES": table.lo_thres_tev, "HI_THRES": table.hi_thres_tev}
    return table_hdu(columns, "EFFECTIVE AREA", _response_header("EFF_AREA", "AEFF_2D") | thresholds)


def _edisp_hdu(table: Responses) -> bytes:
    """Energy dispersion, array axes (offset, migra, energy)."""
    columns = [
        *_axis("ENERG", table.energy_true_edges_tev, "TeV"),
        *_axis("MIGRA", table.migra_edges, ""),
        *_axis("THETA", table.offset_edges_deg, "deg"),
        _cell("MATRIX", table.migra_density.transpose(2, 1, 0), ""),
    ]
    return table_hdu(columns, "ENERGY DISPERSION", _response_header("EDISP", "EDISP_2D"))


def _psf_hdu(table: Responses) -> bytes:
    """Three Gaussians, array axes (offset, energy)."""
    amplitude = table.psf_fraction / table.psf_sigma_deg**2
    scale = amplitude[0] / (2.0 * np.pi * np.deg2rad(1.0) ** 2)
    columns = [
        *_axis("ENERG", table.energy_true_edges_tev, "TeV"),
        *_axis("THETA", table.offset_edges_deg, "deg"),
        _cell("SCALE", scale.T, "sr-1"),
        _cell("SIGMA_1", table.psf_sigma_deg[0].T, "deg"),
        _cell("AMPL_2", (amplitude[1] / amplitude[0]).T, ""),
        _cell("SIGMA_2", table.psf_sigma_deg[1].T, "deg"),
        _cell("AMPL_3", (amplitude[2] / amplitude[0]).T, ""),
        _cell("SIGMA_3", table.psf_sigma_deg[2].T, "deg"),
    ]
    return table_hdu(columns, "POINT SPREAD FUNCTION", _response_header("RPSF", "PSF_3GAUSS"))


def _background_hdu(table: Responses) -> bytes:
    """Background, array axes (DETY, DETX, energy); DETX grows to the west, the table's longitude east."""
    rate = table.background[:, ::-1, :].transpose(2, 1, 0)
    columns = [
        *_axis("ENERG", table.energy_edges_tev, "TeV"),
        *_axis("DETX", table.field_edges_deg, "deg"),
        *_axis("DETY", table.field_edges_deg, "deg"),
        _cell("BKG", rate, "s-1 MeV-1 sr-1"),
    ]
    return table_hdu(columns, "BACKGROUND", _response_header("BKG", "BKG_3D") | {"FOVALIGN": "RADEC"})


def _response_header(kind: str, table_format: str) -> Header:
    """Class keywords of a full-enclosure response."""
    classes: Header = {"HDUCLAS1": "RESPONSE", "HDUCLAS2": kind, "HDUCLAS3": "FULL-ENCLOSURE", "HDUCLAS4": table_format}
    return {**GADF, **classes, **ARRAY}


def _axis(name: str, edges: FloatArray, unit: str) -> list[Column]:
    """Lower and upper edges of one axis."""
    return [_cell(f"{name}_LO", edges[:-1], unit), _cell(f"{name}_HI", edges[1:], unit)]


def _cell(name: str, values: FloatArray, unit: str) -> Column:
    """Column of one row in single precision."""
    return Column(name, values[np.newaxis].astype(np.float32), unit)
