import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics import distances
from metrics.distances import (
    layer_distances,
    mean_cross_distance,
    mean_pairwise_distance,
    pair_distances,
)
from metrics.pairs import draw_pairs
from metrics.pathways import pathway_strings, pathway_symbols
from tests.metrics.reference import (
    levenshtein,
    mean_cross,
    mean_pairwise,
    pathway_distance,
    random_routing,
)

strings = st.text(alphabet="01,-", max_size=7)
groups = st.lists(strings, min_size=2, max_size=9)
symbol_groups = st.lists(
    st.lists(st.sampled_from([0, 1, 255, 256, 0xD800, 70_000]), max_size=6), min_size=2, max_size=7
)


def random_strings(seed, num_samples, num_digits=4, length=6):
    rng = np.random.default_rng(seed)
    digits = rng.integers(num_digits, size=(num_samples, length))
    return ["".join(map(str, row)) for row in digits]


def test_by_hand():
    # Pairs: (kitten, sitting) 3, (kitten, kitten) 0, (sitting, kitten) 3.
    found = mean_pairwise_distance(["kitten", "sitting", "kitten"])
    assert found.mean == 2.0
    assert (found.std_error, found.low, found.high) == (0.0, 2.0, 2.0)
    assert (found.num_pairs, found.num_total_pairs, found.exact) == (3, 3, True)
    normalised = mean_pairwise_distance(["kitten", "sitting", "kitten"], normalize=True)
    assert normalised.mean == pytest.approx(2 * (3 / 7) / 3)


def test_empty_pathways_are_alike():
    assert mean_pairwise_distance(["", ""], normalize=True).mean == 0.0
    assert mean_pairwise_distance(["", "ab"], normalize=True).mean == 1.0


@settings(deadline=None, max_examples=80)
@given(groups, st.booleans())
def test_strings_equal_the_slow_twin(group, normalize):
    found = mean_pairwise_distance(group, normalize=normalize).mean
    expected = mean_pairwise(group, normalize)
    assert found == (pytest.approx(expected, rel=1e-12) if normalize else expected)


@settings(deadline=None, max_examples=50)
@given(symbol_groups, st.booleans())
def test_symbols_equal_the_slow_twin(group, normalize):
    found = mean_pairwise_distance(group, normalize=normalize).mean
    assert found == pytest.approx(mean_pairwise(group, normalize), rel=1e-12)
    as_arrays = [np.array(symbols, dtype=np.int32) for symbols in group]
    assert mean_pairwise_distance(as_arrays, normalize=normalize).mean == found


@settings(deadline=None, max_examples=50)
@given(st.lists(strings, min_size=1, max_size=6), st.lists(strings, min_size=1, max_size=6))
def test_cross_distance_equals_the_slow_twin_and_is_symmetric(group_a, group_b):
    for normalize in (False, True):
        found = mean_cross_distance(group_a, group_b, normalize=normalize).mean
        assert found == pytest.approx(mean_cross(group_a, group_b, normalize), rel=1e-12)
        swapped = mean_cross_distance(group_b, group_a, normalize=normalize).mean
        assert swapped == pytest.approx(found, rel=1e-12)


@settings(deadline=None, max_examples=50)
@given(groups, st.randoms(use_true_random=False))
def test_mean_is_blind_to_sample_order_and_symbol_names(group, random):
    found = mean_pairwise_distance(group).mean
    shuffled = list(group)
    random.shuffle(shuffled)
    assert mean_pairwise_distance(shuffled).mean == found
    renamed = [text.translate(str.maketrans("01,-", "qxyz")) for text in group]
    assert mean_pairwise_distance(renamed).mean == found


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("cells", [1, 7, 40, 10_000])
def test_blocks_of_any_size_give_the_same_sum(monkeypatch, cells, normalize):
    group = random_strings(0, 40, num_digits=3, length=4)
    other = random_strings(1, 11, num_digits=3, length=5)
    monkeypatch.setattr(distances, "CELLS_AT_ONCE", cells)
    found = mean_pairwise_distance(group, normalize=normalize).mean
    assert found == pytest.approx(mean_pairwise(group, normalize), rel=1e-12)
    found = mean_cross_distance(group, other, normalize=normalize).mean
    assert found == pytest.approx(mean_cross(group, other, normalize), rel=1e-12)


def test_sums_within_and_between_add_up_to_that_of_the_union():
    group_a, group_b = random_strings(2, 12), random_strings(3, 9)
    within_a = mean_pairwise_distance(group_a).mean * 66
    within_b = mean_pairwise_distance(group_b).mean * 36
    between = mean_cross_distance(group_a, group_b).mean * 108
    assert mean_pairwise_distance(group_a + group_b).mean * 210 == pytest.approx(
        within_a + within_b + between
    )


def test_few_distinct_pathways_are_exact_however_many_samples_share_them():
    group = ["3,1"] * 3000 + ["3,2"] * 1000 + ["5"] * 1000
    found = mean_pairwise_distance(group, max_pairs=3)
    # Edits: 3,1 to 3,2 is 1; either to 5 is 3.
    expected = (3000 * 1000 * 1 + 3000 * 1000 * 3 + 1000 * 1000 * 3) / (5000 * 4999 / 2)
    assert found.exact
    assert found.num_pairs == 5000 * 4999 // 2
    assert found.mean == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("max_pairs", [50, 1500])
