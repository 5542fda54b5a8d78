"""FoV norms, rings and significance of the Crab (geometry B of the validation).

The reference numbers belong to gammapy's default integral of the background over energy, from the two edges of each
bin. With the same acceptance they come out to all digits quoted. The exact integral moves the norms by half a per
cent to one, because the acceptance of a bin grows or falls; the normalised background, and with it the significance,
hardly changes (Cash 35.75 instead of 35.76 sigma, Li & Ma 34.00 with both).

The Crab lies on the corner of four pixels. The numbers quoted are those of the pixel (175, 174), with 326 counts in
the disc; it has 570 OFF counts. The 587 OFF counts quoted are those of the pixel above it.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from cubeflow.maps import Cube, make_geometry
from cubeflow.products.acceptance import make_map_hadron_acceptance
from cubeflow.products.fov_background import FovOptions, make_map_fov_background
from cubeflow.products.ring_background import RingOptions, make_map_ring_background
from cubeflow.products.significance import (
    describe_off_source,
    make_disc,
    make_map_significance_cash,
    make_map_significance_li_ma,
)

from .conftest import plain_axis, plain_geometry, plain_parts

pytestmark = pytest.mark.real_data

CRAB = 83.633, 22.014
PIXEL = np.s_[0, 174, 175]
RUNS = {
    # run: counts, acceptance, norm, its error, OFF counts of the ring summed over the field of view
    23523: (1882, 1882.358, 0.925546, 0.022621, 4201892),
    23526: (1615, 1472.468, 0.995095, 0.026491, 3513301),
    23559: (1470, 1471.576, 0.928727, 0.025476, 3354613),
    23592: (1772, 1784.711, 0.925918, 0.023112, 4107498),
}
PER_ENERGY = [2201, 1543, 1055, 748, 481, 363, 222, 126]


@pytest.fixture(scope="module")
def reduced(hess_gammapy):
    """Counts, two-point and exact acceptance and masks of each run on its cutout, and gammapy's dataset."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from gammapy.datasets import MapDataset
    from gammapy.makers import MapDatasetMaker
    from gammapy.maps import MapAxis, WcsGeom

    energy = MapAxis.from_energy_bounds("1 TeV", "20 TeV", 8)
    center = SkyCoord(*CRAB, unit="deg")
    geom = WcsGeom.create(skydir=center, proj="TAN", frame="icrs", width=7, binsz=0.02, axes=[energy])
    runs = []
    for obs_id in RUNS:
        observation = hess_gammapy.obs(obs_id)
        pointing = observation.get_pointing_icrs(observation.tmid)
        cutout = MapDataset.create(geom).cutout(pointing, width=5 * u.deg, mode="partial")
        dataset = MapDatasetMaker(["counts", "background"]).run(cutout, observation)
        runs.append(reduce_run(obs_id, dataset, plain_parts(observation, lon_east=True)))
    return runs


def reduce_run(obs_id, dataset, parts):
    geom, energy = plain_geometry(dataset.counts.geom), plain_axis(dataset.counts.geom.axes["energy"])
    safe = np.zeros(dataset.counts.data.shape, bool)
    safe |= geom.offset_deg(parts.pointing.ra_deg, parts.pointing.dec_deg) < 2.0
    dataset.counts.data *= safe
    dataset.background.data *= safe
    dataset.mask_safe.data[...] = safe
    acceptance = make_map_hadron_acceptance(parts.pointing, parts.ontime_s, parts.background, geom, energy, 2.0)
    return SimpleNamespace(
        id=obs_id,
        dataset=dataset,
        counts=Cube(dataset.counts.data.astype(int), "", geom, (energy,)),
        two_point=Cube(dataset.background.data.astype(float), "", geom, (energy,)),
        exact=acceptance,
        safe=safe,
        excluded=geom.offset_deg(*CRAB) <= 0.35,
    )


def summed(cubes):
    """Cubes on their cutouts, added on the 7 x 7 deg map; NaN counts as nothing."""
    axis = cubes[0].axes[0]
    full = make_geometry("icrs", "TAN", *CRAB, (7.0, 7.0), 0.02)
    total = np.zeros((axis.n_bins, *full.shape))
    for cube in cubes:
        own, there = cube.geom.overlap(full)
        total[(slice(None), *there)] += np.nan_to_num(cube.data[(slice(None), *own)])
    return Cube(total, "", full, (axis,))


