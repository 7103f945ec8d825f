"""Probe sets: which samples are measured, as token ids, the same for every checkpoint."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from store.artifacts import Artifact, Tokenizer
from store.identity import Label
from studies.settings import Runtime
from studies.sources import CorpusSamples, FileSamples
from tasks.step import step

Sources = dict[str, dict[str, CorpusSamples | FileSamples]]

NAMES = (("domain", pa.string()), ("split", pa.string()))
MIN_PROBES = 2


@step("probes", version=3, run_name="probes {label}")
def collect_probes(
    out: Path,
    *,
    label: Label,
    samples: Sources,
    max_length: int,
    corpus: Artifact | None,
    shuffle_answers: bool,
    tokenizer: Tokenizer | None,
    commits: dict[str, str],
    runtime: Runtime,
) -> dict[str, Any]:
    """Tokenize the samples of every domain, by split (`probe`, `validation`).

    Writes probes.parquet: one row per sample with token ids and which of them count in the loss;
    and probe_counts.parquet: what became of each source's records (`models.samples.COUNTED`).
    Reads the corpus; or files and data sets on the hub (each at its commit, by
    `repository@revision`) with the tokenizer. Costs seconds, a data set on the hub the time that
    its samples take to come; less than 1 GiB of memory for 10,000 samples of 2048 tokens. Runs
    again when a file, a commit, the tokenizer or the choice among the samples changes.
    """
    from models.samples import COUNTED, SCHEMA, corpus_samples, load_tokenizer, read_samples

    text_tokenizer = load_tokenizer(tokenizer.path) if tokenizer is not None else None
    totals, counted = dict.fromkeys(samples, 0), []
    with pq.ParquetWriter(
        out / "probes.parquet", pa.schema([*NAMES, *SCHEMA]), compression="zstd"
    ) as writer:
        for domain, split, source in _one_by_one(samples):
            if isinstance(source, CorpusSamples):
                assert corpus is not None, "the study's check admits corpus samples to nano only"
                found, counts = corpus_samples(corpus.path, domain, split, shuffle_answers)
            else:
                found, counts = read_samples(source, text_tokenizer, max_length, commits)
            if split == "probe" and found.num_rows < MIN_PROBES:
                raise ValueError(
                    f"domain {domain!r} has {found.num_rows} probe sample, expected at least "
                    f"{MIN_PROBES}: pathways are compared between samples; give it more"
                )
            writer.write_table(_named(found, domain, split))
            counted.append({"domain": domain, "split": split, **counts})
            totals[domain] += found.num_rows
    schema = pa.schema([*NAMES, *((name, pa.int64()) for name in COUNTED)])
    pq.write_table(pa.Table.from_pylist(counted, schema), out / "probe_counts.parquet")
    by_domain = {domain: {"samples": total} for domain, total in totals.items()}
    return {"num_samples": totals, "by_domain": by_domain}


def _one_by_one(samples: Sources) -> list[tuple[str, str, CorpusSamples | FileSamples]]:
    return [
        (domain, split, samples[domain][split]) for domain in samples for split in samples[domain]
    ]


def _named(found: pa.Table, domain: str, split: str) -> pa.Table:
    for at, ((name, kind), value) in enumerate(zip(NAMES, (domain, split), strict=True)):
        found = found.add_column(at, name, pa.repeat(pa.scalar(value, kind), found.num_rows))
    return found
