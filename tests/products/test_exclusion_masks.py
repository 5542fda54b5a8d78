"""Exclusions that depend on energy, to the background of a run."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from cubeflow.dl3.exclusions import read_exclusion
from cubeflow.products.background import make_background
from cubeflow.products.exclusion import Areas, Disc, Exclusion, ExclusionMasks
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.reduced import reduce_observation
from cubeflow.products.ring_background import RingOptions

from .conftest import TARGET_DEG, reduce_options, simulated_runs

R_IN, R_OUT, PIXEL = 0.5, 0.8, 0.1
EDGES = [1.0, 2.0, 5.0, 20.0]


def half_plane_and_discs(geom):
    """Excluded radius about the target by energy, and a half plane at the highest energy."""
    away = geom.offset_deg(*TARGET_DEG)
    excluded = np.stack([away < 0.62, away < 0.31, np.zeros(geom.shape, bool)])
    excluded[2, :, : geom.nx // 3] = True
    return excluded


@pytest.fixture(scope="module")
def options():
    from dataclasses import replace

    from cubeflow.maps import energy_axis

    made = reduce_options((3.0, 2.6), PIXEL, (1.0, 20.0, 3), (0.5, 40.0, 7), 0.4, 20)
    return replace(made, energy=energy_axis(EDGES))


@pytest.fixture(scope="module")
def run(tmp_path_factory, options):
    runs = simulated_runs(tmp_path_factory.mktemp("store"), n_runs=1, duration_s=600.0, tiny=True)
    return reduce_observation(next(runs), options)


@pytest.fixture(scope="module")
def masks(tmp_path_factory, options):
    """A cube of a mask for each energy on the pixels of the map, and a disc at one energy."""
    folder, grid = tmp_path_factory.mktemp("exclusion"), options.geometry
    header = grid.wcs().to_header()
    header["BANDSHDU"] = "BANDS"
    edges = Table([EDGES[:-1], EDGES[1:]], names=["E_MIN", "E_MAX"], units=["TeV", "TeV"])
    image = fits.ImageHDU((~half_plane_and_discs(grid)).astype("u1"), header)
    fits.HDUList([fits.PrimaryHDU(), image, fits.BinTableHDU(edges, name="BANDS")]).writeto(folder / "cube.fits")
    one = Exclusion("one", Areas((Disc(84.3, 22.4, 0.4),)), (1.5, 4.0))
    return ExclusionMasks([read_exclusion(folder / "cube.fits"), one])


def parts(run, options, masks):
    """Counts, acceptance, safe bins, what may be used, and the mask."""
    counts, acceptance, safe = (run.maps[name].data for name in ("counts", "acceptance", "mask_safe"))
    geom, grid = run.maps["counts"].geom, options.geometry
    excluded = np.zeros(counts.shape, bool)
    x0, y0 = geom.origin_in(grid)
    inside = half_plane_and_discs(grid)
    for iy, ix in np.ndindex(geom.shape):
        if 0 <= iy + y0 < grid.ny and 0 <= ix + x0 < grid.nx:
            excluded[:, iy, ix] = inside[:, iy + y0, ix + x0]
    excluded[:2] |= geom.offset_deg(84.3, 22.4) < 0.4  # 1.5 to 4 TeV touches the bins 1 to 2 and 2 to 5 TeV
    mask = masks.mask(geom, options.energy)
    np.testing.assert_array_equal(mask, excluded)
    return counts, acceptance.astype(float), safe, safe & ~excluded, mask


def test_fov_norms_come_from_what_each_energy_leaves(run, options, masks):
    counts, acceptance, safe, allowed, mask = parts(run, options, masks)
    method = FovOptions(energy_groups=3, min_counts=1, norm_min=0.01, norm_max=100.0)
    made = make_background(run, method, mask, TARGET_DEG, 0.1)
    for k in range(3):
        norm = counts[k][allowed[k]].sum() / acceptance[k][allowed[k]].sum()
        usable = safe[k] & (acceptance[k] > 0)
        assert usable.any()
        np.testing.assert_allclose(made.maps["background"].data[k][usable], norm * acceptance[k][usable], rtol=1e-6)


@pytest.mark.parametrize("per_energy", [False, True])
def test_ring_counts_are_those_of_a_loop(run, options, masks, per_energy):
    counts, acceptance, safe, allowed, mask = parts(run, options, masks)
    made = make_background(run, RingOptions(R_IN, R_OUT - R_IN, per_energy), mask, TARGET_DEG, 0.1)
    counts_off, acceptance_off = np.zeros(counts.shape, int), np.zeros(counts.shape)
    y, x = np.mgrid[: counts.shape[1], : counts.shape[2]]
    for v, u in zip(*np.nonzero(allowed.any(axis=0)), strict=True):
        r = np.hypot(y - v, x - u) * PIXEL
        ring = (r >= R_IN - 1e-9) & (r <= R_OUT + 1e-9)
        for k in np.flatnonzero(allowed[:, v, u]):
            counts_off[k][ring] += int(counts[k, v, u])
            acceptance_off[k][ring] += acceptance[k, v, u]
    if not per_energy:
        counts_off, acceptance_off = (np.sum(part, axis=0, keepdims=True) for part in (counts_off, acceptance_off))
    np.testing.assert_array_equal(made.maps["counts_off"].data, counts_off)
    np.testing.assert_allclose(made.maps["acceptance_off"].data, acceptance_off, rtol=1e-6)
    usable = safe & (acceptance_off > 0)
    expected = acceptance * counts_off / np.where(acceptance_off > 0, acceptance_off, 1.0)
    np.testing.assert_allclose(made.maps["background"].data[usable], expected[usable], rtol=1e-6)


def test_without_energies_a_pixel_is_excluded_that_is_so_at_any(options, masks):
    grid = options.geometry
    expected = half_plane_and_discs(grid).any(axis=0) | (grid.offset_deg(84.3, 22.4) < 0.4)
    np.testing.assert_array_equal(masks.mask(grid), expected)


def test_masks_are_made_once(options):
    masks = ExclusionMasks([Exclusion("x", Areas((Disc(*TARGET_DEG, 0.4),)))])
    first = masks.mask(options.geometry, options.energy)
    assert first.shape == options.geometry.shape
    assert masks.mask(options.geometry) is first
    np.testing.assert_array_equal(first, options.geometry.offset_deg(*TARGET_DEG) < 0.4)
    assert not ExclusionMasks([]).mask(options.geometry).any()
