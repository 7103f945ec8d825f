import numpy as np
import pytest

from metrics.bound import effective_dimension, kernel_features
from metrics.frozen_router import correlation_rows, kernel_sizes, router_rows


def test_identical_and_disjoint_routes():
    same, apart = np.tile(np.eye(4)[:1], (4, 1)), np.eye(4)
    rows = router_rows(
        "same_scale",
        np.ones(2),
        np.stack([same, apart]),
        np.stack([np.ones((4, 4)), np.eye(4)]),
        np.zeros(2),
        np.ones(2),
        kernel_scale=1.0,
        threshold=0.7,
        ridge=1.0,
    )
    assert [row["path_distance_normalized"] for row in rows] == [0, 1]
    assert [row["effective_dimension"] for row in rows] == pytest.approx([4 / 5, 2])
    assert rows[1]["effective_dimension_gating"] == pytest.approx(2)


def test_the_scale_of_kernels_counts_unless_each_is_normalised():
    apart = np.tile(np.eye(4), (2, 1, 1))
    numbers = np.ones(2), apart, np.stack([np.eye(4), 3 * np.eye(4)]), np.zeros(2), np.ones(2)
    rows = router_rows("same_scale", *numbers, kernel_scale=2.0, threshold=0.7, ridge=1.0)
    # Divided by 2, the kernels are I / 2 and 3 I / 2.
    assert [row["effective_dimension"] for row in rows] == pytest.approx([4 / 3, 12 / 5])
    assert [row["effective_dimension_normalized"] for row in rows] == pytest.approx([2, 2])


def test_both_effective_dimensions_are_those_of_their_ridges():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(3, 6, 4)) * np.array([1, 2, 5])[:, None, None]
    kernels = half @ half.transpose(0, 2, 1)
    gates = rng.dirichlet(np.ones(4), size=(3, 6))
    rows = router_rows(
        "varied_scale",
        np.ones(3),
        gates,
        kernels,
        np.zeros(3),
        np.ones(3),
        kernel_scale=7.0,
        threshold=0.7,
        ridge=0.5,
    )
    for row, kernel in zip(rows, kernels, strict=True):
        size = sum(kernel[i, i] for i in range(6)) / 6
        assert kernel_sizes(kernels)[row["router"]] == pytest.approx(size)
        for name, scale in (
            ("effective_dimension", 7),
            ("effective_dimension_normalized", size),
        ):
            slow = np.trace(kernel @ np.linalg.inv(kernel + 0.5 * scale * np.eye(6)))
            assert row[name] == pytest.approx(slow)


def test_path_distance_is_divided_by_the_longer_path():
    routing = np.array([[[0.5, 0.5, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]]])  # paths 0, 1 and 0, 2
    numbers = np.array([2.5]), routing, np.eye(2)[None], np.array([0.1]), np.array([0.3])
    (row,) = router_rows("log_uniform_scale", *numbers, kernel_scale=1.0, threshold=0.7, ridge=1.0)
    assert row["path_distance_normalized"] == pytest.approx(1 / 2)
    given = [row[name] for name in ("router", "router_scale", "training_loss", "validation_loss")]
    assert given == [0, 2.5, 0.1, 0.3]


def test_correlations_of_independent_routers():
    names = (
        "path_distance_normalized",
        "effective_dimension",
        "effective_dimension_gating",
        "validation_loss",
        "effective_dimension_normalized",
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    rows = [
        {"variant": "same_scale", **dict(zip(names, (v, 2 * v + 1, 3.0, -v, v * v), strict=True))}
        for v in x.tolist()
    ]
    found = {(row["x"], row["y"]): row for row in correlation_rows(rows, seed=0)}
    assert found[names[0], names[1]]["pearson"] == pytest.approx(1)
    assert found[names[0], names[3]]["spearman"] == pytest.approx(-1)
    assert found[names[0], names[2]]["pearson"] is None  # it does not vary


@pytest.mark.parametrize(
    ("kernel", "message"),
    [(np.ones((2, 3)), "square"), ([[1, 2], [0, 1]], "symmetric"), ([[1, 2], [2, 1]], "below 0")],
)
def test_what_is_no_kernel_is_refused(kernel, message):
    with pytest.raises(ValueError, match=message):
        kernel_features(kernel)


def test_features_of_a_kernel_have_its_effective_dimension():
    half = np.random.default_rng(0).normal(size=(12, 5))
    kernel = half @ half.T
    exact = np.trace(kernel @ np.linalg.inv(kernel + 0.5 * np.eye(12)))
    assert effective_dimension(kernel_features(kernel), 0.5) == pytest.approx(exact)
