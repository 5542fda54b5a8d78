"""Exclusions that depend on energy, from the configuration to the background of each run."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import cubeflow
from cubeflow.config import load_config
from cubeflow.config.load import ConfigError
from cubeflow.maps import make_geometry
from cubeflow.plan.make import make_plan
from cubeflow.plan.run import run_whole
from cubeflow.store.artifact import read_artifact

RA, DEC = 83.633, 22.014
EDGES = [1.0, 2.0, 5.0, 20.0]
WIDTH, HEIGHT, PIXEL = 3.0, 2.6, 0.1
R_IN, R_OUT = 0.5, 0.8
CONFIG = """
data: {{store: {store}}}
results: {results}
simulate: {{runs: 2, duration: 600 s}}
targets:
  sky:
    position: {{lon: 83.633 deg, lat: 22.014 deg}}
    geometry: {{width: [3 deg, 2.6 deg], pixel: 0.1 deg}}
energy: {{edges: [1 TeV, 2 TeV, 5 TeV, 20 TeV]}}
energy_true: {{min: 0.5 TeV, max: 40 TeV, bins: 7}}
irf_grid: {{pixel: 0.4 deg, rad_bins: 20}}
exclusion: {exclusion}
backgrounds:
  fov: {{method: fov, energy_groups: 3, min_counts: 1, norm_min: 0.01, norm_max: 100}}
  ring: {{method: ring, r_in: 0.5 deg, width: 0.3 deg, per_energy: false}}
  each: {{method: ring, r_in: 0.5 deg, width: 0.3 deg}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exclusion")


def run(folder, name, exclusion):
    """Results with these exclusions."""
    config = folder / f"{name}.yaml"
    config.write_text(CONFIG.format(store=folder / "store", results=folder / name, exclusion=exclusion))
    run_whole(load_config(config), lambda line: None)
    return folder / name / "sky"


def cube_and_shape(geom):
    """Excluded radius about the target by energy, and a half plane at the highest energy."""
    away = geom.offset_deg(RA, DEC)
    keep = np.stack([away >= 0.62, away >= 0.31, np.ones(geom.shape, bool)])
    keep[2, :, : geom.nx // 3] = False
    return keep


@pytest.fixture(scope="module")
def results(folder):
    """Results with a cube of a mask for each energy on the pixels of the map, and a disc at one energy."""
    grid = make_geometry("icrs", "TAN", RA, DEC, (WIDTH, HEIGHT), PIXEL)
    header = grid.wcs().to_header()
    header["BANDSHDU"] = "BANDS"
    edges = Table([EDGES[:-1], EDGES[1:]], names=["E_MIN", "E_MAX"], units=["TeV", "TeV"])
    image = fits.ImageHDU(cube_and_shape(grid).astype("u1"), header)
    fits.HDUList([fits.PrimaryHDU(), image, fits.BinTableHDU(edges, name="BANDS")]).writeto(folder / "cube.fits")
    (folder / "one.reg").write_text("icrs\ncircle(84.3, 22.4, 0.4)\n")
    disc = f"{{path: {folder}/one.reg, energy_min: 1.5 TeV, energy_max: 4 TeV}}"
    return run(folder, "cube", f"[{folder}/cube.fits, {disc}]")


def run_maps(results, label):
    """Maps of each run: counts, acceptance, safe mask, what may be used, background."""
    grid = make_geometry("icrs", "TAN", RA, DEC, (WIDTH, HEIGHT), PIXEL)
    for folder in sorted((results / "obs").iterdir()):
        (reduced,) = (read_artifact(path).datasets for path in folder.glob("reduced-*.h5"))
        (made,) = (read_artifact(path).datasets for path in folder.glob(f"background-{label}-*.h5"))
        geom = reduced["counts"].geom
        keep = np.ones((3, *geom.shape), bool)
        x0, y0 = geom.origin_in(grid)
        inside = cube_and_shape(grid)
        for iy, ix in np.ndindex(geom.shape):
            j, i = iy + y0, ix + x0
            if 0 <= j < grid.ny and 0 <= i < grid.nx:
                keep[:, iy, ix] = inside[:, j, i]
        keep[:2] &= geom.offset_deg(84.3, 22.4) >= 0.4  # 1.5 to 4 TeV touches the bins 1 to 2 and 2 to 5 TeV
        safe = reduced["mask_safe"].data
        yield reduced["counts"].data, reduced["acceptance"].data.astype(float), safe, safe & keep, made


def test_fov_norms_come_from_what_each_energy_leaves(results):
    for counts, acceptance, safe, allowed, made in run_maps(results, "fov"):
        for k in range(3):
            norm = counts[k][allowed[k]].sum() / acceptance[k][allowed[k]].sum()
            usable = safe[k] & (acceptance[k] > 0)
            assert usable.any()
            np.testing.assert_allclose(made["background"].data[k][usable], norm * acceptance[k][usable], rtol=1e-6)


@pytest.mark.parametrize("label", ["ring", "each"])
def test_ring_counts_are_those_of_a_loop(results, label):
    for counts, acceptance, safe, allowed, made in run_maps(results, label):
        counts_off, acceptance_off = np.zeros(counts.shape, int), np.zeros(counts.shape)
        pixels = list(zip(*np.nonzero(allowed.any(axis=0)), strict=True))
        y, x = np.mgrid[: counts.shape[1], : counts.shape[2]]
        for v, u in pixels:
            r = np.hypot(y - v, x - u) * PIXEL
            ring = (r >= R_IN - 1e-9) & (r <= R_OUT + 1e-9)
            for k in np.flatnonzero(allowed[:, v, u]):
                counts_off[k][ring] += int(counts[k, v, u])
                acceptance_off[k][ring] += acceptance[k, v, u]
        on = np.where(safe, acceptance, 0.0)
        if label == "ring":
            counts_off, acceptance_off, on = (
                np.sum(part, axis=0, keepdims=True) for part in (counts_off, acceptance_off, on)
            )
        np.testing.assert_array_equal(made["counts_off"].data, counts_off)
        np.testing.assert_allclose(made["acceptance_off"].data, acceptance_off, rtol=1e-6)
        usable = safe & (acceptance_off > 0)
        expected = acceptance * counts_off / np.where(acceptance_off > 0, acceptance_off, 1.0)
        np.testing.assert_allclose(made["background"].data[usable], expected[usable], rtol=1e-6)


def test_energies_are_part_of_the_key(folder, results):
    def key_of_background(exclusion):
        config = folder / "key.yaml"
        config.write_text(CONFIG.format(store=folder / "store", results=folder / "key", exclusion=exclusion))
        (task,) = make_plan(load_config(config), lambda line: None).tasks["sky"].reduce
        return task.units[0].backgrounds["fov"]

    path, copy = folder / "one.reg", folder / "copy.reg"
    copy.write_bytes(path.read_bytes())
    limits = ("", ", energy_min: 1.5 TeV", ", energy_max: 1.5 TeV", ", energy_min: 1.4 TeV, energy_max: 1.5 TeV")
    keys = [key_of_background(f"{{path: {path}{text}}}") for text in limits]
    assert len(set(keys)) == len(limits)
    assert [key_of_background(each) for each in (path, copy, f"{{path: {copy}}}")] == keys[:1] * 3


def test_the_off_source_distribution_leaves_out_what_any_energy_does(results):
    cube = cubeflow.load(results / "fov" / "cube.h5")
    significance = cube.maps["disc_significance"]
    keep = cube_and_shape(significance.geom).all(axis=0) & (significance.geom.offset_deg(84.3, 22.4) >= 0.4)
    expected = np.count_nonzero(np.isfinite(significance.data[0]) & keep)
    assert 0 < expected < keep.size
    assert cube.attributes["off_source"]["n_pixels"] == expected


@pytest.mark.parametrize(
    ("exclusion", "match"),
    [
        ("{path: a.reg, energy_min: 3 TeV, energy_max: 2 TeV}", "energy_min: expected less than energy_max = 2 TeV"),
        ("[{path: a.reg, energy: 3 TeV}]", r"exclusion\[0\].energy: unknown key; did you mean 'energy_m"),
        ("[{energy_min: 3 TeV}]", r"exclusion\[0\].path: expected a path, got nothing"),
        ("[a.reg, 5]", r"exclusion\[1\]: expected keys \(path, energy_min, energy_max\) and values, got 5"),
        ("[{path: a.reg, energy_min: 3}]", r"energy_min: expected a quantity with a unit"),
    ],
)
def test_mistakes_name_the_key(folder, exclusion, match):
    config = folder / "mistake.yaml"
    config.write_text(CONFIG.format(store=folder / "store", results=folder / "x", exclusion=exclusion))
    with pytest.raises(ConfigError, match=match):
        load_config(config)
