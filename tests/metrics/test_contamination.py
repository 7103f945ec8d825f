import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.contamination import contaminated, min_k_score


def test_the_lowest_tokens_count_and_at_least_one():
    assert min_k_score([5.0, -4.0, 1.0], lowest_share=0.2) == -4
    assert min_k_score([5.0, -4.0, 1.0], lowest_share=1.0) == pytest.approx(2 / 3)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=40), st.floats(0.01, 1))
def test_against_sorting(scores, share):
    num = max(1, int(share * len(scores)))
    assert min_k_score(scores, share) == pytest.approx(np.mean(sorted(scores)[:num]), abs=1e-9)


@pytest.mark.parametrize(
    ("scores", "share", "message"),
    [([], 0.2, "at least one token"), ([np.nan], 0.2, "not finite"), ([1.0], 0.0, "in \\(0, 1\\]")],
)
def test_what_cannot_be_scored_is_refused(scores, share, message):
    with pytest.raises(ValueError, match=message):
        min_k_score(scores, share)


def test_the_highest_are_removed_ties_in_order_and_never_all():
    assert contaminated([1.0, 3.0, 3.0, 2.0], 0.25).tolist() == [False, True, False, False]
    assert not contaminated([1.0, 2.0], 0.0).any()
    assert contaminated([1.0, 2.0], 0.99).sum() == 1
    assert contaminated([], 0.5).tolist() == []
    assert contaminated(list(range(240)), 0.1).sum() == 24
    with pytest.raises(ValueError, match="removed_share is 1"):
        contaminated([1.0], 1.0)
    with pytest.raises(ValueError, match="1 scores are not finite"):
        contaminated([np.inf], 0.1)
