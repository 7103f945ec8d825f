import numpy as np
import pytest
import torch

from models.adapters import add_adapter
from models.families.registry import family_of
from models.tuning_step import Instructions, Stepper
from studies.settings import TuningSpec

SPEC = TuningSpec(rank=3, dropout=0.0, learning_rate=1e-2, batch_size=4, epochs=2)
OLMOE = family_of("olmoe")


def instructions(samples, **changes) -> Instructions:
    return Instructions(*samples, SPEC.model_copy(update=changes))


def stepper(model, learned: Instructions) -> Stepper:
    torch.manual_seed(0)
    adapted = add_adapter(model, learned.spec)
    weights = torch.nn.ParameterList(w for w in adapted.parameters() if w.requires_grad)
    return Stepper(model.train(), OLMOE, weights, learned, "main step5")


def weights_of(taken: Stepper) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in taken.weights])


def labels_of(batch) -> torch.Tensor:
    """What transformers' own loss wants: the ids that count, -100 elsewhere."""
    labels = torch.full_like(batch.input_ids_BT, -100).flatten()
    labels[batch.counted_P] = batch.input_ids_BT.flatten()[batch.counted_P]
    return labels.view(batch.input_ids_BT.shape)


class Card:
    """Makes a model's forward pass run out of memory above a number of samples."""

    def __init__(self, model, room: int, times: int = 10**6) -> None:
        self.room, self.times, self.tried = room, times, []
        model.base_model.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module, args, kwargs) -> None:
        size = len(kwargs["input_ids"])
        self.tried.append(size)
        if size > self.room and self.times:
            self.times -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")


# ---------------------------------------------------------------- which samples, how fast


def test_every_epoch_takes_every_sample_once_in_an_order_of_its_own(samples):
    learned = instructions(samples)
    assert (learned.steps_per_epoch, learned.num_steps) == (3, 6)
    epochs = [
        np.concatenate([learned.rows(step) for step in steps]) for steps in ((1, 2, 3), (4, 5, 6))
    ]
    assert [sorted(rows) for rows in epochs] == [list(range(9))] * 2
    assert not np.array_equal(*epochs)
    assert [learned.epoch(step) for step in range(1, 7)] == [1, 1, 1, 2, 2, 2]
    assert [len(learned.rows(step)) for step in range(1, 4)] == [4, 4, 1]
    assert not np.array_equal(learned.rows(1), instructions(samples, seed=1).rows(1))


@pytest.mark.parametrize("warmup_share", [0.0, 0.03, 0.5, 0.99])
@pytest.mark.parametrize("epochs", [1, 5])
def test_the_learning_rate_rises_then_falls_and_never_stands_still(samples, warmup_share, epochs):
    learned = instructions(samples, warmup_share=warmup_share, epochs=epochs)
    rates = [learned.learning_rate(step) for step in range(1, learned.num_steps + 1)]
    top = int(warmup_share * learned.num_steps)
    assert rates[top] == max(rates) == SPEC.learning_rate
    assert all(np.diff(rates[: top + 1]) > 0)
    assert all(np.diff(rates[top:]) < 0)
    assert min(rates) > 0


# ---------------------------------------------------------------- the gradient


def test_loss_and_gradient_are_those_of_the_whole_logits_and_labels(model, samples):
    learned = instructions(samples)
    taken = stepper(model, learned)
    loss = taken._gradient(1)
    found = [weight.grad.clone() for weight in taken.weights]
    (batch,) = learned.batches(1, 4)
    model.zero_grad()
    expected = model(
        input_ids=batch.input_ids_BT,
        attention_mask=batch.mask_BT.long(),
        labels=labels_of(batch),
        use_cache=False,
    ).loss
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-6)
    assert any(gradient.abs().max() > 1e-3 for gradient in found)
    for gradient, weight in zip(found, taken.weights, strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-4, atol=1e-6)


def test_no_loss_is_taken_on_the_prompt(model):
    prompt_and_answer = [3, 4, 5, 6]

    @torch.no_grad()
    def answer_log() -> float:
        logits = model(torch.tensor([prompt_and_answer])).logits
        return logits[0, 2].log_softmax(dim=-1)[6].item()

    before = answer_log()
    learned = instructions(([prompt_and_answer], [[False, False, False, True]]))
    assert stepper(model, learned).take(1) == pytest.approx(-before, abs=1e-6)
    assert answer_log() > before


