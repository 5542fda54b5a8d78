"""Which bins may be used."""

import numpy as np
import pytest

from cubeflow.products.exclusion import allowed_bins, usable_bins

SHAPE = 5, 3, 4


def mask(seed=2):
    """Mask of which neighbouring planes are equal, but for the last."""
    rng = np.random.default_rng(seed)
    return np.stack([np.broadcast_to(rng.random(SHAPE[1:]) < 0.6, SHAPE)[0]] * 4 + [rng.random(SHAPE[1:]) < 0.4])


def test_usable_is_safe_and_has_acceptance():
    acceptance, safe = np.array([[[0.0, 1e-30, 2.0]]]), np.array([[[True, True, False]]])
    assert usable_bins(acceptance, safe).tolist() == [[[False, True, False]]]
    assert usable_bins(acceptance, None).tolist() == [[[False, True, True]]]


def test_allowed_is_usable_and_not_excluded():
    usable, exclusion = mask(), mask(3)
    np.testing.assert_array_equal(allowed_bins(usable, exclusion), usable & ~exclusion)
    np.testing.assert_array_equal(allowed_bins(usable, exclusion[4]), usable & ~exclusion[4])
    np.testing.assert_array_equal(allowed_bins(usable, None), usable)


def test_masks_must_fit():
    with pytest.raises(ValueError, match="safe: expected bool"):
        usable_bins(np.ones(SHAPE), mask()[:2])
    with pytest.raises(ValueError, match="safe: expected bool"):
        usable_bins(np.ones(SHAPE), mask().astype(int))
    with pytest.raises(ValueError, match="exclusion: expected bool"):
        allowed_bins(mask(), mask()[:2])
    with pytest.raises(ValueError, match="exclusion: expected bool"):
        allowed_bins(mask(), mask().astype(int))
