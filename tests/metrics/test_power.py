import numpy as np
import pandas as pd
import pytest

from metrics.power import power_at, power_rows

STEPS = np.arange(35) * 100


def accuracy(wobble, seed=0, num=35):
    rise = 0.1 + 0.8 * (1 - np.exp(-4 * np.linspace(0, 1, num)))
    return np.clip(rise + wobble * np.random.default_rng(seed).normal(size=num), 0, 1)


def counted(values, num_documents, seed=1):
    return np.random.default_rng(seed).binomial(num_documents, values) / num_documents


def test_the_wobble_is_what_counting_does_not_explain():
    for wobble, documents in ((0.05, 1000), (0.02, 10_000), (0.02, 500)):
        found = [
            power_at(
                counted(accuracy(wobble, seed), documents, seed + 100),
                STEPS,
                num_documents=documents,
                num_simulations=1,
            ).wobble
            for seed in range(40)
        ]
        # One estimate from 35 checkpoints scatters by a fifth, by half among counting noise.
        assert np.sqrt(np.mean(np.square(found))) == pytest.approx(wobble, rel=0.15)
    alone = [
        power_at(
            counted(accuracy(0), 240, seed), STEPS, num_documents=240, num_simulations=1
        ).wobble
        for seed in range(40)
    ]
    assert np.median(alone) < 0.01


def test_power_grows_with_documents_wobble_and_checkpoints():
    def power(values, documents, num=35):
        return power_at(values[:num], STEPS[:num], num_documents=documents).power

    values = accuracy(0.04)
    assert power(values, 10_000) > 0.95
    assert power(values, 240) > power(accuracy(0.04), 40)
    assert power(values, 10_000, num=14) < power(values, 10_000)
    # A wobble of 1 % drowns in the counting noise of 240 documents.
    assert power(counted(accuracy(0.008), 240), 240) < 0.5


def test_the_same_seed_gives_the_same_power():
    how = {"num_documents": 240, "num_tests": 20, "num_simulations": 50}
    assert power_at(accuracy(0.04), STEPS, **how) == power_at(accuracy(0.04), STEPS, **how)


def test_correction_costs_power():
    found = power_at(accuracy(0.03), STEPS, num_documents=500, num_tests=20)
    assert 0 < found.corrected_power < found.power


def test_without_a_wobble_or_with_few_checkpoints_nothing_is_seen():
    smooth = power_at(accuracy(0), STEPS, num_documents=10**6, num_simulations=20)
    assert (smooth.power, smooth.wobble < 0.001) == (0.0, True)
    few = power_at(accuracy(0.05)[:7], STEPS[:7], num_documents=240)
    assert (few.num_checkpoints, few.wobble, few.power) == (7, None, 0.0)


def test_what_is_no_share_is_refused():
    with pytest.raises(
        ValueError, match=r"accuracy from 1 to 35 on 240 documents; expected shares"
    ):
        power_at(np.arange(1, 36), STEPS, num_documents=240)
    with pytest.raises(ValueError, match="on 0 documents"):
        power_at(accuracy(0.1), STEPS, num_documents=0)


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
    (row,) = power_rows(
        curves,
        correlations,
        {"main": ["control"]},
        {("main", "math"): 240, ("main", "code"): 240, ("control", "math"): 240},
        significance=0.05,
        seed=0,
    )
    assert (row["series"], row["domain"], row["num_documents"]) == ("main", "math", 240)
    assert row["num_tests"] == 2
    assert row["num_checkpoints"] > 30
    assert 0 < row["corrected_power"] <= row["power"] <= 1
