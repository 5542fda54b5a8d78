"""Real responses: the exposure in reconstructed energy is the same for few bins of true energy and for very many."""

import numpy as np
import pytest

from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.maps import energy_axis, log_edges, make_geometry
from cubeflow.products.exposure import make_map_exposure_reco_energy, make_map_exposure_true_energy
from cubeflow.products.spectrum import PowerLaw, TrueEnergies

pytestmark = pytest.mark.real_data
SPECTRUM = PowerLaw(2.0)


def worst(run, limits, energy, n_bins):
    """Largest relative difference from 3000 bins, with averages over wide bins and at their centres."""
    geom = make_geometry("icrs", "TAN", run.pointing.ra_deg + 0.3, run.pointing.dec_deg + 0.2, (3.6, 0.4), 0.4)

    def reco(n, spectrum=SPECTRUM):
        axis = energy_axis(log_edges(*limits, n), "energy_true")
        exposure = make_map_exposure_true_energy(run.pointing, 1e3, run.aeff, geom, axis, spectrum=spectrum)
        made = make_map_exposure_reco_energy(exposure, run.pointing, run.edisp, energy, spectrum, aeff=run.aeff)
        return made.data

    exact, made = reco(3000), reco(n_bins)
    axis = energy_axis(log_edges(*limits, n_bins), "energy_true")
    offset = geom.offset_deg(run.pointing.ra_deg, run.pointing.dec_deg)
    kernel, area = run.edisp.kernel(axis.centers, energy.edges, offset), run.aeff.evaluate(axis.centers, offset)
    flux = SPECTRUM.integral(axis.edges) / SPECTRUM.integral(energy.edges)[:, None]
    centers = 1e3 * np.einsum("kryx,kyx,rk->ryx", kernel, area, flux)
    return np.abs(made / exact - 1).max(), np.abs(centers / exact - 1).max()


@pytest.mark.parametrize(("n_bins", "before"), [(5, 0.4), (10, 0.1), (24, 0.01)])
def test_few_bins_of_true_energy_keep_the_exposure_of_hess(hess_store, n_bins, before):
    run = next(read_observation(entry) for entry in open_store(hess_store).runs if entry.obs_id == 23523)
    averaged, at_centers = worst(run, (0.3, 60.0), energy_axis(log_edges(0.7, 20.0, 8)), n_bins)
    assert averaged < 0.012
    assert (at_centers > before) if n_bins < 24 else at_centers == pytest.approx(averaged)


@pytest.mark.parametrize("n_bins", [9, 24])
def test_few_bins_of_true_energy_keep_the_exposure_of_cta(cta_store, data_root, n_bins):
    """The 24 bins of the shipped configuration are wider than the resolution of CTA."""
    entry = next(entry for entry in open_store(cta_store, [data_root / "cta-1dc"]).runs if entry.obs_id == 111140)
    averaged, at_centers = worst(read_observation(entry), (0.05, 150.0), energy_axis(log_edges(0.1, 50.0, 8)), n_bins)
    assert averaged < 0.012 < 0.1 < at_centers


def test_the_bins_of_the_crab_are_fine():
    axis = energy_axis(log_edges(0.3, 40.0, 20), "energy_true")
    assert len(TrueEnergies.of(axis, SPECTRUM).share) == 20
