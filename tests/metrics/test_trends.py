import numpy as np
import pandas as pd
import pytest

from metrics.trends import quadratic_trend, trend_rows


def test_a_parabola_is_recovered_exactly():
    x = np.arange(10)
    trend = quadratic_trend(x, 3 - 2 * x + 0.25 * x**2)
    found = [trend[name] for name in ("constant", "linear", "quadratic", "vertex", "r_squared")]
    assert found == pytest.approx([3, -2, 0.25, 4, 1])
    assert trend["direction"] == "rises"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2, 3], "3 points are fewer than 4"),
        ([2] * 5, "constant"),
        ([1, np.nan, 2, 3], "finite"),
    ],
)
def test_without_a_fit_it_says_why(values, said):
    trend = quadratic_trend(np.arange(len(values)), values)
    assert trend["quadratic"] is None
    assert said in trend["note"]


def test_a_turn_outside_the_curve_is_no_turn():
    assert quadratic_trend(np.arange(5), np.arange(5) ** 2 + 9.0 * np.arange(5))["vertex"] is None


def test_rows_leave_missing_values_out():
    curves = pd.DataFrame(
        {"series": "main", "domain": "math", "monitor": "loss", "step": range(0, 60, 10)}
    ).assign(value=[5, 3, None, 2, 1.5, 1.4])
    rows = trend_rows(curves)
    assert [row["abscissa"] for row in rows] == ["index", "log_step"]
    assert {row["num_checkpoints"] for row in rows} == {5}
    assert all(row["r_squared"] > 0.9 for row in rows)