def test_a_draw_is_marked_and_repeats_with_its_seed(max_pairs):
    group = random_strings(5, 60)
    found = mean_pairwise_distance(group, max_pairs=max_pairs, seed=7)
    assert (found.num_pairs, found.num_total_pairs, found.exact) == (max_pairs, 1770, False)
    assert 0 <= found.low < found.mean < found.high
    assert found == mean_pairwise_distance(group, max_pairs=max_pairs, seed=7)
    assert found.mean != mean_pairwise_distance(group, max_pairs=max_pairs, seed=8).mean


def test_a_draw_averages_its_own_pairs_with_the_textbook_error():
    group = random_strings(6, 30)
    found = mean_pairwise_distance(group, max_pairs=40, seed=3, normalize=True)
    first_P, second_P = draw_pairs(30, 40, 3)
    distances = [
        pathway_distance(group[i], group[j], True)
        for i, j in zip(first_P.tolist(), second_P.tolist(), strict=True)
    ]
    assert found.mean == pytest.approx(np.mean(distances))
    variance = np.var(distances, ddof=1) / 40 * (1 - 40 / 435)
    assert found.std_error == pytest.approx(np.sqrt(variance))
    # 2.0227 is the 97.5 % point of Student's t with 39 degrees of freedom.
    assert found.high - found.mean == pytest.approx(2.0227 * found.std_error, rel=1e-4)


@pytest.mark.parametrize("max_pairs", [40, 400])
def test_intervals_cover_the_mean_over_all_pairs(max_pairs):
    group = random_strings(8, 40, num_digits=3, length=8)
    truth = mean_pairwise_distance(group).mean
    draws = [mean_pairwise_distance(group, max_pairs=max_pairs, seed=seed) for seed in range(600)]
    coverage = np.mean([draw.low <= truth <= draw.high for draw in draws])
    # Four standard errors of a 95 % share over 600 draws are 3.6 %.
    assert 0.914 <= coverage <= 0.986
    scores = [(draw.mean - truth) / draw.std_error for draw in draws]
    assert np.std(scores) == pytest.approx(1.0, abs=0.12)
    assert np.mean(scores) == pytest.approx(0.0, abs=0.17)


def test_cross_draws_are_unbiased_and_cover():
    group_a, group_b = random_strings(9, 25, length=7), random_strings(10, 30, length=5)
    truth = mean_cross_distance(group_a, group_b).mean
    draws = [mean_cross_distance(group_a, group_b, max_pairs=200, seed=seed) for seed in range(400)]
    assert all(draw.num_total_pairs == 750 and not draw.exact for draw in draws)
    coverage = np.mean([draw.low <= truth <= draw.high for draw in draws])
    assert 0.906 <= coverage <= 0.994


def test_layers_equal_the_slow_twin():
    routing = random_routing(11, num_samples=8, num_layers=3, num_experts=12)
    found = layer_distances(routing, 0.7)
    for layer, result in enumerate(found):
        strings_N = pathway_strings(routing[:, layer : layer + 1], 0.7)
        assert result.mean == mean_pairwise([text.split(",") for text in strings_N], False)
    assert len(found) == 3


def test_an_expert_distance_is_at_most_the_sum_of_the_layers():
    for seed in range(20):
        routing = random_routing(seed, num_samples=6, num_layers=4, num_experts=8)
        total = mean_pairwise_distance(pathway_symbols(routing)).mean
        layers = layer_distances(routing)
        assert max(layer.mean for layer in layers) <= total
        assert total <= sum(layer.mean for layer in layers)


def test_experts_of_different_layers_never_match():
    swapped = np.zeros((2, 2, 3))
    swapped[0, 0, 1] = swapped[0, 1, 2] = 1.0
    swapped[1, 0, 2] = swapped[1, 1, 1] = 1.0
    assert mean_pairwise_distance(pathway_symbols(swapped)).mean == 2.0


def test_layer_options_reach_the_mean():
    routing = random_routing(12, num_samples=30, num_layers=2, num_experts=8)
    drawn = layer_distances(routing, 0.8, max_pairs=20, seed=4, normalize=True)
    assert all(layer.num_pairs == 20 and layer.mean <= 1 for layer in drawn)


def test_single_pairs_equal_the_slow_twin():
    group = random_strings(13, 9)
    found = pair_distances(group)
    assert len(found.distances_P) == 36
    for i, j, distance in zip(*found, strict=True):
        assert i < j
        assert distance == levenshtein(group[i], group[j])
    drawn = pair_distances(group, max_pairs=10, seed=1)
    assert len(drawn.distances_P) == 10
    for i, j, distance in zip(*drawn, strict=True):
        assert distance == levenshtein(group[i], group[j])


def test_user_mistakes_are_explained():
    with pytest.raises(ValueError, match="at least 2 pathways, found 1; leave groups of one"):
        mean_pairwise_distance(["3"])
    with pytest.raises(ValueError, match="at least 2 pathways, found 0"):
        pair_distances([])
    with pytest.raises(ValueError, match="at least 1 pathway on each side, found 1 and 0"):
        mean_cross_distance(["3"], [])
    with pytest.raises(ValueError, match=r"max_pairs must be at least 2 .* found 1"):
        mean_pairwise_distance(["3", "4"], max_pairs=1)
