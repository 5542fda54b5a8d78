"""Which bins may be used."""

import numpy as np
import pytest

from cubeflow.products.masked import allowed_bins

SHAPE = 5, 3, 4


def mask(seed=2):
    """Mask of which neighbouring planes are equal, but for the last."""
    rng = np.random.default_rng(seed)
    return np.stack([np.broadcast_to(rng.random(SHAPE[1:]) < 0.6, SHAPE)[0]] * 4 + [rng.random(SHAPE[1:]) < 0.4])


def test_allowed_is_safe_and_not_excluded():
    safe, exclusion = mask(), mask(3)
    np.testing.assert_array_equal(allowed_bins(SHAPE, exclusion, safe), safe & ~exclusion)
    np.testing.assert_array_equal(allowed_bins(SHAPE, exclusion[4], safe), safe & ~exclusion[4])
    np.testing.assert_array_equal(allowed_bins(SHAPE, exclusion[4], None), ~np.broadcast_to(exclusion[4], SHAPE))
    np.testing.assert_array_equal(allowed_bins(SHAPE, None, safe), safe)


def test_masks_must_fit():
    with pytest.raises(ValueError, match="safe: expected bool"):
        allowed_bins(SHAPE, None, mask()[:2])
    with pytest.raises(ValueError, match="safe: expected bool"):
        allowed_bins(SHAPE, None, mask().astype(int))
    with pytest.raises(ValueError, match="exclusion: expected bool"):
        allowed_bins(SHAPE, mask()[:2], None)
    with pytest.raises(ValueError, match="exclusion: expected bool"):
        allowed_bins(SHAPE, mask().astype(int), None)
