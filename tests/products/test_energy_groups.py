"""Energy groups against what is asked for, and merging against its rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubeflow.maps import energy_axis
from cubeflow.products.fov_background import make_energy_groups, merge_energy_groups

ENERGY = energy_axis([1.0, 2.0, 4.0, 10.0, 30.0])


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(1, ((0, 1, 2, 3),)), (3, ((0, 1), (2,), (3,))), ([1.0, 4.0, 30.0], ((0, 1), (2, 3)))],
)
def test_energy_groups(groups, expected):
    assert make_energy_groups(ENERGY, groups) == expected


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (0, "expected a number from 1 to 4"),
        (5, "expected a number from 1 to 4"),
        ([1.0, 3.0, 30.0], "3 TeV is no edge of the energy axis; 4 TeV is"),
        ([2.0, 30.0], "expected increasing edges from 1 to 30 TeV"),
        ([1.0, 10.0, 4.0, 30.0], "expected increasing edges"),
        ([-1.0, 30.0], "-1 TeV is no edge"),
    ],
)
def test_impossible_energy_groups(groups, message):
    with pytest.raises(ValueError, match=message):
        make_energy_groups(ENERGY, groups)


def merge(counts, least):
    """Merge single bins, given their counts."""
    return merge_energy_groups(tuple((k,) for k in range(len(counts))), lambda g: sum(counts[k] for k in g) >= least)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([9, 9, 9], ((0,), (1,), (2,))),
        ([9, 9, 1], ((0,), (1, 2))),
        ([9, 3, 1, 1], ((0,), (1, 2, 3))),
        ([1, 9, 9], ((0, 1), (2,))),
        ([1, 1, 9], ((0, 1, 2),)),
        ([0, 1, 0], ((0, 1, 2),)),
        ([4], ((0,),)),
    ],
)
def test_merging(counts, expected):
    assert merge(counts, 5) == expected


@given(counts=st.lists(st.integers(0, 10), min_size=1, max_size=12), least=st.integers(1, 20))
def test_merged_groups_hold_every_bin_and_enough(counts, least):
    groups = merge(counts, least)
    assert [index for group in groups for index in group] == list(range(len(counts)))
    assert all(groups)
    assert len(groups) == 1 or all(sum(counts[k] for k in group) >= least for group in groups)
