import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from metrics import leaderboard
from metrics.calibration import even_steps
from metrics.curves import risen_cases
from metrics.detrended import signed_z
from metrics.leaderboard import _over_trainings, leaderboard_rows
from metrics.monitors import judge, separations
from metrics.registry import REGISTRY
from metrics.simulated import sharing, unrelated_recipe

STEPS = np.arange(0, 2400, 100)
SETTINGS = {"num_permutations": 199, "num_bootstrap": 100, "significance": 0.05, "seed": 0}
MONITORS = [REGISTRY[name] for name in ("validation_loss", "pathway_distance")]


def tidy(series, monitor, values, domain="math"):
    return pd.DataFrame(
        {"series": series, "domain": domain, "step": STEPS, "monitor": monitor, "value": values}
    )


def study(num_trainings=8, seed=0, related=True):
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


def board(curves, controls, recipes=None):
    rows = leaderboard_rows(
        curves,
        judge(curves, controls, **SETTINGS),
        separations(curves, controls),
        controls,
        recipes or dict.fromkeys(controls, "base"),
        MONITORS,
        0.05,
    )
    return {row["monitor"]: row for row in rows}


def test_what_follows_and_separates_passes_and_what_moves_in_the_control_does_not():
    found = board(*study())
    good, bad = found["validation_loss"], found["pathway_distance"]
    assert good["passes"]
    assert (good["position"], good["num_separating"], good["separating_direction"]) == (1, 8, -1)
    assert good["control_p"] == 2 / 2**8
    assert good["matched_p"] < 0.001
    assert good["matched_excess"] < -1
    assert good["num_negative"] > good["num_positive"]
    assert not bad["passes"]
    # It falls in the control too, and further: the difference has the other sign.
    assert (bad["num_separating"], bad["separating_direction"]) == (8, 1)
    assert "does not follow the accuracy of its own training" in bad["note"]


def test_separating_without_following_is_not_enough():
    row = board(*study(related=False))["validation_loss"]
    assert row["num_separating"] == 8
    assert not row["passes"]
    assert "does not follow the accuracy of its own training" in row["note"]


def test_few_trainings_can_show_neither():
    row = board(*study(num_trainings=4))["validation_loss"]
    assert (row["num_separating"], row["control_p"]) == (4, 2 / 2**4)
    assert row["matched_p"] == 1 / 24
    assert not row["passes"]
    assert "too few trainings to show that it differs" in row["note"]
    assert "too few trainings of one recipe" in row["note"]


def test_trainings_of_as_many_recipes_cannot_be_matched():
    curves, controls = study(num_trainings=3)
    row = board(curves, controls, {name: name for name in controls})["validation_loss"]
    assert (row["matched_p"], row["holm_p"], row["passes"]) == (None, None, False)
    assert "no two trainings of one recipe" in row["note"]


def test_a_training_without_the_monitor_is_left_out():
    curves, controls = study()
    lacking = (curves["series"] == "t3") & (curves["monitor"] == "validation_loss")
    row = board(curves[~lacking], controls)["validation_loss"]
    assert row["num_cases"] == 7
    assert 1 / 5040 <= row["matched_p"] < 0.01


def test_flipping_trainings_is_exact_under_no_difference():
    rng = np.random.default_rng(0)

    def p_of(differences):
        return _over_trainings(
            [
                {
                    "main_series": f"t{at}",
                    "control_series": f"t{at}-shuffled",
                    "domain": domain,
                    "main_change": d,
                    "control_change": 0.0,
                }
                for at, d in enumerate(differences)
                for domain in ("math", "code")
            ]
        )

    ps = np.array([p_of(rng.standard_t(2, size=7)) for _ in range(600)])
    for level in (0.05, 0.1, 0.3):
        assert (ps <= level).mean() <= level + 0.03
    assert p_of(np.full(7, -0.3)) == 2 / 2**7
    assert p_of([1.0, -1.0]) == 1.0
    assert 0 < p_of(np.full(20, 1.0)) < 0.001  # drawn, not enumerated


