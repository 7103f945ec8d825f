import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.base import checkpoint_name, parse_checkpoint_name, strictly_rising


@pytest.mark.parametrize(
    ("step", "tokens", "name"),
    [
        (0, 0, "step0-tokens0"),
        (25, 40_000, "step25-tokens40K"),
        (2400, 3_840_000, "step2400-tokens3.84M"),
        (5000, 20_000_000_000, "step5000-tokens20B"),
        (7, 1_234_567, "step7-tokens1234.567K"),
    ],
)
def test_names_read_like_public_ones(step, tokens, name):
    assert checkpoint_name(step, tokens) == name


@given(st.integers(0, 10**7), st.integers(0, 10**13))
def test_a_name_can_be_read_back(step, tokens):
    assert parse_checkpoint_name(checkpoint_name(step, tokens)) == (step, tokens)


@pytest.mark.parametrize("name", ["main", "step", "step5-tokens", "step5x", "astep5", "step-5"])
def test_other_folders_are_not_checkpoints(name):
    assert parse_checkpoint_name(name) is None


def test_tokens_may_be_left_out():
    assert parse_checkpoint_name("step300") == (300, None)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [((1, 1), "more than once"), ((2, 1), "must rise"), ((-1, 1), "0 or more")],
)
def test_steps_must_be_distinct_and_rise(steps, problem):
    with pytest.raises(ValueError, match=problem):
        strictly_rising(steps)
