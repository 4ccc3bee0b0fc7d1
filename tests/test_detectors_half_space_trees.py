"""Our half-space trees against river's: the same seed gives the same trees, scores and masses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.half_space_trees import HalfSpaceTrees
from detectors.river_parts import half_space_trees

FEATURES = (["b", "a", "c"], ["only"], ["z", "y", "x", "w", "v", "u", "t"])
"""Of three forests; river sorts the names of features."""


def rivers(trees: int, height: int, window: int) -> list:
    return [half_space_trees()(n_trees=trees, height=height, window_size=window, seed=10 + i)
            for i in range(len(FEATURES))]


def test_scores_and_masses_are_rivers():
    """Through several windows, with a forest that has no sample each third time."""
    ours = HalfSpaceTrees(4, 5, 20)
    assert [ours.add(10 + i, names) for i, names in enumerate(FEATURES)] == [0, 1, 2]
    theirs, rng = rivers(4, 5, 20), np.random.default_rng(3)
    seen = 0
    for tick in range(130):
        x = np.clip(rng.normal(0.5, 0.05 if tick % 9 else 0.4, 11), 0.0, 1.0)
        here = np.array([True, tick % 3 > 0, True])
        path = ours.paths(x)
        scores = ours.scores(path)
        for i, (model, part) in enumerate(zip(theirs, np.split(x, [3, 4]), strict=True)):
            named = dict(zip(FEATURES[i], part.tolist(), strict=True))
            if np.isnan(scores[i]):
                assert ours.learned[i] < 20
            else:
                assert scores[i] == model.score_one(named)
                seen += 1
            if here[i]:
                model.learn_one(named)
        ours.learn(path, here)
    assert seen > 200
    for i, model in enumerate(theirs):
        nodes = [n for tree in model.trees for n in tree.iter_dfs()]
        assert ours.masses(i).tolist() == [[n.l_mass for n in nodes], [n.r_mass for n in nodes]]


@given(st.integers(1, 5), st.integers(1, 7), st.integers(2, 30), st.integers(0, 2**31))
def test_every_sample_goes_through_one_node_of_each_level_of_each_tree(trees, height, window, seed):
    forests = HalfSpaceTrees(trees, height, window)
    forests.add(seed, ["a", "b"])
    for x in np.random.default_rng(seed).random((window, 2)):
        assert np.isnan(forests.scores(forests.paths(x))[0])
        forests.learn(forests.paths(x), np.array([True]))
    now, past = forests.masses(0)
    assert not now.any()
    assert past.sum() == window * trees * (height + 1)
    assert 0.0 <= forests.scores(forests.paths(np.array([0.5, 0.5])))[0] <= 1.0


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_a_value_on_the_border_is_in_the_outermost_leaf(x):
    forests = HalfSpaceTrees(1, 3, 2)
    forests.add(1, ["a"])
    assert forests.paths(np.array([x]))[-1].tolist() == [3 if x == 0.0 else 14]
