"""Simulated events against gammapy's own evaluation of the written responses."""

from itertools import pairwise

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time

from cubeflow.simulate.events import SOURCE_AMPLITUDE, SOURCE_INDEX
from cubeflow.simulate.store import SimulationOptions, simulate_run

OBS_ID = 100004  # zenith 24 deg, one interval, pointing 0.7 deg north of the centre


def pulls_squared(counts: np.ndarray, expected: np.ndarray) -> tuple[float, int]:
    enough = expected > 25.0
    return float(((counts - expected)[enough] ** 2 / expected[enough]).sum()), int(enough.sum())


def is_chi_square(value: float, degrees: int) -> bool:
    return abs(value - degrees) < 4.0 * np.sqrt(2.0 * degrees)


def load(path):
    from gammapy.irf import load_irf_dict_from_file

    with fits.open(path) as hdus:
        events = hdus["EVENTS"].data.copy()
        header = hdus["EVENTS"].header.copy()
    return events, header, load_irf_dict_from_file(path)


@pytest.fixture(scope="module")
def hadrons(tmp_path_factory):
    options = SimulationOptions(sources=(), background_scale=60.0)
    return load(simulate_run(tmp_path_factory.mktemp("hadrons"), OBS_ID, options))


@pytest.fixture(scope="module")
def gammas(tmp_path_factory):
    options = SimulationOptions(sources=((83.633, 22.014, 300.0),), background_scale=1e-3)
    return load(simulate_run(tmp_path_factory.mktemp("gammas"), OBS_ID, options))


@pytest.fixture(scope="module")
def maps(hadrons):
    """Counts and gammapy's prediction in 16 x 16 pixels of 0.25 deg and 6 energies, shape (6, 16, 16)."""
    from gammapy.makers.utils import make_map_background_irf
    from gammapy.maps import Map, MapAxis, WcsGeom

    events, header, irfs = hadrons
    pointing = SkyCoord(header["RA_PNT"], header["DEC_PNT"], unit="deg")
    axis = MapAxis.from_energy_bounds("0.3 TeV", "30 TeV", nbin=6)
    geom = WcsGeom.create(skydir=pointing, width=4.0, binsz=0.05, proj="TAN", axes=[axis])
    counts = Map.from_geom(geom)
    counts.fill_by_coord(
        {"skycoord": SkyCoord(events["RA"], events["DEC"], unit="deg"), "energy": events["ENERGY"] * u.TeV}
    )
    ontime = header["ONTIME"] * u.s
    predicted = make_map_background_irf(
        pointing, ontime, irfs["bkg"], geom, time_start=Time(53400.0, format="mjd"), oversampling=40
    )
    return counts.downsample(5).data, predicted.downsample(5).data


def test_background_is_that_of_the_table_in_every_voxel(maps) -> None:
    counts, predicted = maps
    value, degrees = pulls_squared(counts, predicted)
    assert degrees > 800
    assert is_chi_square(value, degrees), (value, degrees)


def test_background_in_energy_bands_and_in_total(maps) -> None:
    counts, predicted = maps[0].sum(axis=(1, 2)), maps[1].sum(axis=(1, 2))
    assert counts.sum() > 150_000
    assert counts.sum() == pytest.approx(predicted.sum(), abs=4.0 * np.sqrt(predicted.sum()))
    assert (np.abs(counts - predicted) < 4.0 * np.sqrt(predicted)).all()


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("flip", [(), (1,), (2,), (1, 2)])
def test_no_other_orientation_fits(maps, transpose: bool, flip: tuple[int, ...]) -> None:
    turned = np.flip(maps[1], flip)
    value, degrees = pulls_squared(maps[0], turned.transpose(0, 2, 1) if transpose else turned)
    assert (value > 2.0 * degrees) == (transpose or flip != ())


