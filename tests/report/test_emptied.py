"""A target that is left without a run while its runs are read does not take the page from the others."""

import json

from astropy.io import fits

from cubeflow.config import load_config
from cubeflow.plan.jobs import read_made
from cubeflow.plan.run import run_whole
from cubeflow.report.figures import make_figures
from cubeflow.report.page import write_report
from cubeflow.simulate.array import SimulationOptions
from cubeflow.simulate.store import simulate_store


def test_report_of_all_targets_says_why_one_is_empty(tmp_path):
    simulate_store(tmp_path / "store", SimulationOptions(tiny=True, n_runs=2, duration_s=300.0))
    path = tmp_path / "store" / "obs_100002.fits.gz"
    with fits.open(path, memmap=False) as hdus:
        hdus["EVENTS"].header["DEADC"] = 1.7
        for key in ("CHECKSUM", "DATASUM"):
            hdus["EVENTS"].header.remove(key)
        hdus.writeto(path, overwrite=True)
    place = {"position": {"lon": "83.633 deg", "lat": "22.014 deg"}, "geometry": {"width": "3 deg", "pixel": "0.1 deg"}}
    content = {
        "data": {"store": str(tmp_path / "store")},
        "results": str(tmp_path / "results"),
        "energy": {"min": "1 TeV", "max": "10 TeV", "bins": 3},
        "energy_true": {"min": "0.5 TeV", "max": "20 TeV", "bins": 4},
        "backgrounds": {"fov": {"method": "fov"}, "ring": {"method": "ring", "r_in": "0.5 deg", "width": "0.3 deg"}},
        "targets": {
            name: place | {"observations": {"ids": [obs_id]}} for name, obs_id in (("a", 100001), ("b", 100002))
        },
    }
    content["targets"]["c"] = place | {"observations": {"within": "0.01 deg", "exclude": [100001]}}
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    plan = run_whole(load_config(tmp_path / "config.yaml"), lambda line: None)
    for name, found in plan.tasks.items():
        for task in found.figures:
            make_figures(plan.results, plan.targets[name], task)
    page = write_report(plan.results, plan.report, read_made(plan.write())).read_text()
    assert page.count('<section class="target"') == 2
    assert f'<th scope="row">store</th><td>{tmp_path / "store"}</td>' in page
    assert '<th scope="row">runs of a</th><td>ids 100001</td>' in page
    assert "<td>refused</td><td>file[EVENTS]: DEADC = 1.7, expected above 0 and at most 1</td>" in page
    why = "No run: none of the 2 runs is selected; observations asks for exclude 100001; within 0.01 deg. The run"
    assert f'<th scope="row">c</th><td colspan="10">{why} closest to the target, 10000' in page
    assert all(plan.is_made(task) for task in plan.all_tasks)
