"""Distribution of the significance of empty sky, spectra and acceptance, drawn."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.profiles import N_SECTORS, Profiles
from cubeflow.products.significance import OffSource
from cubeflow.report.checks import (
    draw_off_source,
    draw_radial,
    draw_sectors,
    normal,
    off_source_text,
    residual_sigma,
)
from cubeflow.report.spectra import collect_spectra, draw_counts, draw_exposure

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (2.0, 1.6), 0.1)
ENERGY, TRUE = energy_axis([1.0, 2.0, 5.0]), energy_axis([0.5, 1.0, 8.0], "energy_true")


def test_normal_distribution():
    x = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(normal(x, 0.3, 1.4), norm(0.3, 1.4).pdf(x))


def test_words_on_the_distribution():
    nothing = (np.nan,) * 4
    edges, histogram = np.array([-1.0, 0.0, 1.0]), np.array([3, 5])
    found = OffSource(8, 2.0, -0.05, 0.02, 1.1, 0.03, *nothing, edges, histogram)
    assert off_source_text(found) == "all pixels: mean −0.05 ± 0.02, width 1.10 ± 0.03"
    fitted = replace(found, fit_mean=0.1, fit_mean_err=0.01, fit_width=0.9, fit_width_err=0.04)
    assert off_source_text(fitted).endswith("; fit: mean 0.10 ± 0.01, width 0.90 ± 0.04")
    assert "too few" in off_source_text(OffSource(1, 1.0, *nothing, *nothing, edges, histogram))
    assert "Gaussian fit" not in draw_off_source(found, np.array([0.2, np.nan, 9.0]), "name", "alt")
    assert "Gaussian fit" in draw_off_source(fitted, np.array([0.2, np.nan, 9.0]), "name", "alt")


def test_spectra_are_sums_over_safe_bins():
    rng = np.random.default_rng(3)
    shape = 2, *GEOM.shape
    counts, background, safe = rng.poisson(3.0, shape), rng.uniform(1, 2, shape), rng.random(shape) < 0.6
    exposure = rng.uniform(1e8, 1e9, shape)
    maps = {
        "counts": Cube(counts, "", GEOM, (ENERGY,)),
        "background": Cube(background.astype("f4"), "", GEOM, (ENERGY,)),
        "mask_safe": Cube(safe, "", GEOM, (ENERGY,)),
        "exposure": Cube(exposure, "m2 s", GEOM, (TRUE,)),
    }
    made = collect_spectra(maps, (83.6, 22.0))
    np.testing.assert_array_equal(made.counts, [counts[k][safe[k]].sum() for k in (0, 1)])
    np.testing.assert_allclose(made.background, [background[k][safe[k]].sum() for k in (0, 1)], rtol=1e-6)
    ix, iy = GEOM.pixel_index(83.6, 22.0)
    np.testing.assert_array_equal(made.exposure_target, exposure[:, iy, ix])
    np.testing.assert_array_equal(made.exposure_largest, exposure.max(axis=(1, 2)))
    assert "threshold" in draw_counts(made, np.array([1.1, 1.4]), "name", "alt")
    assert "at the target" in draw_exposure(made, "name", "alt")
    bare = collect_spectra({name: maps[name] for name in ("counts", "mask_safe")}, (120.0, 0.0))
    assert np.isnan(bare.background).all()
    assert bare.true_tev.size == 0
    assert "background" not in draw_counts(bare, np.zeros(0), "name", "alt")
    assert np.isnan(collect_spectra(maps, (120.0, 0.0)).exposure_target).all()


def test_residual():
    found = residual_sigma(np.array([12.0, 3.0, 1.0]), np.array([9.0, 0.0, np.nan]))
    assert found[0] == pytest.approx(1.0)
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize("n_bands", [1, 3, 4])
def test_acceptance_is_drawn_per_band(n_bands):
    rng = np.random.default_rng(n_bands)
    rings, sectors = rng.uniform(1, 9, (n_bands, 5)), rng.uniform(5, 9, (n_bands, N_SECTORS))
    rings[0, 4] = 0.0
    profiles = Profiles(rng.poisson(rings).astype(float), rings, rings, rng.poisson(sectors).astype(float), sectors)
    bands = [(10.0**k, 10.0 ** (k + 1)) for k in range(n_bands)]
    assert draw_radial(profiles, bands, "name", "alt").count("residual") == (n_bands + 1) // 2
    assert draw_sectors(profiles, bands, "name", "alt").count("NW") == n_bands