def test_gradients_point_east_and_south(hadrons) -> None:
    events, header, _ = hadrons
    pointing = SkyCoord(header["RA_PNT"], header["DEC_PNT"], unit="deg")
    local = SkyCoord(events["RA"], events["DEC"], unit="deg").transform_to(pointing.skyoffset_frame())
    inner = np.hypot(local.lon.deg, local.lat.deg) < 2.0
    # <x> = g <x^2> for a density that is even apart from the factor 1 + g x
    east, north = local.lon.deg[inner], local.lat.deg[inner]
    assert east.mean() / np.mean(east**2) == pytest.approx(0.12, abs=0.01)
    assert north.mean() / np.mean(north**2) == pytest.approx(-0.04, abs=0.01)
    assert local.separation(SkyCoord(0, 0, unit="deg", frame=local.frame)).deg.max() < 3.0001


def test_number_of_source_events_is_flux_times_exposure(gammas) -> None:
    from scipy.integrate import quad

    events, header, irfs = gammas
    offset = 0.7 * u.deg

    def rate(log_energy: float) -> float:
        energy = np.exp(log_energy)
        area = irfs["aeff"].evaluate(energy_true=energy * u.TeV, offset=offset).to_value("cm2")
        return 300.0 * SOURCE_AMPLITUDE * energy ** (1.0 - SOURCE_INDEX) * float(np.squeeze(area))

    edges = np.linspace(np.log(0.1001), np.log(99.9), 25)
    expected = sum(quad(rate, a, b, epsrel=1e-4)[0] for a, b in pairwise(edges))
    expected *= header["LIVETIME"]
    found = np.count_nonzero(events["MC_ID"] == 2)
    assert found > 50_000
    assert found == pytest.approx(expected, abs=4.0 * np.sqrt(expected))


@pytest.fixture(scope="module")
def detected(gammas):
    """Fine true-energy edges in TeV, and the expected share of detected events in each bin."""
    edges = np.geomspace(0.1, 100.0, 1501)
    centre = np.sqrt(edges[1:] * edges[:-1])
    area = gammas[2]["aeff"].evaluate(energy_true=centre * u.TeV, offset=0.7 * u.deg).to_value("m2").ravel()
    share = area * centre**-SOURCE_INDEX * np.diff(edges)
    return edges, share / share.sum()


def test_source_energies_are_smeared_by_the_table(gammas, detected) -> None:
    from gammapy.maps import MapAxis

    events, _, irfs = gammas
    reco = np.geomspace(0.3, 20.0, 25)
    axes = [
        MapAxis.from_energy_edges(edges * u.TeV, name=name)
        for edges, name in ((detected[0], "energy_true"), (reco, "energy"))
    ]
    kernel = irfs["edisp"].to_edisp_kernel(0.7 * u.deg, energy_axis_true=axes[0], energy_axis=axes[1])
    source = events[events["MC_ID"] == 2]
    expected = len(source) * (detected[1] @ kernel.pdf_matrix)
    value, degrees = pulls_squared(np.histogram(source["ENERGY"], reco)[0], expected)
    assert degrees == 24
    assert is_chi_square(value, degrees), (value, degrees)


@pytest.mark.parametrize("radius_deg", [0.03, 0.08, 0.15, 0.3])
def test_containment_of_the_source(gammas, detected, radius_deg: float) -> None:
    events, _, irfs = gammas
    centre = np.sqrt(detected[0][1:] * detected[0][:-1]) * u.TeV
    containment = irfs["psf"].containment(rad=radius_deg * u.deg, energy_true=centre, offset=0.7 * u.deg)
    expected = float(np.squeeze(containment) @ detected[1])
    source = events[events["MC_ID"] == 2]
    separation = SkyCoord(source["RA"], source["DEC"], unit="deg").separation(SkyCoord(83.633, 22.014, unit="deg")).deg
    error = np.sqrt(expected * (1.0 - expected) / len(source))
    assert np.mean(separation < radius_deg) == pytest.approx(expected, abs=4.0 * error)


def test_source_is_round(gammas) -> None:
    source = gammas[0][gammas[0]["MC_ID"] == 2]
    east = (source["RA"].astype(float) - 83.633) * np.cos(np.deg2rad(22.014))
    north = source["DEC"].astype(float) - 22.014
    assert abs(east.mean()) < 4.0 * east.std() / np.sqrt(len(source))
    assert abs(north.mean()) < 4.0 * north.std() / np.sqrt(len(source))
    assert east.std() / north.std() == pytest.approx(1.0, abs=0.03)
