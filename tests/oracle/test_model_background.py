"""gammapy reads the GADF file of an acceptance model, and its own maker predicts what we predict."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from gammapy.irf import Background2D, Background3D

from cubeflow.config import load_config, parse_config
from cubeflow.dl3.entries import RunEntry
from cubeflow.dl3.index import open_store
from cubeflow.dl3.reader import read_observation
from cubeflow.errors import MistakeError
from cubeflow.irf.background import Background3D as OurBackground3D
from cubeflow.maps import energy_axis, log_edges, make_geometry
from cubeflow.pipeline.model import write_index
from cubeflow.plan.run import run_whole
from cubeflow.products.acceptance import make_field_rotation, make_map_hadron_acceptance
from cubeflow.products.acceptance_model import model_background
from cubeflow.simulate.store import SimulationOptions, simulate_store
from cubeflow.store.artifact import read_artifact
from cubeflow.store.fits import write_background_fits

CONFIG = """
data: {{store: {folder}/store}}
results: {folder}/results
targets:
  empty:
    position: {{lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{width: 4 deg, pixel: 0.1 deg}}
energy: {{min: 1 TeV, max: 10 TeV, bins: 3}}
energy_true: {{min: 0.5 TeV, max: 20 TeV, bins: 6}}
acceptance: {{model: off}}
models:
  off:
    energy: {{min: 0.8 TeV, max: 10 TeV, bins: 4}}
    alignment: {alignment}
    fit: {{form: smooth}}
"""


@pytest.mark.parametrize(
    ("alignment", "form", "hdu"),
    [
        ("RADEC", "smooth", "BACKGROUND_1"),
        ("ALTAZ", "smooth", "BACKGROUND_1"),
        ("RADEC", "radial", "BACKGROUND_1"),
        ("RADEC", "radial", "RADIAL_1"),
    ],
)
def test_the_maker_of_gammapy_gives_our_acceptance(tmp_path, alignment, form, hdu):
    from astropy.coordinates import SkyCoord
    from gammapy.data import DataStore
    from gammapy.datasets import MapDataset
    from gammapy.makers import MapDatasetMaker
    from gammapy.maps import MapAxis, WcsGeom

    simulate_store(tmp_path / "store", SimulationOptions(n_runs=3, duration_s=1500.0, tiny=True, sources=()))
    configuration = CONFIG.format(folder=tmp_path, alignment=alignment).replace("form: smooth", f"form: {form}")
    plan = run_whole(parse_config(configuration), lambda line: None)
    (path,) = (tmp_path / "results/models/off").glob("background-*.fits.gz")
    (kept,) = (tmp_path / "results/models/off").glob("model-*.h5")
    off = plan.targets["empty"].model.off
    response = model_background(off, read_artifact(kept).datasets["rate"][0])

    read = (Background2D if hdu == "RADIAL_1" else Background3D).read(path, hdu=hdu)
    assert hdu == "RADIAL_1" or read.fov_alignment.value == alignment
    names = [each.name for each in fits.open(path)[1:]]
    assert names == ["BACKGROUND_1", "RADIAL_1"][: 1 + (form == "radial")]
    assert str(read.unit) in ("1 / (MeV s sr)", "MeV-1 s-1 sr-1")

    entry = open_store(tmp_path / "store").runs[0]
    observation = read_observation(entry)
    pointing = observation.pointing
    energy = energy_axis(log_edges(1.0, 8.0, 3))
    geom = make_geometry("icrs", "TAN", pointing.ra_deg, pointing.dec_deg, (3.0, 2.6), 0.05)
    rotation = None if alignment == "RADEC" else make_field_rotation(observation.gti, observation.site, pointing)
    ours = make_map_hadron_acceptance(pointing, observation.ontime_s, response, geom, energy, None, rotation)

    theirs = DataStore.from_dir(tmp_path / "store").obs(entry.obs_id)
    theirs.bkg = read
    axis = MapAxis.from_energy_edges(energy.edges_array, unit="TeV")
    center = SkyCoord(pointing.ra_deg, pointing.dec_deg, unit="deg")
    empty = MapDataset.create(WcsGeom.create(skydir=center, width=(3.0, 2.6), binsz=0.05, proj="TAN", axes=[axis]))
    made = MapDatasetMaker(["background"], background_oversampling=64).run(empty, theirs).background.data
    inside = geom.offset_deg(pointing.ra_deg, pointing.dec_deg) < 1.25
    # It takes other steps of the rotation; and cells of 0.2 deg have corners, which a function of the offset has not.
    limit = 5e-3 if alignment == "ALTAZ" else 1e-2 if hdu == "RADIAL_1" else 1e-3
    assert np.abs(made / ours.data - 1)[:, inside].max() < limit
    assert np.abs((made / ours.data).sum(axis=(1, 2), where=inside) / inside.sum() - 1).max() < 1e-3
    assert made.sum() == pytest.approx(ours.data.sum(), rel=1e-3)


def test_gammapy_takes_the_background_by_the_index(tmp_path):
    """The runs, and all else of them, are those of the store."""
    from click.testing import CliRunner
    from gammapy.data import DataStore

    from cubeflow.cli import main

    simulate_store(tmp_path / "store", SimulationOptions(n_runs=4, duration_s=600.0, tiny=True, sources=()))
    (tmp_path / "c.yaml").write_text(CONFIG.format(folder=tmp_path, alignment="RADEC"))
    told = ["index", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "some/index")]
    missing = CliRunner().invoke(main, told)
    assert missing.exit_code == 1
    assert "expected the model; make it first" in missing.output
    run_whole(load_config(tmp_path / "c.yaml"), lambda line: None)
    done = CliRunner().invoke(main, told, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (gadf,) = (tmp_path / "results/models/off").glob("background-*.fits.gz")
    store = DataStore.from_dir(tmp_path / "some/index")
    theirs, ours = DataStore.from_dir(tmp_path / "store"), Background3D.read(gadf, hdu="BACKGROUND_1")
    assert store.obs_table["OBS_ID"].tolist() == theirs.obs_table["OBS_ID"].tolist()
    for observation, before in zip(store.get_observations(), theirs.get_observations(), strict=True):
        np.testing.assert_array_equal(observation.bkg.data, ours.data)
        assert len(observation.events.table) == len(before.events.table)
        assert observation.aeff.data.sum() == before.aeff.data.sum()
        assert observation.pointing.fixed_icrs.separation(before.pointing.fixed_icrs).deg < 1e-9


def test_each_run_has_the_node_of_its_zenith_angle(tmp_path):
    path = tmp_path / "nodes.fits.gz"
    energy, lon = np.array([1.0, 2.0, 4.0]), np.array([-1.0, 0.0, 1.0])
    flat = OurBackground3D(energy, lon, lon, np.ones((2, 2, 2)), "RADEC")
    nodes = [(flat, np.zeros((2, 2, 2)), {"ZEN_PNT": zenith}) for zenith in (10.0, 40.0)]
    write_background_fits(path, nodes, {})
    runs = [RunEntry(1, (), {"ALT_PNT": 78.0}), RunEntry(2, (), {"ZEN_PNT": 55.0}), RunEntry(3, (), {"ZEN_PNT": 24.0})]
    write_index(tmp_path, runs, path)
    table = Table.read(tmp_path / "hdu-index.fits.gz")
    assert table["HDU_NAME"].tolist() == ["BACKGROUND_1", "BACKGROUND_2", "BACKGROUND_1"]
    with pytest.raises(MistakeError, match="run 4: expected ZEN_PNT or ALT_PNT"):
        write_index(tmp_path, [RunEntry(4, (), {})], path)
