"""The nano model: transformers' own OLMoE, small, with weights drawn from one seed."""

import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

from models.nano.corpus import SPECIAL_TOKENS
from studies.nano_model import NanoModelSpec

# Room for few-shot prompts and for the 256 tokens that lm-eval reserves for an answer.
MAX_POSITIONS = 512


def build_model(spec: NanoModelSpec, vocabulary_size: int, seed: int) -> OlmoeForCausalLM:
    """Build the nano model on the CPU in float32, freshly initialized.

    Equal arguments give equal weights; torch's global generator is left as it was. Experts run
    with transformers' `grouped_mm` (equal to `eager`, and faster), attention with `sdpa`.

    Examples
    --------
    >>> model = build_model(NanoModelSpec(), vocabulary_size=234, seed=0)
    >>> sum(weight.numel() for weight in model.parameters())
    491840
    """
    config = OlmoeConfig(
        vocab_size=vocabulary_size,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_hidden_layers=spec.num_layers,
        num_attention_heads=spec.num_heads,
        num_experts=spec.num_experts,
        num_experts_per_tok=spec.top_k,
        norm_topk_prob=True,
        router_aux_loss_coef=spec.balancing_coefficient,
        initializer_range=spec.initializer_range,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=False,
        pad_token_id=SPECIAL_TOKENS.index("<pad>"),
        eos_token_id=SPECIAL_TOKENS.index("<eos>"),
        bos_token_id=None,
        dtype="float32",
        attn_implementation="sdpa",
        experts_implementation="grouped_mm",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return OlmoeForCausalLM(config)
