import numpy as np
import pandas as pd
import pytest

from metrics.power import counting_noise, power_at, power_rows

STEPS = np.arange(35) * 100


def accuracy(wobble, seed=0, num=35):
    rise = 0.1 + 0.8 * (1 - np.exp(-4 * np.linspace(0, 1, num)))
    return np.clip(rise + wobble * np.random.default_rng(seed).normal(size=num), 0, 1)


def answered(values, num_documents, seed=1):
    """Documents drawn anew at each checkpoint, each answered with the accuracy of it."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(size=(num_documents, len(values))) < values).astype(float)


def fixed(values, num_documents, seed=1, flips=0.0):
    """The same documents at each checkpoint, the easy ones answered first; some flip."""
    rng = np.random.default_rng(seed)
    order = (np.arange(num_documents)[:, None] + 0.5) / num_documents
    right = order < values
    return (right ^ (rng.uniform(size=right.shape) < flips)).astype(float)


def test_the_wobble_is_what_single_documents_do_not_explain():
    for wobble, documents in ((0.05, 1000), (0.02, 10_000), (0.02, 500)):
        found = [
            power_at(
                answered(accuracy(wobble, seed), documents, seed + 100), STEPS, num_simulations=1
            ).wobble
            for seed in range(40)
        ]
        # One estimate from 35 checkpoints scatters by a fifth, by half among counting noise.
        assert np.sqrt(np.mean(np.square(found))) == pytest.approx(wobble, rel=0.15)
    alone = [
        power_at(answered(accuracy(0), 240, seed), STEPS, num_simulations=1).wobble
        for seed in range(40)
    ]
    assert np.median(alone) < 0.01


def test_documents_that_are_decided_add_no_noise():
    """The binomial variance of 240 documents would take all of the wobble of 2 % away."""
    found = [
        (
            power_at(fixed(accuracy(0.02, seed), 240), STEPS, num_simulations=1),
            power_at(answered(accuracy(0.02, seed), 240, seed), STEPS, num_simulations=1),
        )
        for seed in range(20)
    ]
    assert all(anew.counting_noise > 2 * decided.counting_noise for decided, anew in found)
    wobbles = [decided.wobble for decided, _ in found]
    assert np.sqrt(np.mean(np.square(wobbles))) == pytest.approx(0.02, rel=0.2)


def test_counting_noise_is_the_standard_deviation_of_a_mean_of_flips():
    flips = np.random.default_rng(0).uniform(size=(300, 2000)) < 0.3
    assert counting_noise(flips.astype(float)) == pytest.approx(np.sqrt(0.21 / 300), rel=0.03)
    assert counting_noise(np.ones((5, 9))) == 0.0
    assert counting_noise(np.ones((1, 9))) == 0.0


def test_power_grows_with_documents_wobble_and_checkpoints():
    def power(wobble, documents, num=35, seed=0):
        values = answered(accuracy(wobble, seed), documents, seed)[:, :num]
        return power_at(values, STEPS[:num], num_simulations=60).power

    assert power(0.04, 5000) > 0.95
    assert power(0.04, 240) > power(0.04, 40)
    assert power(0.04, 5000, num=14) < power(0.04, 5000)
    # A wobble of 1 % drowns in the noise of 240 documents that are drawn anew.
    assert np.mean([power(0.008, 240, seed=seed) for seed in range(8)]) < 0.5


def test_the_same_seed_gives_the_same_power():
    values = answered(accuracy(0.04), 240)
    how = {"num_tests": 20, "num_simulations": 50}
    assert power_at(values, STEPS, **how) == power_at(values, STEPS, **how)


def test_correction_costs_power():
    found = power_at(answered(accuracy(0.03), 500), STEPS, num_tests=20)
    assert 0 < found.corrected_power < found.power


def test_without_a_wobble_or_with_few_checkpoints_nothing_is_found():
    smooth = power_at(fixed(accuracy(0), 20_000), STEPS, num_simulations=20)
    assert (smooth.power, smooth.wobble < 0.001) == (0.0, True)
    few = power_at(answered(accuracy(0.05)[:7], 240), STEPS[:7])
    assert (few.num_checkpoints, few.wobble, few.power) == (7, None, 0.0)


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        (np.full((240, 35), 2.0), r"\(240, 35\)"),
        (np.full((240, 35), np.nan), r"\(240, 35\)"),
        (np.zeros((0, 35)), r"\(0, 35\)"),
        (np.zeros(35), r"\(35,\)"),
    ],
)
def test_what_is_no_share_is_refused(values, shape):
    with pytest.raises(ValueError, match=f"values of shape {shape}; expected documents by"):
        power_at(values, STEPS)


def test_rows_count_the_tests_of_the_papers_monitors_and_leave_controls_out():
    curves = pd.concat(
        pd.DataFrame(
            {"series": s, "domain": "math", "step": STEPS, "monitor": "accuracy", "value": values}
        )
        for s, values in (("main", accuracy(0.05)), ("control", 0 * STEPS + 0.05))
    )
    test = {"series": "main", "window": "after_onset", "difference_p": 0.5}
    correlations = [
        {**test, "monitor": "pathway_distance"},
        {**test, "monitor": "validation_loss"},
        {**test, "monitor": "pathway_distance", "window": "all"},
        {**test, "monitor": "training_loss", "difference_p": None},
        {**test, "monitor": "router_entropy"},
    ]
    documents = pd.DataFrame(answered(accuracy(0.05), 240), columns=STEPS)
    (row,) = power_rows(
        correlations,
        curves,
        {"main": ["control"]},
        dict.fromkeys((("main", "math"), ("main", "code"), ("control", "math")), documents),
        significance=0.05,
        seed=0,
    )
    assert (row["series"], row["domain"], row["num_documents"]) == ("main", "math", 240)
    assert row["num_tests"] == 2
    assert row["num_checkpoints"] > 30
    assert 0 < row["corrected_power"] <= row["power"] <= 1
