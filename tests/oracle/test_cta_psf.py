"""CTA-1DC: three Gaussians, of which many cells have none."""

import numpy as np
import pytest

from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation

pytestmark = pytest.mark.real_data


def test_psf_agrees_wherever_all_neighbours_have_one(cta_store, data_root, cta_gammapy, record):
    import astropy.units as u

    psf = read_observation(open_store(cta_store, [data_root / "cta-1dc"]).runs[0]).psf
    theirs = cta_gammapy.obs(111140).psf
    energy, offset, rad = np.geomspace(0.02, 150.0, 40), np.linspace(0.0, 5.9, 24), np.linspace(0.0, 0.5, 11)
    expected = theirs.evaluate(
        rad=rad * u.deg, energy_true=energy[:, None, None] * u.TeV, offset=offset[:, None] * u.deg
    ).to_value("sr-1")
    made = psf.evaluate(energy, offset, rad)
    empty = (psf.scale <= 0) | (psf.sigma_1 <= 0)
    touched = (psf.energy_true.weights(energy) != 0) @ empty.astype(float) @ (psf.offset.weights(offset) != 0).T > 0
    assert touched.any()
    assert (~touched).sum() > 500
    difference = np.abs(made[~touched] - expected[~touched]).max() / expected.max()
    record("cta.psf.difference", difference, "", "CTA-1DC, PSF away from empty cells: difference over largest value")
    record("cta.psf.touched", touched.mean(), "", "CTA-1DC, PSF: part of energies and offsets beside an empty cell")
    np.testing.assert_allclose(made[~touched], expected[~touched], rtol=1e-6, atol=1e-6 * expected.max())
    # Beside an empty cell gammapy mixes in a width of 1 deg, which stands for none: its PSF is far too wide there.
    beside = touched & (made[..., 0] > 0)
    peak = np.median(expected[..., 0][beside] / made[..., 0][beside])
    record("cta.psf.peak", peak, "", "CTA-1DC, PSF beside an empty cell: gammapy's peak over ours, median")
    assert np.all(made[..., 0][beside] >= expected[..., 0][beside] * (1 - 1e-6))
