import numpy as np
import pytest

from metrics.dynamics import choice_overlap, router_dynamics, saturation_rows, saturation_speed
from metrics.field import random_choices


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


def test_uneven_spacing_is_reported_and_nearly_even_spacing_is_not():
    norms = [1.0, 3.0, 4.0, 4.5]
    assert router_dynamics(norms, [5_000, 125_000, 245_000, 370_000]).note is None
    assert "unevenly spaced" in router_dynamics(norms, [0, 25, 50, 100]).note


@pytest.mark.parametrize("num", [1, 2])
def test_too_few_checkpoints_are_reported(num):
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


def test_the_same_choice_overlaps_fully_in_any_order_and_another_not_at_all():
    chosen = random_choices((30, 2, 3), num_experts=8, seed=0)
    assert choice_overlap(chosen, chosen[..., ::-1]).tolist() == [1.0, 1.0]
    assert choice_overlap(np.zeros((4, 1, 1), int), np.ones((4, 1, 1), int)).tolist() == [0.0]


def test_random_choices_overlap_by_k_over_num_experts():
    one, other = (random_choices((20000, 1, 2), num_experts=8, seed=s) for s in (1, 2))
    assert choice_overlap(one, other)[0] == pytest.approx(2 / 8, abs=0.01)


def test_checkpoints_of_other_shape_are_refused():
    with pytest.raises(ValueError, match="same tokens and have the same layers"):
        choice_overlap(np.zeros((4, 2, 1), int), np.zeros((4, 1, 1), int))


def test_speed_needs_rising_steps_and_is_zero_without_change():
    assert saturation_speed(1.0, 100, 50) == 0
    with pytest.raises(ValueError, match="steps must rise"):
        saturation_speed(0.5, 50, 50)


def test_rows_end_saturated_and_one_checkpoint_has_no_speed():
    chosen = [random_choices((50, 2, 2), num_experts=4, seed=s) for s in range(3)]
    rows = saturation_rows("math", [0, 10, 20], chosen, 4)
    last = [r for r in rows if r["step"] == 20 and r["measure"] == "saturation_top_k"]
    assert [r["value"] for r in last] == [1.0] * 3
    assert {r["baseline"] for r in last} == {0.5}
    alone = saturation_rows("math", [0], chosen[:1], 4)
    assert "saturation_speed" not in {r["measure"] for r in alone}
