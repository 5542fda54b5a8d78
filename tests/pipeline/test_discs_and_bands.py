"""Several discs and bands of energy in one reduction, from the configuration to the products."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import cubeflow
from cubeflow.config import load_config
from cubeflow.config.load import ConfigError
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import run_whole
from cubeflow.store.artifact import read_artifact

CONFIG = """
data: {{store: {folder}/store}}
results: {folder}/{name}
simulate: {{runs: 2, duration: 600 s}}
targets:
  sky:
    position: {{lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{width: [3 deg, 2.6 deg], pixel: 0.1 deg}}
energy: {{edges: [1 TeV, 2 TeV, 5 TeV, 20 TeV]}}
energy_true: {{min: 0.5 TeV, max: 40 TeV, bins: 7}}
irf_grid: {{pixel: 0.4 deg, rad_bins: 20}}
backgrounds: {{ring: {{method: ring, r_in: 0.5 deg, width: 0.3 deg{ring}}}}}
significance: {significance}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("discs")


def config(folder, name, significance, ring=", per_energy: true"):
    path = folder / f"{name}.yaml"
    path.write_text(CONFIG.format(folder=folder, name=name, significance=significance, ring=ring))
    return load_config(path)


def test_each_is_that_of_a_reduction_of_its_own(folder):
    several = run_whole(config(folder, "several", "{radius: [0.15 deg, 0.3 deg], bands: [[2 TeV, 20 TeV]]}"), print)
    alone = run_whole(config(folder, "alone", "{radius: 0.3 deg}"), print)
    about = read_artifact(folder / "several/sky/ring/cube.h5").attributes
    expected = read_artifact(folder / "alone/sky/ring/cube.h5").attributes["source"]
    assert [(each["radius_deg"], each["energy_tev"]) for each in about["further"]] == [
        (0.3, [1.0, 20.0]),
        (0.15, [2.0, 20.0]),
        (0.3, [2.0, 20.0]),
    ]
    assert about["further"][0]["source"] == expected
    assert about["further"][2]["source"]["counts"] < expected["counts"]
    with fits.open(folder / "several/sky/ring/significance.fits.gz") as images:
        image = images["SIGNIFICANCE_0.3DEG_2-20TEV"].data
        whole = images["SIGNIFICANCE_0.3DEG_1-20TEV"].data
    np.testing.assert_array_equal(
        whole, cubeflow.load(folder / "alone/sky/ring/cube.h5").maps["disc_significance"].data[0]
    )
    assert np.nanmax(np.abs(image - whole)) > 0.1
    # Runs are about the first disc: another one beside it makes none of them again.
    first = make_plan(config(folder, "several", "{radius: 0.15 deg}"), print)
    assert [task.kind for task in first.needed if task.kind in ("reduce", "stack")] == []
    assert several.tasks["sky"].export[0].key != first.tasks["sky"].export[0].key
    assert alone.tasks["sky"].reduce[0].leaves != first.tasks["sky"].reduce[0].leaves


def test_flux_of_the_only_run_is_that_of_the_cube(folder):
    one = CONFIG.replace("/store}}", "/one}}").replace("runs: 2", "runs: 1")
    (folder / "one.yaml").write_text(one.format(folder=folder, name="only", significance="{radius: 0.2 deg}", ring=""))
    run_whole(load_config(folder / "one.yaml"), print)
    source = read_artifact(folder / "only/sky/ring/cube.h5").attributes["source"]
    (row,) = Table.read(folder / "only/sky/runs.ecsv")
    for name in ("flux", "flux_err"):
        assert row[f"ring_{name}"] == pytest.approx(source[name], rel=1e-5)
    assert row["ring_exposure"] * row["ring_flux"] == pytest.approx(row["ring_excess"])
    assert Table.read(folder / "only/sky/runs.ecsv")["ring_exposure"].unit == "m2 s"


@pytest.mark.parametrize(
    ("significance", "ring", "said"),
    [
        (
            "{bands: [[1 TeV, 3 TeV]]}",
            ", per_energy: true",
            r"significance.bands: 3 TeV is no edge of the energy axis; 2 TeV is",
        ),
        (
            "{bands: [[5 TeV, 2 TeV]]}",
            ", per_energy: true",
            r"significance.bands: expected the lower edge first, got \[5.0, 2.0\] TeV",
        ),
        ("{bands: [[1 TeV, 2 TeV]]}", ", per_energy: false", "backgrounds.ring.per_energy: expected true"),
        ("{radius: []}", ", per_energy: true", "significance.radius: expected one or more different radii"),
        (
            "{radius: [0.1 deg, 0.1 deg]}",
            ", per_energy: true",
            "significance.radius: expected one or more different radii",
        ),
        ("{radius: 0 deg}", ", per_energy: true", "significance.radius: expected a quantity above 0"),
    ],
)
def test_what_cannot_be_is_told_at_its_key(folder, significance, ring, said):
    with pytest.raises(ConfigError, match=said):
        config(folder, "odd", significance, ring)