def test_trainings_that_share_a_control_are_flipped_together():
    """Eight trainings against one control are one comparison, however they agree."""

    def p_of(controls):
        return _over_trainings(
            [
                {
                    "main_series": f"t{at}",
                    "control_series": control,
                    "domain": "math",
                    "main_change": 0.1 + 0.01 * at,
                    "control_change": 0.0,
                }
                for at, control in enumerate(controls)
            ]
        )

    assert p_of(["one"] * 8) == 1.0
    assert p_of(["one"] * 4 + ["two"] * 4) == 0.5
    assert p_of([f"{at}" for at in range(8)]) == 2 / 2**8


def test_where_accuracy_never_rises_there_is_no_case():
    curves, controls = study()
    flat = curves.assign(value=curves["value"].where(curves["monitor"] != "accuracy", 0.1))
    assert risen_cases(flat, controls) == set()
    row = board(flat, controls)["validation_loss"]
    assert (row["num_cases"], row["passes"], row["matched_p"]) == (0, False, None)
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


CONTROLS: dict[str, list[str]] = {f"t{number}": [] for number in range(4)}
RISEN = pd.DataFrame(
    [
        {"series": s, "domain": d, "step": step, "monitor": "accuracy", "value": step / 100}
        for s in CONTROLS
        for d in ("math", "code")
        for step in (0, 100)
    ]
)


def test_what_trainings_of_a_recipe_share_is_not_taken_for_following(monkeypatch):
    """Signed z of single tests has a small bias here, which adds up over trainings (Stouffer)."""
    monkeypatch.setattr(leaderboard, "NUM_RESAMPLES", 99)
    steps = np.array(even_steps(24), dtype=np.float64)
    monitor, num, ps = REGISTRY["pathway_distance"], 60, []
    controls = {f"t{number}": [] for number in range(5)}
    for seed in range(num):
        rng = np.random.default_rng([7, seed])
        pairs = unrelated_recipe("power law", steps, rng, size=0.03, num=5)
        curves = pd.concat(
            tidy(name, measure, values)
            for name, pair in zip(controls, pairs, strict=True)
            for measure, values in zip(("pathway_distance", "accuracy"), pair, strict=True)
        )
        recipes = dict.fromkeys(controls, "base")
        (row,) = leaderboard_rows(curves, [], [], controls, recipes, [monitor], 0.05)
        ps.append(row["matched_p"])
    assert np.mean(np.array(ps) <= 0.1) <= 0.1 + 3 * np.sqrt(0.09 / num)


def test_a_monitor_that_leads_counts_with_the_sign_of_its_lead():
    """At lag 0 alone the wrong sign was significant in most runs."""
    steps = np.array(even_steps(35), dtype=np.float64)
    rng = np.random.default_rng(3)
    parts = []
    for training in CONTROLS:
        ahead, accuracy = sharing(steps, rng, walks=False, shared=0.9, lead=1)
        for name, values in (("pathway_distance", ahead), ("accuracy", accuracy)):
            rows = {"series": training, "domain": "math", "step": steps, "monitor": name}
            parts.append(pd.DataFrame({**rows, "value": values}))
    curves = pd.concat(parts)
    rows = judge(curves, CONTROLS, **SETTINGS)
    monitor, recipes = REGISTRY["pathway_distance"], dict.fromkeys(CONTROLS, "base")
    (found,) = leaderboard_rows(curves, rows, [], CONTROLS, recipes, [monitor], 0.05)
    assert found["matched_excess"] > 2
    assert found["matched_p"] == 1 / 24
    assert found["num_significant"] >= 3
    assert found["num_negative"] == 0


