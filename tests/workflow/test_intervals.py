"""Intervals of a stack: what they add up to, what a new run makes again, and the same from both ways to run it."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from astropy.table import Table

import cubeflow
from cubeflow.errors import MistakeError
from cubeflow.observation import to_mjd
from cubeflow.pipeline.stack import read_stack
from cubeflow.pipeline.tasks import PRODUCTS, stack_file
from cubeflow.plan.clean import clean_results
from cubeflow.products.stack import stack
from cubeflow.store.artifact import open_artifact, read_artifact

RUNS = (100001, 100002, 100003, 100004, 100005, 100018)
BY = {"run": "run", "night": "night", "month": "month", "duration": "15 min"}


def build(project, by, **changes):
    """Plan of a project that has been built with these intervals."""
    project.write(stack={"batch": 2, "fanout": 2, "by": by}, **changes)
    return project.build()


@pytest.fixture(scope="module")
def whole(make_project, tmp_path_factory):
    """Project that has been built without intervals."""
    project = make_project(tmp_path_factory.mktemp("whole") / "project")
    project.put(RUNS)
    project.build()
    return project


@pytest.fixture
def built(whole, tmp_path):
    return whole.copy(tmp_path / "project")


def read_node(results, task, key):
    """Stack of a node, in memory."""
    with open_artifact(results / stack_file("one", task.label, key), "stack", key) as opened:
        return read_stack(opened)


def assert_same_bits(found, expected):
    assert found.layers.keys() == expected.layers.keys()
    for name, cube in expected.layers.items():
        assert cube.geom == found.layers[name].geom
        np.testing.assert_array_equal(cube.data, found.layers[name].data, err_msg=name)
    np.testing.assert_array_equal(found.gti_s, expected.gti_s)
    assert (found.livetime_s, found.ontime_s, found.n_runs) == (
        expected.livetime_s,
        expected.ontime_s,
        expected.n_runs,
    )


@pytest.mark.parametrize("by", BY.values(), ids=BY)
def test_sum_of_the_intervals_is_the_full_cube(built, whole, by):
    plan = build(built, by)
    found = plan.tasks["one"]
    nodes = {(task.label, task.key): task.children for task in found.stack}
    for full in found.export:
        parts = [task for task in found.parts if task.label == full.label]
        roots = {task.root for task in parts}

        def summed(key, full=full, roots=roots):
            """Sum of the intervals below a node, in the order of the tree."""
            if key in roots:
                return read_node(built.results, full, key)
            return stack(map(summed, nodes[full.label, key]))

        assert_same_bits(summed(full.root), read_node(built.results, full, full.root))
        cubes = [read_artifact(built.results / task.folder / "cube.h5").maps for task in parts]
        total = read_artifact(built.results / full.folder / "cube.h5").maps
        before = read_artifact(whole.results / full.folder / "cube.h5").maps
        for name in ("counts", "counts_off") if "counts_off" in total else ("counts",):
            np.testing.assert_array_equal(sum(cube[name].data for cube in cubes), total[name].data)
            np.testing.assert_array_equal(before[name].data, total[name].data)
        for name in ("exposure", "background", "acceptance", "irf_exposure"):
            np.testing.assert_allclose(sum(cube[name].data for cube in cubes), total[name].data, rtol=1e-6)
            np.testing.assert_allclose(before[name].data, total[name].data, rtol=1e-6)


def test_intervals_are_those_of_the_runs_times(built):
    """The events' own files say when runs began; nights end at noon, and 100018 is of another night."""
    build(built, "15 min")
    table = Table.read(built.results / "one" / "runs.ecsv")
    middles = (table["tstart"] + table["tstop"]) / 2
    numbers = {math.floor((middle - 51910) * 96) for middle in middles}
    names = {path.name for path in (built.results / "one/fov/parts").iterdir()}
    assert names == {f"mjd-{51910 + number / 96:.6f}".rstrip("0").rstrip(".") for number in numbers}
    plan = build(built, "night")
    assert len([task for task in plan.tasks["one"].parts if task.label == "fov"]) == len(
        {math.floor(middle - 0.5) for middle in middles}
    )


def test_no_run_is_reduced_again(built):
    before = built.stamps("**/obs/**/*.h5")
    for by in ("night", "run", "10 min", None):
        build(built, by)
        assert built.stamps("**/obs/**/*.h5") == before


