import numpy as np
import pytest

from metrics.path_entropy import path_entropy


def test_one_route_has_no_entropy_and_all_routes_have_the_most():
    one = np.tile(np.eye(3)[0], (6, 4, 1))
    assert path_entropy(one, 2) == 0
    every = np.array([[np.eye(2)[i], np.eye(2)[j]] for i in (0, 1) for j in (0, 1)])
    assert path_entropy(every, 2) == pytest.approx(1)


def test_independent_layers_are_near_the_largest_entropy():
    first = np.random.default_rng(0).integers(4, size=(20000, 3))
    assert path_entropy(np.eye(4)[first], 3) == pytest.approx(1, abs=0.01)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="found 1 sample, expected at least 2"):
        path_entropy(np.eye(2)[None, :1], 1)
    with pytest.raises(ValueError, match="window is 3, expected 1 to 2"):
        path_entropy(np.full((3, 2, 2), 0.5), 3)
