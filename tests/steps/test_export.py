"""The final products of a label: the same bytes whether the maps are in memory or stay on the disk."""

import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from cubeflow.errors import FailedError
from cubeflow.maps import Axis, Cube, energy_axis, log_edges, make_geometry, rad_axis
from cubeflow.plan.digests import write_json
from cubeflow.products.stack import Stack, empty_stack
from cubeflow.steps import export, root
from cubeflow.steps.export import export_label
from cubeflow.steps.kept import write_stack
from cubeflow.storage.artifact import read_artifact

FILES = "cube.h5", "dataset.fits.gz", "datasets.yaml", "significance.fits.gz"
SPECTRUM = {"type": "power-law", "index": 2.6}
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


def make_root(folder, layers, final=FINAL, irf=IRF):
    """Write a stack of these layers as the last of a label, and its manifest; return the path of that."""
    times = np.array([[10.0, 20.0], [30.0, 45.0]])
    about = Stack(layers, times, 25.0, 24.0, 2) if layers else empty_stack()
    write_stack(folder / "stack" / "label" / "root.h5", about, "1" * 64, {"children": []}, "blosc")
    (folder / "plan").mkdir(exist_ok=True)
    export = {"significance": {"radius_deg": 0.25}, "ra_deg": 83.63, "dec_deg": 22.01, "spectrum": SPECTRUM}
    manifest = {"target": "crab", "label": "label", "root": "root", "geometry": asdict(final)}
    manifest |= {
        "irf_geometry": asdict(irf),
        "export": export,
        "key": "2" * 64,
        "reduce": {},
        "background": {"exclusion": None},
    }
    manifest |= {"settings": {"exclusion": [], "compression": "blosc"}, "runs": {}, "versions": {}}
    write_json(folder / "plan" / "label.final.json", manifest)
    return folder / "plan" / "label.final.json"


def made(path) -> dict[str, bytes]:
    """Export, and what is in the files."""
    export_label(path, lambda line: None)
    return {name: (path.parents[1] / "label" / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("kind", ["fov", "ring", "ring per energy", "none"])
@pytest.mark.parametrize("n_energy", [1, 4])
def test_maps_on_the_disk_give_the_same_bytes(tmp_path, monkeypatch, kind, n_energy):
    geom, irf = FINAL.cutout(3, -4, 33, 41), IRF.cutout(1, -1, 7, 9)
    path = make_root(tmp_path, make_layers(kind, n_energy, 6, geom, irf))
    in_memory = made(path)
    cube = read_artifact(path.parents[1] / "label" / "cube.h5")
    assert {name: cube.cube(name).unit for name in ("psf", "edisp")} == {"psf": "sr-1", "edisp": ""}
    monkeypatch.setattr(root, "EXPORT_BYTES", 0)
    monkeypatch.setattr(export, "write_artifact", None)
    assert {name: content == in_memory[name] for name, content in made(path).items()} == dict.fromkeys(FILES, True)


def test_label_without_a_run_is_an_error(tmp_path):
    with pytest.raises(FailedError, match=r"crab: label: no run is left; see .*runs.ecsv"):
        export_label(make_root(tmp_path, {}), print)


def test_damaged_stack_is_set_aside(tmp_path):
    path = make_root(tmp_path, make_layers("fov", 2, 3, FINAL, IRF))
    stack = tmp_path / "stack" / "label" / "root.h5"
    content = bytearray(stack.read_bytes())
    content[len(content) // 2] ^= 1
    stack.write_bytes(content)
    with pytest.raises(FailedError, match=r"set aside as root.h5.corrupt, start again to make it"):
        export_label(path, print)
    assert not stack.exists()


LIMITED = """
import resource, sys
from pathlib import Path
from cubeflow.steps import export, root
from cubeflow.steps.export import export_label
root.EXPORT_BYTES = int(sys.argv[2])
if int(sys.argv[3]):
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]),) * 2)
export_label(Path(sys.argv[1]), print)
status = Path("/proc/self/status").read_text()
print(int(status.split("VmPeak:")[1].split()[0]) * 1024)
"""


def export_within(path, limit, export_bytes=root.EXPORT_BYTES):
    """Export in a process with a limit of its memory."""
    command = [sys.executable, "-c", LIMITED, str(path), str(export_bytes), str(limit)]
    return subprocess.run(command, capture_output=True, text=True)


def test_cube_larger_than_memory_is_exported(tmp_path):
    (tmp_path / "small").mkdir()
    small = export_within(make_root(tmp_path / "small", make_layers("fov", 2, 3, FINAL, IRF)), 0)
    geom = make_geometry("galactic", "CAR", 184.56, -5.78, (30.0, 25.0), 0.1)
    irf = make_geometry("galactic", "CAR", 184.56, -5.78, (30.0, 25.0), 1.0)
    layers = make_layers("ring per energy", 60, 60, geom, irf)
    size = sum(cube.data.size for cube in layers.values()) * 8
    path = make_root(tmp_path, layers, geom, irf)
    limit = int(small.stdout.splitlines()[-1]) + size // 2
    assert size > root.EXPORT_BYTES
    assert "MemoryError" in export_within(path, limit, export_bytes=1 << 40).stderr
    done = export_within(path, limit)
    assert done.returncode == 0, done.stderr
    limited = {name: (tmp_path / "label" / name).read_bytes() for name in FILES}
    assert export_within(path, 0, export_bytes=1 << 40).returncode == 0
    unlimited = {name: (tmp_path / "label" / name).read_bytes() for name in FILES}
    assert {name: content == unlimited[name] for name, content in limited.items()} == dict.fromkeys(FILES, True)
    assert read_artifact(tmp_path / "label" / "cube.h5").cube("counts").data.sum() == layers["counts"].data.sum()