def test_a_new_run_remakes_its_interval_and_the_full_cube(built, tmp_path):
    build(built, "run")
    before = built.stamps()
    built.put([*RUNS, 100006])
    plan = build(built, "run")
    after = built.stamps()
    changed = {re.sub(r"-[0-9a-f]{16}(?=\.)", "", name) for name in after if after[name] != before.get(name)}
    products = {name for name in changed if "/stack/" not in name and not name.startswith("one/obs/100006/")}
    expected = {"one/runs.csv", "one/runs.ecsv", "one/runs.fits", "one/made.json"}
    for label in ("fov", "ring"):
        for folder in (f"one/{label}", f"one/{label}/parts/run-100006"):
            expected |= {f"{folder}/{name}" for name in (*PRODUCTS, "made.json")}
        expected |= {f"one/{label}/lightcurve.ecsv", f"one/{label}/series.json"}
    assert products == expected
    leaves = {task.leaves["fov"] for task in plan.tasks["one"].reduce}
    assert len([name for name in changed if name.removesuffix(".h5")[-16:] in {key[:16] for key in leaves}]) == 1
    fresh = built.fresh(tmp_path / "fresh")
    build(fresh, "run")
    assert parts_of(built) == parts_of(fresh)
    assert len(parts_of(built)) == 2 * (7 * 5 + 1)


def parts_of(project):
    """Bytes of light curves and of the products of intervals."""
    paths = [*project.results.glob("one/*/parts/*/*"), *project.results.glob("one/*/lightcurve.ecsv")]
    return {str(path.relative_to(project.results)): path.read_bytes() for path in paths if path.suffix != ".json"}


def test_light_curve_is_that_of_the_run_table(built):
    build(built, "run")
    runs = Table.read(built.results / "one" / "runs.ecsv")
    for label in ("fov", "ring"):
        curve = Table.read(built.results / "one" / label / "lightcurve.ecsv")
        assert list(curve["interval"]) == [f"run-{obs_id}" for obs_id in runs["obs_id"]]
        for name, column in (("time_min", "tstart"), ("time_max", "tstop"), ("livetime", "livetime")):
            np.testing.assert_allclose(curve[name], runs[column], rtol=1e-15)
        np.testing.assert_allclose(curve["n_on"], runs[f"{label}_on"], rtol=1e-6)
        np.testing.assert_allclose(curve["excess"], runs[f"{label}_excess"], rtol=1e-4)
        np.testing.assert_allclose(curve["sqrt_ts"][:, 0], runs[f"{label}_significance"], rtol=1e-4)
        np.testing.assert_array_equal(curve["energy_threshold"], runs["energy_threshold"])
        off = [curve["n_off"], curve["alpha"]]
        if label == "fov":
            assert np.all(np.isnan(off))
        else:
            np.testing.assert_allclose(off, [runs["ring_off"], runs["ring_alpha"]], rtol=1e-5)
        source = cubeflow.load(built.results / f"one/{label}/parts/run-100003/cube.h5").attributes["source"]
        for name in ("flux", "flux_err"):
            assert curve[name][2, 0] == pytest.approx(1e-4 * source[name] / source["containment"])
        assert np.all(np.isnan(curve["flux_ul"]) == (curve["sqrt_ts"] >= 3))


def test_pieces_have_their_own_times(built):
    build(built, "run", observations={"split": "2 min"})
    curve = Table.read(built.results / "one" / "fov" / "lightcurve.ecsv")
    runs = Table.read(built.results / "one" / "runs.ecsv")
    runs.sort("tstart")
    assert len(curve) == len(runs) > 2 * len(RUNS)
    np.testing.assert_allclose(curve["time_min"], runs["tstart"], rtol=1e-15)
    np.testing.assert_allclose(curve["time_max"], runs["tstop"], rtol=1e-15)
    assert np.all(curve["time_max"][:-1] <= curve["time_min"][1:])
    assert np.all(curve["n_runs"] == 1)
    cube = cubeflow.load(built.results / "one" / "fov" / "cube.h5")
    assert cube.attributes["n_runs"] == len(RUNS)
    assert set(curve["interval"]) == {f"run-{obs_id}-piece{k}" for obs_id in RUNS for k in range(3)}
    assert curve["livetime"].sum() == pytest.approx(cube.attributes["livetime_s"])


def test_edges_leave_runs_out_and_say_so(built):
    gti = to_mjd(cubeflow.load(built.results / "one" / "fov" / "cube.h5").arrays["gti_s"])
    middle = float((gti[1, 0] + gti[1, 1]) / 2)  # run 100002 has two good time intervals: this lies before its middle
    lines = build(built, [float(gti[0, 0]) - 0.1, middle, float(gti[3, 1])]).tasks["one"].notes
    assert lines[0] == "stack.by: 2 intervals"
    assert lines[1].startswith("stack.by: 3 runs or parts of them in none")
    assert re.match(r"stack.by: over an edge reaches 1 run \(run 100002, ...\)", lines[2])
    curve = Table.read(built.results / "one" / "fov" / "lightcurve.ecsv")
    assert list(curve["n_runs"]) == [1, 2]


