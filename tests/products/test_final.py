"""Final maps against whole arrays put together by hand, and how much memory they take."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cubeflow.maps import Cube, GeometryError, energy_axis, make_geometry, rad_axis, release
from cubeflow.products.final import make_final
from cubeflow.products.significance import (
    SignificanceOptions,
    disc_pixels,
    find_at_target,
    make_map_significance_cash,
    make_map_significance_li_ma,
    ratio_of_sums,
)
from cubeflow.products.spectrum import PowerLaw
from cubeflow.products.stack import Stack, mean_response

PARENT = make_geometry("icrs", "TAN", 83.6, 22.0, (2.3, 1.9), 0.1)
COARSE = PARENT.coarse(0.4)
ENERGY = energy_axis([1.0, 3.0, 10.0, 30.0])
WHOLE = energy_axis([1.0, 30.0])
ENERGY_TRUE = energy_axis([0.5, 2.0, 9.0, 40.0], "energy_true")
SUMMED, PER_ENERGY = 1, 3
DISC = SignificanceOptions((0.25,))


def layers(off=None, background=True):
    """Layers of a stack that reaches beyond the map on one side and not to its border on another."""
    rng = np.random.default_rng(5)
    geom, irf = PARENT.cutout(-3, 2, 20, 21), COARSE.cutout(-1, 0, 6, 6)
    shape = (3, *geom.shape)
    mask = rng.random(shape) < 0.8
    mask[:, :4] = False
    made = {
        "counts": Cube(rng.poisson(5.0, shape) * mask, "", geom, (ENERGY,)),
        "mask_safe": Cube(mask, "", geom, (ENERGY,)),
        "exposure": Cube(rng.random(shape) * 1e10, "m2 s", geom, (ENERGY_TRUE,)),
        "exposure_reco": Cube(rng.random(shape) * 1e10, "m2 s", geom, (ENERGY,)),
        "irf_exposure": Cube(rng.random((3, *irf.shape)) * 1e10, "m2 s", irf, (ENERGY_TRUE,)),
        "irf_edisp": Cube(rng.random((3, 3, *irf.shape)) * 1e9, "m2 s", irf, (ENERGY_TRUE, ENERGY)),
    }
    if background:
        made["acceptance"] = Cube(rng.random(shape) * mask, "", geom, (ENERGY,))
        made["background"] = Cube((1.0 + 4.0 * rng.random(shape)) * mask, "", geom, (ENERGY,))
    if off is not None:
        axis, size = (WHOLE, (1, *geom.shape)) if off == SUMMED else (ENERGY, shape)
        made["counts_off"] = Cube(rng.poisson(2.0, size), "", geom, (axis,))
        made["acceptance_off"] = Cube(9.0 * rng.random(size) * (rng.random(size) < 0.9), "", geom, (axis,))
    return made


def with_psf(made):
    """The same layers of runs that have a PSF, without which there is no flux."""
    irf = made["irf_exposure"].geom
    psf = np.random.default_rng(2).random((3, 10, *irf.shape)) * 1e10
    return made | {"irf_psf": Cube(psf, "m2 s sr-1", irf, (ENERGY_TRUE, rad_axis(0.5, 10)))}


def final(made, disc=DISC, **changes):
    total = Stack(made, np.zeros((1, 2)), 1000.0, 900.0, 4)
    given = {"target_deg": (83.55, 22.11), "excluded": np.zeros(PARENT.shape, bool), **changes}
    return make_final(total, PARENT, COARSE, disc, given["target_deg"], PowerLaw(index=2.3), given["excluded"])


def on_map(cube, geom, fill=0):
    """Values on another geometry, pixel by pixel."""
    out = np.full((*cube.data.shape[:-2], *geom.shape), fill, cube.data.dtype)
    x0, y0 = cube.geom.origin_in(geom)
    for iy, ix in np.ndindex(cube.geom.shape):
        if 0 <= iy + y0 < geom.ny and 0 <= ix + x0 < geom.nx:
            out[..., iy + y0, ix + x0] = cube.data[..., iy, ix]
    return out


def whole(made):
    """The same layers on the map, in memory."""
    return {
        name: Cube(on_map(cube, geom), cube.unit, geom, cube.axes)
        for name, cube in made.items()
        for geom in [COARSE if name.startswith("irf_") else PARENT]
    }


@pytest.mark.parametrize("off", [None, SUMMED, PER_ENERGY])
def test_maps_are_the_layers_on_the_map(off, monkeypatch):
    monkeypatch.setattr("cubeflow.maps.scratch.HELD_VALUES", 0)
    made = layers(off)
    found, expected = final(made), whole(made)
    for name in made:
        if name == "irf_edisp":
            mean = mean_response(expected[name].data, expected["irf_exposure"].data)
            np.testing.assert_allclose(found.maps["edisp"].data, mean, rtol=1e-6)
            assert (found.maps["edisp"].unit, found.maps["edisp"].data.dtype) == ("", np.float32)
            continue
        values = expected[name].data
        np.testing.assert_array_equal(
            found.maps[name].data, values.astype("f4") if values.dtype.kind == "f" else values
        )
        assert release(found.maps[name].data)
    if off is not None:
        total = [expected[name].data for name in ("background", "counts_off", "acceptance", "acceptance_off")]
        if off == SUMMED:
            total = [each.sum(axis=0, keepdims=True) for each in total]
        np.testing.assert_allclose(found.maps["alpha"].data, ratio_of_sums(*total), rtol=1e-6)


@pytest.mark.parametrize("off", [None, SUMMED, PER_ENERGY])
def test_significance_is_that_of_the_whole_maps(off):
    made = layers(off)
    found, maps = final(made), whole(made)
    mask = maps["mask_safe"].data
    if off is None:
        expected = make_map_significance_cash(maps["counts"], maps["background"], mask, 0.25)
    else:
        total = [maps[name].data for name in ("background", "counts_off", "acceptance", "acceptance_off")]
        if off == SUMMED:
            total = [each.sum(axis=0, keepdims=True) for each in total]
        alpha = Cube(ratio_of_sums(*total), "", PARENT, maps["counts_off"].axes)
        ring = maps["acceptance"], maps["counts_off"], alpha
        expected = make_map_significance_li_ma(maps["counts"], *ring, mask, 0.25)
    for name in ("counts", "background", "excess", "significance"):
        one, other = getattr(found.significance, name).data, getattr(expected, name).data
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
        assert np.isnan(one).any()
    image = np.nansum(np.isfinite(found.significance.significance.data))
    assert found.summary.off_source["n_pixels"] == image > 50


@pytest.mark.parametrize("off", [None, PER_ENERGY])
def test_further_discs_and_bands_are_those_of_these_alone(off):
    made = with_psf(layers(off))
    band, every = (3.0, 30.0), (1.0, 30.0)
    found = final(made, SignificanceOptions((0.25, 0.4), (band,)))
    wanted = [(0.4, every), (0.25, band), (0.4, band)]
    assert [(disc.radius_deg, disc.energy_tev) for disc, _ in found.further] == wanted

    def cut(cube):
        if ENERGY not in cube.axes:
            return cube
        place = cube.axes.index(ENERGY)
        axes = tuple(energy_axis([3.0, 10.0, 30.0]) if axis == ENERGY else axis for axis in cube.axes)
        return Cube(np.delete(cube.data, 0, axis=place), cube.unit, cube.geom, axes)

    for disc, maps in found.further:
        part = made if disc.energy_tev == every else {name: cut(cube) for name, cube in made.items()}
        alone = final(part, SignificanceOptions((disc.radius_deg,)))
        for name, value in alone.summary.source.items():
            assert disc.source[name] == (None if value is None else pytest.approx(value, rel=1e-6))
        assert disc.source["counts"] != found.summary.source["counts"]
        for name in ("counts", "excess", "significance"):
            one, other = (getattr(each, name).data for each in (maps, alone.significance))
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("off", [None, SUMMED])
def test_summary_is_that_of_the_target_and_of_the_maps(off):
    made = with_psf(layers(off))
    found, maps = final(made), whole(made)
    mask, spectrum = made["mask_safe"].data, PowerLaw(index=2.3)
    at_target = find_at_target(made, mask, (83.55, 22.11), 0.25)
    assert found.summary.source["counts"] == at_target["on"]
    for name in ("background", "excess", "significance"):
        assert found.summary.source[name] == at_target[name]
    shares = spectrum.integral(ENERGY.edges_array) / spectrum.integral([1.0, 30.0])
    exposure = np.einsum("k,kyx->yx", shares, made["exposure_reco"].data * mask)
    rows, columns, share = disc_pixels(made["counts"].geom, (83.55, 22.11), 0.25)
    mean = exposure[rows, columns] @ share / (mask.any(axis=0)[rows, columns] @ share)
    assert found.summary.source["flux"] == pytest.approx(at_target["excess"] / mean, rel=1e-9)
    assert found.summary.source["flux_err"] > 0
    assert 0 < found.summary.source["containment"] < 1
    assert found.summary.counts == maps["counts"].data.sum()
    assert found.summary.background == pytest.approx(maps["background"].data.sum(), rel=1e-12)
    assert (found.summary.n_runs, found.summary.livetime_s) == (4, 900.0)
    assert final(made, target_deg=(99.0, 22.0)).summary.source is None


def test_flux_is_excess_over_exposure():
    made = with_psf(layers())
    found, maps = final(made), whole(made)
    weights = PowerLaw(index=2.3).integral(ENERGY.edges_array)
    mask = maps["mask_safe"].data
    mean = np.einsum("k,kyx->yx", weights / weights.sum(), np.where(mask, maps["exposure_reco"].data, 0))
    y, x = np.mgrid[: PARENT.ny, : PARENT.nx]
    disc = np.hypot(y - 9, x - 8) <= 2.5
    used = disc & mask.any(axis=0)
    expected = found.significance.excess.data[0, 9, 8] * used.sum() / mean[disc].sum()
    assert found.maps["disc_flux"].data[0, 9, 8] == pytest.approx(expected, rel=1e-6)
    assert np.isnan(found.maps["disc_flux"].data[0][~mask.any(axis=0)]).all()


def test_without_a_psf_there_is_no_flux():
    """A point-like exposure holds inside a cut on direction."""
    found = final(layers())
    assert "disc_flux" not in found.maps
    assert not {"flux", "flux_err", "flux_ul", "containment"} & found.summary.source.keys()
    assert found.summary.source["significance"] is not None


def test_excluded_pixels_are_no_off_source():
    excluded = np.zeros(PARENT.shape, bool)
    excluded[:, :9] = True
    found = final(layers(), excluded=excluded)
    expected = np.count_nonzero(np.isfinite(found.significance.significance.data[0]) & ~excluded)
    assert found.summary.off_source["n_pixels"] == expected


def test_without_a_background_counts_are_all_that_is_known():
    found = final(layers(background=False))
    assert np.isnan(found.significance.significance.data).all()
    assert np.isfinite(found.significance.counts.data).any()
    assert found.summary.background is None
    assert "disc_flux" not in found.maps


def test_runs_beside_the_map_are_refused():
    made = layers()
    moved = {
        name: Cube(cube.data, cube.unit, cube.geom.cutout(100, 0, cube.geom.nx, cube.geom.ny), cube.axes)
        for name, cube in made.items()
    }
    with pytest.raises(GeometryError, match="no run reaches the map"):
        final(moved)


LARGE = """
import re, sys
import numpy as np
from cubeflow.maps import Cube, energy_axis, log_edges, make_geometry, release, scratch_zeros
from cubeflow.products.final import make_final
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.spectrum import PowerLaw
from cubeflow.products.stack import Stack, stack

