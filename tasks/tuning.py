"""Tuning: instructions with answers, and the adapter that one checkpoint learns from them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from store.artifacts import Artifact, Checkpoint, Tokenizer
from store.identity import Label
from studies.settings import Runtime, TuningSpec
from studies.sources import FileSamples
from tasks.step import step
from tasks.workers import report

INSTRUCTIONS = "instructions.parquet"
LOSS = "tuning_loss.parquet"

SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("token_ids", pa.list_(pa.int32())),
        ("counted", pa.list_(pa.bool_())),
    ]
)


@step("instructions", version=2, run_name="instructions {label}")
def collect_instructions(
    out: Path,
    *,
    label: Label,
    samples: FileSamples,
    max_length: int,
    tokenizer: Tokenizer,
    commits: dict[str, str],
    runtime: Runtime,
) -> dict[str, Any]:
    """Tokenize the instructions and answers of one domain, once for all checkpoints of a series.

    Writes instructions.parquet: one row per sample with its number in the source, its token ids,
    and which of them are the answer's. The summary counts what became of the source's records.
    Domains with the same data share the artifact. Costs seconds, and reads a data set from the hub
    where one is named. Runs again when the data, the tokenizer or the longest length change.
    """
    from models.samples import instruction_samples, load_tokenizer

    found, counts = instruction_samples(
        samples, load_tokenizer(tokenizer.path), max_length, commits
    )
    rows = [{name: sample[name] for name in SCHEMA.names} for sample in found]
    pq.write_table(
        pa.Table.from_pylist(rows, schema=SCHEMA), out / INSTRUCTIONS, compression="zstd"
    )
    return {"counts": dict(counts)}


@step(
    "tuning",
    version=1,
    run_name="tuning {checkpoint.series} {checkpoint.revision} {label}",
    resumable=True,
    loads_model=True,
)
def tune_checkpoint(
    out: Path,
    *,
    label: Label,
    checkpoint: Checkpoint,
    instructions: Artifact,
    tuning: TuningSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Tune one checkpoint on one domain's instructions by LoRA; keep the adapter.

    Writes adapter/ (adapter_config.json, adapter_model.safetensors, as peft reads them) and
    tuning_loss.parquet: of each optimizer step its epoch, learning rate and loss (nats per answer
    token, before the update). Known by checkpoint, instructions and settings, not by the domain.
    A killed attempt goes on from a state that is at most a minute old. Cost: see docs/tuning.md.
    """
    from models.loading import load_checkpoint
    from models.tuning import tune

    rows = pq.read_table(instructions.path / INSTRUCTIONS)
    model, family, device = load_checkpoint(checkpoint.path, runtime.device, tuning.dtype)
    result = tune(
        model,
        family,
        rows["token_ids"].to_pylist(),
        rows["counted"].to_pylist(),
        tuning,
        base=checkpoint.identity()["checkpoint"],
        name=f"{checkpoint.series} {checkpoint.revision}",
        out=out,
        on_progress=report,
    )
    num_steps = len(result.losses_S)
    curve = pa.table(
        {
            "step": pa.array(range(1, num_steps + 1), pa.int32()),
            "epoch": result.epochs_S,
            "learning_rate": result.learning_rates_S,
            "loss": result.losses_S,
        }
    )
    pq.write_table(curve, out / LOSS, compression="zstd")
    per_epoch = num_steps // tuning.epochs
    return {
        "num_samples": rows.num_rows,
        "num_steps": num_steps,
        "num_trained_parameters": result.num_trained_parameters,
        "first_epoch_loss": float(result.losses_S[:per_epoch].mean()),
        "last_epoch_loss": float(result.losses_S[-per_epoch:].mean()),
        "device": device,
    }
