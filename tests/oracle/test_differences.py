"""Where gammapy 2.1 and we differ on purpose: how large the difference is, and what makes it vanish."""

import numpy as np
import pytest

from cubeflow.maps import Axis
from cubeflow.products.acceptance import make_map_hadron_acceptance
from cubeflow.products.kernels import make_psf_kernel, make_psf_map

from .conftest import plain_axis, plain_geometry, plain_parts

pytestmark = pytest.mark.real_data

CRAB = 83.633, 22.014


@pytest.fixture(scope="module")
def observation(hess_gammapy):
    return hess_gammapy.obs(23523)


def geometry(width_deg, pixel_deg, n_bins):
    from astropy.coordinates import SkyCoord
    from gammapy.maps import MapAxis, WcsGeom

    axes = [MapAxis.from_energy_bounds("1 TeV", "10 TeV", n_bins)]
    center = SkyCoord(*CRAB, unit="deg")
    return WcsGeom.create(skydir=center, proj="TAN", frame="icrs", width=width_deg, binsz=pixel_deg, axes=axes)


@pytest.mark.parametrize(("n_bins", "size"), [(1, 0.0964), (2, 0.0492), (4, 0.0065)])
def test_two_points_are_too_few_for_a_wide_bin(observation, n_bins, size, record):
    from gammapy.datasets import MapDataset
    from gammapy.makers import MapDatasetMaker

    geom = geometry(4, 0.1, n_bins)
    parts = plain_parts(observation, lon_east=True)
    made = make_map_hadron_acceptance(
        parts.pointing, parts.ontime_s, parts.background, plain_geometry(geom), plain_axis(geom.axes["energy"])
    ).data.sum()
    found = {}
    for oversampling in (None, 8, 64):
        maker = MapDatasetMaker(["background"], background_oversampling=oversampling)
        found[oversampling] = maker.run(MapDataset.create(geom), observation).background.data.sum() / made - 1
        how = f"{n_bins} bins from 1 to 10 TeV, oversampling {oversampling}: background over exact one, minus 1"
        record(f"two_point.{n_bins}.{oversampling}", found[oversampling], "", how)
    assert found[None] == pytest.approx(size, abs=0.001)
    assert abs(found[64]) < 1e-3


def test_psf_kernels_sampled_once_a_pixel_miss_the_peak(observation, record):
    """The mean over a pixel does not depend on how it is had: with many samples gammapy comes to ours."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord
    from gammapy.datasets import MapDataset
    from gammapy.makers import MapDatasetMaker
    from gammapy.maps import MapAxis

    energy_true = MapAxis.from_energy_bounds("0.5 TeV", "40 TeV", 12, name="energy_true")
    empty = MapDataset.create(geometry(3, 0.02, 2), energy_axis_true=energy_true)
    dataset = MapDatasetMaker(["exposure", "psf"]).run(empty, observation)
    where = {"position": SkyCoord(*CRAB, unit="deg"), "geom": dataset.exposure.geom}
    coarse = centre(dataset.psf.get_psf_kernel(**where).psf_kernel_map.data)
    wide = {"max_radius": 0.6 * u.deg, "containment": 0.99999, "precision_factor": 50}
    fine = centre(dataset.psf.get_psf_kernel(**where, **wide).psf_kernel_map.data)
    psf_map = dataset.psf.psf_map
    rad = Axis("rad", tuple(psf_map.geom.axes["rad"].edges.to_value("deg")), "deg", "lin")
    parts, axis = plain_parts(observation, lon_east=True), plain_axis(energy_true)
    psf = make_psf_map(parts.pointing, parts.psf, plain_geometry(psf_map.geom), axis, rad)
    ours = centre(make_psf_kernel(psf, *CRAB, 0.02, 0.6).data)
    record(
        "psf_kernel.default", np.abs(coarse / fine - 1).max(), "", "centre of PSF kernels, default over precision 50"
    )
    record(
        "psf_kernel.ours", np.abs(ours / fine - 1).max(), "", "centre of PSF kernels, ours over gammapy, precision 50"
    )
    assert np.abs(coarse / fine - 1).max() > 0.1
    assert np.abs(ours / fine - 1).max() < 0.02


def centre(kernels):
    """Centre pixel of each kernel."""
    return kernels[:, kernels.shape[1] // 2, kernels.shape[2] // 2]


def test_pixels_outside_the_exclusion_map_are_lost(observation, record):
    """Exclusion map of 2 deg on a field of 5 deg: gammapy takes background from the inner part alone."""
    import astropy.units as u
    from gammapy.datasets import MapDataset
    from gammapy.makers import FoVBackgroundMaker, MapDatasetMaker, SafeMaskMaker

    geom = geometry(5, 0.05, 4)
    dataset = MapDatasetMaker(["counts", "background"]).run(MapDataset.create(geom), observation)
    dataset = SafeMaskMaker(["offset-max"], offset_max=2 * u.deg).run(dataset, observation)
    norms = {}
    for width in (2, 6):
        image = geometry(width, 0.05, 4).to_image()
        keep = image.region_mask(f"icrs;circle({CRAB[0]}, {CRAB[1]}, 0.35)", inside=False)
        made = FoVBackgroundMaker(method="scale", exclusion_mask=keep).run(dataset.copy())
        norms[width] = made.background_model.spectral_model.norm.value
        record(f"exclusion.{width}", norms[width], "", f"norm of run 23523 with an exclusion map of {width} deg")
    counts, background = dataset.counts.data, dataset.background.data
    here = plain_geometry(geom)
    keep = dataset.mask_safe.data & (here.offset_deg(*CRAB) > 0.35)
    assert norms[6] == pytest.approx(counts[keep].sum() / background[keep].sum(), rel=1e-3)
    assert abs(norms[2] / norms[6] - 1) > 0.02


def test_events_outside_the_good_time_are_kept_by_gammapy(hess_gammapy, hess_store, record):
    from cubeflow.dl3.index import open_store
    from cubeflow.dl3.reader import read_observation

    lost = []
    for entry in open_store(hess_store).runs:
        run = read_observation(entry)
        lost.append(np.sum(~run.gti.contains(run.events.time_s)))
    record("gti.runs", np.count_nonzero(lost), "", "H.E.S.S. runs with events outside their good time")
    record("gti.most", max(lost), "counts", "largest number of those events in a run")
    assert np.count_nonzero(lost) == 89
    assert max(lost) == 11
