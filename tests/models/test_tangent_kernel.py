import numpy as np
import pytest
import torch
from torch.nn import functional

from models.batches import select_tokens
from models.extraction import extract
from models.families.declared import DeclaredFamily
from models.tangent_kernel import expert_kernels, tangent_kernel

FAMILY = DeclaredFamily()


def by_gradient(gate, up, down, inputs):
    """Inner products of the gradients of every output with respect to every weight."""
    weights = [w.detach().double().requires_grad_() for w in (gate, up, down)]
    gradients = []
    for x in inputs.double():
        out = weights[2] @ (functional.silu(weights[0] @ x) * (weights[1] @ x))
        gradients.append(
            torch.stack(
                [
                    torch.cat(
                        [g.flatten() for g in torch.autograd.grad(o, weights, retain_graph=True)]
                    )
                    for o in out
                ]
            )
        )
    stacked = torch.stack(gradients)  # samples, outputs, weights
    return torch.einsum("sow,tow->st", stacked, stacked) / stacked.shape[1]


def test_the_closed_form_is_the_inner_product_of_gradients(model):
    layer = FAMILY.moe_layers(model)[1]
    weights = FAMILY.expert_weights(layer)
    inputs = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = expert_kernels(weights, inputs)
    assert len(found) == 6
    for expert in (0, 5):
        slow = by_gradient(
            weights.gate_KID[expert], weights.up_KID[expert], weights.down_KDI[expert], inputs
        )
        torch.testing.assert_close(found[expert].double(), slow, rtol=1e-4, atol=1e-5)


def test_the_routing_kernel_weighs_experts_by_both_samples(model, samples):
    selected = select_tokens(
        np.array([len(s) for s in samples[0]]), "all", max_tokens=99, kernel_samples=9
    )
    found = extract(model, FAMILY, *samples, batch_size=4, selection=selected)
    kernel = tangent_kernel(model, FAMILY, found.routing_weights_NLK, found.hidden_SLD)
    by_hand = np.zeros((9, 9))
    for number, layer in enumerate(FAMILY.moe_layers(model)):
        hidden = torch.from_numpy(found.hidden_SLD[:, number])
        with torch.no_grad():
            kernels = expert_kernels(FAMILY.expert_weights(layer), hidden)
        for expert, one in enumerate(kernels):
            gates = found.routing_weights_NLK[:, number, expert].astype(float)
            by_hand += np.outer(gates, gates) * one.numpy()
    np.testing.assert_allclose(kernel, by_hand / 3, rtol=1e-5)
    assert np.linalg.eigvalsh(kernel).min() > -1e-6 * np.linalg.eigvalsh(kernel).max()


def test_hidden_states_are_means_of_the_blocks_inputs(model, samples):
    seen = {}
    handle = model.model.layers[2].mlp.register_forward_pre_hook(
        lambda module, args: seen.update(hidden=args[0])
    )
    selected = select_tokens(
        np.array([len(s) for s in samples[0]]), "all", max_tokens=1, kernel_samples=9
    )
    found = extract(model, FAMILY, *samples, batch_size=4, selection=selected)
    with torch.no_grad():
        model(input_ids=torch.tensor([samples[0][1]]), use_cache=False)
    handle.remove()
    np.testing.assert_allclose(found.hidden_SLD[1, 2], seen["hidden"][0].mean(dim=0), atol=1e-5)


def test_kept_tokens_have_their_own_routing_and_average_to_the_samples(model, samples):
    lengths = np.array([len(s) for s in samples[0]])
    selected = select_tokens(lengths, "all", max_tokens=999, kernel_samples=2)
    found = extract(model, FAMILY, *samples, batch_size=4, selection=selected)
    assert found.token_weights_QLK.shape == (lengths.sum(), 3, 6)
    parts = np.split(found.token_weights_QLK, np.cumsum(lengths)[:-1])
    means = np.stack([part.mean(axis=0) for part in parts])
    np.testing.assert_allclose(means, found.routing_weights_NLK, atol=1e-6)
    assert len(found.hidden_SLD) == 2


@pytest.mark.parametrize("tokens", ["all", "inputs"])
def test_the_choice_is_bounded_and_always_the_same(tokens):
    lengths = np.arange(2, 60)
    one, other = (select_tokens(lengths, tokens, max_tokens=50, kernel_samples=9) for _ in range(2))
    assert sum(map(len, one.positions)) == 50
    assert one.in_kernel_N.sum() == 9
    assert all(map(np.array_equal, one.positions, other.positions))
    for length, positions in zip(lengths, one.positions, strict=True):
        assert (positions < length - (tokens == "inputs")).all()
