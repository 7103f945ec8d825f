import pytest

from models.nano.corpus import Corpus, build_corpus
from studies.nano_model import CorpusSpec, NanoModelSpec, PretrainingSpec


@pytest.fixture(scope="session")
def tiny_corpus() -> Corpus:
    return build_corpus(
        CorpusSpec(
            modulus=7,
            num_variables=6,
            num_operators=2,
            num_entities=12,
            num_relations=4,
            num_ions=8,
        )
    )


@pytest.fixture(scope="session")
def tiny_spec() -> PretrainingSpec:
    return PretrainingSpec(
        num_steps=12,
        batch_size=20,
        warmup_steps=3,
        checkpoint_steps=(0, 4, 8, 12),
        model=NanoModelSpec(
            hidden_size=16, num_layers=2, num_heads=2, num_experts=4, intermediate_size=8
        ),
    )
