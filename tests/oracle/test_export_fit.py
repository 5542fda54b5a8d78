"""gammapy opens the exported Crab cube and finds the published spectrum."""

from pathlib import Path

import numpy as np
import pytest

from cubeflow.config import load_config
from cubeflow.plan.run import run_whole

pytestmark = [pytest.mark.real_data, pytest.mark.filterwarnings("default::DeprecationWarning")]
REPOSITORY = Path(__file__).resolve().parents[2]
# PHYSICS of the release: Mohrmann et al. 2019, A&A 632, A72, energies of the fit at 1.45 TeV.
AMPLITUDE, AMPLITUDE_ERR = 17.0, 0.8  # 1e-12 /TeV/cm2/s
INDEX, INDEX_ERR = 2.65, 0.06


@pytest.fixture(scope="module")
def crab(hess_store, tmp_path_factory):
    """Final products of the four runs, made step by step with the example configuration."""
    results = tmp_path_factory.mktemp("crab")
    overrides = {
        "data": {"store": str(hess_store)},
        "results": str(results),
        "exclusion": str(REPOSITORY / "config" / "crab.reg"),
    }
    config = load_config(REPOSITORY / "config" / "hess-crab.yaml", overrides)
    run_whole(config, lambda line: None)
    return results / "crab"


def test_gammapy_fits_the_published_crab_spectrum(crab, record):
    from gammapy.datasets import MapDataset
    from gammapy.modeling import Fit
    from gammapy.modeling.models import (
        FoVBackgroundModel,
        PointSpatialModel,
        PowerLawSpectralModel,
        SkyModel,
    )

    dataset = MapDataset.read(crab / "fov" / "dataset.fits.gz", name="crab")
    dataset.mask_fit = dataset.counts.geom.region_mask("icrs;circle(83.633, 22.014, 0.8)")
    spectrum = PowerLawSpectralModel(amplitude="1e-11 cm-2 s-1 TeV-1", index=2.3, reference="1.45 TeV")
    position = PointSpatialModel(lon_0="83.633 deg", lat_0="22.014 deg", frame="icrs")
    dataset.models = [SkyModel(spectrum, position, name="source"), FoVBackgroundModel(dataset_name="crab")]
    result = Fit().run([dataset])
    assert result.success
    amplitude, index = spectrum.amplitude.quantity.to_value("1e-12 cm-2 s-1 TeV-1"), spectrum.index.value
    record("published.amplitude", amplitude, "1e-12 cm-2 s-1 TeV-1", "Crab, exported cube: amplitude at 1.45 TeV")
    error = spectrum.amplitude.error * 1e12
    record("published.amplitude_err", error, "1e-12 cm-2 s-1 TeV-1", "Crab, exported cube: its error")
    record("published.index", index, "", "Crab, exported cube: index")
    record("published.index_err", spectrum.index.error, "", "Crab, exported cube: its error")
    assert abs(amplitude - AMPLITUDE) < AMPLITUDE_ERR
    assert abs(index - INDEX) < INDEX_ERR
    # The errors are those of 6.3 ks on the Crab, not of a fit that got stuck.
    assert spectrum.index.error == pytest.approx(INDEX_ERR, rel=0.5)


def test_on_off_dataset_agrees_with_the_cube(crab):
    from gammapy.datasets import MapDataset, MapDatasetOnOff

    cube = MapDataset.read(crab / "fov" / "dataset.fits.gz")
    rings = MapDatasetOnOff.read(crab / "ring" / "dataset.fits.gz")
    inside = rings.mask_safe.data
    np.testing.assert_array_equal(rings.counts.data[inside], cube.counts.data[inside])
    # Rings about empty sky and a normalised acceptance agree there, within 3 sigma of 4700 counts.
    keep = inside & cube.counts.geom.region_mask("icrs;circle(83.633, 22.014, 1.0)", inside=False).data
    expected = cube.background.data[keep].sum()
    assert rings.background.data[keep].sum() == pytest.approx(expected, rel=0.045)
    assert rings.gti.time_sum.to_value("s") == pytest.approx(6742.0)
