import numpy as np
import pytest

from metrics.candidates import NO_ANSWER, candidate_rows, null_rows
from metrics.registry import REGISTRY

WEIGHTS = np.random.default_rng(0).dirichlet(np.ones(6), size=(30, 3))
INPUTS = np.random.default_rng(1).integers(5, size=(30, 4)).tolist()
HOW = {"max_pairs": 200, "seed": 0}


def test_every_candidate_is_registered_and_finite_or_explained():
    answers = [n % 3 for n in range(30)]
    rows = candidate_rows("math", WEIGHTS, INPUTS, answers, ridge=1.0, **HOW)
    nulls, ratios = null_rows("math", WEIGHTS, 0.7, **HOW)
    assert {row["measure"] for row in [*rows, *ratios]} <= set(REGISTRY)
    assert all(np.isfinite(row["value"]) for row in [*rows, *ratios])
    assert {row["null_kind"] for row in nulls} == {"load_preserving", "relabelled_experts"}


def test_without_answers_their_candidates_are_not_available():
    rows = candidate_rows("math", WEIGHTS, INPUTS, None, ridge=1.0, **HOW)
    missing = {row["measure"]: row["note"] for row in rows if row["value"] is None}
    assert set(missing) == {
        "likeness_answer",
        "likeness_answer_given_input",
        "kernel_alignment",
        "answer_variance_share",
    }
    assert set(missing.values()) == {NO_ANSWER}


def test_random_routing_equals_its_nulls_and_identical_samples_lie_below_chance():
    _, ratios = null_rows("math", WEIGHTS, 0.7, **HOW)
    found = {row["measure"]: row["value"] for row in ratios}
    assert found["distance_over_null"] == pytest.approx(1, abs=0.05)
    assert found["distance_over_chance"] == pytest.approx(1, abs=0.05)
    alike = np.repeat(WEIGHTS[:1], 30, axis=0)
    _, ratios = null_rows("math", alike, 0.7, **HOW)
    found = {row["measure"]: row for row in ratios}
    assert found["distance_over_chance"]["value"] == 0
    # Where all samples take one route the load explains it wholly.
    assert found["distance_over_null"]["value"] is None
    assert "divided by is 0" in found["distance_over_null"]["note"]
