"""Sources in a file of models as gammapy writes them: from the configuration to the norm of a run."""

import astropy.units as u
import numpy as np
import pytest
from gammapy.maps import Map
from gammapy.modeling.models import (
    ConstantSpatialModel,
    DiskSpatialModel,
    GaussianSpatialModel,
    Models,
    PointSpatialModel,
    PowerLawSpectralModel,
    ShellSpatialModel,
    SkyModel,
    TemplateSpatialModel,
)

from cubeflow.config import load_config
from cubeflow.errors import MistakeError
from cubeflow.maps import Position, energy_axis, make_geometry
from cubeflow.plan.clean import clean_results
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import run_whole
from cubeflow.products.sky_model import GammapySource, Source
from cubeflow.products.spectrum import PowerLaw
from cubeflow.store.artifact import read_artifact

CONFIG = """
data: {{store: {folder}/store}}
results: {folder}/{name}
simulate: {{runs: 1, duration: 600 s}}
targets:
  sky:
    position: {{lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{width: [3 deg, 2.6 deg], pixel: 0.1 deg}}
energy: {{edges: [1 TeV, 2 TeV, 5 TeV, 20 TeV]}}
energy_true: {{min: 0.5 TeV, max: 40 TeV, bins: 7}}
irf_grid: {{pixel: 0.4 deg, rad_bins: 20}}
backgrounds: {{fov: {{method: fov, energy_groups: 3, min_counts: 1, sky_model: {sky_model}}}}}
"""
FLUX = 5e-11  # cm-2 s-1 TeV-1 at 1 TeV
LISTED = f"[{{position: {{lon: 83.633 deg, lat: 22.014 deg}}, amplitude: {FLUX} cm-2 s-1 TeV-1, spectrum: {{index: 2.6"
LISTED = LISTED.replace("{index", "{type: power-law, index") + "}}]"
GEOM = make_geometry("icrs", "TAN", 83.633, 22.014, (3.0, 2.6), 0.05)
ENERGY = energy_axis([0.5, 1.0, 3.0, 10.0], "energy_true")
PLACE = {"lon_0": "83.633 deg", "lat_0": "22.014 deg", "frame": "icrs"}


def sky_model(spatial, name="one"):
    return SkyModel(PowerLawSpectralModel(index=2.6, amplitude=FLUX * u.Unit("cm-2 s-1 TeV-1")), spatial, name=name)


def square(brightness):
    image = Map.create(skydir=(83.633, 22.014), width=1.0, binsz=0.1, unit="sr-1", dtype=float)
    image.data += brightness
    return image


def background(folder, name, sky_model):
    (folder / f"{name}.yaml").write_text(CONFIG.format(folder=folder, name=name, sky_model=sky_model))
    run_whole(load_config(folder / f"{name}.yaml"), lambda line: None)
    (path,) = (folder / name).glob("sky/obs/*/background-fov-*.h5")
    return read_artifact(path).maps["background"].data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    Models([sky_model(PointSpatialModel(**PLACE))]).write(folder / "point.models")
    return folder


def test_a_source_of_a_file_is_that_of_a_list(folder):
    nothing, listed = background(folder, "nothing", "[]"), background(folder, "listed", LISTED)
    assert nothing.sum() > 1.02 * listed.sum()
    np.testing.assert_allclose(background(folder, "file", folder / "point.models"), listed, rtol=1e-4)


@pytest.mark.parametrize("sigma", [0.0, 0.2])
def test_flux_of_a_source_is_that_of_ours(sigma):
    spatial = GaussianSpatialModel(**PLACE, sigma=f"{sigma} deg") if sigma else PointSpatialModel(**PLACE)
    place = Position(frame="icrs", lon_deg=83.633, lat_deg=22.014)
    ours = Source(position=place, sigma_deg=sigma, amplitude=FLUX * 1e4, spectrum=PowerLaw(2.6))
    found = GammapySource(sky_model(spatial))
    assert found.icrs_deg == pytest.approx(ours.icrs_deg)
    expected = ours.flux(GEOM, ENERGY).data
    np.testing.assert_allclose(found.flux(GEOM, ENERGY).data, expected, rtol=2e-3, atol=1e-3 * expected.max())


