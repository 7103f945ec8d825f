import numpy as np
import pytest

from metrics.field import random_choices
from metrics.saturation import choice_overlap, saturation_rows, saturation_speed


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
