import numpy as np
import pandas as pd
import pytest

from metrics.controls import variant_rows
from metrics.sensitivity import Trial, curve_trials, distance_trials, sensitivity_rows

STEPS = range(0, 240, 20)
RISE = pd.Series(1 / (1 + np.exp(-(np.array(STEPS) - 110) / 20)), index=STEPS)


def variants():
    rng = np.random.default_rng(0)
    rows = []
    for step in STEPS:
        weights = rng.dirichlet(np.ones(6), size=(20, 2))
        for row in variant_rows("math", weights, (0.5, 0.7), max_pairs=100, seed=3):
            rows.append({"step": step, **row})
    return pd.DataFrame(rows)


def test_variants_are_means_over_the_same_pairs():
    table = variants()
    one = table[(table["step"] == 0) & (table["threshold"] == 0.7)]
    assert len(one) == 2 * 2 * 2
    assert set(one["pair_seed"]) == {3, 4}
    share = one[one["normalized"]]["value"]
    assert ((share > 0) & (share <= 1)).all()
    longer = table.groupby("threshold")["value"].mean()
    assert longer[0.7] > longer[0.5]


def test_every_setting_has_one_default_and_rows_for_both_windows():
    trials = distance_trials(variants(), 20 - RISE, RISE, threshold=0.7, seed=3)
    scores = pd.DataFrame({"value": RISE, "value_unmarked": RISE - 0.01, "num_removed": 0})
    trials += curve_trials(
        {"pathway_distance": 20 - RISE, "training_loss": 3 - RISE}, RISE, scores, 3
    )
    rows = pd.DataFrame(sensitivity_rows("main", "math", trials, seed=0))
    assert set(rows["window"]) == {"all", "after_onset"}
    defaults = rows[(rows["window"] == "all") & rows["is_default"]]
    assert defaults["setting"].is_unique
    assert set(defaults["setting"]) == {
        "threshold",
        "unit and normalisation",
        "pairs",
        "documents",
        "moving average of the loss",
    }
    own = rows[(rows["setting"] == "pairs") & rows["is_default"] & (rows["window"] == "all")]
    assert own["pearson"].item() == pytest.approx(-1)


def test_documents_are_tried_without_the_marked_where_the_study_scores_them():
    curves = {"pathway_distance": 20 - RISE}
    scores = pd.DataFrame({"value": RISE, "value_unmarked": RISE - 0.01, "num_removed": 0})

    def tried(scores):
        trials = curve_trials(curves, scores["value"], scores, 3)
        return {t.value: t.is_default for t in trials if t.setting == "documents"}

    assert tried(scores) == {"all": True, "without the marked": False}
    assert tried(scores.assign(num_removed=4)) == {"without the marked": True}
    assert tried(scores.assign(value_unmarked=RISE)) == {"all": True}  # nothing is marked


def test_what_is_missing_has_a_reason():
    trial = Trial("tuning", "tuned", "pathway_distance", RISE, RISE, False, "not available, x")
    rows = sensitivity_rows("main", "math", [trial], seed=0)
    assert {row["note"] for row in rows} == {"not available, x"}
    assert {row["pearson"] for row in rows} == {None}
    constant = Trial("a", "b", "m", RISE * 0, RISE, False)
    (row, _) = sensitivity_rows("main", "math", [constant], seed=0)
    assert row["note"] == "not available, because the monitor is constant"


def test_a_setting_that_was_not_measured_is_no_crash():
    trials = distance_trials(variants(), 20 - RISE, RISE, threshold=0.6, seed=3)
    rows = sensitivity_rows("main", "math", trials, seed=0)
    (missing, _) = [row for row in rows if row["value"] == "character, raw"]
    assert (missing["num_checkpoints"], missing["pearson"]) == (0, None)
    assert missing["note"] == "not available, because 0 checkpoints are fewer than 4"
    nothing = Trial("a", "b", "m", RISE, RISE * np.nan, False)
    assert sensitivity_rows("main", "math", [nothing], seed=0)[0]["num_checkpoints"] == 0