def test_single_cases_are_counted_and_summed_over_trainings():
    def row(series, domain, p, spearman):
        return {
            "series": series,
            "domain": domain,
            "monitor": "pathway_distance",
            "window": "after_onset",
            "difference_p": p,
            "difference_spearman": spearman,
        }

    rows = [
        row("t0", "math", 0.02, -0.5),
        row("t0", "code", 0.5, 0.1),
        row("t1", "math", 0.04, -0.4),
        row("t2", "math", None, None),  # abstains
        {**row("t1", "code", 1e-6, 0.9), "window": "all"},  # another window
    ]
    monitor = REGISTRY["pathway_distance"]
    recipes = dict.fromkeys(CONTROLS, "base")
    (found,) = leaderboard_rows(RISEN, rows, [], CONTROLS, recipes, [monitor], 0.05)
    z = [norm.isf(p / 2) for p in (0.02, 0.5, 0.04)]
    expected = ((-z[0] + z[1]) / 2 - z[2]) / np.sqrt(2)
    assert found["combined_z"] == pytest.approx(expected)
    counts = ("num_cases", "num_tested", "num_series", "num_positive", "num_negative")
    assert [found[name] for name in counts] == [4, 3, 2, 1, 2]
    assert found["num_significant"] == 2
    assert (found["num_with_control"], found["passes"]) == (0, False)
    assert "has no control to differ from" in found["note"]


def separation(number, graded):
    """A training against its control, `graded` standard errors apart; None where unknown."""
    return {
        "main_series": f"t{number}",
        "control_series": f"t{number}-shuffled",
        "domain": "math",
        "monitor": "pathway_distance",
        "main_change": None if graded is None else 0.1 * graded,
        "control_change": 0.0,
        "graded": graded,
    }


@pytest.fixture(scope="module")
def following():
    """Curves of eight trainings whose distance goes against their own accuracy."""
    curves, _ = study()
    moving = curves[curves["monitor"].isin(["accuracy", "validation_loss"])]
    mains = moving[~moving["series"].str.endswith("shuffled")]
    names = mains["monitor"].replace("validation_loss", "pathway_distance")
    return mains.assign(monitor=names)


@pytest.mark.parametrize(
    ("graded", "separating", "otherwise", "message"),
    [
        ([-5.0] * 8, 8, 0, "passes"),
        ([-5.0] * 6 + [-2.0] * 2, 6, 0, "passes"),
        ([-5.0] * 5 + [-2.0] * 3, 5, 0, "often enough"),
        ([-2.9] * 8, 0, 0, "often enough"),
        ([-5.0] * 7 + [4.0], 7, 1, "one way in some cases"),
        ([5.0] * 8, 8, 0, "moves against the sign"),
        ([-5.0] * 5 + [None] * 3, 5, 0, "too few trainings"),
        ([-5.0] * 7 + [2.9], 7, 0, "passes"),
        ([-4.0] * 6 + [30.0] * 2, 6, 2, "beyond the spread of trainings"),
        ([None] * 8, 0, 0, "has no control"),
    ],
)
def test_each_condition_on_separation(following, graded, separating, otherwise, message):
    controls = {f"t{number}": [f"t{number}-shuffled"] for number in range(8)}
    pairs = [separation(number, one) for number, one in enumerate(graded)]
    monitor, recipes = REGISTRY["pathway_distance"], dict.fromkeys(controls, "base")
    rows = judge(following, controls, **SETTINGS)
    (row,) = leaderboard_rows(following, rows, pairs, controls, recipes, [monitor], 0.05)
    assert (row["num_separating"], row["num_separating_otherwise"]) == (separating, otherwise)
    assert row["passes"] == (message == "passes"), row["note"]
    assert message in row["note"]


def test_a_rise_that_a_control_shares_is_no_case():
    controls = {"t0": ["t1"], "t2": ["t3"]}
    assert risen_cases(RISEN, controls) == set()
    low = RISEN["series"].isin(["t1", "t3"])
    apart = RISEN.assign(value=RISEN["value"].where(~low, 0.85 * RISEN["value"]))
    assert risen_cases(apart, controls) == {(s, d) for s in ("t0", "t2") for d in ("math", "code")}
    near = RISEN.assign(value=RISEN["value"].where(~low, 0.95 * RISEN["value"]))
    assert risen_cases(near, controls) == set()


def test_signed_z_is_symmetric():
    assert signed_z(0.01, 1) == -signed_z(0.01, -1)
    assert signed_z(1.0, 1) == pytest.approx(0)
