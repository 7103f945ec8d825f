import numpy as np
import pandas as pd
import pytest

from metrics.correlations import CorrelationResult, holm
from metrics.curves import with_moving_average
from metrics.monitors import judge, separations, verdict
from metrics.registry import MONITORS

STEPS = np.arange(0, 3000, 100)
CONTROLS = {"main": ["control"]}
MOVES = "moves with accuracy beyond the trend"
SETTINGS = {"num_permutations": 999, "num_bootstrap": 100, "significance": 0.05, "seed": 0}


def tidy(series, domain, monitor, values):
    return pd.DataFrame(
        {"series": series, "domain": domain, "step": STEPS, "monitor": monitor, "value": values}
    )


@pytest.fixture
def curves():
    """Accuracy rises in main only; one monitor shares its wobble, one only its trend."""
    rng = np.random.default_rng(1)
    rise = 1 / (1 + np.exp(-(STEPS - 1200) / 250))
    wobble = rng.normal(size=len(STEPS)) * 0.02
    accuracy = 0.9 * rise + wobble
    return pd.concat(
        [
            tidy("main", "math", "accuracy", accuracy),
            tidy("main", "math", "pathway_distance", 20 - 5 * accuracy),
            tidy("main", "math", "validation_loss", 3 - rise + rng.normal(size=len(STEPS)) * 0.05),
            tidy("control", "math", "accuracy", 0.1 + rng.normal(size=len(STEPS)) * 0.01),
            tidy("control", "math", "pathway_distance", 20 - 6 * rise),
            tidy("control", "math", "validation_loss", 3 + rng.normal(size=len(STEPS)) * 0.05),
        ],
        ignore_index=True,
    )


def row_of(rows, **wanted):
    (row,) = [r for r in rows if all(r[key] == value for key, value in wanted.items())]
    return row


def test_a_monitor_that_shares_the_wobble_follows_and_a_trend_alone_does_not(curves):
    rows = judge(curves, CONTROLS, **SETTINGS)
    here = {"series": "main", "domain": "math", "window": "all"}
    shared = row_of(rows, monitor="pathway_distance", **here)
    assert shared["pearson"] == pytest.approx(-1)
    assert shared["verdict"] == "moves with accuracy beyond the trend, in the expected direction"
    trend = row_of(rows, monitor="validation_loss", **here)
    assert trend["pearson"] < -0.9
    assert trend["verdict"] == "no relation beyond the trend is shown"


def test_small_p_values_are_taken_from_more_permutations(curves):
    shared = row_of(
        judge(curves, CONTROLS, **SETTINGS), series="main", monitor="pathway_distance", window="all"
    )
    assert shared["difference_p"] == pytest.approx(1 / (20 * 999 + 1))
    assert shared["difference_smallest_p"] == shared["difference_p"]


def test_the_window_starts_where_accuracy_rises_above_the_control(curves):
    rows = judge(curves, CONTROLS, **SETTINGS)
    accuracy = curves[(curves.series == "main") & (curves.monitor == "accuracy")]["value"]
    level = curves[(curves.series == "control") & (curves.monitor == "accuracy")]["value"].max()
    onset = row_of(rows, series="main", monitor="pathway_distance", window="after_onset")
    low = np.flatnonzero(accuracy <= max(level, accuracy.min() + 0.1 * np.ptp(accuracy)))
    assert onset["num_checkpoints"] == len(STEPS) - low[-1]
    assert onset["num_checkpoints"] < len(STEPS)


def test_holm_spans_one_series_and_window(curves):
    rows = judge(curves, CONTROLS, **SETTINGS)
    block = [r for r in rows if (r["series"], r["window"]) == ("main", "all")]
    assert [r["holm_p"] for r in block] == holm([r["difference_p"] for r in block])


def test_checkpoints_without_a_value_are_left_out_of_that_monitor_alone(curves):
    gone = (curves.series == "main") & (curves.monitor == "pathway_distance") & (curves.step < 500)
    curves.loc[gone, "value"] = np.nan
    rows = judge(curves, CONTROLS, **SETTINGS)
    here = {"series": "main", "window": "all"}
    assert row_of(rows, monitor="pathway_distance", **here)["num_checkpoints"] == len(STEPS) - 5
    assert row_of(rows, monitor="validation_loss", **here)["num_checkpoints"] == len(STEPS)


