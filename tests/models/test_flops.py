"""The formulas of cost against torch's own count of the operations that a model executes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.adapters import add_adapter
from models.families.registry import family_of
from models.flops import Texts, forward_flops, training_flops, tuning_flops
from models.nano.model import build_model
from models.shape import shape_of
from studies.nano_model import NanoModelSpec
from studies.settings import TuningSpec

NUM_TEXTS, LENGTH = 2, 64
TEXTS = Texts(NUM_TEXTS, NUM_TEXTS * LENGTH)
NUM_PAIRS = NUM_TEXTS * LENGTH**2


@pytest.fixture(params=["tiny", "nano", "dense"])
def any_model(request, model):
    """A model whose products are all seen by the counter: plain attention, experts one by one."""
    if request.param != "tiny":
        model = build_model(NanoModelSpec(dense=request.param == "dense"), 234, seed=0)
    if request.param != "dense":
        model.set_experts_implementation("eager")
    model.set_attn_implementation("eager")
    return model


def shape(model):
    return shape_of(model, family_of(model.config.model_type))


def counted(run):
    """Operations by kind: `bmm` are the products of attention, `mm` all others."""
    with FlopCounterMode(display=False) as counter:
        run()
    counts = {str(op): num for op, num in counter.get_flop_counts()["Global"].items()}
    return sum(counts.values()) - counts["aten.bmm"], counts["aten.bmm"]


def ids_of(model):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(2, model.config.vocab_size, (NUM_TEXTS, LENGTH), generator=generator)


def without_attention(flops, num_passes, shape):
    return flops - num_passes * shape.attention_width * NUM_PAIRS


def test_forward_is_what_torch_counts(any_model):
    of = shape(any_model)
    with torch.no_grad():
        products, attention = counted(lambda: any_model(ids_of(any_model)))
    assert without_attention(forward_flops(of, TEXTS), 1, of) == products
    # The counter sees both halves of a causal attention.
    assert 2 * of.attention_width * NUM_PAIRS == pytest.approx(attention, rel=0.02)


def test_training_is_what_torch_counts(any_model):
    of, ids = shape(any_model), ids_of(any_model)
    products, attention = counted(lambda: any_model(ids, labels=ids).loss.backward())
    assert without_attention(training_flops(of, TEXTS), 3, of) == pytest.approx(products, rel=0.01)
    assert 3 * 2 * of.attention_width * NUM_PAIRS == pytest.approx(attention, rel=0.02)


def test_tuning_is_what_torch_counts(any_model):
    of, ids = shape(any_model), ids_of(any_model)
    spec = TuningSpec(rank=4, dropout=0.0)
    adapted = add_adapter(any_model, spec)
    num_adapted = sum(w.numel() for w in adapted.parameters() if w.requires_grad)
    assert of.num_adapted(spec.targets, spec.rank) == num_adapted
    products, attention = counted(lambda: adapted(ids, labels=ids).loss.backward())
    ours = without_attention(tuning_flops(of, TEXTS, num_adapted), 3, of)
    # Of the first layer's queries, keys and values torch needs no gradient of the input.
    unneeded = 3 * 2 * of.hidden_size**2 * TEXTS.num_tokens
    assert ours - unneeded == pytest.approx(products, rel=0.02)
    assert 3 * 2 * of.attention_width * NUM_PAIRS == pytest.approx(attention, rel=0.02)


def test_tuning_a_model_of_sixteen_layers_is_within_two_percent():
    model = build_model(NanoModelSpec(num_layers=16), 234, seed=0)
    model.set_experts_implementation("eager")
    model.set_attn_implementation("eager")
    of, ids = shape(model), ids_of(model)
    num_adapted = of.num_adapted(("q_proj", "k_proj", "v_proj"), 4)
    adapted = add_adapter(model, TuningSpec(rank=4, dropout=0.0))
    products, _ = counted(lambda: adapted(ids, labels=ids).loss.backward())
    ours = without_attention(tuning_flops(of, TEXTS, num_adapted), 3, of)
    assert ours == pytest.approx(products, rel=0.02)


def test_texts_add_up():
    assert Texts(1, 3) + Texts(1, 4) == Texts(num_texts=2, num_tokens=7)
    assert Texts(1, 3) + Texts(1, 3) == Texts(1, 3).times(2)


def test_no_text_takes_no_operation(model):
    assert forward_flops(shape(model), Texts()) == 0
