"""A target that is left without a run while its runs are read does not take the page from the others."""

import json
import re

from astropy.io import fits

from cubeflow.config import load_config
from cubeflow.plan.jobs import read_made
from cubeflow.plan.run import run_whole
from cubeflow.report.figures import make_figures
from cubeflow.report.page import write_report
from cubeflow.simulate.array import SimulationOptions
from cubeflow.simulate.store import simulate_store


def test_report_of_all_targets_says_why_one_is_empty(tmp_path):
    simulate_store(tmp_path / "store", SimulationOptions(tiny=True, n_runs=3, duration_s=300.0))
    (tmp_path / "store" / "obs_100003.fits.gz").unlink()
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
            name: place | {"observations": observations}
            for name, observations in (
                ("a", {"ids": [100001]}),
                ("b", {"ids": [100002]}),
                ("c", {"where": "ZEN_PNT < 1", "exclude": [100003]}),  # asks for none
                ("d", {"ids": [100003]}),  # whose file is not there
            )
        },
    }
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    plan = run_whole(load_config(tmp_path / "config.yaml"), lambda line: None)
    for name, found in plan.tasks.items():
        for task in found.figures:
            make_figures(plan.results, plan.targets[name], task)
    index = write_report(plan.results, plan.report, read_made(plan.write())).read_text()
    a, b, c, d = ((plan.results / name / "report.html").read_text() for name in "abcd")
    assert f'<th scope="row">store</th><td>{tmp_path / "store"}</td>' in a
    assert '<th scope="row">runs of a</th><td>ids 100001</td>' in a
    assert "<td>refused</td><td>file[EVENTS]: DEADC = 1.7, expected above 0 and at most 1</td>" in b
    assert "No run is left: none of the 2 runs is selected; observations asks for exclude 100003; where ZEN" in c
    assert "No run is left: see below" in d
    assert "<td>refused</td><td>obs_100003.fits.gz: No such file or directory</td>" in d
    assert "Every selected run was used" not in c + d
    rows = re.findall(r">(\w)</a></th><td>([^<]*)</td>.*>(\d+)</td><td class=\"number\">(\d+)</td></tr>", index)
    empty = [("c", "No run is left", "0", "0"), ("d", "No run is left", "0", "1")]
    assert [row for row in rows if row[0] in "cd"] == empty
    assert all(plan.is_made(task) for task in plan.all_tasks)