def anonymous_mb():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e3

n = 40
geom = make_geometry("icrs", "TAN", 83.6, 22.0, (18.0, 16.0), 0.03)
energy, energy_true = energy_axis(log_edges(1, 10, n)), energy_axis(log_edges(1, 10, n), "energy_true")
whole = energy_axis([1.0, 10.0])
layers = {}
for name, axis, dtype in (("counts", energy, "i8"), ("mask_safe", energy, "?"), ("acceptance", energy, "f8"),
                          ("background", energy, "f8"), ("exposure", energy_true, "f8"),
                          ("exposure_reco", energy, "f8"), ("counts_off", energy, "i8"),
                          ("acceptance_off", energy, "f8")):
    data = scratch_zeros((axis.n_bins, *geom.shape), dtype)
    for plane in data:
        plane[...] = 1
    release(data)
    layers[name] = Cube(data, "", geom, (axis,))
part = Stack(layers, np.zeros((1, 2)), 1.0, 1.0, 1)
before = anonymous_mb()
total = stack([part, part])
summed = anonymous_mb()
final = make_final(total, geom, geom.coarse(0.5), SignificanceOptions((0.1,)), (83.6, 22.0),
                   PowerLaw(), np.zeros(geom.shape, bool))
assert final.summary.counts == 2 * n * geom.nx * geom.ny
size = sum(cube.data.nbytes for cube in total.layers.values()) / 1e6
print(size, summed - before, max(anonymous_mb() - before, 0))
import resource
"""


@pytest.mark.slow
def test_a_cube_that_is_larger_than_the_memory_it_takes(scratch):
    """Anonymous memory, which the kernel cannot give back to files, stays at some images."""
    peak = "import threading, time\nseen = []\ndef look():\n    while True:\n        seen.append(anonymous_mb())\n"
    peak += "        time.sleep(0.002)\nthreading.Thread(target=look, daemon=True).start()\n"
    code = LARGE.replace("before = anonymous_mb()\n", "before = anonymous_mb()\n" + peak)
    code += "print(max(seen) - before)\n"
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(source), "CUBEFLOW_SCRATCH": str(scratch)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    size, *grown = (float(word) for word in done.stdout.split())
    assert size > 700
    assert max(grown) < 0.2 * size, done.stdout