def like(cube, data):
    """Other data on the grid and the axes of a cube."""
    return Cube(data, "", cube.geom, cube.axes)


@pytest.fixture(scope="module", params=["two_point", "exact"])
def fov(request, reduced):
    runs = [
        make_map_fov_background(getattr(run, request.param), run.counts, run.excluded, FovOptions(), run.safe)
        for run in reduced
    ]
    counts = summed([run.counts for run in reduced])
    background = summed(
        [like(run.counts, made.background.data * run.safe) for run, made in zip(reduced, runs, strict=True)]
    )
    mask = summed([like(run.counts, run.safe) for run in reduced]).data > 0
    maps = make_map_significance_cash(counts, background, mask, 0.1)
    return SimpleNamespace(integral=request.param, runs=runs, counts=counts, background=background, maps=maps)


def test_counts(fov, record):
    record("crab.counts", fov.counts.data.sum(), "counts", "four Crab runs, stacked")
    assert fov.counts.data.sum() == 6739
    assert fov.counts.data.sum((1, 2)).tolist() == PER_ENERGY


def test_norms(fov, reduced, record):
    for run, made in zip(reduced, fov.runs, strict=True):
        n_counts, acceptance, norm, norm_err, _ = RUNS[run.id]
        text = f"run {run.id}, {fov.integral} integral of the background: "
        record(f"norm.{run.id}.{fov.integral}", made.norms.norm[0], "", text + "norm")
        record(f"normalised.{run.id}.{fov.integral}", made.background.data.sum(), "counts", text + "background")
        assert run.counts.data.sum() == n_counts
        if fov.integral == "two_point":
            assert run.two_point.data.sum() == pytest.approx(acceptance, abs=6e-4)
            assert made.norms.norm[0] == pytest.approx(norm, abs=6e-7)
            assert made.norms.norm_err[0] == pytest.approx(norm_err, abs=6e-7)
        else:
            assert made.norms.norm[0] == pytest.approx(norm, rel=0.011)
            # What the integral changes, the norm takes back.
            assert made.background.data.sum() == pytest.approx(acceptance * norm, rel=3e-4)


def test_cash_at_the_crab(fov, record):
    value = fov.maps.significance.data[PIXEL]
    record(f"crab.cash.{fov.integral}", value, "sigma", f"Crab, {fov.integral} integral of the background")
    record("crab.disc", fov.maps.counts.data[PIXEL], "counts", "counts in the disc at the Crab")
    assert fov.maps.counts.data[PIXEL] == 326
    assert fov.maps.significance.data[PIXEL] == pytest.approx(35.76, abs=0.01 if fov.integral == "two_point" else 0.02)


def test_off_source(fov, record):
    distance = fov.counts.geom.offset_deg(*CRAB)
    empty = np.where(distance > 0.35, fov.maps.significance.data[0], np.nan)
    found = describe_off_source(empty, make_disc(0.1, 0.02))
    record(f"crab.width.{fov.integral}", found.width, "sigma", "width of the significances away from the Crab")
    assert found.width == pytest.approx(1.03, abs=0.005)
    assert found.fit_width == pytest.approx(1.03, abs=0.01)


@pytest.fixture(scope="module", params=["two_point", "exact"])
def rings(request, reduced):
    runs = [
        make_map_ring_background(
            getattr(run, request.param), run.counts, run.excluded, RingOptions(0.5, 0.3, per_energy=False), run.safe
        )
        for run in reduced
    ]
    pairs = list(zip(reduced, runs, strict=True))
    counts = summed([like(run.counts, run.counts.data * made.mask) for run, made in pairs])
    acceptance = summed([like(run.counts, getattr(run, request.param).data * made.mask) for run, made in pairs])
    mask = summed([like(run.counts, made.mask) for run, made in pairs]).data > 0
    image = [made.mask.any(0) for made in runs]
    off = summed([like(made.alpha, made.counts_off.data * on) for made, on in zip(runs, image, strict=True)])
    predicted = [made.counts_off.data * made.alpha.data * on for made, on in zip(runs, image, strict=True)]
    predicted = summed([like(made.alpha, data) for made, data in zip(runs, predicted, strict=True)])
    ratio = np.divide(predicted.data, off.data, out=np.full(off.data.shape, np.nan), where=off.data > 0)
    maps = make_map_significance_li_ma(counts, acceptance, off, like(off, ratio), mask, 0.1)
    return SimpleNamespace(integral=request.param, runs=runs, off=off, maps=maps)


