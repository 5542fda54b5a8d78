from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from cubeflow.products.spectrum import ExponentialCutoff, LogParabola, PowerLaw, TableSpectrum

EDGES = np.array([0.1, 0.35, 2.0, 50.0])


def numeric(dnde, points=()):
    inner = [[p for p in points if lo < p < hi] for lo, hi in pairwise(EDGES)]
    spans = zip(EDGES[:-1], EDGES[1:], inner, strict=True)
    return [quad(dnde, lo, hi, points=mid or None, epsrel=1e-11, limit=200)[0] for lo, hi, mid in spans]


@pytest.mark.parametrize("index", [2.7, 1.0, 0.0])
def test_power_law(index):
    np.testing.assert_allclose(PowerLaw(index).integral(EDGES), numeric(lambda e: e**-index), rtol=1e-9)


def test_log_parabola():
    spectrum = LogParabola(2.4, 0.15, 0.7)
    expected = numeric(lambda e: (e / 0.7) ** (-2.4 - 0.15 * np.log(e / 0.7)))
    np.testing.assert_allclose(spectrum.integral(EDGES), expected, rtol=1e-9)


def test_exponential_cutoff():
    expected = numeric(lambda e: e**-1.9 * np.exp(-e / 7.0))
    np.testing.assert_allclose(ExponentialCutoff(1.9, 7.0).integral(EDGES), expected, rtol=1e-8)


def test_table_is_a_chain_of_power_laws_that_goes_on():
    energy, dnde = (0.2, 1.0, 8.0), (9.0, 2.0, 0.01)

    def chain(e):
        k = 0 if e < 1.0 else 1
        slope = np.log(dnde[k + 1] / dnde[k]) / np.log(energy[k + 1] / energy[k])
        return dnde[k] * (e / energy[k]) ** slope

    np.testing.assert_allclose(TableSpectrum(energy, dnde).integral(EDGES), numeric(chain, [1.0]), rtol=1e-9)


@pytest.mark.parametrize(("energy", "dnde"), [((1.0,), (1.0,)), ((2.0, 1.0), (1.0, 1.0)), ((1.0, 2.0), (1.0, 0.0))])
def test_impossible_tables_are_refused(energy, dnde):
    with pytest.raises(ValueError, match=r"^(table spectrum|energy_tev|dnde): expected"):
        TableSpectrum(energy, dnde)
