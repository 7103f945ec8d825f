import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.curves import risen_cases
from metrics.online import (
    LOSS_FLAT,
    NO_CHANGE,
    TOO_EARLY,
    TURNED,
    accuracy_step,
    calls,
    flat_since,
    noise_scale,
    online_rows,
)
from metrics.registry import MONITORS, REGISTRY

STEPS = np.arange(0, 200, 10)
DISTANCE = REGISTRY["pathway_distance"]
MAIN, ALL_CONTROLS = {"main": []}, {}
HOW = {"min_checkpoints": 4, "window": 3, "tolerance": 0.05}


def curves(rises=True, falls=True):
    rng = np.random.default_rng(0)
    late = 1 / (1 + np.exp(-(STEPS - 120) / 8))
    values = {
        "training_loss": 3 * np.exp(-STEPS / 8),
        "accuracy": 0.9 * late if rises else np.full(len(STEPS), 0.1),
        "pathway_distance": 20 - (6 * late if falls else 0) + 0.05 * rng.normal(size=len(STEPS)),
    }
    parts = [
        pd.DataFrame({"series": "main", "domain": "math", "step": STEPS, "monitor": m, "value": v})
        for m, v in values.items()
    ]
    return pd.concat(parts, ignore_index=True)


def lead_of(frame, controls=MAIN, monitor=DISTANCE.measure):
    _, leads = online_rows(frame, controls, [DISTANCE], **HOW)
    (row,) = [row for row in leads if row["series"] == "main" and row["monitor"] == monitor]
    return row


def test_nothing_is_called_before_the_loss_is_flat_and_a_turn_is_called_after():
    called, _ = online_rows(curves(), MAIN, [DISTANCE], **HOW)
    words = [row["call"] for row in called if row["monitor"] == DISTANCE.measure]
    assert words[:4] == [TOO_EARLY] * 4
    assert NO_CHANGE in words
    assert words[-1] == TURNED
    row = lead_of(curves())
    assert row["flat_step"] < row["call_step"] < row["accuracy_step"] == 120
    assert row["lead"] == 120 - row["call_step"]
    assert row["could_lead"]


def test_the_baseline_calls_when_the_loss_is_flat():
    called, _ = online_rows(curves(), MAIN, [DISTANCE], **HOW)
    row = lead_of(curves(), monitor=LOSS_FLAT.measure)
    assert row["call_step"] == row["flat_step"]
    assert row["lead"] == row["accuracy_step"] - row["flat_step"] > 0
    words = {r["step"]: r["call"] for r in called if r["monitor"] == LOSS_FLAT.measure}
    assert next(step for step in STEPS if words[step] == TURNED) == row["flat_step"]
    assert set(words.values()) == {TOO_EARLY, TURNED}
    assert lead_of(curves(rises=False), monitor=LOSS_FLAT.measure)["false_alarm"]


def test_where_accuracy_rises_before_the_loss_is_flat_nothing_could_lead():
    frame = curves()
    early = np.where(STEPS >= 20, 0.9, 0.0)
    frame.loc[frame["monitor"] == "accuracy", "value"] = early
    row = lead_of(frame)
    assert row["accuracy_step"] == 20 < row["flat_step"]
    assert row["could_lead"] is False
    assert lead_of(frame, monitor=LOSS_FLAT.measure)["lead"] < 0


def test_a_rise_that_a_control_shares_is_none_as_on_the_leaderboard():
    controls = {"main": ["shuffled"]}
    for share, risen in ((0.95, False), (0.5, True)):
        control = curves().assign(series="shuffled")
        scores = control["monitor"] == "accuracy"
        control.loc[scores, "value"] *= share
        both = pd.concat([curves(), control], ignore_index=True)
        assert (risen_cases(both, controls) == {("main", "math")}) == risen
        row = lead_of(both, controls)
        assert (row["accuracy_step"] is not None) == risen
        assert row["false_alarm"] == (not risen)


def test_a_rise_that_does_not_last_is_none():
    frame = curves()
    frame.loc[(frame["monitor"] == "accuracy") & (frame["step"] == STEPS[-1]), "value"] = 0.05
    row = lead_of(frame)
    assert (row["accuracy_step"], row["could_lead"], row["lead"]) == (None, None, None)


