import numpy as np
import pytest

from metrics.field import DomainTokens, field_tables
from metrics.registry import REGISTRY


def study(domains=("math", "code"), num_experts=6, num_layers=3):
    rng = np.random.default_rng(0)
    tokens, samples = {}, {}
    for name in domains:
        weights = rng.dirichlet(np.ones(num_experts), size=(120, num_layers))
        tokens[name] = DomainTokens(weights.astype(np.float32), rng.integers(4, size=120))
        samples[name] = rng.dirichlet(np.ones(num_experts), size=(30, num_layers))
    return tokens, samples


def by_measure(rows, domain="math", layer=None):
    return {r["measure"]: r for r in rows if r["domain"] == domain and r["layer"] == layer}


def test_every_measure_is_registered_and_no_number_is_nan():
    tables = field_tables(*study(), top_k=2, seed=0)
    assert {row["measure"] for row in tables.measures} <= set(REGISTRY)
    for row in tables.measures:
        assert row["value"] is not None or row["note"].startswith("not available")
        assert row["value"] is None or np.isfinite(row["value"])
        one = REGISTRY[row["measure"]]
        if row["value"] is not None:
            assert one.low is None or row["value"] >= one.low - 1e-9
            assert one.high is None or row["value"] <= one.high + 1e-9


def test_random_routing_lies_near_its_baseline():
    found = by_measure(field_tables(*study(), top_k=2, seed=0).measures)
    assert 0 < found["domain_specialisation"]["baseline"] < 0.2
    for measure in ("coactivation_strongest", "effective_experts", "vocabulary_specialisation"):
        assert found[measure]["value"] == pytest.approx(found[measure]["baseline"], rel=0.2)


def test_the_mean_of_layers_is_the_mean_of_layers():
    rows = field_tables(*study(), top_k=2, seed=0).measures
    layers = [by_measure(rows, layer=layer)["token_entropy"]["value"] for layer in range(3)]
    assert by_measure(rows)["token_entropy"]["value"] == pytest.approx(np.mean(layers))


@pytest.mark.parametrize(
    ("top_k", "domains", "measure", "reason"),
    [
        (6, ("math", "code"), "boundary_margin_weight_p50", "all experts are chosen"),
        (1, ("math", "code"), "coactivation_strongest", "one expert is chosen per token"),
        (2, ("math",), "domain_specialisation", "the study has one domain"),
    ],
)
def test_what_cannot_be_computed_is_null_with_a_reason(top_k, domains, measure, reason):
    row = by_measure(field_tables(*study(domains), top_k, seed=0).measures)[measure]
    assert row["value"] is None
    assert row["note"].startswith("not available, because")
    assert reason in row["note"]


def test_under_the_load_of_all_domains_hardly_anything_separates_them():
    tokens, samples = study()
    samples["code"] = np.broadcast_to(np.eye(6)[None, :3], (30, 3, 6))
    rows = by_measure(field_tables(tokens, samples, 2, seed=0).measures, domain="all")
    assert rows["signature_separation"]["value"] > 0.3
    # What is left comes from one domain being routed more sharply, which the null keeps.
    assert abs(rows["signature_separation_same_load"]["value"]) < 0.15


def test_expert_use_and_coactivation_add_up():
    tables = field_tables(*study(), top_k=3, seed=0)
    math = [r for r in tables.expert_use if r["domain"] == "math" and r["layer"] == 0]
    assert sum(r["load_share"] for r in math) == pytest.approx(1)
    # Every token chooses three experts.
    assert sum(r["token_share"] for r in math) == pytest.approx(3)
    assert all(r["token_share"] == pytest.approx(3 * r["load_share"]) for r in math)
    assert all(0 <= r["token_share"] <= 1 for r in math)
    assert sum(r["gate_share"] for r in math) == pytest.approx(1)
    first = [r["share"] for r in tables.coactivation if (r["layer"], r["expert"]) == (0, 0)]
    assert sum(first) == pytest.approx(2)


def test_with_one_expert_nothing_breaks():
    tokens, samples = study(num_experts=1)
    for row in field_tables(tokens, samples, top_k=1, seed=0).measures:
        assert row["value"] is not None or row["note"].startswith("not available")


def test_congestion_stands_beside_the_same_tokens_with_experts_renamed():
    found = by_measure(field_tables(*study(), top_k=2, seed=0).measures)
    assert found["congestion_coefficient"]["baseline_kind"] == "experts renamed for each token"
    assert found["path_entropy_1"]["baseline"] is None
