import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.revisions import Revision, choose, gaps, list_revisions
from studies.base import checkpoint_name

from .conftest import REPOSITORY


def revisions(*steps):
    return tuple(
        Revision(name=checkpoint_name(s, s * 10**6), commit="0" * 40, step=s, tokens_seen=s * 10**6)
        for s in steps
    )


def steps(chosen):
    return [revision.step for revision in chosen]


def test_branches_that_are_checkpoints_are_listed_by_step_with_one_request(hub, publish):
    for name in ("main", "step10000-tokens41B", "step5000-tokens20B", "final", "step20"):
        publish(name)
    found = list_revisions(REPOSITORY)
    assert [(r.name, r.step, r.tokens_seen) for r in found] == [
        ("step20", 20, None),
        ("step5000-tokens20B", 5000, 20 * 10**9),
        ("step10000-tokens41B", 10000, 41 * 10**9),
    ]
    assert len(hub.requests) == 1


def test_an_unknown_repository_is_refused_with_near_names(publish):
    publish("main")
    with pytest.raises(ValueError, match=rf"OLMoE-1B-7B-924: no such.*mean {REPOSITORY}\?"):
        list_revisions("allenai/OLMoE-1B-7B-924")
    with pytest.raises(ValueError, match=r"nobody/nothing: no such.*no token is set"):
        list_revisions("nobody/nothing")


def test_offline_the_list_is_that_of_last_time(publish, start):
    publish("step1")
    code = f"from hub.revisions import list_revisions; print(list_revisions({REPOSITORY!r}))"
    before = start(code, HF_HUB_OFFLINE="1")
    assert "ValueError: allenai/OLMoE-1B-7B-0924: offline" in before.communicate()[1]
    found = list_revisions(REPOSITORY)
    assert start(code, HF_HUB_OFFLINE="1").communicate()[0].strip() == str(found)


def test_named_revisions_come_in_order_of_step():
    offered = revisions(1000, 2000, 3000)
    names = ["step3000-tokens3B", "step1000-tokens1B"]
    assert steps(choose(offered, names=names)) == [1000, 3000]


def test_an_unknown_name_is_refused_with_near_names():
    with pytest.raises(ValueError, match=r"no revision step2000-tokens2T .* step2000-tokens2B"):
        choose(revisions(1000, 2000), names=["step2000-tokens2T"])


def test_two_names_for_one_step_are_refused():
    offered = (*revisions(5), Revision(name="step5", commit="0" * 40, step=5, tokens_seen=None))
    with pytest.raises(ValueError, match="the same step"):
        choose(offered, names=[r.name for r in offered])
    assert steps(choose(offered)) == [5]


def test_a_range_includes_both_ends():
    offered = revisions(*range(0, 11))
    assert steps(choose(offered, first_step=3, last_step=5)) == [3, 4, 5]
    assert steps(choose(offered, first_step=9)) == [9, 10]


def test_too_few_are_refused_saying_what_there_is():
    with pytest.raises(ValueError, match=r"found 2 checkpoints .* expected 3; .* has 4"):
        choose(revisions(1, 2, 3, 4), count=3, last_step=2)
    with pytest.raises(ValueError, match="no checkpoint at all"):
        choose((), count=3)


def test_ten_of_the_published_series_lie_on_an_even_grid():
    offered = revisions(*range(5000, 1_220_001, 5000))
    assert len(offered) == 244
    assert steps(choose(offered, count=10)) == list(range(5000, 1_220_001, 135_000))


@given(st.sets(st.integers(0, 10**6), min_size=2, max_size=60), st.data())
def test_a_count_is_met_without_doubles_and_with_both_ends(numbers, data):
    offered = revisions(*sorted(numbers))
    count = data.draw(st.integers(2, len(offered)))
    chosen = steps(choose(offered, count=count))
    assert len(set(chosen)) == count
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (min(numbers), max(numbers))


def test_gaps_of_more_than_twice_the_median_are_told():
    assert gaps(revisions(0, 10, 20, 40)) == ()
    (told,) = gaps(revisions(0, 10, 20, 41, 51))
    assert told.startswith("21 steps lie between step20-tokens20M and step41-tokens41M")
    assert gaps(revisions(1)) == ()


def test_steps_are_chosen_whatever_else_the_names_say():
    assert steps(choose(revisions(5, 10, 20, 40), steps=[5, 40])) == [5, 40]
    with pytest.raises(ValueError, match="no checkpoint of step 15 among 4; near it are 5, 10, 20"):
        choose(revisions(5, 10, 20, 40), steps=[5, 15])


def test_with_a_prefix_only_its_branches_are_checkpoints(publish):
    for name in ("stage1-step10-tokens1B", "stage2-step10-tokens2B", "step10"):
        publish(name)
    assert [r.name for r in list_revisions(REPOSITORY, "stage1-")] == ["stage1-step10-tokens1B"]
    assert [r.name for r in list_revisions(REPOSITORY)] == ["step10"]