def test_off_counts(rings, reduced, record):
    for run, made in zip(reduced, rings.runs, strict=True):
        n_off = np.sum(made.counts_off.data[0], where=run.safe[0])
        record(f"ring.off.{run.id}", n_off, "counts", f"run {run.id}: OFF counts, summed over the field of view")
        assert n_off == RUNS[run.id][-1]
    assert rings.off.data[PIXEL] == 570
    assert rings.off.data[0, 175, 175] == 587


def li_ma(n_on, n_off, alpha):
    """Equation 17 of Li & Ma, written out once more."""
    on = n_on * np.log((1 + alpha) / alpha * n_on / (n_on + n_off))
    return np.sqrt(2 * (on + n_off * np.log((1 + alpha) * n_off / (n_on + n_off))))


def test_li_ma_at_the_crab(rings, record):
    value = rings.maps.significance.data[PIXEL]
    record(f"crab.li_ma.{rings.integral}", value, "sigma", f"Crab, rings, {rings.integral} integral of the background")
    # OFF counts of the rings summed over the disc once more, as if those of neighbours were others.
    y, x = np.indices(rings.off.data.shape[1:])
    n_off = rings.off.data[0][np.hypot(y - 174, x - 175) < 5.001].sum()
    twice = li_ma(326, n_off, rings.maps.background.data[PIXEL] / n_off)
    record(f"crab.li_ma_twice.{rings.integral}", twice, "sigma", "Crab, rings, OFF counts summed over the disc again")
    assert twice > value + 1.5
    assert rings.maps.counts.data[PIXEL] == 326
    assert rings.maps.significance.data[PIXEL] == pytest.approx(34.00, abs=0.01)


def test_ring_and_significance_equal_gammapy(reduced, record):
    """One run, as an image, where gammapy is right: masked before the rings, exclusion map larger than the field."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from gammapy.estimators import ExcessMapEstimator
    from gammapy.makers import RingBackgroundMaker
    from regions import CircleSkyRegion

    run = reduced[1]
    image = run.dataset.to_image()
    region = CircleSkyRegion(SkyCoord(*CRAB, unit="deg"), 0.35 * u.deg)
    exclusion = image.counts.geom.region_mask([region], inside=False)
    on_off = RingBackgroundMaker(r_in=0.5 * u.deg, width=0.3 * u.deg, exclusion_mask=exclusion).run(image)
    excluded = ~exclusion.data[0].astype(bool)
    made = make_map_ring_background(
        run.two_point, run.counts, excluded, RingOptions(0.5, 0.3, per_energy=False), run.safe
    )
    safe = run.safe[0]
    np.testing.assert_array_equal(made.mask[0], on_off.mask_safe.data[0])
    np.testing.assert_array_equal(made.counts_off.data[0][safe], np.rint(on_off.counts_off.data[0][safe]))
    np.testing.assert_allclose(made.acceptance_off.data[0][safe], on_off.acceptance_off.data[0][safe], rtol=1e-6)
    np.testing.assert_allclose(made.alpha.data[0][safe], on_off.alpha.data[0][safe], rtol=1e-6)

    with np.errstate(invalid="ignore", divide="ignore"):
        expected = ExcessMapEstimator("0.1 deg", correlate_off=False).run(on_off)
    maps = make_map_significance_li_ma(run.counts, run.two_point, made.counts_off, made.alpha, made.mask, 0.1)
    off = np.abs(made.counts_off.data[0][safe] - np.rint(on_off.counts_off.data[0][safe])).max()
    record("ring.off.difference", off, "counts", "OFF counts of a pixel, run 23526, against gammapy")
    ratio = np.abs(made.alpha.data[0][safe] / on_off.alpha.data[0][safe] - 1).max()
    record("ring.alpha.difference", ratio, "", "alpha of a pixel, run 23526, relative, against gammapy")
    sigma = np.nanmax(np.abs(maps.significance.data[0][safe] - expected.sqrt_ts.data[0][safe]))
    record("ring.significance.difference", sigma, "sigma", "significance of a pixel, run 23526, against gammapy")
    np.testing.assert_array_equal(maps.counts.data[0][safe], expected.npred.data[0][safe])
    np.testing.assert_allclose(maps.significance.data[0][safe], expected.sqrt_ts.data[0][safe], rtol=1e-4, atol=1e-4)
