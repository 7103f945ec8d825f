"""Training batches of the nano model: which samples each step sees."""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from models.nano.corpus import TRAIN, Corpus
from studies.nano_model import PretrainingSpec, samples_per_domain


@dataclass(frozen=True)
class Batches:
    """Training samples as token ids, and how many of each domain a batch takes.

    Attributes
    ----------
    seed
        With the step it decides which samples a batch holds.
    prompts, answers
        By domain: int64 [samples, 4] and [samples].
    counts
        Samples of each domain in a batch, in the corpus's order of domains.
    """

    seed: int
    prompts: dict[str, np.ndarray]
    answers: dict[str, np.ndarray]
    counts: dict[str, int]

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
    """Collect what is trained on; ValueError when a domain has no samples or no room."""
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
