import numpy as np
import pytest

from metrics.calibration import (
    GRIDS,
    NANO_STEPS,
    PROMISED_RATE,
    calibrate,
    difference_p_value,
    follow_rates,
    markdown_table,
    naive_p_value,
    power,
)

FAMILIES = ["saturating exponential", "random walk", "integrated AR(1), 0.5"]
NUM_SIMULATIONS = 100
# With a true rate of 7 %, 100 pairs show more than 16 rejections less than once in 1,000 settings.
SLACK = 0.09


def test_nano_grid():
    assert len(NANO_STEPS) == 35
    assert NANO_STEPS[:6] == (0, 25, 50, 75, 100, 150)
    assert NANO_STEPS[-3:] == (2000, 2200, 2400)


@pytest.mark.parametrize("grid", ["even 10", "even 20", "nano"])
def test_verdict_test_has_at_most_the_promised_rate(grid):
    rows = calibrate(num_simulations=NUM_SIMULATIONS, seed=7, grids=[grid], families=FAMILIES)
    assert {row.family for row in rows} == set(FAMILIES)
    assert max(row.rejection_rate for row in rows) <= PROMISED_RATE + SLACK
    # Pooled over 14 settings there is no need for slack.
    assert np.mean([row.rejection_rate for row in rows]) <= PROMISED_RATE


def test_naive_tests_do_not():
    options = {"num_simulations": 60, "seed": 7, "families": ["saturating exponential"]}
    naive = calibrate(naive_p_value, grids=["even 10"], **options)
    assert {row.noise: row.rejection_rate for row in naive}["0.01"] > 0.95
    differences = calibrate(difference_p_value, grids=["even 10"], **options)
    assert max(row.rejection_rate for row in differences) > 0.9


def test_six_checkpoints_always_abstain():
    rows = calibrate(num_simulations=5, seed=0, grids=["even 6"], families=["random walk"])
    assert [(row.rejection_rate, row.abstain_rate) for row in rows] == [(0.0, 1.0)]


def test_power_grows_with_checkpoints_and_with_what_is_shared():
    rates = {
        (row.grid, row.family, row.noise): row.rejection_rate
        for row in power(num_simulations=100, seed=7, grids=["even 10", "nano"])
    }
    assert rates["nano", "shared noise", "r = 0.9"] > 0.9
    assert rates["nano", "shared random walk", "r = 0.9"] > 0.8
    for family in ("shared noise", "shared random walk"):
        assert rates["nano", family, "r = 0.7"] > rates["even 10", family, "r = 0.7"]
        assert rates["even 10", family, "r = 0.97"] > rates["even 10", family, "r = 0.7"]


def test_a_subset_reproduces_its_rows():
    full = calibrate(
        num_simulations=5, seed=3, grids=["even 10"], families=["random walk", "white noise"]
    )
    part = calibrate(num_simulations=5, seed=3, grids=["even 10"], families=["random walk"])
    assert [row for row in full if row.family == "random walk"] == part


def test_tables():
    rows = calibrate(num_simulations=4, seed=0, grids=["even 6", "even 8"], families=["logistic"])
    lines = markdown_table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert lines[2] == "| even 6 | 6 | logistic | 0 | 4 | 0.000 | 1.00 |"
    assert len({line.count("|") for line in lines}) == 1
    assert set(GRIDS) >= {"even 6", "nano"}


def test_adding_up_signed_z_is_wrong_where_matching_is_not():
    (row,) = follow_rates(num_studies=25, seed=1, families=["power law"], sizes=[0.03])
    assert row["single"] < 0.1
    assert row["matched"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 25)
    assert row["added_up"] >= row["matched"]
