"""A small world for the benchmarks: two domains, a word-level tokenizer, tiny random OLMoEs."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

from evals.items import write_benchmark_items

WORDS = [f"w{i}" for i in range(40)]


def make_samples(num_per_domain: int = 24, seed: int = 0) -> pa.Table:
    rng = random.Random(seed)
    prompts = rng.sample([(a, b) for a in WORDS for b in WORDS], 2 * num_per_domain)
    rows = []
    for sample_id, (a, b) in enumerate(prompts):
        choices = rng.sample(WORDS, 4)
        held_out = sample_id % 4 != 0
        rows.append(
            {
                "sample_id": 100 + sample_id,
                "domain": "math" if sample_id < num_per_domain else "code",
                "split": "benchmark" if held_out else "train",
                "prompt": f"{a} + {b} =",
                "answer": choices[sample_id % 3],
                "choices": choices if held_out else None,
                "choice_index": sample_id % 3 if held_out else -1,
            }
        )
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="session")
def samples() -> pa.Table:
    return make_samples()


@pytest.fixture(scope="session")
def items(samples: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("benchmarks") / "items"
    write_benchmark_items(samples, out)
    return out


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = ["<pad>", "<eos>", "<unk>", "+", "=", *WORDS]
    words = WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    backend = Tokenizer(words)
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def make_model(tokenizer: PreTrainedTokenizerFast) -> Callable[..., OlmoeForCausalLM]:
    def make(seed: int, max_length: int = 32) -> OlmoeForCausalLM:
        torch.manual_seed(seed)
        config = OlmoeConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            num_experts=4,
            num_experts_per_tok=2,
            max_position_embeddings=max_length,
            initializer_range=0.5,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
        return OlmoeForCausalLM(config).eval()

    return make


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
