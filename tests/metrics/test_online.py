import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.online import (
    NO_CHANGE,
    TOO_EARLY,
    TURNED,
    accuracy_step,
    calls,
    flat_since,
    online_rows,
)
from metrics.registry import REGISTRY

STEPS = np.arange(0, 200, 10)
DISTANCE = REGISTRY["pathway_distance"]
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


def lead_of(frame, role="main"):
    _, leads = online_rows(frame, {"main": role}, [DISTANCE], **HOW)
    return leads[0]


def test_nothing_is_said_before_the_loss_is_flat_and_a_turn_is_called_after():
    said, leads = online_rows(curves(), {"main": "main"}, [DISTANCE], **HOW)
    words = [row["call"] for row in said]
    assert words[:4] == [TOO_EARLY] * 4
    assert NO_CHANGE in words
    assert words[-1] == TURNED
    assert leads[0]["accuracy_step"] == 120
    assert leads[0]["lead"] == 120 - leads[0]["call_step"]


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
    assert lead_of(curves(), role="control")["false_alarm"]


def test_without_accuracy_a_call_is_neither_early_nor_false():
    unscored = curves()[lambda frame: frame["monitor"] != "accuracy"]
    row = lead_of(unscored)
    assert row["call_step"] is not None
    assert (row["accuracy_step"], row["lead"], row["false_alarm"]) == (None, None, None)
    assert lead_of(unscored, role="control")["false_alarm"]  # there nothing can generalize
    said, leads = online_rows(unscored, {"main": "main"}, [REGISTRY["layer_cosine"]], **HOW)
    assert (said, leads) == ([], [])  # a monitor that was not measured


@pytest.mark.parametrize(("direction", "last"), [(-1, NO_CHANGE), (0, TURNED), (1, TURNED)])
def test_a_rise_turns_a_monitor_that_may_rise(direction, last):
    values = np.array([1.0, 1.1, 0.9, 1.0, 1.1, 1.0, 9.0, 1.0])
    flat = [at >= 2 for at in range(8)]
    words = calls(values, STEPS[:8], flat, direction, min_checkpoints=4)
    assert words[:6] == [TOO_EARLY] * 3 + [NO_CHANGE] * 3
    assert words[6:] == [last] * 2  # once turned it stays so, though the monitor came back


def test_a_loss_that_never_looks_flat_says_so():
    frame = curves()
    frame.loc[frame["monitor"] == "training_loss", "value"] = np.linspace(20, 0, len(STEPS))
    assert "never looked flat" in lead_of(frame)["note"]


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


def test_accuracy_that_hardly_rises_has_no_step():
    assert accuracy_step(np.array([0.1, 0.15, 0.12]), np.array([0, 1, 2])) is None
    assert accuracy_step(np.array([0.0, 0.4, 0.9]), np.array([0, 5, 9])) == pytest.approx(9)
