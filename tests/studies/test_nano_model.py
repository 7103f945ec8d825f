import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.nano.corpus import DOMAINS, build_corpus
from studies.nano_model import (
    CORPUS_DOMAINS,
    CorpusSpec,
    NanoModelSpec,
    PretrainingSpec,
    samples_per_domain,
)

shares = st.sampled_from([0.02, 0.1, 0.3, 0.5, 0.9, 0.98, 1.0])


def test_the_domains_are_the_corpus_generators():
    assert CORPUS_DOMAINS == DOMAINS
    assert tuple(PretrainingSpec().domain_shares) == CORPUS_DOMAINS


@settings(max_examples=60)
@given(
    modulus=st.integers(4, 9),
    num_ions=st.integers(3, 6),
    num_variables=st.integers(2, 5),
    num_entities=st.integers(4, 8),
    **{f"{domain}_train_share": shares for domain in CORPUS_DOMAINS},
    validation_share=shares,
)
def test_a_spec_is_refused_exactly_where_the_corpus_would_fail(**fields):
    unchecked = CorpusSpec().model_copy(update=fields)
    try:
        corpus = build_corpus(unchecked)
    except ValueError as error:
        problem = str(error)
        assume("different answers" not in problem)  # a random table with few: not foreseeable
        with pytest.raises(ValidationError, match=re.escape(problem)):
            CorpusSpec(**fields)
    else:
        assert build_corpus(CorpusSpec(**fields)).samples.equals(corpus.samples)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"modulus": 3}, "modulus"),
        ({"max_valence": 2}, "max_valence"),
        ({"num_ions": 2}, "num_ions"),
        ({"math_train_share": 1.0}, "'math' has no validation sample among its 961"),
        ({"validation_share": 1.0}, "'math' has no benchmark sample among its 961"),
        ({"code_train_share": 1e-9}, "'code' has no train sample among its 1600"),
        ({"num_entity_classes": 3, "num_relations": 1}, "'commonsense' has 3 facts"),
        ({"num_entities": 3, "num_relations": 1}, "'commonsense' has 3 facts"),
        ({"seed": 2**32}, "less than 4294967296"),
    ],
)
def test_a_corpus_that_could_not_be_made(fields, problem):
    with pytest.raises(ValidationError, match=problem):
        CorpusSpec(**fields)


def test_the_smallest_chemistry_has_enough_answers():
    smallest = CorpusSpec(num_ions=3, max_valence=3, chemistry_train_share=0.3)
    rows = build_corpus(smallest).samples.to_pylist()
    assert {row["answer"] for row in rows if row["domain"] == "chemistry"} == {
        "1:1", "1:2", "1:3", "2:1", "2:3", "3:1", "3:2"
    }  # fmt: skip


def test_more_classes_than_things_are_allowed():
    spec = CorpusSpec(num_entities=5, num_entity_classes=50, num_variable_types=50)
    assert build_corpus(spec).samples.num_rows > 0


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"hidden_size": 12, "num_heads": 4}, "num_heads is 3; rotary position"),
        ({"hidden_size": 10, "num_heads": 4}, "not a multiple"),
        ({"num_layers": 1}, "num_layers"),
        ({"top_k": 9}, "there are 8 experts"),
    ],
)
def test_a_model_that_could_not_be_built(fields, problem):
    with pytest.raises(ValidationError, match=problem):
        NanoModelSpec(**fields)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"betas": (0.9, 1.0)}, "betas.1"),
        ({"betas": (-0.1, 0.9)}, "betas.0"),
        ({"learning_rate": float("inf")}, "learning_rate\\n  Input should be a finite number"),
        ({"seed": 2**32}, "less than 4294967296"),
        ({"checkpoint_steps": (0,)}, "at least 2 items"),
        ({"checkpoint_steps": (0, 2401)}, "2401 lies beyond num_steps 2400"),
        ({"domain_shares": {"math": 0.5, "poetry": 0.5}}, "'poetry' is not in the nano corpus"),
        ({"domain_shares": {"math": 0.5, "code": 0.4}}, "shares sum to 0.9"),
        ({"domain_shares": {"math": 1.5, "code": -0.5}}, "a share above 0"),
        (
            {"domain_shares": {"math": 0.9, "code": 0.1}, "batch_size": 4},
            "a batch of 4 has no room for a sample of code",
        ),
    ],
)
def test_a_training_that_could_not_run(fields, problem):
    with pytest.raises(ValidationError, match=problem):
        PretrainingSpec(**fields)


def test_bounds_themselves_are_allowed():
    spec = PretrainingSpec(
        betas=(0.0, 0.999), seed=2**32 - 1, checkpoint_steps=(0, 2400), domain_shares={"math": 1.0}
    )
    assert spec.betas == (0.0, 0.999)


def test_the_largest_remainders_get_what_rounding_leaves():
    shares = {"chemistry": 0.2, "commonsense": 0.2, "code": 0.2, "math": 0.4}
    assert samples_per_domain(shares, 7) == {
        "math": 3, "code": 2, "commonsense": 1, "chemistry": 1
    }  # fmt: skip
    # 0.8 of a sample is rounded up: there is room for all.
    assert set(samples_per_domain(shares, 4).values()) == {1}
    assert list(samples_per_domain(shares, 4)) == list(CORPUS_DOMAINS)


@given(st.lists(st.integers(1, 50), min_size=4, max_size=4), st.integers(4, 400))
def test_a_batch_is_full_and_in_proportion(weights, batch_size):
    shares = {d: w / sum(weights) for d, w in zip(CORPUS_DOMAINS, weights, strict=True)}
    if min(shares.values()) * batch_size < 0.25:  # too little to be rounded up among four
        with pytest.raises(ValueError, match=f"a batch of {batch_size} has no room"):
            samples_per_domain(shares, batch_size)
        return
    assume(min(shares.values()) * batch_size >= 1)
    counts = samples_per_domain(shares, batch_size)
    assert sum(counts.values()) == batch_size
    assert all(abs(counts[d] - shares[d] * batch_size) < 1 for d in shares)