def test_a_measure_that_is_no_monitor_never_calls():
    """Saturation against the last checkpoint would know the future."""
    ahead = REGISTRY["saturation_top_k"]
    frame = curves()
    future = frame[frame["monitor"] == DISTANCE.measure].assign(monitor=ahead.measure)
    frame = pd.concat([frame, future], ignore_index=True)
    for rows in online_rows(frame, MAIN, [DISTANCE, ahead], **HOW):
        assert {row["monitor"] for row in rows} == {DISTANCE.measure, LOSS_FLAT.measure}
    unmonitored = dataclasses.replace(DISTANCE, monitored=False)
    for rows in online_rows(frame, MAIN, [unmonitored], **HOW):
        assert {row["monitor"] for row in rows} == {LOSS_FLAT.measure}
    assert LOSS_FLAT not in MONITORS  # nor is the baseline held against accuracy


def test_a_monitor_that_stays_is_hardly_ever_called():
    frame = curves(falls=False)
    still = frame["monitor"] == "pathway_distance"
    frame.loc[still, "value"] = 20.0
    row = lead_of(frame)
    assert (row["call_step"], row["lead"], row["false_alarm"]) == (None, None, False)
    rng, flat = np.random.default_rng(1), [at >= 3 for at in range(len(STEPS))]
    called = [
        TURNED in calls(rng.normal(size=len(STEPS)), STEPS, flat, -1, min_checkpoints=4)
        for _ in range(300)
    ]
    assert np.mean(called) <= 0.07 + 3 * np.sqrt(0.07 * 0.93 / 300)


def test_a_call_where_nothing_rises_is_a_false_alarm():
    assert lead_of(curves(rises=False))["false_alarm"]
    assert lead_of(curves(), ALL_CONTROLS)["false_alarm"]


def test_without_accuracy_a_call_is_neither_early_nor_false():
    unscored = curves()[lambda frame: frame["monitor"] != "accuracy"]
    row = lead_of(unscored)
    assert row["call_step"] is not None
    assert (row["accuracy_step"], row["lead"], row["false_alarm"]) == (None, None, None)
    assert lead_of(unscored, ALL_CONTROLS)["false_alarm"]  # there nothing can generalize
    unmeasured = REGISTRY["layer_cosine"].measure
    for rows in online_rows(unscored, MAIN, [REGISTRY[unmeasured]], **HOW):
        assert unmeasured not in {row["monitor"] for row in rows}


@pytest.mark.parametrize(("direction", "last"), [(-1, NO_CHANGE), (0, TURNED), (1, TURNED)])
def test_a_rise_turns_a_monitor_that_may_rise(direction, last):
    values = np.array([1.0, 1.1, 0.9, 1.0, 1.1, 1.0, 9.0, 1.0])
    flat = [at >= 2 for at in range(8)]
    words = calls(values, STEPS[:8], flat, direction, min_checkpoints=4)
    assert words[:6] == [TOO_EARLY] * 3 + [NO_CHANGE] * 3
    assert words[6:] == [last] * 2  # once turned it stays so, though the monitor came back


def test_a_loss_that_never_looks_flat_has_a_note():
    frame = curves()
    frame.loc[frame["monitor"] == "training_loss", "value"] = np.linspace(20, 0, len(STEPS))
    for monitor in (DISTANCE, LOSS_FLAT):
        row = lead_of(frame, monitor=monitor.measure)
        assert "never looked flat" in row["note"]
        assert (row["call_step"], row["could_lead"]) == (None, None)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=6, max_size=20), st.integers(4, 19))
def test_later_checkpoints_never_change_earlier_calls(values, cut):
    values = np.array(values)
    steps = np.arange(len(values)) * 10
    flat = flat_since(values, window=3, tolerance=0.5)
    assert flat[:cut] == flat_since(values[:cut], window=3, tolerance=0.5)
    now = calls(values, steps, flat, -1, min_checkpoints=4)
    then = calls(values[:cut], steps[:cut], flat[:cut], -1, min_checkpoints=4)
    assert now[:cut] == then


def test_half_of_the_rise_is_from_the_first_value_to_the_last():
    assert accuracy_step(np.array([0.0, 0.4, 0.9]), np.array([0, 5, 9])) == 9
    assert accuracy_step(np.array([0.1, 0.5, 0.9, 0.6]), np.array([0, 5, 7, 9])) == 5


def test_accuracy_that_hardly_rises_has_no_step():
    frame = curves()
    frame.loc[frame["monitor"] == "accuracy", "value"] /= 10
    assert lead_of(frame)["accuracy_step"] is None


def test_noise_scale_recovers_the_noise_of_a_curve_on_an_uneven_grid():
    rng = np.random.default_rng(0)
    steps = np.cumsum(rng.uniform(1, 5, 4000))
    values = np.sin(steps / 3000) + 0.3 * rng.normal(size=4000)
    assert noise_scale(values, steps) == pytest.approx(0.3, rel=0.05)
    assert noise_scale(0.1 * steps + 7, steps) == 0.0
