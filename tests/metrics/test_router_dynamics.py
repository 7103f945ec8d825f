import numpy as np
import pytest

from metrics.router_dynamics import router_dynamics


def test_by_hand():
    found = router_dynamics([1.0, 3.0, 4.0, 4.0, 4.0], np.array([0, 1, 3, 7, 15]))
    changes = np.array([2.0, 1.0, 0.0, 0.0]) / 3.2
    assert found.mean_change == pytest.approx(changes.mean())
    assert found.convergence_speed == pytest.approx(changes[:2].mean())
    assert found.stability == pytest.approx(1 / changes.std())
    # Steps 0, 1, 3, 7, 15 are evenly spaced in log2(1 + step).
    assert found.mean_change_per_log_step == pytest.approx(changes.mean() / np.log(2))
    assert found.convergence_speed_per_log_step == pytest.approx(changes[:2].mean() / np.log(2))
    assert found.stability_per_log_step == pytest.approx(np.log(2) / changes.std())


def test_a_norm_that_grows_with_the_log_of_the_step_neither_settles_nor_wavers_per_log_step():
    steps = np.array([0, 25, 50, 100, 300, 1000])
    norms = 5 + 2 * np.log1p(steps)
    found = router_dynamics(norms, steps)
    assert found.mean_change_per_log_step == pytest.approx(2 / norms.mean())
    assert found.convergence_speed_per_log_step == pytest.approx(0, abs=1e-12)
    assert found.stability_per_log_step is None
    # The raw form says that it settles, which is only the first gap.
    assert found.convergence_speed > 0.01
    assert found.note == (
        "checkpoints are unevenly spaced: read the forms per log step; "
        "no stability per log step, because all changes per log step are equal"
    )


def test_uneven_spacing_is_told_and_nearly_even_spacing_is_not():
    norms = [1.0, 3.0, 4.0, 4.5]
    assert router_dynamics(norms, [5_000, 125_000, 245_000, 370_000]).note is None
    assert "unevenly spaced" in router_dynamics(norms, [0, 25, 50, 100]).note


@pytest.mark.parametrize("num", [1, 2])
def test_too_few_checkpoints_say_so(num):
    found = router_dynamics(np.ones(num), np.arange(num))
    assert found.mean_change is None
    assert "too few changes" in found.note


def test_constant_and_zero_norms():
    constant = router_dynamics(np.ones(5), np.arange(5))
    assert (constant.mean_change, constant.convergence_speed, constant.stability) == (0, 0, None)
    assert (constant.convergence_speed_per_log_step, constant.stability_per_log_step) == (0, None)
    assert constant.note.startswith("no stability, because all changes are equal")
    assert "all weights are zero" in router_dynamics(np.zeros(5), np.arange(5)).note
    with pytest.raises(ValueError, match="negative or not finite"):
        router_dynamics([1.0, np.nan, 1.0], np.arange(3))
    with pytest.raises(ValueError, match="negative or not finite"):
        router_dynamics([1.0, -1.0, 1.0], np.arange(3))
    with pytest.raises(ValueError, match="step"):
        router_dynamics([1.0, 2.0, 1.0], [0, 5, 5])


def test_the_unit_of_weights_does_not_matter():
    norms, steps = np.random.default_rng(0).uniform(1, 2, size=9), np.arange(9) ** 2
    one, other = router_dynamics(norms, steps), router_dynamics(1000 * norms, steps)
    for name in ("mean_change", "convergence_speed", "stability"):
        of_log = f"{name}_per_log_step"
        assert getattr(one, of_log) == pytest.approx(getattr(other, of_log))
        assert getattr(one, name) == pytest.approx(getattr(other, name))
