"""Rows of the leaf stacks, put together batch by batch."""

import numpy as np
import pytest

from cubeflow.products.stack import empty_stack
from cubeflow.steps.kept import write_stack
from cubeflow.steps.rows import target_rows


def row_of(obs_id, status="ok", **more):
    return {"obs_id": obs_id, "status": status, "reason": more.pop("reason", ""), **more}


def profiles_of(value):
    rings = {name: [[value, 2 * value]] for name in ("offset_counts", "offset_background", "area_deg2")}
    return {**rings, "sector_counts": [[value]], "sector_background": [[value]]}


LEAVES = {
    ("fov", "a"): [
        row_of(
            3, run={"livetime_s": 7.5, "quirks": ["p", "q"]}, background={"norm": [1.5], "profiles": profiles_of(1)}
        ),
        row_of(5, "dropped", reason="few counts", run={"livetime_s": 8.5, "quirks": []}, background={}),
    ],
    ("ring", "a"): [
        row_of(3, run={"livetime_s": 7.5, "quirks": ["p", "q"]}, background={"off": 9, "offset_deg": 0.5}),
        row_of(5, run={"livetime_s": 8.5, "quirks": []}, background={"off": 4, "offset_deg": 0.7}),
    ],
    ("fov", "b"): [
        row_of(8, run={"piece": 1}, background={"norm": [0.5, 2.0], "profiles": profiles_of(4)}),
        row_of(8, run={"piece": 0}, background={"norm": [0.25], "profiles": profiles_of(2)}),
    ],
    ("ring", "b"): [row_of(8, "skipped", reason="no overlap")],
}


@pytest.fixture
def found(tmp_path):
    for (label, leaf), rows in LEAVES.items():
        write_stack(tmp_path / "stack" / label / f"{leaf}.h5", empty_stack(), "0" * 64, {"rows": rows}, "none")
    leaves = {label: ["a", "b"] for label in ("fov", "ring")}
    return target_rows({"leaves": leaves, "refused": {"9": "no file", "4": "no EVENTS"}}, tmp_path)


def test_runs_are_in_order_with_the_worst_status_of_their_labels(found):
    assert len(found) == 7
    assert [tuple(row.values()) for row in found.rows("obs_id", "piece", "status", "reason")] == [
        (3, None, "ok", ""),
        (4, None, "refused", "no EVENTS"),
        (5, None, "dropped", "few counts"),
        (8, None, "skipped", "no overlap"),
        (8, 0, "ok", ""),
        (8, 1, "ok", ""),
        (9, None, "refused", "no file"),
    ]


def test_columns_of_labels_stand_beside_each_other(found):
    rows = list(found.rows("livetime_s", "quirks", "fov_norm_0", "fov_norm_1", "ring_off", "offset_deg", "no_such"))
    assert list(rows[0].values()) == [7.5, "p q", 1.5, None, 9, 0.5, None]
    assert list(rows[2].values()) == [8.5, "", None, None, 4, 0.7, None]
    assert list(rows[5].values()) == [None, None, 0.5, 2.0, None, None, None]
    assert "fov_profiles" not in found.columns


def test_profiles_are_summed_by_label(found):
    assert found.used == {"fov": 3, "ring": 2}
    np.testing.assert_array_equal(found.profiles["fov"].offset_counts, [[7.0, 14.0]])
    assert found.profiles["ring"] is None


def test_target_without_runs(tmp_path):
    found = target_rows({"leaves": {"fov": []}, "refused": {}}, tmp_path)
    assert (len(found), list(found.rows("obs_id")), found.used) == (0, [], {"fov": 0})
