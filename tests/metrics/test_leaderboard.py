import numpy as np
import pandas as pd
import pytest

from metrics.leaderboard import leaderboard_rows, risen_cases, signed_z
from metrics.monitors import judge, separations
from metrics.registry import REGISTRY

STEPS = np.arange(0, 2400, 100)
SETTINGS = {"num_permutations": 199, "num_bootstrap": 100, "significance": 0.05, "seed": 0}
MONITORS = [REGISTRY[name] for name in ("validation_loss", "pathway_distance")]


def tidy(series, monitor, values, domain="math"):
    return pd.DataFrame(
        {"series": series, "domain": domain, "step": STEPS, "monitor": monitor, "value": values}
    )


def study(num_trainings=4, seed=0, related=True):
    """Validation loss shares the wobble of accuracy and its rise; distance falls everywhere."""
    rng = np.random.default_rng(seed)
    rise = 1 / (1 + np.exp(-(STEPS - 900) / 200))
    parts, controls = [], {}
    for number in range(num_trainings):
        main, control = f"t{number}", f"t{number}-shuffled"
        controls[main] = [control]
        wobble, other, third = rng.normal(size=(3, len(STEPS))) * 0.03
        parts += [
            tidy(main, "accuracy", 0.8 * rise + wobble),
            tidy(main, "validation_loss", 3 - 2 * rise - (wobble if related else other)),
            tidy(main, "pathway_distance", 20 - 3 * rise + third),
            tidy(control, "accuracy", 0.05 + 0.01 * rng.normal(size=len(STEPS))),
            tidy(control, "validation_loss", 3 + 0.03 * rng.normal(size=len(STEPS))),
            tidy(control, "pathway_distance", 20 - 5 * rise + 0.03 * rng.normal(size=len(STEPS))),
        ]
    return pd.concat(parts, ignore_index=True), controls


def board(curves, controls):
    rows = leaderboard_rows(
        curves,
        judge(curves, controls, **SETTINGS),
        separations(curves, controls),
        controls,
        MONITORS,
        0.05,
    )
    return {row["monitor"]: row for row in rows}


def test_what_follows_and_separates_passes_and_what_moves_in_the_control_does_not():
    found = board(*study())
    good, bad = found["validation_loss"], found["pathway_distance"]
    assert good["passes"]
    assert (good["position"], good["num_separating"], good["separating_direction"]) == (1, 4, -1)
    assert good["combined_z"] < -3
    assert not bad["passes"]
    assert bad["num_separating"] == 0
    assert "not told from its control" in bad["note"]


def test_separating_without_following_is_not_enough():
    row = board(*study(related=False))["validation_loss"]
    assert row["num_separating"] == 4
    assert not row["passes"]
    assert "does not follow accuracy" in row["note"]


def test_where_accuracy_never_rises_there_is_no_case():
    curves, controls = study()
    flat = curves.assign(value=curves["value"].where(curves["monitor"] != "accuracy", 0.1))
    assert risen_cases(flat, controls) == set()
    row = board(flat, controls)["validation_loss"]
    assert (row["num_cases"], row["passes"], row["combined_p"]) == (0, False, None)
    assert "accuracy rises in no training" in row["note"]


def test_a_training_counts_once_however_many_domains_it_has():
    """The same evidence in four domains of one training is no more than in one."""
    curves, controls = study(num_trainings=1)
    copies = pd.concat([curves.assign(domain=name) for name in "abcd"], ignore_index=True)
    one, four = board(curves, controls), board(copies, controls)
    assert four["validation_loss"]["num_tested"] == 4
    assert four["validation_loss"]["combined_z"] == pytest.approx(
        one["validation_loss"]["combined_z"]
    )


def test_independent_trends_hardly_pass_for_following():
    """Calibration: combined p <= .05 in at most 7 % of studies, plus three standard errors."""
    false = [
        board(*study(seed=seed, related=False))["validation_loss"]["combined_p"] <= 0.05
        for seed in range(60)
    ]
    assert np.mean(false) <= 0.07 + 3 * np.sqrt(0.07 * 0.93 / len(false))


def test_signed_z_is_symmetric():
    assert signed_z(0.01, 1) == -signed_z(0.01, -1)
    assert signed_z(1.0, 1) == pytest.approx(0)
