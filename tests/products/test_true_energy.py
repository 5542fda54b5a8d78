"""Responses over wide bins of true energy, against integrals and against the same made of fine bins."""

import itertools

import numpy as np
import pytest
from scipy.integrate import quad

from cubeflow.irf.aeff import EffectiveArea
from cubeflow.irf.edisp import EnergyDispersion
from cubeflow.irf.psf import Psf3Gauss
from cubeflow.irf.table import nodes_from_edges
from cubeflow.maps import energy_axis, log_edges, make_geometry, rad_axis
from cubeflow.observation import Pointing
from cubeflow.products.exposure import make_map_exposure_reco_energy, make_map_exposure_true_energy
from cubeflow.products.kernels import make_edisp_map, make_psf_map
from cubeflow.products.spectrum import ExponentialCutoff, LogParabola, PowerLaw, TrueEnergies, share_beyond

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (4.6, 3.1), 0.5)
POINTING = Pointing(83.9, 22.5)
OFFSET = GEOM.offset_deg(83.9, 22.5)
ENERGY = energy_axis([0.7, 1.1, 2.3, 5.0, 9.0, 20.0])
NODES = np.geomspace(0.05, 200.0, 49)
E_NODES = nodes_from_edges(NODES[:-1], NODES[1:], log=True)
O_NODES = nodes_from_edges([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], log=False)  # covers 2.5 deg
MIGRA = np.linspace(0.2, 3.0, 141)
SPECTRA = [PowerLaw(2.0), PowerLaw(3.1), LogParabola(2.3, 0.2, 1.0), ExponentialCutoff(1.5, 8.0)]


def rising_area():
    """Falls steeply below 1 TeV, the more the larger the offset."""
    energy = E_NODES.values[:, None]
    return EffectiveArea(E_NODES, O_NODES, 1e5 / (1.0 + (0.9 / energy) ** (3.0 + O_NODES.values)))


def dispersion():
    """Of 13 %, with a bias that grows with the offset and towards low energies."""
    centers, energy = 0.5 * (MIGRA[1:] + MIGRA[:-1]), E_NODES.values[:, None, None]
    mean = 1.0 + 0.05 * O_NODES.values + 0.1 / (1.0 + energy)
    density = np.exp(-0.5 * ((centers[:, None] - mean) / 0.13) ** 2)
    return EnergyDispersion(
        E_NODES, O_NODES, MIGRA, density / (density * np.diff(MIGRA)[:, None]).sum(1, keepdims=True)
    )


def true_axis(n_bins, lower=0.2, upper=60.0):
    return energy_axis(log_edges(lower, upper, n_bins), "energy_true")


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_exposure_of_a_wide_bin_is_the_integral_over_it(spectrum):
    axis = energy_axis([0.3, 0.36, 0.9, 1.0, 7.0, 50.0], "energy_true")  # fine and wide ones
    made = make_map_exposure_true_energy(POINTING, 1200.0, rising_area(), GEOM, axis, spectrum=spectrum)
    tiny = 1.0 + 1e-5

    def dnde(energy):
        return spectrum.integral([energy / tiny, energy * tiny])[0] / (energy * tiny - energy / tiny)

    for j, i in ((3, 4), (1, 7)):
        for k, (lower, upper) in enumerate(itertools.pairwise(axis.edges)):
            if k in (0, 2):
                expected = rising_area().evaluate(axis.centers[[k]], OFFSET[[j], [i]])[0, 0]
            else:
                # In ln E, between the nodes of the table.
                inner = [np.log(node) for node in E_NODES.values if lower < node < upper]

                def counts(log_energy, at=OFFSET[j, i]):
                    energy = np.exp(log_energy)
                    return rising_area().evaluate([energy], [at])[0, 0] * dnde(energy) * energy

                whole = quad(counts, np.log(lower), np.log(upper), points=inner, limit=200)[0]
                expected = whole / spectrum.integral([lower, upper])[0]
            assert made.data[k, j, i] == pytest.approx(1200.0 * expected, rel=2e-3), (k, j, i)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("n_bins", [1, 2, 5, 13, 22])
