"""Tiny random models of the real classes, saved once and loaded as any checkpoint is."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from models.loading import load_checkpoint

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
HEADS = {
    "kv_lora_rank": 8,
    "q_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
}
ROUTED = {
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "moe_intermediate_size": 8,
    "first_k_dense_replace": 1,
    "n_group": 3,
    "topk_group": 2,
    "routed_scaling_factor": 1.5,
}
GRANITE = {"num_local_experts": 6, "logits_scaling": 3.0, "residual_multiplier": 0.5}
TINY = {
    "cohere2_moe": {"num_experts": 6, "logit_scale": 0.5, "first_k_dense_replace": 1},
    "deepseek_v2": {
        **HEADS,
        **ROUTED,
        "topk_method": "group_limited_greedy",
        "n_group": 2,
        "topk_group": 1,
    },
    "deepseek_v3": {**HEADS, **ROUTED},
    "flex_olmo": {"num_experts": 6},
    "glm4_moe": {**ROUTED, "head_dim": 8},
    "gpt_oss": {"num_local_experts": 6, "head_dim": 8, "sliding_window": 4},
    "granitemoe": GRANITE,
    "granitemoe_swa": {**GRANITE, "sliding_window": 4},
    "granitemoehybrid": {
        **GRANITE,
        "shared_intermediate_size": 8,
        "layer_types": ["mamba", "attention", "mamba"],
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 8,
        "mamba_chunk_size": 8,
    },
    "granitemoeshared": {**GRANITE, "shared_intermediate_size": 8},
    "laguna": {"num_experts": 6, "moe_intermediate_size": 8, "head_dim": 8},
    "mixtral": {"num_local_experts": 6},
    "olmoe": {"num_experts": 6},
    "qwen2_moe": {
        "num_experts": 6,
        "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 12,
        "mlp_only_layers": [0],
    },
    "qwen3_moe": {
        "num_experts": 6,
        "moe_intermediate_size": 8,
        "mlp_only_layers": [0],
        "head_dim": 8,
    },
}


def make(model_type, **options):
    """A random model; biases and routers that a class starts at zero are random too."""
    torch.set_num_threads(1)
    config = AutoConfig.for_model(model_type, **{**SHAPE, **TINY.get(model_type, {}), **options})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForCausalLM.from_config(config).eval()
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "bias" in name or (tensor.ndim == 2 and not tensor.any()):
                tensor.data.normal_(0, 0.3)
    return model


@pytest.fixture(scope="session")
def tiny():
    """Makes a random model of a type."""
    return make


@pytest.fixture(scope="session")
def tiny_types():
    """Types that the tests of all families go through."""
    return set(TINY)


@pytest.fixture(params=sorted(TINY))
def moe_type(request):
    return request.param


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """Folder of a type's tiny model, written at the first call."""
    folders = {}

    def folder(model_type):
        if model_type not in folders:
            folders[model_type] = tmp_path_factory.mktemp(model_type)
            make(model_type).save_pretrained(folders[model_type])
        return folders[model_type]

    return folder


@pytest.fixture
def moe(moe_type, folder_of):
    """Model and family; loaded anew for each test, so that a test may tamper with it."""
    return load_checkpoint(folder_of(moe_type), "cpu", "float32")[:2]
