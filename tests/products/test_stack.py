"""A stack of stacks is a stack; sums are those of the runs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubeflow.maps import Cube, GeometryError, energy_axis, make_geometry, release
from cubeflow.pipeline.stack import write_stack
from cubeflow.products import stack as stack_module
from cubeflow.products.background import Background, run_part
from cubeflow.products.final import make_final
from cubeflow.products.profiles import Profiles
from cubeflow.products.reduced import Reduced
from cubeflow.products.significance import SignificanceOptions
from cubeflow.products.spectrum import PowerLaw
from cubeflow.products.stack import RunPart, Stack, StackSum, empty_stack, mean_response, stack
from cubeflow.store.keys import Recipe

PARENT = make_geometry("icrs", "TAN", 10.0, 20.0, (0.9, 0.7), 0.1)
COARSE = make_geometry("icrs", "TAN", 10.0, 20.0, (0.8, 0.6), 0.2)
ENERGY = energy_axis([1.0, 2.0, 5.0])
ENERGY_TRUE = energy_axis([0.5, 1.0, 3.0, 9.0], "energy_true")


def part_of(maps, mask, weight, gti_s, livetime_s) -> RunPart:
    """Contribution of a run with these maps and the exposure `weight` on the grid of its responses."""
    of_run = {name: cube for name, cube in maps.items() if name != "background"} | {"irf_exposure": weight}
    background = {name: cube for name, cube in maps.items() if name == "background"}
    return run_part(Reduced(of_run, gti_s, {"livetime_s": livetime_s}), Background(background, mask, {}))


def make_run(seed: int) -> Stack:
    """Contribution of a random run on a random cutout."""
    rng = np.random.default_rng(seed)
    x0, y0 = int(rng.integers(-2, 5)), int(rng.integers(-1, 4))
    geom = PARENT.cutout(x0, y0, int(rng.integers(1, 7)), int(rng.integers(1, 6)))
    shape, shape_true = (2, *geom.shape), (3, *geom.shape)
    mask = rng.random(shape) < 0.6
    maps = {
        "counts": Cube(rng.poisson(3, shape), "", geom, (ENERGY,)),
        "background": Cube(rng.random(shape), "", geom, (ENERGY,)),
        "exposure": Cube(rng.random(shape_true) * 1e10, "m2 s", geom, (ENERGY_TRUE,)),
        "edisp": Cube(rng.random((3, 2, *COARSE.shape)), "", COARSE, (ENERGY_TRUE, ENERGY)),
    }
    weight = Cube(rng.random((3, *COARSE.shape)) * 1e10, "m2 s", COARSE, (ENERGY_TRUE,))
    start = float(seed) * 2000
    return stack([part_of(maps, mask, weight, np.array([[start, start + 1000.0]]), 900.0)])


def on_parent(stacked: Stack, name: str) -> np.ndarray:
    """Layer on a geometry that holds all, for comparisons."""
    layer = stacked.layers[name]
    x0, y0 = layer.geom.origin_in(PARENT.cutout(-5, -5, 25, 25))
    whole = np.zeros((*layer.data.shape[:-2], 25, 25), layer.data.dtype)
    whole[..., y0 : y0 + layer.geom.ny, x0 : x0 + layer.geom.nx] = layer.data
    return whole


def mean_edisp(stacked: Stack) -> np.ndarray:
    return mean_response(stacked.layers["irf_edisp"].data, stacked.layers["irf_exposure"].data)


def slow_sum(runs: list[Stack], name: str) -> np.ndarray:
    """Sum on the whole grid, run by run and pixel by pixel."""
    total = np.zeros((*runs[0].layers[name].data.shape[:-2], 25, 25))
    for run in runs:
        cube = run.layers[name]
        x0, y0 = cube.geom.origin_in(PARENT.cutout(-5, -5, 25, 25))
        for iy in range(cube.geom.ny):
            for ix in range(cube.geom.nx):
                total[..., y0 + iy, x0 + ix] += cube.data[..., iy, ix]
    return total


@pytest.mark.parametrize("name", ["counts", "background", "exposure"])
def test_stack_is_the_pixelwise_sum(name):
    runs = [make_run(seed) for seed in range(6)]
    np.testing.assert_array_equal(on_parent(stack(runs), name), slow_sum(runs, name))


def test_masks_are_joined():
    runs = [make_run(seed) for seed in range(6)]
    np.testing.assert_array_equal(on_parent(stack(runs), "mask_safe"), slow_sum(runs, "mask_safe") > 0)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=8, unique=True), st.data())
def test_stack_is_associative_and_order_free(seeds, data):
    runs = [make_run(seed) for seed in seeds]
    border = data.draw(st.integers(1, len(runs) - 1))
    whole = stack(runs)
    nested = stack([stack(runs[:border]), stack(runs[border:])])
    shuffled = stack(data.draw(st.permutations(runs)))
    for other in (nested, shuffled):
        for name in whole.layers:
            if name == "irf_edisp" or name == "irf_exposure":
                np.testing.assert_allclose(other.layers[name].data, whole.layers[name].data, rtol=1e-13)
            else:
                np.testing.assert_allclose(on_parent(other, name), on_parent(whole, name), rtol=1e-13)
        np.testing.assert_array_equal(on_parent(other, "counts"), on_parent(whole, "counts"))
        np.testing.assert_array_equal(other.gti_s, whole.gti_s)
        assert other.n_runs == whole.n_runs == len(seeds)
        assert other.livetime_s == pytest.approx(900.0 * len(seeds))


def test_exposure_is_kept_where_any_energy_is_safe():
    geom = PARENT.cutout(0, 0, 2, 1)
    mask = np.array([[[True, False]], [[False, False]]])
    maps = {
        "counts": Cube(np.full((2, 1, 2), 5), "", geom, (ENERGY,)),
        "exposure": Cube(np.ones((3, 1, 2)), "m2 s", geom, (ENERGY_TRUE,)),
    }
    weight = Cube(np.ones((3, *COARSE.shape)), "m2 s", COARSE, (ENERGY_TRUE,))
    run = stack([part_of(maps, mask, weight, np.array([[0.0, 1.0]]), 1.0)])
    np.testing.assert_array_equal(run.layers["exposure"].data, [[[1, 0]], [[1, 0]], [[1, 0]]])
    np.testing.assert_array_equal(run.layers["counts"].data, [[[5, 0]], [[0, 0]]])


def test_mean_response_is_weighted_by_exposure():
    runs = [make_run(seed) for seed in (1, 2)]
    mean = mean_edisp(stack(runs))
    weights = [run.layers["irf_exposure"].data[:, None] for run in runs]
    values = [run.layers["irf_edisp"].data / weight for run, weight in zip(runs, weights, strict=True)]
    expected = np.average(values, axis=0, weights=np.broadcast_arrays(*weights, values[0])[:2])
    np.testing.assert_allclose(mean, expected)
    np.testing.assert_array_equal(mean_response(np.ones((1, 2, 1, 1)), np.zeros((1, 1, 1))), np.zeros((1, 2, 1, 1)))


def test_stacked_responses_predict_the_counts_that_were_kept():
    """Runs with other thresholds: the flux folded with the stack is the sum of the runs folded and masked."""
    rng = np.random.default_rng(8)
    fine, coarse = PARENT.cutout(1, 1, 4, 4), COARSE
    flux = rng.random(3)
    runs, expected = [], np.zeros(2)
    for safe in ([False, True], [True, True], [True, False]):
        exposure, edisp = rng.random(3) * 1e10, rng.random((3, 2))
        mask = np.broadcast_to(np.array(safe)[:, None, None], (2, *fine.shape))
        maps = {
            "counts": Cube(np.zeros((2, *fine.shape), int), "", fine, (ENERGY,)),
            "exposure": Cube(np.tile(exposure[:, None, None], (1, *fine.shape)), "m2 s", fine, (ENERGY_TRUE,)),
            "edisp": Cube(np.tile(edisp[..., None, None], (1, 1, *coarse.shape)), "", coarse, (ENERGY_TRUE, ENERGY)),
        }
        weight = Cube(np.tile(exposure[:, None, None], (1, *coarse.shape)), "m2 s", coarse, (ENERGY_TRUE,))
        runs.append(part_of(maps, mask, weight, np.array([[0.0, 1.0]]), 1.0))
        expected += np.array(safe) * np.einsum("j,j,jk", flux, exposure, edisp)
    stacked = stack(runs)
    mean = mean_edisp(stacked)
    for iy, ix in np.ndindex(coarse.shape):
        predicted = np.einsum("j,j,jk", flux, stacked.layers["exposure"].data[:, 2, 2], mean[..., iy, ix])
        np.testing.assert_allclose(predicted, expected, rtol=1e-12)


def test_a_nan_is_refused():
    run = make_run(1)
    spoiled = run.layers["background"].data.copy()
    spoiled[0, 0, 0] = np.nan
    layers = {**run.layers, "background": Cube(spoiled, "", run.layers["background"].geom, (ENERGY,))}
    with pytest.raises(ValueError, match="'background' holds values that are not finite"):
        stack([Stack(layers, run.gti_s, 1.0, 1.0, 1)])


def test_the_maps_of_one_run_are_no_sum(tmp_path):
    """They have no weights yet: where a sum is expected they are not taken."""
    geom = PARENT.cutout(0, 0, 3, 2)
    maps = {"counts": Cube(np.ones((2, *geom.shape), int), "", geom, (ENERGY,))}
    weight = Cube(np.ones((3, *COARSE.shape)), "m2 s", COARSE, (ENERGY_TRUE,))
    mask = np.zeros((2, *geom.shape), bool)
    part = part_of(maps, mask, weight, np.array([[0.0, 1.0]]), 1.0)
    assert part.maps["counts"].data.all()
    assert not stack([part]).layers["counts"].data.any()
    place = PARENT, COARSE, SignificanceOptions(), (10.0, 20.0), PowerLaw(), np.zeros(PARENT.shape, bool)
    with pytest.raises(AttributeError, match="'RunPart' object has no attribute 'layers'"):
        make_final(part, *place)
    with pytest.raises(AttributeError, match="'RunPart' object has no attribute 'layers'"):
        write_stack(tmp_path / "stack.h5", part, "00" * 32, (), Recipe("stack", 1, {}, ()))
    assert list(tmp_path.iterdir()) == []


def test_parts_stay_as_they_were():
    runs = [make_run(seed) for seed in range(3)]
    before = [run.layers["counts"].data.copy() for run in runs]
    stack(runs)
    for run, data in zip(runs, before, strict=True):
        np.testing.assert_array_equal(run.layers["counts"].data, data)


def test_other_grids_are_refused():
    run, other = make_run(1), make_run(2)
    shifted = make_geometry("icrs", "TAN", 10.05, 20.0, (0.9, 0.7), 0.1)
    counts = other.layers["counts"]
    moved = Cube(counts.data, "", shifted.cutout(0, 0, counts.geom.nx, counts.geom.ny), counts.axes)
    with pytest.raises(GeometryError, match="not aligned"):
        stack([run, Stack({**other.layers, "counts": moved}, other.gti_s, 1.0, 1.0, 1)])


def test_nothing_is_no_stack():
    with pytest.raises(ValueError, match="nothing to stack"):
        stack([])


def test_values_that_do_not_count_may_be_nan():
    geom = PARENT.cutout(0, 0, 3, 2)
    mask = np.arange(12).reshape(2, 2, 3) % 3 > 0
    values = np.where(mask, np.arange(12.0).reshape(2, 2, 3), np.nan).astype("f4")
    maps = {
        "background": Cube(values, "", geom, (ENERGY,)),
        "counts": Cube(np.arange(12).reshape(2, 2, 3), "", geom, (ENERGY,)),
    }
    weight = Cube(np.ones((3, *COARSE.shape)), "m2 s", COARSE, (ENERGY_TRUE,))
    run = part_of(maps, mask, weight, np.array([[0.0, 1.0]]), 1.0)
    expected = np.where(mask, np.arange(12.0).reshape(2, 2, 3), 0)
    for part in (stack([run]), stack([run, run])):
        scale = part.n_runs
        np.testing.assert_array_equal(part.layers["background"].data, scale * expected)
        np.testing.assert_array_equal(part.layers["counts"].data, scale * expected)
        np.testing.assert_array_equal(part.layers["mask_safe"].data, mask)
    assert stack([run]).layers["counts"].data.dtype == np.int64
    assert stack([run]).layers["mask_safe"].data.dtype == bool
    spoiled = np.where(mask, np.inf, 0.0)
    maps["background"] = Cube(spoiled, "", geom, (ENERGY,))
    with pytest.raises(ValueError, match=r"background.*not finite"):
        stack([part_of(maps, mask, weight, np.array([[0.0, 1.0]]), 1.0)])


@pytest.mark.parametrize("n_parts", [1, 2, 3, 10])
def test_parts_are_added_in_the_order_they_came(n_parts):
    rng = np.random.default_rng(n_parts)
    parts = [rng.normal(scale=10.0 ** rng.integers(-8, 9), size=(1, *PARENT.shape)) for _ in range(n_parts)]
    total, slow = StackSum(), np.zeros((1, *PARENT.shape))
    for values in parts:
        total.add(
            Stack({"exposure": Cube(values, "m2 s", PARENT, (energy_axis([1.0, 2.0]),))}, np.zeros((1, 2)), 1.0, 1.0, 1)
        )
        slow += values
    stacked = total.result()
    np.testing.assert_array_equal(stacked.layers["exposure"].data, slow)
    assert stacked.n_runs == n_parts


def test_large_sums_lie_in_files_and_empty_stacks_add_nothing(monkeypatch):
    monkeypatch.setattr("cubeflow.maps.scratch.HELD_VALUES", 0)
    runs = [make_run(seed) for seed in (3, 4, 5)]
    with_nothing = stack([empty_stack(), runs[0], empty_stack(), runs[1], stack([empty_stack()]), runs[2]])
    for name, cube in stack(runs).layers.items():
        assert release(cube.data)
        np.testing.assert_array_equal(with_nothing.layers[name].data, cube.data)
    assert with_nothing.n_runs == 3


def test_large_sums_do_not_stay_in_memory(monkeypatch):
    released = []
    monkeypatch.setattr("cubeflow.maps.scratch.HELD_VALUES", 12)
    monkeypatch.setattr(stack_module, "release", lambda array: released.append(array.nbytes))
    stacked = stack([make_run(1), make_run(2)])
    large = [cube.data.nbytes for cube in stacked.layers.values() if cube.data.size > 12]
    assert len(large) >= 3
    assert set(large) <= set(released)


def test_profiles_are_added():
    def profiles(n):
        return Profiles(*(np.full((2, 8, n), float(n)) for _ in range(2)), np.full((2, n), 1.0))

    runs = [replace(make_run(seed), profiles=profiles(n)) for seed, n in ((1, 3), (2, 5))]
    stacked = stack([stack(runs[:1]), runs[1], make_run(7)])
    assert stacked.profiles.counts.tolist() == [[[8.0, 8.0, 8.0, 5.0, 5.0]] * 8] * 2
    assert stacked.profiles.area_deg2.tolist() == [[2.0, 2.0, 2.0, 1.0, 1.0]] * 2
    assert stack([make_run(7)]).profiles is None


def test_layers_that_differ_are_refused():
    total = StackSum()
    total.add(Stack({"exposure": Cube(np.ones(PARENT.shape), "m2 s", PARENT, ())}, np.zeros((1, 2)), 1.0, 1.0, 1))
    with pytest.raises(ValueError, match=r"layers differ: \['exposure'\] and \['counts'\]"):
        total.add(Stack({"counts": Cube(np.ones(PARENT.shape), "", PARENT, ())}, np.zeros((1, 2)), 1.0, 1.0, 1))
