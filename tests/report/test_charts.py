"""What is at the target, against sums made by hand and against the significance of the whole."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from cubeflow.maps import Cube, energy_axis, make_geometry
from cubeflow.products.cash import make_significance_cash, make_significance_li_ma
from cubeflow.products.significance import find_at_target
from cubeflow.report.charts import (
    chi2_constant,
    collect_evolution,
    collect_source,
    draw_energies,
    draw_evolution,
    draw_theta2,
    over_background,
)

GEOM = make_geometry("icrs", "TAN", 83.6, 22.0, (2.0, 1.6), 0.05)
TARGET, RADIUS = (83.55, 22.03), 0.11
ENERGY, TRUE = energy_axis([1.0, 2.0, 5.0]), energy_axis([0.5, 1.0, 8.0], "energy_true")
RNG = np.random.default_rng(3)
SHAPE = 2, *GEOM.shape
MAPS = {
    "counts": Cube(RNG.poisson(3.0, SHAPE), "", GEOM, (ENERGY,)),
    "background": Cube(RNG.uniform(1, 2, SHAPE).astype("f4"), "", GEOM, (ENERGY,)),
    "mask_safe": Cube(RNG.random(SHAPE) < 0.6, "", GEOM, (ENERGY,)),
}
EXCLUDED = GEOM.offset_deg(84.0, 22.3) < 0.3


def offsets() -> np.ndarray:
    y, x = np.mgrid[: GEOM.ny, : GEOM.nx]
    return GEOM.wcs().pixel_to_world(x, y).separation(SkyCoord(*TARGET, unit="deg")).deg


def test_counts_by_energy_at_the_target_add_up_to_what_is_found_there():
    made = collect_source(MAPS, TARGET, RADIUS, EXCLUDED)
    found = find_at_target(MAPS, MAPS["mask_safe"].data, TARGET, RADIUS)
    assert made.on.sum() == pytest.approx(found["on"])
    assert made.on_background.sum() == pytest.approx(found["background"], rel=1e-6)
    np.testing.assert_array_equal(made.edges_tev, [1.0, 2.0, 5.0])


def test_counts_off_the_target_are_those_outside_exclusions_and_disc():
    made = collect_source(MAPS, TARGET, RADIUS, EXCLUDED)
    # Whatever pixel the disc touches is at the target.
    corners = np.stack([np.roll(offsets(), shift, axis) for shift in (-1, 0, 1) for axis in (0, 1)])
    surely_off = ~EXCLUDED & (offsets() > RADIUS + GEOM.pixel_deg)
    at_most_off = ~EXCLUDED & (offsets() > RADIUS)
    assert corners.shape[0] == 6
    for k in (0, 1):
        safe, counts = MAPS["mask_safe"].data[k], MAPS["counts"].data[k]
        assert counts[surely_off & safe].sum() <= made.off[k] <= counts[at_most_off & safe].sum()


def test_profile_counts_pixels_by_their_squared_distance():
    made = collect_source(MAPS, TARGET, RADIUS, EXCLUDED)
    np.testing.assert_allclose(made.theta2_edges, RADIUS**2 * np.arange(26))
    for name, profile in (("counts", made.theta2_counts), ("background", made.theta2_background)):
        image = np.sum(MAPS[name].data, axis=0, where=MAPS["mask_safe"].data)
        wanted = np.histogram(offsets() ** 2, made.theta2_edges, weights=image)[0]
        np.testing.assert_allclose(profile, wanted, rtol=1e-5)
    assert "disc" not in draw_theta2(made, "alt")
    assert draw_energies(made, np.array([1.1, 1.4]), "alt").count("<rect") == 4
    assert draw_energies(made, np.zeros(0), "alt").count("<rect") == 0


def test_without_a_background_there_are_counts_alone():
    made = collect_source({name: MAPS[name] for name in ("counts", "mask_safe")}, TARGET, RADIUS, EXCLUDED)
    assert np.isnan([made.on_background, made.off_background]).all()
    assert np.isnan(made.theta2_background).all()
    assert made.theta2_counts.sum() > 0
    assert "counts" in draw_theta2(made, "alt")
    assert "counts" in draw_energies(made, np.zeros(0), "alt")


def test_a_target_off_the_map_has_nothing():
    made = collect_source(MAPS, (120.0, 0.0), RADIUS, EXCLUDED)
    assert made.on.sum() == made.theta2_counts.sum() == 0.0
    assert made.off.sum() == np.sum(MAPS["counts"].data, where=MAPS["mask_safe"].data & ~EXCLUDED)


def rows(label: str) -> list[dict]:
    """Four runs not in order of time, the third of them dropped, the last without a background at the target."""
    about = [
        (53299.0, 20.0, 8.0, 100),
        (53297.0, 30.0, 11.0, 130),
        (53298.0, 99.0, 1.0, 10),
        (53296.0, 12.0, None, None),
    ]
    return [
        {"obs_id": 100 + k, "status": "ok", "tstart": start, "livetime": 1800.0, f"{label}_on": on}
        | {f"{label}_status": "dropped" if k == 2 else "ok", f"{label}_background": background}
        | ({"ring_off": off} if label == "ring" else {})
        | {f"{label}_significance": 3.0, f"{label}_flux": 1e-11 * (k + 1), f"{label}_flux_err": 4e-12}
        for k, (start, on, background, off) in enumerate(about)
    ]


@pytest.mark.parametrize("label", ["fov", "ring"])
def test_runs_in_order_of_time_grow_to_the_significance_of_all(table_of, label):
    found = collect_evolution(table_of(rows(label)), label)
    assert found.rows.column("obs_id") == [101, 100]
    total = {
        "fov": make_significance_cash(50.0, 19.0),
        "ring": make_significance_li_ma(50.0, 230.0, 19.0 / 230.0),
    }
    assert found.cumulative[-1] == pytest.approx(float(total[label]))
    assert found.flux.tolist() == [2e-11, 1e-11]  # m-2 s-1
    svg = draw_evolution(found, "alt")
    assert svg.count("run 101, 2004-10-19 00:00: ") == 4
    assert "2 ± 0.4" in svg
    assert "flux (10⁻¹⁵ cm⁻² s⁻¹)" in svg


def test_runs_without_flux_are_drawn(table_of):
    """Those of a point-like exposure."""
    bare = [{key: value for key, value in row.items() if "flux" not in key} for row in rows("fov")[:2]]
    found = collect_evolution(table_of(bare), "fov")
    assert np.isnan(found.flux).all()
    svg = draw_evolution(found, "alt")
    assert svg.count("run 101, 2004-10-19 00:00: ") == 2
    assert "flux" not in svg
    assert svg.count("significance") == 2


def test_without_runs_that_have_a_background_there_is_no_evolution(table_of):
    assert collect_evolution(table_of(rows("fov")[2:]), "fov") is None
    assert collect_evolution(table_of([{"obs_id": 1, "status": "ok"}]), "fov") is None


def test_chi_square_about_the_weighted_mean():
    values, errors = np.array([1.0, 2.0, 4.0, np.nan, 7.0]), np.array([1.0, 1.0, 2.0, 1.0, 0.0])
    mean = (1.0 + 2.0 + 4.0 / 4) / 2.25
    chi2, dof, error = chi2_constant(values, errors)
    assert chi2 == pytest.approx((1 - mean) ** 2 + (2 - mean) ** 2 + (4 - mean) ** 2 / 4)
    assert dof == 2
    assert error == pytest.approx(1.0 / mean)
    assert chi2_constant(values[:1], errors[:1]) == (0.0, 0, np.inf)


def test_residual():
    centres, counts, background = np.arange(3.0), np.array([12.0, 3.0, 1.0]), np.array([9.0, 0.0, np.nan])
    found = over_background(np.arange(4.0), centres, counts, background, "abc")[1][1].y
    assert found[0] == pytest.approx(1.0)
    assert np.isnan(found[1:]).all()
