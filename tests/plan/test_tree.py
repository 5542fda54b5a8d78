"""The tree of batches depends on the set of runs and on nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeflow.plan.tree import LONGEST, Branch, cut, make_batches, make_tree

IDS = st.sets(st.integers(0, 10**7), min_size=1, max_size=400).map(sorted)


def tree_of(ids, batch, fanout) -> Branch:
    """Tree of batches, whose keys name their runs."""
    return make_tree([Branch(runs[-1], ",".join(map(str, runs))) for runs in make_batches(ids, batch)], fanout)


def all_nodes(group: Branch) -> set[tuple[int, ...]]:
    """Runs below each node, by a plain walk."""
    return set().union({runs_below(group)}, *map(all_nodes, group.children))


def runs_below(group: Branch) -> tuple[int, ...]:
    if not group.children:
        return tuple(map(int, group.key.split(",")))
    return tuple(obs_id for child in group.children for obs_id in runs_below(child))


@given(IDS, st.integers(1, 40))
def test_batches_cover_every_run_once_in_order(ids, batch):
    batches = make_batches(ids, batch)
    assert [obs_id for group in batches for obs_id in group] == ids
    assert max(map(len, batches)) <= LONGEST * batch


@given(IDS, st.integers(1, 20), st.integers(2, 8))
def test_tree_holds_every_run_once(ids, batch, fanout):
    assert list(runs_below(tree_of(ids, batch, fanout))) == ids


def test_mean_batch_is_about_the_size_asked_for():
    batches = make_batches(range(20_000), 16)
    assert np.mean([len(group) for group in batches]) == pytest.approx(16, rel=0.1)


@pytest.mark.parametrize("n_runs", [1_000, 10_000])
def test_one_more_run_changes_only_its_branch(n_runs):
    rng = np.random.default_rng(5)
    ids = sorted(rng.choice(10**7, n_runs, replace=False).tolist())
    before = all_nodes(tree_of(ids, 16, 16))
    changed = []
    for new in rng.choice(10**7, 20).tolist():
        after = all_nodes(tree_of([*ids, new], 16, 16))
        changed.append(len(after - before))
    # Batch, its ancestors, and now and then a neighbour where a border moved.
    assert np.mean(changed) < 6
    assert max(changed) <= 12


def test_a_lone_batch_is_its_own_root():
    assert make_batches([3, 5], 1000) == [[3, 5]]
    leaf = Branch(5, "3,5")
    assert make_tree([leaf], 4) is leaf


def test_cut_says_the_same_for_the_same_ids():
    ids = list(range(500))
    assert cut(ids, 16, 0) == cut(ids, 16, 0)
    assert cut(ids, 16, 0) != cut(ids, 16, 1)


def test_order_and_repetition_of_ids_do_not_matter():
    ids = list(range(0, 900, 3))
    assert make_batches([*reversed(ids), *ids], 4) == make_batches(ids, 4)
