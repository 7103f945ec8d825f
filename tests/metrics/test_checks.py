import numpy as np
import pytest

from metrics.checks import check_losses, check_router_weights, check_routing_weights, check_steps
from tests.metrics.reference import random_routing


def test_routing_weights_pass_unchanged_as_float64():
    routing = random_routing(0).astype(np.float32)
    checked = check_routing_weights(routing)
    assert checked.dtype == np.float64
    np.testing.assert_array_equal(checked, routing)


def test_half_precision_rows_are_inside_the_tolerance():
    routing = random_routing(1, num_samples=50, num_experts=64).astype(np.float16)
    assert check_routing_weights(routing).shape == (50, 3, 64)


def test_a_row_that_does_not_sum_to_one_is_named():
    routing = random_routing(2)
    routing[3, 1] *= 1.002
    with pytest.raises(ValueError, match=r"found 1\.002 at sample 3, layer 1; pass the softmax"):
        check_routing_weights(routing)
    routing[3, 1] /= 1.002 / 1.0005
    check_routing_weights(routing)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(bad):
    routing = random_routing(3)
    routing[2, 0, 4] = bad
    with pytest.raises(ValueError, match=r"finite, found (nan|inf) at sample 2, layer 0, expert 4"):
        check_routing_weights(routing)


def test_logits_are_recognised():
    with pytest.raises(ValueError, match=r"found -1\.5 at sample 0, layer 0, expert 1; .*softmax"):
        check_routing_weights([[[2.5, -1.5]]])


@pytest.mark.parametrize(
    ("routing", "message"),
    [
        (np.ones((2, 3, 1), dtype=int), "found dtype int64"),
        (np.ones((3, 1)), r"found shape \(3, 1\); for one sample"),
        (np.ones((0, 3, 1)), r"at least one of each, found shape \(0, 3, 1\)"),
        (np.ones((1, 0, 1)), r"found shape \(1, 0, 1\)"),
    ],
)
def test_routing_weights_of_the_wrong_kind_are_refused(routing, message):
    with pytest.raises(ValueError, match=message):
        check_routing_weights(routing)


def test_router_weights_must_fit_the_routing():
    assert check_router_weights(np.ones((2, 3, 7), np.float32), 2, 3).dtype == np.float64
    with pytest.raises(ValueError, match=r"\[2 layers, 3 experts, hidden size\].*\(3, 2, 7\)"):
        check_router_weights(np.ones((3, 2, 7)), 2, 3)
    damaged = np.ones((2, 3, 7))
    damaged[1, 2, 5] = np.nan
    with pytest.raises(ValueError, match="found nan at layer 1, expert 2, column 5"):
        check_router_weights(damaged, 2, 3)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([0, 10], r"shape \(3,\), found shape \(2,\)"),
        ([0.0, 10.0, 20.0], "integers, found dtype float64"),
        ([0, 20, 20], r"strictly increasing, found \[0, 20, 20\]"),
        ([-5, 0, 5], r"at least 0"),
        (np.array([2, 1, 3], dtype=np.uint32), r"strictly increasing"),
    ],
)
def test_bad_steps_are_refused(steps, message):
    with pytest.raises(ValueError, match=message):
        check_steps(steps, 3)


def test_too_few_checkpoints_are_refused():
    with pytest.raises(ValueError, match="at least 2 checkpoints are needed, found 1"):
        check_steps([5], 1)
    assert check_steps([5], 1, min_checkpoints=1).tolist() == [5]


def test_bad_losses_are_refused():
    with pytest.raises(ValueError, match="found nan at sample 1, checkpoint 0"):
        check_losses([[1.0, 2.0], [np.nan, 2.0]])
    with pytest.raises(ValueError, match=r"found shape \(2,\)"):
        check_losses([1.0, 2.0])
    with pytest.raises(ValueError, match="at least one sample"):
        check_losses(np.ones((0, 3)))
