"""Probe sets: which samples are measured, as token ids, the same for every checkpoint."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from store.artifacts import Artifact, Checkpoint
from store.identity import Label
from studies.settings import Runtime
from studies.sources import CorpusSamples, FileSamples, JsonlSamples
from tasks.step import step

MIN_PROBES = 2

SCHEMA = pa.schema(
    [
        ("domain", pa.string()),
        ("split", pa.string()),
        ("sample_id", pa.int64()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("counted", pa.list_(pa.bool_())),
    ]
)


@step("probes", version=1, run_name="probes {label}")
def collect_probes(
    out: Path,
    *,
    label: Label,
    samples: dict[str, dict[str, CorpusSamples | FileSamples]],
    max_length: int,
    corpus: Artifact | None,
    shuffle_answers: bool,
    tokenizer: Checkpoint | None,
    runtime: Runtime,
) -> dict[str, Any]:
    """Tokenize the samples of every domain, by split (`probe`, `validation`).

    Writes probes.parquet: one row per sample with token ids and which of them count in the loss.
    Reads the corpus, or JSON-lines files with the tokenizer of the first checkpoint. Costs seconds.
    """
    from models.samples import corpus_samples, jsonl_samples, load_tokenizer

    rows: list[dict[str, Any]] = []
    text_tokenizer = load_tokenizer(tokenizer.path) if tokenizer is not None else None
    for domain, splits in samples.items():
        for split, source in splits.items():
            if isinstance(source, JsonlSamples):
                found = jsonl_samples(source, text_tokenizer, max_length)
            else:
                assert corpus is not None, "the study's check admits corpus samples to nano only"
                found = corpus_samples(corpus.path, domain, split, shuffle_answers)
            rows += [{"domain": domain, "split": split, **sample} for sample in found]
            if split == "probe" and len(found) < MIN_PROBES:
                raise ValueError(
                    f"domain {domain!r} has {len(found)} probe sample, expected at least "
                    f"{MIN_PROBES}: pathways are compared between samples; give it more"
                )
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, out / "probes.parquet", compression="zstd")
    counts = {domain: sum(row["domain"] == domain for row in rows) for domain in samples}
    return {"num_samples": counts}
