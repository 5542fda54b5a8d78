"""Datasets of final maps: what gammapy makes of their acceptances is alpha."""

import numpy as np
import pytest

from cubeflow.maps import Axis, Cube, energy_axis, make_geometry
from cubeflow.products.dataset import dataset_maps

GEOM, IRF = (make_geometry("icrs", "TAN", 83.6, 22.0, (1.0, 0.8), pixel) for pixel in (0.1, 0.2))
ENERGY, TRUE = energy_axis([1.0, 2.0, 5.0, 9.0]), energy_axis([0.5, 3.0, 10.0], "energy_true")
WHOLE = Axis("energy", (1.0, 9.0), "TeV", "log")


def final_maps(off_axis: Axis | None) -> dict[str, Cube]:
    """Maps as of a final cube; with OFF counts on the given axis."""
    rng = np.random.default_rng(5)

    def cube(*axes, unit="", geom=GEOM, low=0.5):
        return Cube(rng.uniform(low, 4.0, (*(axis.n_bins for axis in axes), *geom.shape)), unit, geom, axes)

    maps = {"counts": cube(ENERGY), "background": cube(ENERGY), "acceptance": cube(ENERGY)}
    maps |= {"exposure": cube(TRUE, unit="m2 s"), "disc_counts": cube(WHOLE)}
    maps |= {"edisp": cube(TRUE, ENERGY, geom=IRF), "irf_exposure": cube(TRUE, unit="m2 s", geom=IRF)}
    maps["mask_safe"] = Cube(rng.random((3, *GEOM.shape)) < 0.4, "", GEOM, (ENERGY,))
    if off_axis:
        maps |= {name: cube(off_axis) for name in ("counts_off", "acceptance_off")}
        maps["alpha"] = cube(off_axis, low=-1.0)
        maps["alpha"].data[:, 2, 3] = np.nan
    return maps


def test_a_background_needs_no_acceptance():
    maps = final_maps(None)
    assert sorted(dataset_maps(maps)) == sorted({*maps} - {"acceptance", "disc_counts"})
    bare = {name: maps[name] for name in ("counts", "mask_safe", "irf_exposure")}
    assert sorted(dataset_maps(bare)) == ["counts", "mask_safe"]


@pytest.mark.parametrize("off_axis", [ENERGY, WHOLE], ids=["by energy", "in sum"])
def test_the_ratio_of_the_acceptances_is_alpha(off_axis):
    maps = final_maps(off_axis)
    before = {name: cube.data.copy() for name, cube in maps.items()}
    made = dataset_maps(maps)
    known = maps["alpha"].data > 0
    ratio = made["acceptance"].data / made["acceptance_off"].data
    np.testing.assert_allclose(ratio[known], maps["alpha"].data[known])
    np.testing.assert_array_equal(made["acceptance_off"].data[~known], maps["acceptance_off"].data[~known])
    assert (~known).any()
    assert "background" not in made
    assert all(np.array_equal(cube.data, before[name], equal_nan=True) for name, cube in maps.items())


def test_one_ratio_for_all_energies_makes_one_bin():
    maps = final_maps(WHOLE)
    made = dataset_maps(maps)
    np.testing.assert_allclose(made["counts"].data[0], maps["counts"].data.sum(axis=0))
    np.testing.assert_array_equal(made["mask_safe"].data[0], maps["mask_safe"].data.any(axis=0))
    np.testing.assert_allclose(made["edisp"].data[:, 0], maps["edisp"].data.sum(axis=1))
    assert made["edisp"].axes == (TRUE, WHOLE)
    assert made["exposure"] is maps["exposure"]
    assert made["counts"].axes == made["acceptance"].axes == (WHOLE,)
