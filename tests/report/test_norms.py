"""Norms of the runs."""

import re

import numpy as np

from cubeflow.report.checks import collect_norms, draw_norms, find_outliers

ROWS = [
    {
        "obs_id": 1,
        "fov_norm_0": 1.0,
        "fov_norm_err_0": 0.1,
        "fov_norm_1": None,
        "tstart": 51911.0,
        "zenith": 20.0,
    },
    {"obs_id": 2, "status": "refused"},
    {"obs_id": 3, "fov_norm_0": 1.1, "fov_norm_err_0": 0.1, "fov_norm_1": 0.9, "fov_norm_err_1": 0.2},
]


def test_values_come_from_the_rows(table_of):
    norms = collect_norms(table_of(ROWS), "fov")
    assert norms.obs_id.tolist() == [1, 3]
    np.testing.assert_array_equal(norms.norm, [[1.0, np.nan], [1.1, 0.9]])
    np.testing.assert_array_equal(norms.mjd, [51911.0, np.nan])
    assert collect_norms(table_of(ROWS), "ring") is None
    assert "in order of its number" in draw_norms(norms, "name", "alt")
    assert collect_norms(table_of(ROWS[1:2]), "fov") is None


def test_dates_leave_room_between_each_other(table_of):
    """Four runs in five nights: half days would run into each other."""
    rows = [
        {
            "obs_id": int(10 * day),
            "fov_norm_0": 1.0,
            "fov_norm_err_0": 0.1,
            "tstart": 51910.0 + day,
            "zenith": 20.0,
        }
        for day in (1434.0, 1434.1, 1436.0, 1438.2)
    ]
    dates = re.findall(r">(5334\d[.\d]*)<", draw_norms(collect_norms(table_of(rows), "fov"), "name", "alt"))
    assert 3 <= len(dates) <= 7, dates


def test_outliers_are_far_from_the_median():
    norm = np.array([1.0, 1.02, 0.97, 1.01, 0.99, 1.6, 0.2, np.nan])
    assert np.flatnonzero(find_outliers(norm, np.full(8, 0.01))).tolist() == [5, 6]
    assert np.flatnonzero(find_outliers(norm, np.full(8, 0.15))).tolist() == [6]
    assert not find_outliers(np.full(3, np.nan), np.full(3, np.nan)).any()
    assert not find_outliers(np.array([1.0]), np.array([np.nan])).any()


def test_many_runs_are_drawn_as_an_image(rows, table_of):
    svg = draw_norms(collect_norms(table_of(rows), "fov"), "name", "alt")
    assert "<image" in svg
    assert len(svg) < 5e5
    assert "20007" in svg
