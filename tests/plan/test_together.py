"""Which targets share a job."""

import pytest

from cubeflow.plan.together import LIMIT_S, MAX_BATCHES, Group, is_small, make_groups

NOTHING = {"unmade": {}, "again": [], "stale": [], "stale_table": False}


def entry(seconds=1.0, batches=("0a" * 8,), **work):
    """Part of a plan about one target; a batch, its products and its table are missing unless `work` says otherwise."""
    missing = {"unmade": {batches[0]: ["fov"]} if batches else {}, "again": [], "stale": ["fov"], "stale_table": True}
    manifests = {
        "finals": {"fov": "fov-1.final.json"},
        "table": "runs-1.table.json",
        "batch_tag": "33333333",
        "refused": 0,
    }
    return {"seconds": seconds, "batches": list(batches), **manifests, **missing, **work}


def members(index):
    return [group.targets for group in make_groups(index)]


def test_one_small_target_has_the_rules_for_itself():
    assert make_groups({"one": entry()}) == ()
    assert make_groups({"one": entry(), "two": entry(**NOTHING)}) == ()


def test_two_small_targets_share_a_job_whatever_the_order():
    index = {"south": entry(), "north": entry()}
    assert members(index) == [("north", "south")]
    assert make_groups(index) == make_groups(dict(reversed(index.items())))


@pytest.mark.parametrize(
    ("part", "small"),
    [
        (entry(), True),
        (entry(batches=(), refused=2), True),  # all its runs are refused: a table
        (entry(batches=(), refused=0), False),  # no runs, and no table
        (entry(batches=[f"{number:016x}" for number in range(MAX_BATCHES)]), True),
        (entry(batches=[f"{number:016x}" for number in range(MAX_BATCHES + 1)]), False),
        (entry(seconds=LIMIT_S + 0.1), False),
        (entry(**NOTHING), False),
        (entry(**{**NOTHING, "again": ["0a" * 8]}), False),
        (entry(**{**NOTHING, "stale": ["fov"]}), True),
        (entry(**{**NOTHING, "stale_table": True}), True),
        (entry(**{**NOTHING, "unmade": {"0a" * 8: ["fov"]}}), True),
    ],
)
def test_small_is_few_batches_with_little_to_do(part, small):
    assert is_small(part) is small


def test_groups_are_as_many_as_the_work_fills_and_alike():
    sizes = [5.0, 1.0, 1.0, 6.0, 1.0, 4.0, 1.0, 5.0, 1.0, 1.0]
    index = {f"t{number}": entry(LIMIT_S * size / 8) for number, size in enumerate(sizes)}
    groups = members(index)
    assert len(groups) == 4  # 26 / 8 limits, rounded up
    assert sorted(name for group in groups for name in group) == sorted(index)
    loads = [sum(sizes[int(name[1:])] for name in group) for group in groups]
    assert max(loads) - min(loads) <= 1.0


def test_a_group_of_one_is_none():
    big = 0.9 * LIMIT_S
    assert members({"a": entry(big), "b": entry(big)}) == []
    assert members({"a": entry(big), "b": entry(0.01), "c": entry(big)}) in ([("a", "b")], [("b", "c")])


def test_the_name_is_that_of_the_work():
    index = {"a": entry(), "b": entry()}
    (group,) = make_groups(index)
    assert isinstance(group, Group)
    assert len(group.name) == 16
    for change in ({"unmade": {"0b" * 8: ["fov"]}}, {"finals": {"fov": "fov-2.final.json"}}, {"stale_table": False}):
        (other,) = make_groups({**index, "b": entry(**change)})
        assert other.name != group.name
    (same,) = make_groups({**index, "b": entry(seconds=0.5)})
    assert same == group
