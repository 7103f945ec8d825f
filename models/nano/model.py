"""The nano model, transformers' own OLMoE with weights drawn from one seed, and its tokenizer."""

from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    OlmoeConfig,
    OlmoeForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from models.nano.corpus import SPECIAL_TOKENS
from studies.nano_model import NanoModelSpec

# Enough for few-shot prompts and for the 256 tokens that lm-eval reserves for an answer.
MAX_POSITIONS = 512


def build_model(spec: NanoModelSpec, vocabulary_size: int, seed: int) -> PreTrainedModel:
    """Build the nano model, or its dense twin, on the CPU in float32, freshly initialized.

    Equal arguments give equal weights; torch's global generator is not changed. Experts run
    with transformers' `grouped_mm` (equal to `eager`, and faster), attention with `sdpa`. The twin
    is a Qwen3: of the dense families the one that, like OLMoE, normalizes before each block and
    normalizes queries and keys.

    Examples
    --------
    >>> model = build_model(NanoModelSpec(), vocabulary_size=234, seed=0)
    >>> sum(weight.numel() for weight in model.parameters())
    491840
    """
    shared = {
        "vocab_size": vocabulary_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "initializer_range": spec.initializer_range,
        "max_position_embeddings": MAX_POSITIONS,
        "tie_word_embeddings": False,
        "pad_token_id": SPECIAL_TOKENS.index("<pad>"),
        "eos_token_id": SPECIAL_TOKENS.index("<eos>"),
        "bos_token_id": None,
        "dtype": "float32",
        "attn_implementation": "sdpa",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _dense(spec, shared) if spec.dense else _mixture(spec, shared)


def _mixture(spec: NanoModelSpec, shared: dict[str, Any]) -> OlmoeForCausalLM:
    config = OlmoeConfig(
        **shared,
        intermediate_size=spec.intermediate_size,
        num_experts=spec.num_experts,
        num_experts_per_tok=spec.top_k,
        norm_topk_prob=True,
        router_aux_loss_coef=spec.balancing_coefficient,
        experts_implementation="grouped_mm",
    )
    return OlmoeForCausalLM(config)


def _dense(spec: NanoModelSpec, shared: dict[str, Any]) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        **shared,
        intermediate_size=spec.top_k * spec.intermediate_size,
        num_key_value_heads=spec.num_heads,
        head_dim=spec.hidden_size // spec.num_heads,
    )
    return Qwen3ForCausalLM(config)


def build_tokenizer(vocabulary: Sequence[str]) -> PreTrainedTokenizerFast:
    """Word-level tokenizer over a corpus vocabulary.

    Text is split at white space; a word outside the vocabulary becomes `<unk>`. No token is added
    in front or behind, so a prompt of four words is four tokens.

    Raises
    ------
    ValueError
        When the vocabulary does not begin with the special tokens, or names a word twice.

    Examples
    --------
    >>> build_tokenizer(["<pad>", "<eos>", "<unk>", "1", "+"]).encode("1 + 2")
    [3, 4, 2]
    """
    if tuple(vocabulary[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise ValueError(
            f"the vocabulary begins with {list(vocabulary[: len(SPECIAL_TOKENS)])}, expected "
            f"{list(SPECIAL_TOKENS)}"
        )
    if len(set(vocabulary)) != len(vocabulary):
        doubled = sorted({word for word in vocabulary if list(vocabulary).count(word) > 1})
        raise ValueError(f"the vocabulary names {', '.join(doubled)} more than once")
    pad, eos, unk = SPECIAL_TOKENS
    words = Tokenizer(
        WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token=unk)
    )
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=pad, eos_token=eos, unk_token=unk
    )
