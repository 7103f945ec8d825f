import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from models.extraction import extract, router_weights
from models.families.registry import describe, family_of
from models.families.virtual import VirtualFamily
from models.loading import load_checkpoint

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 22,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "attn_implementation": "sdpa",
}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=8)),
}


@pytest.fixture(params=sorted(MODELS))
def dense(request):
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS[request.param]().eval()


def test_weights_are_each_blocks_share_of_activation_mass(dense, samples):
    found = extract(dense, VirtualFamily(4), *samples, batch_size=4)
    masses = {}
    handles = [
        layer.mlp.down_proj.register_forward_pre_hook(
            lambda module, args, i=i: masses.update({i: args[0][0].abs()})
        )
        for i, layer in enumerate(dense.model.layers)
    ]
    for row, ids in enumerate(samples[0]):
        with torch.no_grad():
            dense(input_ids=torch.tensor([ids]), use_cache=False)
        for i in range(2):
            blocks = [b.sum(-1) for b in masses[i].tensor_split(4, dim=-1)]
            shares = torch.stack(blocks, dim=-1)
            shares = shares / shares.sum(-1, keepdim=True)
            np.testing.assert_allclose(
                found.routing_weights_NLK[row, i], shares.mean(0).numpy(), atol=1e-5
            )
    for handle in handles:
        handle.remove()
    np.testing.assert_allclose(found.routing_weights_NLK.sum(-1), 1, atol=1e-5)
    assert found.hidden_SLD is None


def test_embeddings_are_mean_gate_rows_and_the_description_says_virtual(dense):
    family = VirtualFamily(3)
    rows = router_weights(dense, family)
    blocks = dense.model.layers[1].mlp.gate_proj.weight.tensor_split(3)
    np.testing.assert_allclose(rows[1, 2], blocks[2].mean(0).detach().numpy(), atol=1e-6)
    told = describe(dense, family)
    assert (told["virtual_experts"], told["num_experts"], told["top_k"]) == (True, 3, 1)


def test_dense_checkpoints_load_with_so_many_blocks(dense, tmp_path):
    dense.save_pretrained(tmp_path)
    _, family, _ = load_checkpoint(tmp_path, "cpu", "float32", virtual_experts=5)
    assert family.virtual
    assert family.num_blocks == 5
    assert not family_of("olmoe").virtual


def test_more_blocks_than_neurons_are_refused(dense, samples):
    with pytest.raises(ValueError, match="virtual_experts is 30, but a layer has only 22 neurons"):
        extract(dense, VirtualFamily(30), *samples, batch_size=9)