def test_steps_are_those_of_a_plain_loop(model, samples):
    learned = instructions(samples, alpha=8)
    taken = stepper(model, learned)
    begin = [weight.detach().clone() for weight in taken.weights]
    losses = [taken.take(step) for step in range(1, 7)]
    found = weights_of(taken)
    with torch.no_grad():
        for weight, first in zip(taken.weights, begin, strict=True):
            weight.copy_(first)
    optimizer = torch.optim.AdamW(taken.weights, weight_decay=0.0)
    norms = []
    for step in range(1, 7):
        (batch,) = learned.batches(step, 4)
        optimizer.zero_grad()
        loss = model(
            input_ids=batch.input_ids_BT,
            attention_mask=batch.mask_BT.long(),
            labels=labels_of(batch),
            use_cache=False,
        ).loss
        assert loss.item() == pytest.approx(losses[step - 1], abs=1e-4)
        loss.backward()
        norms.append(torch.sqrt(sum(weight.grad.square().sum() for weight in taken.weights)))
        for weight in taken.weights:
            weight.grad /= max(norms[-1], 1.0)
        optimizer.param_groups[0]["lr"] = learned.learning_rate(step)
        optimizer.step()
    torch.testing.assert_close(weights_of(taken), found, rtol=0, atol=1e-5)
    assert min(norms) < 1 < max(norms)  # so that both sides of the clipping are tried


def test_the_output_layer_can_be_the_only_target(model, samples):
    taken = stepper(model, instructions(samples, targets=("lm_head",)))
    assert taken.take(4) > 0
    assert weights_of(taken).isfinite().all()


# ---------------------------------------------------------------- memory


def test_activations_made_twice_change_no_number(model, samples):
    learned = instructions(samples, dropout=0.3)
    plain = stepper(model, learned)
    losses = [plain.take(step) for step in range(1, 4)]
    found = weights_of(plain)
    again = stepper(fresh(model), learned)
    card = Card(again.model, room=3, times=1)
    assert [again.take(step) for step in range(1, 4)] == losses
    assert card.tried[:2] == [4, 4]
    assert (again.model.is_activation_checkpointing, again.size) == (True, 4)
    assert torch.equal(weights_of(again), found)


@pytest.mark.parametrize(("room", "size"), [(3, 2), (1, 1)])
def test_a_batch_that_does_not_fit_is_halved_to_the_same_gradient(model, samples, room, size):
    learned = instructions(samples)
    whole = stepper(model, learned)
    losses = [whole._gradient(step) for step in (1, 2, 3)]
    expected = [weight.grad.clone() for weight in whole.weights]
    halved = stepper(fresh(model), learned)
    card = Card(halved.model, room)
    for step, loss in zip((1, 2, 3), losses, strict=True):
        assert halved._fitted_gradient(step) == pytest.approx(loss, abs=1e-5)
    assert halved.size == size
    assert card.tried[:3] == [4, 4, 2]  # as it is, with less kept, then halved
    assert max(card.tried[4:]) <= size  # what did not fit is not tried again
    for weight, gradient in zip(halved.weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=0, atol=1e-5)


def test_a_sample_that_alone_does_not_fit_is_named(model, samples):
    taken = stepper(model, instructions(samples))
    Card(model, room=0)
    with pytest.raises(ValueError, match=r"main step5: a sample of up to \d+ tokens alone") as e:
        taken.take(1)
    assert "lower tuning.max_length" in str(e.value)


def fresh(model):
    """The model again, without adapter and hooks."""
    twin = type(model)(model.config)
    plain = {
        name.replace("base_layer.", ""): weight
        for name, weight in model.state_dict().items()
        if "lora_" not in name
    }
    twin.load_state_dict(plain)
    return twin


# ---------------------------------------------------------------- what stops it


def test_a_loss_that_is_not_finite_stops_with_what_to_lower(model, samples):
    taken = stepper(model, instructions(samples, learning_rate=1e36, alpha=10**6, dtype="bfloat16"))
    assert taken.take(1) < 10
    with pytest.raises(ValueError, match="main step5: the loss of tuning step 2 is nan") as e:
        taken.take(2)
    assert "lower tuning.learning_rate (now 1e+36), or set tuning.dtype to float32" in str(e.value)
