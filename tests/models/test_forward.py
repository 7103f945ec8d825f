"""Batches: how they are cut, and that short memory makes them smaller and the numbers no other.

Memory is really short here: a child process is limited by the kernel, and torch's own allocator
fails.
"""

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

from models import forward
from models.batches import select_tokens
from models.extraction import extract, token_scores
from models.families.registry import family_of
from models.forward import Budget

CPU = torch.device("cpu")
MIB = 2**20
LENGTHS = [256, 250, 3, 128, 64, 200, 256, 90] * 4


def sizes(budget, lengths):
    """Samples per batch when nothing fails."""
    lengths, found = np.sort(lengths)[::-1], []
    while len(lengths):
        found.append(budget.num_rows(lengths))
        lengths = lengths[found[-1] :]
    return found


def test_long_samples_make_smaller_batches():
    assert sizes(Budget(3, 20), [3, 30, 10, 9, 3, 3]) == [1, 2, 3]


def test_auto_counts_tokens_alone():
    auto = Budget.of("auto", CPU)
    assert sizes(auto, [1] * 3000) == [3000]
    assert sizes(auto, [auto.num_tokens // 2] * 5) == [2, 2, 1]


def test_a_batch_that_did_not_fit_comes_back_in_halves():
    budget = Budget(512, 1 << 16).halved(np.array([100] * 7), CPU, MemoryError())
    assert sizes(budget, [100] * 7) == [3, 3, 1]
    assert sizes(budget, [10] * 70) == [35, 35]


def wide_model():
    """Its experts need some 20 KiB per token: 80 MiB for a batch of 4,096 tokens."""
    torch.set_num_threads(1)
    config = OlmoeConfig(
        vocab_size=300,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        pad_token_id=0,
        eos_token_id=1,
        num_experts=8,
        num_experts_per_tok=4,
        attn_implementation="sdpa",
        experts_implementation="grouped_mm",
    )
    torch.manual_seed(3)
    return OlmoeForCausalLM(config).eval()


def limit_memory(spare_mib):
    """Let this process have so much more than it has now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    used = int(status["VmData"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + spare_mib * MIB,) * 2)


def measured(batch_size, lengths, spare_mib=None):
    """Everything that is measured, and how many batches it took; with so much memory to spare."""
    model, rng = wide_model(), np.random.default_rng(0)
    ids = [rng.integers(2, 300, size=length).tolist() for length in lengths]
    samples = ids, [[True] * len(one) for one in ids]
    family, batches = family_of("olmoe"), []
    selected = select_tokens(np.array(lengths), "all", max_tokens=100, kernel_samples=5)
    if spare_mib is not None:
        limit_memory(spare_mib)
    result = extract(
        model,
        family,
        *samples,
        batch_size=batch_size,
        selection=selected,
        on_progress=lambda *report: batches.append(report),
    )
    scores = token_scores(model, family, *samples, batch_size=batch_size)
    return {**vars(result), "scores": np.concatenate(scores)}, len(batches)


def in_child(*arguments):
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as child:
        return child.submit(measured, *arguments).result()


@pytest.mark.parametrize("batch_size", ["auto", 32])
def test_short_memory_makes_batches_smaller_and_the_numbers_no_other(batch_size):
    plenty, few = measured(batch_size, LENGTHS)
    short, many = in_child(batch_size, LENGTHS, 50)
    assert many > few
    assert plenty.keys() == short.keys()
    for name, values in plenty.items():
        assert values.dtype == short[name].dtype
        np.testing.assert_allclose(short[name], values, rtol=1e-4, atol=2e-6, err_msg=name)


def test_a_sample_that_does_not_fit_alone_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"one sample of 4000 tokens alone does not fit.* of cpu"):
        in_child("auto", [4000, 20], 50)


def test_other_errors_are_not_taken_for_short_memory(samples, model):
    def fails(*arguments, **options):
        raise RuntimeError("shape mismatch")

    model.model.forward = fails
    with pytest.raises(RuntimeError, match="shape mismatch"):
        extract(model, family_of("olmoe"), *samples, batch_size=4)


def test_logits_in_chunks_are_the_same(model, samples, monkeypatch):
    family = family_of("olmoe")
    whole = extract(model, family, *samples, batch_size=9).losses_N
    monkeypatch.setitem(forward._MAX_LOGITS, "cpu", 3 * model.config.vocab_size)
    parts = extract(model, family, *samples, batch_size=9).losses_N
    np.testing.assert_allclose(parts, whole, atol=1e-9)


def test_samples_may_be_found_by_auto(model, samples):
    family = family_of("olmoe")
    asked = extract(model, family, *samples, batch_size=9)
    found = extract(model, family, *samples, batch_size="auto")
    np.testing.assert_array_equal(found.routing_weights_NLK, asked.routing_weights_NLK)
