"""The nano model: its corpus, its benchmarks, its pretraining and its checkpoints."""

from pathlib import Path
from typing import Any

from store import artifacts
from store.artifacts import Artifact, Checkpoint
from store.identity import Label
from studies.base import checkpoint_name
from studies.nano_model import CorpusSpec, PretrainingSpec
from studies.settings import Runtime
from studies.spec import Series
from tasks.step import step
from tasks.workers import report

TOKENS_PER_SAMPLE = 5


@step("corpus", version=1, run_name="corpus {label}")
def make_corpus(out: Path, *, label: Label, corpus: CorpusSpec, runtime: Runtime) -> dict[str, Any]:
    """Generate the nano corpus: samples of four domains, split into train, validation, benchmark.

    Writes samples.parquet, vocabulary.json. Costs about a second. Runs again when the corpus part
    of the study changes.
    """
    from models.nano.corpus import build_corpus, save_corpus

    built = build_corpus(corpus)
    save_corpus(built, out)
    return {"num_samples": built.samples.num_rows, "num_words": len(built.vocabulary)}


@step("benchmark-items", version=1, run_name="benchmark items {label}")
def make_benchmark_items(
    out: Path, *, label: Label, corpus: Artifact, runtime: Runtime
) -> dict[str, Any]:
    """Turn the corpus' held-out samples into lm-eval tasks: YAML and data in one folder.

    Writes a folder that the `lm_eval` command line can use as it is. Costs about a second.
    """
    from evals.items import write_benchmark_items
    from models.nano.corpus import load_corpus

    write_benchmark_items(load_corpus(corpus.path).samples, out)
    return {}


@step("pretraining", version=1, run_name="pretraining {label}", resumable=True)
def pretrain(
    out: Path,
    *,
    label: Label,
    pretraining: PretrainingSpec,
    shuffle_answers: bool,
    corpus: Artifact,
    runtime: Runtime,
) -> dict[str, Any]:
    """Pretrain the nano model and keep its checkpoints in Hugging Face format.

    Writes checkpoints/step<N>-tokens<M>/ and loss_curve.parquet. Costs about two and a half
    minutes on one core with the default recipe. A killed attempt goes on from its last checkpoint.
    """
    from models.checkpoints import checkpoint_digest
    from models.nano.corpus import load_corpus
    from models.nano.training import train

    train(
        pretraining,
        load_corpus(corpus.path),
        shuffle_answers=shuffle_answers,
        out=out,
        on_progress=report,
    )
    names = [path.name for path in (out / "checkpoints").iterdir()]
    return {
        "digests": {name: checkpoint_digest(out / "checkpoints" / name) for name in sorted(names)}
    }


@step("loss-curve", version=1, run_name="loss curve {label}")
def keep_loss_curve(
    out: Path, *, label: Label, pretraining: Artifact, runtime: Runtime
) -> dict[str, Any]:
    """Keep the training loss as an artifact of its own, so that weights may be deleted later."""
    source = pretraining.path / "loss_curve.parquet"
    (out / source.name).write_bytes(source.read_bytes())
    return {}


def expected_checkpoints(series: Series) -> list[Checkpoint]:
    """Checkpoints of a nano series as they will be, without digests."""
    assert series.source.kind == "nano"
    spec = series.source.pretraining
    checkpoints = []
    for training_step in spec.checkpoint_steps:
        tokens_seen = training_step * spec.batch_size * TOKENS_PER_SAMPLE
        checkpoints.append(
            Checkpoint(
                series=series.name,
                step=training_step,
                tokens_seen=tokens_seen,
                revision=checkpoint_name(training_step, tokens_seen),
                digest=None,
                location="",
            )
        )
    return checkpoints


def nano_checkpoint(pretraining: Artifact, expected: dict[str, Any]) -> Checkpoint:
    """A checkpoint that was expected, now that the model is trained."""
    folder = pretraining.path / "checkpoints" / expected["revision"]
    return Checkpoint(
        **expected
        | {
            "digest": digest_of(pretraining, expected["revision"]),
            "location": folder.relative_to(artifacts.root()).as_posix(),
        }
    )


def digest_of(pretraining: Artifact, revision: str) -> str:
    """Digest of one checkpoint of a training."""
    digest: str = pretraining.summary["digests"][revision]
    return digest