def test_counts_do_not_depend_on_the_number_of_bins(spectrum, n_bins):
    """Exposure in reconstructed energy, and that of the dispersion map, against 600 bins: also beyond the last node."""

    def both(n):
        axis = true_axis(n)
        exposure = make_map_exposure_true_energy(POINTING, 1200.0, rising_area(), GEOM, axis, spectrum=spectrum)
        reco = make_map_exposure_reco_energy(
            exposure, POINTING, dispersion(), ENERGY, spectrum, aeff=rising_area()
        ).data
        kernel = make_edisp_map(POINTING, dispersion(), GEOM, axis, ENERGY, rising_area(), spectrum).data
        flux, flux_reco = spectrum.integral(axis.edges), spectrum.integral(ENERGY.edges)
        folded = np.einsum("kryx,kyx,k->ryx", kernel, exposure.data, flux) / flux_reco[:, None, None]
        return reco, folded

    covered = OFFSET <= 2.5
    assert np.any(OFFSET[covered] > 2.0)
    exact, exact_folded = both(600)
    np.testing.assert_allclose(exact[:, covered], exact_folded[:, covered], rtol=1e-9)
    reco, folded = both(n_bins)
    np.testing.assert_allclose(folded[:, covered], exact[:, covered], rtol=0.006)
    # Linear between the offset nodes of the dispersion, while the area within the bin changes its shape.
    np.testing.assert_allclose(reco[:, covered], exact[:, covered], rtol=0.05 if n_bins < 3 else 0.006)


def test_without_an_area_the_spectrum_alone_weights_the_dispersion():
    """As for a constant area."""
    flat = EffectiveArea(E_NODES, O_NODES, np.full((48, 3), 7.0))
    axis = true_axis(4)
    alone, weighted = (make_edisp_map(POINTING, dispersion(), GEOM, axis, ENERGY, aeff) for aeff in (None, flat))
    np.testing.assert_allclose(alone.data, weighted.data, rtol=1e-12)
    exposure = make_map_exposure_true_energy(POINTING, 1.0, flat, GEOM, axis)
    alone, weighted = (
        make_map_exposure_reco_energy(exposure, POINTING, dispersion(), ENERGY, PowerLaw(), aeff=aeff)
        for aeff in (None, flat)
    )
    np.testing.assert_allclose(alone.data, weighted.data, rtol=1e-12)


def test_a_bin_without_area_has_a_response_all_the_same():
    none_below = rising_area().area_m2 * (E_NODES.values > 1.0)[:, None]
    aeff = EffectiveArea(E_NODES, O_NODES, none_below)
    axis = energy_axis([0.2, 0.7, 30.0], "energy_true")
    made = make_edisp_map(POINTING, dispersion(), GEOM, axis, ENERGY, aeff)
    alone = make_edisp_map(POINTING, dispersion(), GEOM, axis, ENERGY)
    np.testing.assert_array_equal(made.data[0], alone.data[0])
    assert not np.allclose(made.data[1], alone.data[1])
    assert np.isfinite(made.data).all()


def test_psf_of_a_wide_bin_is_that_of_its_counts():
    ones = np.ones((48, 3))
    width = 0.2 * E_NODES.values[:, None] ** -0.4 * ones
    psf, rad = Psf3Gauss(E_NODES, O_NODES, ones, width, *(0 * ones,) * 4), rad_axis(1.2, 60)
    wide, fine, spectrum = true_axis(3), true_axis(300), PowerLaw(2.4)
    made = make_psf_map(POINTING, psf, GEOM, wide, rad, rising_area(), spectrum).data
    parts = make_psf_map(POINTING, psf, GEOM, fine, rad).data.reshape(3, 100, 60, *GEOM.shape)
    area = rising_area().evaluate(fine.centers, OFFSET).reshape(3, 100, 1, *GEOM.shape)
    weight = area * spectrum.integral(fine.edges).reshape(3, 100, 1, 1, 1)
    covered = OFFSET <= 2.5
    with np.errstate(invalid="ignore"):
        expected = ((parts * weight).sum(1) / weight.sum(1))[..., covered]
    np.testing.assert_allclose(made[..., covered], expected, atol=0.02 * expected.max())
    measure = 2 * np.pi * np.deg2rad(rad.centers) * np.deg2rad(rad.widths)
    np.testing.assert_allclose(np.einsum("krp,r->kp", made[..., covered], measure), 1.0, atol=1e-12)


