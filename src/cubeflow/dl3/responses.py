"""Response tables (AEFF, EDISP, PSF, BKG, RAD_MAX) as the classes of `cubeflow.irf`.

https://gamma-astro-data-formats.readthedocs.io/en/latest/irfs/index.html
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from cubeflow.dl3.entries import text
from cubeflow.dl3.hdus import Table
from cubeflow.dl3.quirks import Notes
from cubeflow.dl3.tables import Axes, clip_negative, number, read_array, read_axes
from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import Background2D, Background3D
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import Psf3Gauss, PsfKing, PsfTable
from cubeflow.maps.arrays import FloatArray
from cubeflow.observation import RunRefused

RATE_UNIT = "s-1 TeV-1 sr-1"
ALIGNMENTS = ("RADEC", "ALTAZ", "REVERSE_LON_RADEC")
NORM_TOLERANCE = 1e-3
GAUSS_COLUMNS = {"SCALE": None, "SIGMA_1": "deg", "AMPL_2": None, "SIGMA_2": "deg", "AMPL_3": None, "SIGMA_3": "deg"}


def read_aeff(table: Table, notes: Notes) -> EffectiveArea:
    """Effective area; raises RunRefused if not finite, zero everywhere, or negative at or above LO_THRES."""
    axes = read_axes(table, ("energy", "offset"), notes)
    area = read_array(table, "EFFAREA", "m2", axes, notes)
    lo_thres, hi_thres = (_threshold(table, key, notes) for key in ("LO_THRES", "HI_THRES"))
    if lo_thres is None:
        notes.quirk("thresholds-missing")
    energies = axes["energy"].lo[np.any(area < 0, axis=1)]
    if len(energies) and (lo_thres is None or energies.max() >= lo_thres):
        raise RunRefused(f"{table.hdu}: column EFFAREA: negative at {energies.max():g} TeV, LO_THRES is {lo_thres}")
    if len(energies):
        notes.quirk("aeff-negative-below-threshold")
    area = clip_negative(area, "aeff_negative", notes)
    if not np.any(area):
        raise RunRefused(f"{table.hdu}: column EFFAREA: zero everywhere")
    return EffectiveArea(axes["energy"].nodes(), axes["offset"].nodes(), area, lo_thres, hi_thres)


def _threshold(table: Table, key: str, notes: Notes) -> float | None:
    """Energy threshold in TeV; None if there is none above 0. RunRefused if it is no number."""
    if not text(table.header, key):
        return None
    if isinstance(table.header[key], str):
        notes.quirk("thresholds-as-text")
    energy_tev = number(table.header, key, str(table.hdu))
    return energy_tev if energy_tev > 0 else None


def read_edisp(table: Table, notes: Notes) -> EnergyDispersion:
    """Energy dispersion, each column normalised to 1 over migra or zero; raises RunRefused if not finite."""
    axes = read_axes(table, ("energy", "migra", "offset"), notes)
    density = clip_negative(read_array(table, "MATRIX", "", axes, notes), "edisp_negative", notes)
    edges = axes["migra"].edges()
    norm = np.einsum("emo,m->eo", density, np.diff(edges))
    filled = norm > 0
    if not np.any(filled):
        raise RunRefused(f"{table.hdu}: column MATRIX: zero everywhere")
    total = float(np.median(density.sum(axis=1)[filled]))
    if abs(total - 1) < 0.05 and abs(float(np.median(norm[filled])) - 1) > 0.05:  # sums to 1, does not integrate to 1
        notes.quirk("edisp-per-bin")
        density = density / np.diff(edges)[:, np.newaxis]
        norm = np.einsum("emo,m->eo", density, np.diff(edges))
    off = np.abs(norm[filled] - 1) > NORM_TOLERANCE
    notes.repair("edisp_renormalised", int(np.count_nonzero(off)), "edisp-not-normalised")
    notes.repair("edisp_without_norm", int(np.count_nonzero(~filled)))
    density = density / np.where(filled, norm, 1.0)[:, np.newaxis, :]
    return EnergyDispersion(axes["energy"].nodes(), axes["offset"].nodes(), edges, density)


def read_psf_table(table: Table, notes: Notes) -> PsfTable:
    """Tabulated PSF; its norm is left as it is and what is off is counted; raises RunRefused if not finite."""
    axes = read_axes(table, ("energy", "offset", "rad"), notes)
    density = clip_negative(read_array(table, "RPSF", "sr-1", axes, notes), "psf_negative", notes)
    inner, outer = np.cos(np.deg2rad(axes["rad"].lo)), np.cos(np.deg2rad(axes["rad"].hi))
    norm = density @ (2.0 * np.pi * (inner - outer))  # integral over the circle, (energy, offset)
    filled = norm > 0
    if not np.any(filled):
        raise RunRefused(f"{table.hdu}: column RPSF: zero everywhere")
    notes.repair("psf_without_norm", int(np.count_nonzero(~filled)))
    notes.repair("psf_off_norm", int(np.count_nonzero(np.abs(norm[filled] - 1) > 0.01)))
    return PsfTable(axes["energy"].nodes(), axes["offset"].nodes(), axes["rad"].nodes(), density)


def read_psf_3gauss(table: Table, notes: Notes) -> Psf3Gauss:
    """PSF of three Gaussians; raises RunRefused if a parameter is not finite or a width negative."""
    axes = read_axes(table, ("energy", "offset"), notes)
    cells = {name: read_array(table, name, unit, axes, notes) for name, unit in GAUSS_COLUMNS.items()}
    for name, unit in GAUSS_COLUMNS.items():
        if unit and np.any(cells[name] < 0):
            raise RunRefused(f"{table.hdu}: column {name}: lowest value {cells[name].min():g} deg, expected 0 or more")
    empty = cells["SIGMA_1"] == 0
    notes.repair("psf_without_norm", int(np.count_nonzero(empty)), "sigma1-zero")
    if np.all(empty) or not np.any(cells["SCALE"]):
        raise RunRefused(f"{table.hdu}: SCALE or SIGMA_1 is zero everywhere")
    return Psf3Gauss(axes["energy"].nodes(), axes["offset"].nodes(), *cells.values())


def read_psf_king(table: Table, notes: Notes) -> PsfKing:
    """King profile; raises RunRefused if a parameter is not finite, or GAMMA not above 1 where SIGMA is above 0."""
    axes = read_axes(table, ("energy", "offset"), notes)
    gamma, sigma = read_array(table, "GAMMA", None, axes, notes), read_array(table, "SIGMA", "deg", axes, notes)
    filled = sigma > 0
    if not np.any(filled) or np.any(sigma < 0):
        raise RunRefused(f"{table.hdu}: column SIGMA: {sigma.min():g} to {sigma.max():g} deg, expected above 0")
    if np.any(gamma[filled] <= 1):
        raise RunRefused(f"{table.hdu}: column GAMMA: lowest value {gamma[filled].min():g}, expected above 1")
    notes.repair("psf_without_norm", int(np.count_nonzero(~filled)))
    return PsfKing(axes["energy"].nodes(), axes["offset"].nodes(), gamma, sigma)


def read_bkg_3d(table: Table, notes: Notes, hess_dr1: bool = False) -> Background3D:
    """Background rate over the field of view, turned so that longitude grows with RA (or azimuth).

    In a GADF file DETX grows with *decreasing* right ascension or azimuth, DETY with declination or altitude; where
    FOVALIGN is REVERSE_LON_RADEC, as gammapy calls it, longitude grows with right ascension. Without it the table is
    taken as RADEC, as gammapy does (GADF 0.3 would have ALTAZ; the files without the key, CTA-1DC, are symmetric).
    The RADEC array of the H.E.S.S. data release 1 is (energy, lon, lat) with longitude growing east, against its
    header and axis columns. Raises RunRefused if it is not finite or FOVALIGN is none of these.

    References
    ----------
    https://gamma-astro-data-formats.readthedocs.io/en/latest/general/coordinates.html#coords-fov
    """
    alignment = text(table.header, "FOVALIGN").upper() or "RADEC"
    if alignment not in ALIGNMENTS:
        raise RunRefused(f"{table.hdu}: FOVALIGN = {alignment!r}, expected one of {', '.join(ALIGNMENTS)}")
    axes = read_axes(table, ("energy", "detx", "dety"), notes)
    is_hess = hess_dr1 and alignment == "RADEC"
    if is_hess:
        notes.quirk("hess-dr1-background-mirrored")
    rate = _rate(table, axes, notes, ("energy", "detx", "dety") if is_hess else ())
    energy, lon, lat = (axes[name].edges() for name in ("energy", "detx", "dety"))
    if not is_hess and alignment != "REVERSE_LON_RADEC":
        lon, rate = -lon[::-1], np.ascontiguousarray(rate[:, ::-1])  # GADF: DETX grows with decreasing RA or azimuth
    return Background3D(energy, lon, lat, rate, "ALTAZ" if alignment == "ALTAZ" else "RADEC", "auto")


def read_bkg_2d(table: Table, notes: Notes) -> Background2D:
    """Background rate over the offset; raises RunRefused if it is not finite."""
    axes = read_axes(table, ("energy", "offset"), notes)
    rate = _rate(table, axes, notes, ())
    return Background2D(axes["energy"].edges(), axes["offset"].nodes(), rate, interpolation="auto")


def _rate(table: Table, axes: Axes, notes: Notes, file_order: tuple[str, ...]) -> FloatArray:
    """Background rate in s-1 TeV-1 sr-1, energy first, not negative."""
    column = "BKG" if "BKG" in table.columns else "BGD"
    rate = read_array(table, column, RATE_UNIT, axes, notes, file_order)
    if not table.columns[column].unit:
        rate = rate * 1e6  # GADF and every known file: per MeV
    rate = clip_negative(rate, "background_negative", notes)
    empty = ~np.any(rate.reshape(len(rate), -1), axis=1)
    notes.repair("background_empty_energies", int(np.count_nonzero(empty)), "background-empty-energies")
    return rate


def read_rad_max(table: Table, notes: Notes) -> FloatArray:
    """Radius of the directional cut; raises RunRefused unless it is finite and not negative."""
    axes = read_axes(table, ("energy", "offset"), notes)
    rad_max = read_array(table, "RAD_MAX", "deg", axes, notes)
    if np.any(rad_max < 0) or not np.any(rad_max):
        raise RunRefused(f"{table.hdu}: column RAD_MAX: {rad_max.min():g} to {rad_max.max():g} deg, expected above 0")
    for axis in axes.values():
        axis.nodes()  # refuses bins that leave gaps
    return rad_max


def rad_max_from_key(table: Table) -> float | None:
    """Constant radius from the key RAD_MAX (deg) of an effective area; None if there is no such key."""
    if table.header.get("RAD_MAX") is None:
        return None
    radius = number(table.header, "RAD_MAX", str(table.hdu))
    if not 0 < radius < 180:
        raise RunRefused(f"{table.hdu}: RAD_MAX = {radius}, expected above 0 deg")
    return radius


READERS: dict[str, Callable[[Table, Notes], Any]] = {
    "aeff_2d": read_aeff,
    "edisp_2d": read_edisp,
    "psf_table": read_psf_table,
    "psf_3gauss": read_psf_3gauss,
    "psf_king": read_psf_king,
    "bkg_3d": read_bkg_3d,
    "bkg_2d": read_bkg_2d,
    "rad_max_2d": read_rad_max,
}
