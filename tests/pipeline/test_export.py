"""The final products of a label, of any size."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cubeflow.errors import FailedError, RunsLeftOut
from cubeflow.maps import Axis, Cube, energy_axis, log_edges, make_geometry, rad_axis
from cubeflow.pipeline.certificate import holds
from cubeflow.pipeline.export import export_label
from cubeflow.pipeline.stack import write_stack
from cubeflow.pipeline.tasks import PRODUCTS, ExportTask, Target, certificate_file
from cubeflow.products.acceptance import AcceptanceOptions
from cubeflow.products.background import NoBackground
from cubeflow.products.cash import make_significance_cash
from cubeflow.products.fov_background import FovOptions
from cubeflow.products.profiles import Profiles, measure_systematic
from cubeflow.products.reduced import ReduceOptions
from cubeflow.products.safe_mask import SafeMaskOptions
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.spectrum import PowerLaw
from cubeflow.products.stack import Stack, empty_stack
from cubeflow.store.artifact import read_artifact
from cubeflow.store.atomic import file_sha256
from cubeflow.store.keys import Recipe, to_plain

ROOT, KEY = "1" * 64, "2" * 64
STACK = Recipe("stack", 1, {"compression": "blosc"}, [])
TASK = ExportTask("crab", "label", KEY, ROOT, {})
FINAL = make_geometry("galactic", "CAR", 184.56, -5.78, (4.7, 3.9), 0.1)
IRF = make_geometry("galactic", "CAR", 184.56, -5.78, (4.7, 3.9), 0.5)


def make_layers(kind, n_energy, n_true, geom, irf) -> dict[str, Cube]:
    """Sums of a label: with a background for the field of view, in rings, or without any."""
    rng = np.random.default_rng(n_energy)
    energy = energy_axis(log_edges(1.0, 20.0, n_energy))
    true = energy_axis(log_edges(0.5, 40.0, n_true), "energy_true")
    rad = rad_axis(0.6, 5)

    def cube(values, unit, *axes, on=geom):
        return Cube(values(size=(*(axis.n_bins for axis in axes), *on.shape)), unit, on, axes)

    layers = {
        "counts": cube(lambda size: rng.poisson(0.3, size), "", energy),
        "mask_safe": cube(lambda size: rng.random(size) < 0.7, "", energy),
        "exposure": cube(lambda size: rng.uniform(1e9, 3e9, size), "m2 s", true),
        "exposure_reco": cube(lambda size: rng.uniform(0, 3e9, size), "m2 s", energy),
        "irf_exposure": cube(lambda size: np.maximum(rng.uniform(-1e9, 3e9, size), 0), "m2 s", true, on=irf),
        "irf_psf": cube(lambda size: rng.uniform(0, 3e11, size), "sr-1 m2 s", true, rad, on=irf),
        "irf_edisp": cube(lambda size: rng.uniform(0, 1e9, size), "m2 s", true, energy, on=irf),
    }
    if kind != "none":
        layers["acceptance"] = cube(lambda size: rng.uniform(0, 0.4, size), "", energy)
        layers["background"] = cube(lambda size: rng.uniform(0, 0.4, size), "", energy)
    if kind.startswith("ring"):
        whole = Axis("energy", (energy.edges[0], energy.edges[-1]), energy.unit, energy.interp)
        axis = energy if kind == "ring per energy" else whole
        layers["counts_off"] = cube(lambda size: rng.poisson(2.0, size), "", axis)
        layers["acceptance_off"] = cube(lambda size: np.maximum(rng.uniform(-1, 9, size), 0), "", axis)
    return layers


def make_target(layers, final=FINAL, irf=IRF) -> Target:
    """Target of these layers."""
    axes = {"energy": layers["counts"].axes[0], "energy_true": layers["exposure"].axes[0]} if layers else {}
    axis = energy_axis(log_edges(1.0, 20.0, 2))
    options = ReduceOptions(
        geometry=final,
        irf_geometry=irf,
        energy=axes.get("energy", axis),
        energy_true=axes.get("energy_true", replace(axis, name="energy_true")),
        rad=rad_axis(0.6, 5),
        offset_max_deg=2.0,
        gti_filter=True,
        duplicates="refuse",
        time_mjd=None,
        split_s=None,
        acceptance=AcceptanceOptions(),
        safe_mask=SafeMaskOptions(),
        spectrum=PowerLaw(index=2.6),
    )
    return Target("crab", (83.63, 22.01), options, {"label": NoBackground()}, (), SignificanceOptions((0.25,)))


def make_root(folder, layers, final=FINAL, irf=IRF, rows=()) -> Target:
    """Write a stack of these layers as the last of a label; give its target."""
    times = np.array([[10.0, 20.0], [30.0, 45.0]])
    about = Stack(layers, times, 25.0, 24.0, 2) if layers else empty_stack()
    write_stack(folder / "crab/stack/label" / f"{ROOT[:16]}.h5", about, ROOT, rows, STACK)
    return make_target(layers, final, irf)


@pytest.mark.parametrize("kind", ["fov", "ring", "ring per energy", "none"])
@pytest.mark.parametrize("n_energy", [1, 4])
def test_products_hold_the_sums_on_the_final_geometry(tmp_path, kind, n_energy):
    geom, irf = FINAL.cutout(3, -4, 33, 41), IRF.cutout(1, -1, 7, 9)
    layers = make_layers(kind, n_energy, 6, geom, irf)
    target = make_root(tmp_path, layers)
    export_label(tmp_path, target, TASK, lambda line: None)
    first = {name: (tmp_path / "crab/label" / name).read_bytes() for name in PRODUCTS}
    cube = read_artifact(tmp_path / "crab/label/cube.h5", kind="cube", key=KEY)
    assert {name: cube.datasets[name].unit for name in ("psf", "edisp")} == {"psf": "sr-1", "edisp": ""}
    x0, y0 = geom.origin_in(FINAL)
    rows, columns = slice(max(0, -y0), FINAL.ny - y0), slice(max(0, -x0), FINAL.nx - x0)
    for name in ("counts", "mask_safe"):
        assert cube.datasets[name].data.sum() == layers[name].data[:, rows, columns].sum()
    export_label(tmp_path, target, TASK, lambda line: None)
    assert {name: (tmp_path / "crab/label" / name).read_bytes() for name in PRODUCTS} == first


def test_certificate_says_what_the_products_were_made_from(tmp_path):
    target = make_root(tmp_path, make_layers("fov", 2, 3, FINAL, IRF))
    folder = tmp_path / "crab/label"
    folder.mkdir(parents=True)
    (folder / "made-0123456789abcdef.json").write_text("{}")
    export_label(tmp_path, target, TASK, lambda line: None)
    (path,) = folder.glob("made-*.json")
    assert str(path.relative_to(tmp_path)) == certificate_file("crab/label", KEY)
    content = json.loads(path.read_text())
    assert content["files"].keys() == set(PRODUCTS)
    assert all(each["sha256"] == file_sha256(folder / name) for name, each in content["files"].items())
    assert content["inputs"]["stack"] == ROOT
    reduce = content["options"]["reduce"]["options"]["reduce"]
    assert reduce == json.loads(json.dumps(to_plain(target.reduce)))
    background = content["options"]["background"]["options"]
    assert (background["position_deg"], background["significance"]) == ([83.63, 22.01], {"radius_deg": 0.25})
    assert {"numpy", "h5py", "astropy", "processor"} <= content["software"].keys()
    assert holds(path, content["key"])
    (folder / "datasets.yaml").write_text("")
    assert not holds(path, content["key"])


def make_profiles_of(scatter: float) -> Profiles:
    """Sums of a label whose background is wrong from cell to cell, in four bands."""
    rng = np.random.default_rng(11)
    background = np.full((4, 8, 6), 3000.0)
    return Profiles(
        rng.poisson(background * rng.normal(1.0, scatter, background.shape)) * 1.0, background, background[:, 0]
    )


@pytest.mark.parametrize("setting", ["measured", 0.04, None])
def test_an_error_of_the_background_reaches_every_product(tmp_path, setting):
    from gammapy.datasets import Datasets

    layers = make_layers("fov", 4, 6, FINAL, IRF)
    layers["background"] = replace(layers["background"], data=layers["background"].data + 4.0)
    target = make_root(tmp_path, layers)
    about = Stack(layers, np.array([[10.0, 20.0]]), 10.0, 9.0, 1, make_profiles_of(0.07))
    write_stack(tmp_path / "crab/stack/label" / f"{ROOT[:16]}.h5", about, ROOT, (), STACK)
    middle = target.reduce.energy.edges[1], target.reduce.energy.edges[3]
    options = replace(target.significance, background_systematic=setting, bands_tev=(middle,))
    target, said = replace(target, significance=options, backgrounds={"label": FovOptions()}), []
    export_label(tmp_path, target, TASK, said.append)
    cube = read_artifact(tmp_path / "crab/label/cube.h5", kind="cube", key=KEY)
    found, measured = cube.attributes["systematic"], measure_systematic(make_profiles_of(0.07))
    for name in ("total", "band", "ring"):
        np.testing.assert_array_equal(np.array(found[name], float), getattr(measured, name))
    assert np.all(np.abs(measured.band[0] - 0.07) < 4 * measured.band[1])
    used = found["used"][0]
    assert used == {"measured": measured.total[0], 0.04: 0.04, None: 0.0}[setting]
    taken = f"include {used:.1%} of it" if used else "do not include it (significance.background_systematic)"
    assert said[0] == (
        f"crab: label: systematic error of the background {measured.total[0]:.1%} ± {measured.total[1]:.1%},"
        f" by which counts outside the exclusions scatter about it beyond chance, by offset and direction; "
        f"significance and flux {taken}"
    )
    on, off, sigma = (cube.datasets[f"disc_{name}"].data for name in ("counts", "background", "significance"))
    known = np.isfinite(sigma)
    np.testing.assert_allclose(sigma[known], make_significance_cash(on, off, used)[known], rtol=2e-3, atol=1e-3)
    source = cube.attributes["source"]
    assert source["significance"] == pytest.approx(make_significance_cash(source["counts"], source["background"], used))
    (band,) = (each["source"] for each in cube.attributes["further"])
    wrong = max(found["used"][2:4])
    assert band["significance"] == pytest.approx(make_significance_cash(band["counts"], band["background"], wrong))
    assert wrong == (measured.band[0, 1:3].max() if setting == "measured" else used)
    if used:  # the error upwards is at least that of the background alone
        assert source["flux_err"] > used * source["background"] * source["flux"] / source["excess"]
    datasets = Datasets.read(tmp_path / "crab/label/datasets.yaml", tmp_path / "crab/label/models.yaml", lazy=False)
    norm = datasets[0].background_model.parameters["norm"]
    if not used:
        assert norm.prior is None
        return
    assert (norm.prior.mu.value, norm.prior.sigma.value) == (1.0, used)
    norm.value = 1.1
    with_prior = datasets.stat_sum()
    norm.prior = None
    density = np.exp(-0.5 * (0.1 / used) ** 2) / (used * np.sqrt(2 * np.pi))
    assert with_prior - datasets.stat_sum() == pytest.approx(-2 * np.log(density), rel=1e-4)


@pytest.mark.parametrize("kind", ["ring", "none"])
def test_other_backgrounds_have_no_error_that_is_known(tmp_path, kind):
    target = make_root(tmp_path, make_layers(kind, 2, 3, FINAL, IRF))
    target = replace(target, significance=replace(target.significance, background_systematic=0.3))
    export_label(tmp_path, target, TASK, lambda line: None)
    assert read_artifact(tmp_path / "crab/label/cube.h5").attributes["systematic"] == {"used": [0.0] * 3}


def test_label_without_a_run_has_products_that_say_so(tmp_path):
    """No counts, no exposure, nowhere safe: in a fit with others the dataset counts for nothing."""
    from gammapy.datasets import Datasets

    rows = [{"obs_id": 7, "piece": None, "status": "refused", "reason": "no EVENTS"}]
    target, lines = make_root(tmp_path, {}, rows=rows), []
    export_label(tmp_path, target, TASK, lines.append)
    folder = tmp_path / "crab/label"
    assert holds(tmp_path / certificate_file("crab/label", KEY), KEY)
    cube = read_artifact(folder / "cube.h5", kind="cube", key=KEY)
    about = cube.attributes
    assert (about["n_runs"], about["livetime_s"], about["counts"], about["background"]) == (0, 0.0, 0, None)
    for name in ("counts", "mask_safe", "exposure"):
        assert cube.datasets[name].geom == FINAL
        assert not np.any(cube.datasets[name].data)
    assert np.all(np.isnan(cube.datasets["disc_significance"].data))
    dataset = Datasets.read(folder / "datasets.yaml", lazy=False)[0]
    assert not np.any(dataset.mask_safe.data)
    assert dataset.stat_sum() == 0.0


def test_refused_runs_are_an_error_where_that_is_asked(tmp_path):
    rows = [{"obs_id": 7, "piece": None, "status": "refused", "reason": "no EVENTS"}]
    target = replace(make_root(tmp_path, make_layers("fov", 2, 3, FINAL, IRF), rows=rows), on_refused="fail")
    with pytest.raises(RunsLeftOut, match="1 of 1 runs refused, and on_refused is fail; the first, run 7: no EVENTS"):
        export_label(tmp_path, target, TASK, print)
    assert not (tmp_path / "crab/label").exists()


def test_damaged_stack_is_set_aside(tmp_path):
    target = make_root(tmp_path, make_layers("fov", 2, 3, FINAL, IRF))
    stack = tmp_path / "crab/stack/label" / f"{ROOT[:16]}.h5"
    content = bytearray(stack.read_bytes())
    content[len(content) // 2] ^= 1
    stack.write_bytes(content)
    with pytest.raises(FailedError, match=r"set aside as 1{16}.h5.corrupt, start again to make it"):
        export_label(tmp_path, target, TASK, print)
    assert not stack.exists()


MEASURED = """
import json, sys, threading, time
from pathlib import Path
from cubeflow.pipeline.export import export_label
from cubeflow.pipeline.tasks import ExportTask, Target
from cubeflow.store.keys import from_plain
peak, done = 0, False
def watch():
    global peak
    while not done:
        status = Path("/proc/self/status").read_text()
        peak = max(peak, int(status.split("RssAnon:")[1].split()[0]) * 1024)
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
target, task = json.loads(Path(sys.argv[2]).read_text())
try:
    export_label(Path(sys.argv[1]), from_plain(Target, target), from_plain(ExportTask, task), lambda line: None)