def test_a_monitor_without_any_value_is_not_available(curves):
    curves.loc[curves.monitor == "pathway_distance", "value"] = np.nan
    row = row_of(
        judge(curves, CONTROLS, **SETTINGS), series="main", monitor="pathway_distance", window="all"
    )
    assert row["pearson"] is None
    assert row["verdict"].startswith("not available, because")
    (apart,) = [r for r in separations(curves, CONTROLS) if r["monitor"] == "pathway_distance"]
    assert apart["verdict"] == "cannot tell"


def test_what_moves_further_in_the_control_is_no_sign_of_generalization(curves):
    rows = {row["monitor"]: row for row in separations(curves, CONTROLS)}
    assert rows["pathway_distance"]["verdict"] == "moves further in the control"
    assert rows["validation_loss"]["verdict"] == "differs in these two runs"


def test_without_control_there_is_no_separation_and_without_accuracy_no_judgement(curves):
    main = curves[curves.series == "main"]
    assert separations(main, {"main": []}) == []
    assert judge(main[main.monitor != "accuracy"], {"main": []}, **SETTINGS) == []


def test_moving_average_is_added_per_series_and_domain(curves):
    losses = curves[curves.monitor == "validation_loss"].assign(monitor="training_loss")
    more = with_moving_average(pd.concat([curves, losses]), 3)
    one = more[(more.series == "main") & (more.monitor == "training_loss_moving_average")]
    values = losses[losses.series == "main"]["value"].to_numpy()
    assert one["value"].to_numpy()[0] == pytest.approx(values[0])
    assert one["value"].to_numpy()[5] == pytest.approx(values[3:6].mean())


@pytest.mark.parametrize(
    ("p", "holm_p", "rho", "lag", "direction", "message"),
    [
        (1.0, 1.0, 0.5, None, 1, "no relation beyond the trend is shown"),
        (0.2, 0.9, 0.5, 0, 1, "no relation beyond the trend is shown"),
        (0.01, 0.4, 0.5, 0, 1, "suggestive only: does not survive the correction for all tests"),
        (0.001, 0.01, 0.5, 0, 1, f"{MOVES}, in the expected direction"),
        (0.001, 0.01, -0.5, 0, 1, f"{MOVES}, against the expected direction"),
        (0.001, 0.01, -0.5, 0, 0, f"{MOVES} (−)"),
        (0.001, 0.01, 0.5, 2, 0, f"{MOVES} (+), leading by about 2 checkpoints"),
        (0.001, 0.01, -0.5, 1, -1, f"{MOVES}, in the expected direction, leading by about 1 "
         "checkpoint"),
        (0.001, 0.01, -0.5, -2, 1, f"{MOVES}, against the expected direction, lagging by about 2 "
         "checkpoints"),
        (None, None, None, None, 1, "cannot tell"),
    ],
)  # fmt: skip
def test_verdicts_in_words(p, holm_p, rho, lag, direction, message):
    result = CorrelationResult(
        20, pearson=0.5, difference_p=p, difference_spearman=rho, difference_lag=lag
    )
    assert verdict(result, holm_p, direction, 0.05) == message


def test_a_monitor_that_leads_by_one_checkpoint_follows_and_leads():
    rng = np.random.default_rng(2)
    rise = 1 / (1 + np.exp(-(STEPS - 1200) / 250))
    wobble = rng.normal(size=len(STEPS) + 1) * 0.05
    leading = pd.concat(
        [
            tidy("main", "math", "accuracy", 0.8 * rise + wobble[:-1]),
            tidy("main", "math", "pathway_distance", 20 - 5 * (0.8 * rise + wobble[1:])),
        ],
        ignore_index=True,
    )
    row = row_of(judge(leading, {"main": []}, **SETTINGS), window="all")
    assert (row["difference_lag"], row["difference_spearman"] < 0) == (1, True)
    assert row["verdict"] == f"{MOVES}, in the expected direction, leading by about 1 checkpoint"


def test_monitors_are_named_once_and_cite_their_source():
    names = [monitor.measure for monitor in MONITORS]
    assert len(names) == len(set(names))
    for monitor in MONITORS:
        assert monitor.expected_direction in (-1, 0, 1)
        assert monitor.source
