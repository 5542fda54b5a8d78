"""Norms of the runs."""

import re

import numpy as np
import pytest

from cubeflow.report.charts import collect_norms, draw_norms

ROWS = [
    {
        "obs_id": 1,
        "fov_norm_0": 1.0,
        "fov_norm_err_0": 0.1,
        "fov_norm_1": None,
        "fov_energy_min_0": 0.7,
        "fov_energy_max_0": 2.11,
        "tstart": 51911.0,
        "zenith": 20.0,
    },
    {"obs_id": 2, "status": "refused"},
    {"obs_id": 3, "fov_norm_0": 1.1, "fov_norm_err_0": 0.1, "fov_norm_1": 0.9, "fov_norm_err_1": 0.2},
]
ROWS[2] |= {"fov_energy_min_0": 1.0, "fov_energy_max_0": 2.11, "fov_energy_min_1": 2.11, "fov_energy_max_1": 20.0}


def test_values_come_from_the_rows(table_of):
    norms = collect_norms(table_of(ROWS), "fov")
    assert norms.rows.column("obs_id") == [1, 3]
    np.testing.assert_array_equal(norms.norm, [[1.0, np.nan], [1.1, 0.9]])
    assert norms.energies == ["0.7–2.1 TeV", "2.1–20 TeV"]
    assert collect_norms(table_of(ROWS), "ring") is None
    assert "run 1, 2001-01-02 00:00: 1 ± 0.1" in draw_norms(norms, "alt")
    assert "run 3: 0.9 ± 0.2" in draw_norms(norms, "alt")
    assert collect_norms(table_of(ROWS[1:2]), "fov") is None


def test_groups_that_a_run_joins_do_not_widen_those_of_the_others(table_of):
    apart, joined = ROWS[2], {"obs_id": 4, "fov_norm_0": 1.2, "fov_norm_err_0": 0.1}
    joined |= {"fov_energy_min_0": 1.0, "fov_energy_max_0": 20.0}
    assert collect_norms(table_of([apart, joined]), "fov").energies == ["1–2.1 TeV", "2.1–20 TeV"]


def test_groups_of_a_run_lie_beside_each_other(table_of):
    rows = [{"obs_id": k, "zenith": 20.0 + k} | {f"fov_norm_{g}": 1.0 for g in range(4)} for k in range(3)]
    svg = draw_norms(collect_norms(table_of(rows), "fov"), "alt")
    places = [
        [float(x) for x in re.findall(r"M([\d.]+),", d)] for d in re.findall(r'd="([^"]*)"[^>]*class="points"', svg)
    ]
    in_order, by_zenith = np.array(places[:4]), np.array(places[4:])
    assert np.all(np.diff(in_order.ravel(order="F")) > 5)
    assert np.all(by_zenith == by_zenith[0])


def test_chi_square_is_that_of_all_groups(table_of):
    chi2, dof, error = collect_norms(table_of(ROWS), "fov").chi2
    assert chi2 == pytest.approx(2 * (0.05 / 0.1) ** 2)
    assert dof == 1
    assert error == pytest.approx(0.1 / 1.05)


@pytest.mark.parametrize(("error", "odd"), [(0.01, [5, 6]), (0.15, [6]), (np.nan, [5, 6])])
def test_outliers_are_far_from_the_median(table_of, error, odd):
    norm = [1.0, 1.02, 0.97, 1.01, 0.99, 1.6, 0.2, None]
    rows = [{"obs_id": k, "fov_norm_0": each, "fov_norm_err_0": error} for k, each in enumerate(norm)]
    found = collect_norms(table_of(rows), "fov")
    assert np.flatnonzero(found.outlier).tolist() == odd
    assert [run for run, _ in found.suspects] == [str(k) for k in odd]
    assert not collect_norms(table_of(rows[:1]), "fov").outlier.any()


def test_outliers_of_many_runs_are_named(rows, table_of):
    norms = collect_norms(table_of(rows), "fov")
    assert norms.suspects[0][0] == "20007"
    assert norms.suspects[0][1].startswith("norm 3 where the median is ")
    svg = draw_norms(norms, "alt")
    assert ">far off<" in svg
    assert len(svg) < 2e6