def test_edges_without_a_run_are_bad_input(built):
    with pytest.raises(MistakeError, match=r"stack.by: no run lies between the edges, MJD \(50000.0, 50001.0\)"):
        build(built, [50000, 50001])


def test_interval_without_a_run_is_no_point(built):
    """The background of one run fails: its products are empty, and nothing is said of its flux."""
    fov = {"method": "fov", "norm_min": 0.9, "norm_max": 1.1, "min_counts": 100000}
    build(built, "run", backgrounds={"fov": fov})
    assert len(Table.read(built.results / "one" / "fov" / "lightcurve.ecsv")) == 0


@pytest.mark.parametrize(("per", "by"), [("run", "night"), ("group", None), ("interval", "night"), ("run", "run")])
def test_gammapy_opens_the_joint_datasets(built, per, by):
    from gammapy.datasets import Datasets

    build(built, by, export={"per": per, "fit_radius": "0.7 deg"})
    for label in ("fov", "ring"):
        folder = built.results / "one" / label
        stacked = Datasets.read(folder / "datasets.yaml", folder / "models.yaml", lazy=False)[0]
        joint = Datasets.read(folder / "joint.yaml", folder / "joint-models.yaml", lazy=False)
        if per == "run":
            assert len(joint) == len(RUNS)
            loaded = cubeflow.load(built.results / "one", obs_id=100003, label=label).to_gammapy()
            (same,) = (each for each in joint if each.name.endswith("-run-100003"))
            assert (loaded.name, loaded.tag) == (same.name, same.tag)
            for name in ("counts", "exposure", "mask_fit", "background"):
                ours, theirs = getattr(loaded, name).data, getattr(same, name).data
                np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=1e-6)
        else:
            with pytest.raises(
                MistakeError, match=r"no cube of run 100003, expected one as export: \{per: run\} makes"
            ):
                cubeflow.load(built.results / "one", obs_id=100003)
        np.testing.assert_array_equal(sum(each.counts.data for each in joint), stacked.counts.data)
        near = stacked.counts.geom.to_image().separation(stacked.counts.geom.center_skydir).deg <= 0.7
        for each in (stacked, *joint):
            assert each.tag == ("MapDataset" if label == "fov" else "MapDatasetOnOff")
            np.testing.assert_array_equal(
                each.mask_fit.data.astype(bool), np.broadcast_to(near, each.counts.data.shape)
            )
            assert [model.tag[0] for model in each.models or ()] == (["FoVBackgroundModel"] if label == "fov" else [])
            assert np.isfinite(each.stat_sum())
        if label == "fov":
            total = sum(each.stat_sum() for each in joint)
            assert total > 0


def test_gammapy_opens_the_light_curve(built):
    from gammapy.estimators import FluxPoints
    from gammapy.modeling.models import PowerLawSpectralModel

    build(built, "run")
    path = built.results / "one" / "ring" / "lightcurve.ecsv"
    curve, model = Table.read(path), PowerLawSpectralModel(index=2)
    found = FluxPoints.read(path, format="lightcurve", reference_model=model)
    np.testing.assert_allclose(found.flux.quantity.to_value("cm-2 s-1").ravel(), curve["flux"].ravel(), rtol=1e-6)
    axis = found.geom.axes["time"]
    np.testing.assert_allclose(axis.time_min.tt.mjd, curve["time_min"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(axis.time_max.tt.mjd, curve["time_max"], rtol=0, atol=1e-9)
    assert found.energy_axis.edges.to_value("TeV") == pytest.approx([1, 10])


def test_what_no_plan_needs_is_cleaned(built, monkeypatch):
    build(built, "night", export={"per": "run"})
    plan = build(built, None, export={"per": "none"})
    monkeypatch.chdir(built.folder)
    clean_results(plan, is_serious=True)
    assert not list(built.results.glob("one/*/parts"))
    assert not list(built.results.glob("one/*/lightcurve.ecsv"))
    assert not list(built.results.glob("one/*/joint*"))
    assert not list(built.results.glob("one/*/series-*"))
    assert all(plan.is_made(task) for task in plan.all_tasks if task.kind in ("export", "table"))


@pytest.mark.workflow
def test_snakemake_makes_the_same(built, tmp_path):
    built.write(stack={"batch": 2, "fanout": 2, "by": "night"}, export={"per": "run"})
    built.snakemake()
    fresh = built.fresh(tmp_path / "fresh")
    build(fresh, "night")
    assert parts_of(built) == parts_of(fresh)
    before = built.stamps()
    built.snakemake()
    assert built.stamps() == before
