import pytest
import torch

from models.extraction import token_scores
from models.families.declared import DeclaredFamily


def slow(model, ids, flags):
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
    scores = []
    for place in range(1, len(ids)):
        if flags[place]:
            logs = logits[place - 1].log_softmax(-1)
            mean = (logs.exp() * logs).sum()
            deviation = ((logs.exp() * (logs - mean) ** 2).sum()).sqrt()
            scores.append(((logs[ids[place]] - mean) / deviation).item())
    return scores


@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_padded_batches_give_what_each_text_gives_alone(model, samples, batch_size):
    found = token_scores(model, DeclaredFamily(), *samples, batch_size=batch_size)
    for scores, ids, flags in zip(found, *samples, strict=True):
        assert scores.tolist() == pytest.approx(slow(model, ids, flags), abs=1e-4)


def test_a_model_that_is_certain_scores_zero(model, samples):
    with torch.no_grad():
        model.lm_head.weight.zero_()
    scores = token_scores(model, DeclaredFamily(), *samples, batch_size=9)
    assert all((one == 0).all() for one in scores)  # no spread over the vocabulary
