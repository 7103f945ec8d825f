import numpy as np
import torch

from models.frozen_router import _tangent, train_frozen_routers
from studies.frozen_router import FrozenRouterSpec

SPEC = FrozenRouterSpec(
    num_routers=4, num_experts=3, num_dimensions=8, num_samples=20, expert_width=4, num_steps=60
)


def test_training_lowers_the_loss_and_the_router_stays():
    scales = np.full(4, 2.0)
    found = train_frozen_routers(SPEC, scales)
    brief = train_frozen_routers(SPEC.model_copy(update={"num_steps": 1}), scales)
    assert (found.training_loss_R < brief.training_loss_R).all()
    np.testing.assert_array_equal(found.routing_weights_RSK, brief.routing_weights_RSK)
    np.testing.assert_allclose(found.routing_weights_RSK.sum(-1), 1, rtol=1e-5)
    assert found.routing_weights_RSK.shape == (4, 10, 3)


def test_a_router_trains_alone_as_among_others():
    together = train_frozen_routers(SPEC, np.full(4, 2.0))
    alone = train_frozen_routers(SPEC, np.full(1, 2.0))
    np.testing.assert_allclose(alone.validation_loss_R[0], together.validation_loss_R[0], rtol=1e-3)


def test_a_router_without_scale_is_uniform():
    found = train_frozen_routers(SPEC, np.zeros(1))
    np.testing.assert_allclose(found.routing_weights_RSK, 1 / 3, rtol=1e-5)


def test_the_tangent_kernel_is_the_inner_product_of_gradients():
    rng = torch.Generator().manual_seed(0)
    inputs, gates = torch.randn(5, 6, generator=rng), torch.rand(1, 5, 2, generator=rng)
    hidden, out = torch.randn(2, 4, 6, generator=rng), torch.randn(2, 4, generator=rng)
    weights = [hidden.clone().requires_grad_(), out.clone().requires_grad_()]
    rows = []
    for x, gate in zip(inputs, gates[0], strict=True):
        experts = ((weights[0] @ x).relu() * weights[1]).sum(-1) / 2
        gradients = torch.autograd.grad((gate * experts).sum(), weights)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    slow = torch.stack(rows) @ torch.stack(rows).T
    found = _tangent(inputs, gates, hidden, out)[0].float()
    torch.testing.assert_close(found, slow, rtol=1e-4, atol=1e-5)