finally:
    done = True
    thread.join()
print(peak)
"""


def peak_bytes(folder, target) -> int:
    """Peak of the memory of an export that is no file, in a process of its own."""
    (folder / "task.json").write_text(json.dumps([to_plain(target), to_plain(TASK)]))
    command = [sys.executable, "-c", MEASURED, str(folder), str(folder / "task.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_cube_larger_than_memory_is_exported(tmp_path):
    """Sums and products lie in scratch files; some planes of them are in memory at a time."""
    small = peak_bytes(tmp_path / "small", make_root(tmp_path / "small", make_layers("fov", 2, 3, FINAL, IRF)))
    geom = make_geometry("galactic", "CAR", 184.56, -5.78, (30.0, 25.0), 0.1)
    irf = make_geometry("galactic", "CAR", 184.56, -5.78, (30.0, 25.0), 1.0)
    layers = make_layers("ring per energy", 60, 60, geom, irf)
    size = sum(cube.data.size for cube in layers.values()) * 8
    assert size > 2.5e8
    large = peak_bytes(tmp_path / "large", make_root(tmp_path / "large", layers, geom, irf))
    assert large - small < size / 4, (large, small, size)
    cube = read_artifact(tmp_path / "large/crab/label/cube.h5")
    assert cube.datasets["counts"].data.sum() == layers["counts"].data.sum()
