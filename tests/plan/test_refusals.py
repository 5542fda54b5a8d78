"""Which targets name a run that the index rules out."""

import json

import pytest

from cubeflow.config import load_config
from cubeflow.pipeline.tasks import Refusal
from cubeflow.plan.make import make_plan, refusal_lines
from cubeflow.simulate.store import SimulationOptions, simulate_store


@pytest.mark.parametrize(("within", "far"), [("2 deg", []), (None, [100002])])
def test_a_missing_run_is_named_where_its_pointing_belongs(tmp_path, within, far):
    simulate_store(tmp_path / "store", SimulationOptions(n_runs=3, duration_s=300.0, tiny=True))
    (tmp_path / "store" / "obs_100002.fits.gz").unlink()
    positions = {"near": 83.633, "far": 93.633}
    targets = {
        name: {
            "position": {"lon": f"{lon} deg", "lat": "22.014 deg"},
            "geometry": {"width": "3 deg", "pixel": "0.2 deg"},
            "observations": {"within": within},
        }
        for name, lon in positions.items()
    }
    content = {
        "data": {"store": str(tmp_path / "store")},
        "results": str(tmp_path / "results"),
        "energy": {"min": "1.2 TeV", "max": "20 TeV", "bins": 3},
        "energy_true": {"min": "0.4 TeV", "max": "50 TeV", "bins": 5},
        "backgrounds": {"fov": {"method": "fov"}},
        "targets": targets,
    }
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    plan = make_plan(load_config(tmp_path / "config.yaml"), lambda line: None)
    named = {name: [refusal.obs_id for refusal in found.refused] for name, found in plan.tasks.items()}
    assert named == {"near": [100002], "far": far}


def test_runs_refused_for_the_same_reason_are_one_line():
    missing = [Refusal(obs_id, f"store/obs_{obs_id}.fits.gz: No such file") for obs_id in (7, 5, 4, 4, 9, 3)]
    other = Refusal(6, "store/obs_6.fits.gz: truncated gzip file")
    assert refusal_lines([*missing, other]) == [
        "runs 3-5, 7, 9: refused: store/obs_*.fits.gz: No such file",
        "run 6: refused: store/obs_6.fits.gz: truncated gzip file",
    ]
