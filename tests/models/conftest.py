import numpy as np
import pytest
import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

VOCABULARY_SIZE = 50


@pytest.fixture
def model() -> OlmoeForCausalLM:
    """A tiny random OLMoE; made anew for each test, so that a test may tamper with it."""
    torch.set_num_threads(1)
    config = OlmoeConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_experts=6,
        num_experts_per_tok=2,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
        attn_implementation="sdpa",
        experts_implementation="grouped_mm",
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return OlmoeForCausalLM(config).eval()


@pytest.fixture(scope="session")
def samples() -> tuple[list[list[int]], list[list[bool]]]:
    """Nine samples of 2 to 12 tokens, and which of their tokens count in the loss."""
    rng = np.random.default_rng(0)
    lengths = [5, 12, 2, 7, 7, 3, 12, 9, 4]
    token_ids = [rng.integers(2, VOCABULARY_SIZE, size=length).tolist() for length in lengths]
    counted = [[bool(flag) for flag in rng.random(length) < 0.6] for length in lengths]
    for flags in counted:
        flags[-1] = True
    return token_ids, counted
