"""gammapy as an oracle: its observations as plain parts, its geometries as ours."""

from types import SimpleNamespace

import numpy as np
import pytest

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.background import Background3D
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import Psf3Gauss, PsfTable
from cubeflow.irf.table import Nodes
from cubeflow.maps import Axis, Geometry
from cubeflow.observation import EventList, Pointing


def nodes(axis):
    return Nodes(axis.center.value, axis.edges.value[0], axis.edges.value[-1], axis.interp == "log")


def plain_axis(axis):
    return Axis(axis.name, tuple(axis.edges.value), str(axis.unit), axis.interp)


def plain_geometry(geom):
    wcs = geom.wcs.wcs
    ny, nx = geom.data_shape[-2:]
    return Geometry(geom.frame, geom.projection, *wcs.crval, wcs.cdelt[1], nx, ny, *wcs.crpix)


def plain_psf(psf):
    axes = [nodes(psf.axes[name]) for name in ("energy_true", "offset")]
    if psf.tag == "psf_table":
        return PsfTable(*axes, nodes(psf.axes["rad"]), np.asarray(psf.quantity.to_value("sr-1"), float))
    names = ("scale", "sigma_1", "ampl_2", "sigma_2", "ampl_3", "sigma_3")
    return Psf3Gauss(*axes, *(np.asarray(psf.data[name], float) for name in names))


def plain_parts(observation, *, lon_east):
    """Parts of a gammapy observation; `lon_east` says which way its background longitude really grows."""
    aeff, edisp, bkg, table = observation.aeff, observation.edisp, observation.bkg, observation.events.table
    origin = observation.get_pointing_icrs(observation.tmid)
    thresholds = (aeff.meta.get(key) for key in ("LO_THRES", "HI_THRES"))
    lon_edges, rate = bkg.axes["fov_lon"].edges.to_value("deg"), np.asarray(bkg.quantity.to_value("s-1 TeV-1 sr-1"))
    if not lon_east:
        lon_edges, rate = -lon_edges[::-1], rate[:, ::-1]
    return SimpleNamespace(
        pointing=Pointing(origin.ra.deg, origin.dec.deg),
        events=EventList(
            np.asarray(table["ENERGY"], float),
            np.asarray(table["RA"], float) % 360.0,
            np.asarray(table["DEC"], float),
            np.asarray(observation.events.time.mjd, float) * 86400.0,
            np.asarray(table["MC_ID"]) if "MC_ID" in table.colnames else None,
        ),
        aeff=EffectiveArea(
            nodes(aeff.axes["energy_true"]),
            nodes(aeff.axes["offset"]),
            np.asarray(aeff.quantity.to_value("m2"), float),
            *thresholds,
        ),
        edisp=EnergyDispersion(
            nodes(edisp.axes["energy_true"]),
            nodes(edisp.axes["offset"]),
            edisp.axes["migra"].edges.value,
            np.asarray(edisp.data, float),
        ),
        psf=plain_psf(observation.psf),
        background=Background3D(
            bkg.axes["energy"].edges.to_value("TeV"),
            lon_edges,
            bkg.axes["fov_lat"].edges.to_value("deg"),
            np.asarray(rate, float),
        ),
        livetime_s=observation.observation_live_time_duration.to_value("s"),
        ontime_s=observation.observation_time_duration.to_value("s"),
    )


@pytest.fixture(scope="session")
def hess_gammapy(hess_store):
    """gammapy's data store of the H.E.S.S. runs."""
    from gammapy.data import DataStore

    return DataStore.from_dir(hess_store)


@pytest.fixture(scope="session")
def cta_gammapy(cta_store):
    """gammapy's data store of the CTA data challenge."""
    from gammapy.data import DataStore

    return DataStore.from_dir(cta_store)
