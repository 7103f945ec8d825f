"""Pretraining of the nano model: AdamW on the answer token, checkpoints on the way.

The training is a function of its spec, corpus, number of threads and package versions: the batch of
step s is drawn from `default_rng([seed, s])`, so no random state has to survive a stop. A training
that was killed goes on from its last checkpoint and ends with the same bytes as one that was not.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from models.devices import quiet_transformers
from models.nano.corpus import TRAIN, Corpus
from models.nano.folder import SAMPLE_LENGTH, TrainingFolder
from models.nano.model import build_model, build_tokenizer
from models.training_state import deterministic, restore, time_left
from studies.nano_model import PretrainingSpec, samples_per_domain

PROGRESS_EVERY = 20
Progress = Callable[[int, int, str], None]


def train(
    spec: PretrainingSpec,
    corpus: Corpus,
    *,
    shuffle_answers: bool,
    out: Path,
    on_progress: Progress | None = None,
    threads: int = 1,
) -> None:
    """Pretrain the nano model, or go on with a pretraining that was stopped.

    Writes `out/checkpoints/step<N>-tokens<M>/` (ordinary Hugging Face folders: config, safetensors
    in float32, tokenizer) for every checkpoint step, and at the end `out/loss_curve.parquet` with
    columns step, domain (or `all`), loss (mean negative log-likelihood of the answer token over the
    batch of that step, before its update, in nats), balancing_loss and learning_rate (of the
    batch, repeated for each domain). While it runs, `out/training_state/` holds what a resumed
    training needs. A finished `out` is not changed.

    The loss is the cross-entropy of the answer token, plus `balancing_coefficient` times the
    load-balancing loss as the model computes it, plus `entropy_penalty` times the mean routing
    entropy. Dropped experts are zero from the update of `drop_step` on, before its checkpoint. Each
    batch holds a fixed number of samples of each domain, drawn with replacement.

    Parameters
    ----------
    spec
        Recipe and shape.
    corpus
        Its training rows are trained on.
    shuffle_answers
        Train on `shuffled_answer`: the control in which nothing can generalize.
    out
        Folder of this training alone; created when missing.
    on_progress
        Called with (step, num_steps, message) every few steps. What it raises stops the training.
    threads
        Threads of torch. Results differ in the last digits between numbers of threads, so a
        training that was stopped under another number (or other versions of torch or transformers)
        begins again.

    Raises
    ------
    ValueError
        When `out` holds a training of another recipe, a domain to train on has no samples, or the
        loss stops being finite.
    """
    words = build_tokenizer(corpus.vocabulary)
    batches = training_batches(spec, corpus, words, shuffle_answers)
    folder = TrainingFolder(out, spec, _recipe(spec, corpus, batches), _environment(threads))
    if folder.is_finished():
        return
    with _reproducible(threads), quiet_transformers():
        model = build_model(spec.model, len(corpus.vocabulary), spec.seed).train()
        optimizer = _optimizer(spec, model)
        curve = np.zeros((spec.num_steps, 2 + len(batches.counts)))
        state = folder.resume_point()
        if state is not None:
            restore(state, model, optimizer)
            curve[: state.step] = state.curve
        elif 0 in spec.checkpoint_steps:
            folder.write_checkpoint(0, model, words, optimizer, curve)
        first = state.step if state is not None else 0
        report = _Reporter(spec, first, on_progress)
        for step in range(first + 1, spec.num_steps + 1):
            curve[step - 1] = _train_step(spec, model, optimizer, batches, step)
            report(step, float(curve[step - 1, 1]))
            if step in spec.checkpoint_steps:
                folder.write_checkpoint(step, model, words, optimizer, curve)
    rates = [learning_rate(spec, step) for step in range(1, spec.num_steps + 1)]
    folder.finish(curve, rates, list(batches.counts))


@dataclass(frozen=True)
class Batches:
    """Training samples as token ids, and how many of each domain a batch takes."""

    seed: int
    """With the step it decides which samples a batch holds."""
    prompts: dict[str, np.ndarray]
    answers: dict[str, np.ndarray]
    """By domain: int64 [samples, 4] and [samples]."""
    counts: dict[str, int]
    """Samples of each domain in a batch, in the corpus's order of domains."""

    def draw(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts [batch, 4] and answers [batch] of one step, domain after domain."""
        rng = np.random.default_rng([self.seed, step])
        rows = {
            domain: rng.integers(len(self.answers[domain]), size=count)
            for domain, count in self.counts.items()
        }
        prompts = np.concatenate([self.prompts[domain][rows[domain]] for domain in rows])
        answers = np.concatenate([self.answers[domain][rows[domain]] for domain in rows])
        return torch.from_numpy(prompts), torch.from_numpy(answers)


def training_batches(
    spec: PretrainingSpec, corpus: Corpus, words: PreTrainedTokenizerFast, shuffle_answers: bool
) -> Batches:
    """Collect the training samples; ValueError when a domain has none, or none fit in a batch."""
    token_ids = words.get_vocab()
    rows = [row for row in corpus.samples.to_pylist() if row["split"] == TRAIN]
    answer = "shuffled_answer" if shuffle_answers else "answer"
    prompts, answers = {}, {}
    for domain in spec.domain_shares:
        chosen = [row for row in rows if row["domain"] == domain]
        if not chosen:
            raise ValueError(
                f"domain_shares names {domain!r}, of which the corpus has no training sample; it "
                f"has {', '.join(sorted({row['domain'] for row in rows}))}"
            )
        prompts[domain] = np.array(
            [[token_ids[word] for word in row["prompt"].split()] for row in chosen], dtype=np.int64
        )
        answers[domain] = np.array([token_ids[row[answer]] for row in chosen], dtype=np.int64)
    return Batches(
        spec.seed, prompts, answers, samples_per_domain(spec.domain_shares, spec.batch_size)
    )


def learning_rate(spec: PretrainingSpec, step: int) -> float:
    """Learning rate of a step (1 to num_steps): linear warm-up, constant, linear decay.

    Examples
    --------
    >>> [round(learning_rate(PretrainingSpec(), step), 9) for step in (1, 50, 1920, 2400)]
    [4e-05, 0.002, 0.002, 0.0002]
    """
    warmup = min(1.0, step / spec.warmup_steps) if spec.warmup_steps else 1.0
    decay_steps = spec.decay_share * spec.num_steps
    into_decay = max(0.0, step - (spec.num_steps - decay_steps))
    fall = into_decay / decay_steps if decay_steps else 0.0
    return spec.learning_rate * warmup * (1.0 - fall * (1.0 - spec.final_learning_rate_share))


def _train_step(
    spec: PretrainingSpec,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    step: int,
) -> list[float]:
    """One update; returns balancing loss, mean loss, and the mean loss of each domain."""
    prompts, answers = batches.draw(step)
    routed = {} if spec.model.dense else {"output_router_logits": True}
    output = model(input_ids=prompts, use_cache=False, **routed, logits_to_keep=1)
    losses = functional.cross_entropy(output.logits[:, -1], answers, reduction="none")
    loss, rate = losses.mean(), learning_rate(spec, step)
    balancing = loss.new_zeros(()) if spec.model.dense else output.aux_loss
    total = loss + spec.model.balancing_coefficient * balancing
    if spec.entropy_penalty:
        total = total + spec.entropy_penalty * mean_routing_entropy(output.router_logits)
    if not math.isfinite(total.item()):
        raise ValueError(
            f"the loss of step {step} is {total.item()}, expected a finite number: the training "
            f"diverged at a learning rate of {rate:g}; lower learning_rate (now "
            f"{spec.learning_rate:g}) or raise warmup_steps (now {spec.warmup_steps})"
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()
    if spec.dropped_experts and step >= spec.drop_step:
        drop_experts(model, spec.dropped_experts)
    by_domain = losses.detach().split(list(batches.counts.values()))
    return [balancing.item(), loss.item(), *(part.mean().item() for part in by_domain)]


def mean_routing_entropy(router_logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Entropy of the routing weights in nats, mean over layers and tokens.

    >>> round(mean_routing_entropy([torch.zeros(3, 8)]).item(), 4)
    2.0794
    """
    logs = torch.stack(list(router_logits)).log_softmax(dim=-1)
    return -(logs.exp() * logs).sum(dim=-1).mean()


@torch.no_grad()
def drop_experts(model: PreTrainedModel, num: int) -> None:
    """Set the weights of the first `num` experts of every layer to zero: their output is zero."""
    for name, weight in model.named_parameters():
        if ".experts." in name:
            weight[:num] = 0.0


def _optimizer(spec: PretrainingSpec, model: PreTrainedModel) -> torch.optim.AdamW:
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if name.endswith(".gate.weight"):
            decay = spec.router_weight_decay
        elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
            decay = spec.embedding_weight_decay
        else:  # norms are the vectors
            decay = spec.weight_decay if weight.ndim > 1 else 0.0
        groups.setdefault(decay, []).append(weight)
    return torch.optim.AdamW(
        [{"params": weights, "weight_decay": decay} for decay, weights in groups.items()],
        lr=spec.learning_rate,
        betas=spec.betas,
        fused=True,
    )


def _environment(threads: int) -> dict[str, Any]:
    """What changes the last digits of a training without being part of its recipe."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {**versions, "threads": threads}


def _recipe(spec: PretrainingSpec, corpus: Corpus, batches: Batches) -> str:
    digest = hashlib.sha256(json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode())
    digest.update(json.dumps(corpus.vocabulary).encode())
    for domain in batches.counts:
        digest.update(batches.prompts[domain].tobytes() + batches.answers[domain].tobytes())
    return digest.hexdigest()


class _Reporter:
    """Reports how far the training is, how fast, and how long it will still take."""

    def __init__(self, spec: PretrainingSpec, first: int, on_progress: Progress | None) -> None:
        self.spec, self.first, self.on_progress = spec, first, on_progress
        self.started = time.monotonic()

    def __call__(self, step: int, loss: float) -> None:
        if self.on_progress is None or (step % PROGRESS_EVERY and step != self.spec.num_steps):
            return
        done, left = step - self.first, self.spec.num_steps - step
        num_tokens = done * self.spec.batch_size * SAMPLE_LENGTH
        speed = f"{num_tokens / (time.monotonic() - self.started):,.0f} tokens/s"
        message = f"loss {loss:.3f} | {speed} | {time_left(self.started, done, left)}"
        self.on_progress(step, self.spec.num_steps, message)


@contextmanager
def _reproducible(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with deterministic():
            yield
    finally:
        torch.set_num_threads(before)