@pytest.mark.parametrize(
    "spatial",
    [
        DiskSpatialModel(**PLACE, r_0="0.4 deg"),
        ShellSpatialModel(**PLACE, radius="0.3 deg", width="0.1 deg"),
        TemplateSpatialModel(square(3.0)),
    ],
    ids=["disc", "shell", "template"],
)
def test_extended_sources_have_the_flux_of_their_spectrum(spatial):
    low, high = ENERGY.edges_array[:-1], ENERGY.edges_array[1:]
    expected = FLUX * 1e4 * (low**-1.6 - high**-1.6) / 1.6
    flux = GammapySource(sky_model(spatial)).flux(GEOM, ENERGY).data
    np.testing.assert_allclose(flux.sum(axis=(1, 2)), expected, rtol=0.02)
    assert np.count_nonzero(flux[0]) > 50


def test_what_the_files_hold_decides_the_key_and_where_they_lie_does_not(folder, monkeypatch):
    monkeypatch.chdir(folder)
    image = square(1.0)
    (folder / "elsewhere").mkdir()

    def key(path):
        (folder / "key.yaml").write_text(CONFIG.format(folder=folder, name="key", sky_model=path))
        plan = make_plan(load_config(folder / "key.yaml"), lambda line: None)
        return plan.tasks["sky"].reduce[0].units[0].backgrounds["fov"]

    image.write("an image.fits")
    template = TemplateSpatialModel.read("an image.fits")
    template.filename = "an image.fits"
    Models([sky_model(template)]).write("template.models", write_covariance=False)
    text = (folder / "template.models").read_text()
    (folder / "template.models").write_text(text.replace("an image.fits", "'an image.fits'  # a galaxy"))
    first = key("template.models")
    (folder / "elsewhere/other.models").write_bytes((folder / "template.models").read_bytes())
    assert key("elsewhere/other.models") == first != key("point.models")
    image.data[3, 3] = 7.0
    image.write("an image.fits", overwrite=True)
    assert key("template.models") != first


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, r"targets.sky.backgrounds.fov.sky_model: .*odd.models: expected a regular file, found none"),
        ("components: 3\n", "odd.models: expected models as gammapy writes them: TypeError"),
        ("components: [{filename:\n   absent.fits \n}]\n", "absent.fits: expected a regular file"),
        ("components: [", "odd.models: expected models as gammapy writes them: while parsing"),
        (b"\xff\xfe\x00", "odd.models: expected models as gammapy writes them: 'utf-8' codec"),
        ("components:\n-   spatial:\n        filename: absent.fits\n", "absent.fits: expected a regular file"),
        (Models([sky_model(ConstantSpatialModel(), "everywhere")]).to_yaml(), "everywhere: expected a SkyModel with"),
    ],
)
def test_files_that_are_none_are_told(folder, written, said):
    path = folder / "odd.models"
    path.unlink(missing_ok=True)
    if written is not None:
        path.write_bytes(written if isinstance(written, bytes) else written.encode())
    (folder / "odd.yaml").write_text(CONFIG.format(folder=folder, name="odd", sky_model=path))
    with pytest.raises(MistakeError, match=said):
        make_plan(load_config(folder / "odd.yaml"), lambda line: None)


def test_nothing_is_removed_where_a_file_of_models_lies(tmp_path):
    (tmp_path / "made/sky").mkdir(parents=True)
    Models([sky_model(PointSpatialModel(**PLACE))]).write(tmp_path / "made/sky/models.yaml")
    path = tmp_path / "made.yaml"
    path.write_text(CONFIG.format(folder=tmp_path, name="made", sky_model=tmp_path / "made/sky/models.yaml"))
    with pytest.raises(MistakeError, match=r"models\.yaml: an input lies inside .*/made/sky; nothing is removed there"):
        clean_results(make_plan(load_config(path), print), is_serious=True)