def test_fine_bins_are_taken_at_their_centres():
    axis = energy_axis(log_edges(0.3, 40.0, 20), "energy_true")  # as in the examples
    bins = TrueEnergies.of(axis, PowerLaw(2.0))
    np.testing.assert_array_equal(bins.energy_tev, axis.centers)
    values = np.random.default_rng(1).uniform(size=(20, 3, 4))
    assert bins.mean(values) is values
    assert bins.mean(values, rising_area(), np.zeros(4)) is values


def test_a_flux_beyond_numbers_leaves_the_parts_of_a_bin_equal():
    axis = energy_axis([1.0, 10.0, 100.0], "energy_true")
    bins = TrueEnergies.of(axis, ExponentialCutoff(2.0, 0.01))
    np.testing.assert_allclose(np.add.reduceat(bins.share, bins.starts), 1.0)
    np.testing.assert_array_equal(bins.share[bins.starts[1] :], 1.0 / (len(bins.share) - bins.starts[1]))


@pytest.mark.parametrize(
    ("lower", "upper"), [(0.7, 20.0), (0.5, 30.0), (1.1, 9.0), (0.2, 60.0), (0.05, 200.0), (0.01, 1000.0)]
)
def test_share_of_the_counts_from_beyond_the_bins(lower, upper):
    """For a dispersion that is flat from 0.5 to 2 in reconstructed over true energy, by integrals."""
    flat = EnergyDispersion(E_NODES, O_NODES, np.array([0.2, 0.5, 2.0, 3.0]), np.zeros((48, 3, 3)))
    flat.density[:, 1] = 1 / 1.5
    aeff, spectrum = EffectiveArea(E_NODES, O_NODES, np.full((48, 3), 9.0)), PowerLaw(2.2)
    made = share_beyond(aeff, flat, true_axis(11, lower, upper), ENERGY, spectrum, 1.5)

    def counts(low, high, first, last):
        def density(energy):
            return max(min(last, 2 * energy) - max(first, 0.5 * energy), 0.0) / (1.5 * energy) * energy**-2.2

        kinks = sorted(edge * factor for edge in (first, last) for factor in (0.5, 2.0))
        cuts = [low, *(kink for kink in kinks if low < kink < high), high]
        return sum(quad(density, *pair)[0] for pair in itertools.pairwise(cuts)) if low < high else 0.0

    for k, (first, last) in enumerate(itertools.pairwise(ENERGY.edges)):
        outside = counts(0.05, lower, first, last) + counts(upper, 200.0, first, last)
        assert made[k] == pytest.approx(outside / counts(0.05, 200.0, first, last), abs=0.01), k
    assert (made.max() > 0.01) == (lower > 0.4 or upper < 39)


def test_nothing_is_lost_where_there_is_nothing():
    flat = EnergyDispersion(E_NODES, O_NODES, np.array([0.9, 1.1]), np.full((48, 1, 3), 5.0))
    aeff = EffectiveArea(E_NODES, O_NODES, np.ones((48, 3)))
    beyond_table = energy_axis([1000.0, 2000.0])
    np.testing.assert_array_equal(share_beyond(aeff, flat, true_axis(3), beyond_table, PowerLaw(), 1.0), 0.0)


def test_bins_may_end_where_the_table_does_to_the_digits_of_an_axis():
    """Edges of axes are rounded to 12 digits, those of tables, as the last one of CTA-1DC, are not."""
    upper = 199.52622985839844
    nodes = nodes_from_edges([1.0, 20.0], [20.0, upper], log=True)
    true = energy_axis([1.0, 2.0, upper], "energy_true")
    assert 0.0 < upper - true.edges[-1] < 1e-9
    flat = EnergyDispersion(nodes, O_NODES, np.array([0.05, 2.05]), np.full((2, 1, 3), 0.5))
    aeff = EffectiveArea(nodes, O_NODES, np.ones((2, 3)))
    np.testing.assert_array_equal(share_beyond(aeff, flat, true, ENERGY, PowerLaw(), 1.0), 0.0)
