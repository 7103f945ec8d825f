"""How many tokens a study's samples have: counted where they were collected, else estimated."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.flops import Texts
from store.artifacts import Artifact
from studies.nano_model import CorpusSpec
from studies.sources import CorpusSamples, FileSamples, HubSamples, ParquetSamples, TextSamples
from tasks.costs.amounts import Known
from tasks.plan import Planned

BYTES_PER_TOKEN = 4
"""Of text that was not tokenized yet; English is near it, code and mathematics somewhat below."""

TOKENS_PER_SAMPLE = 5
"""Of the nano corpus: four words of a prompt, one of an answer."""

_LOOK_BYTES = 1 << 20
_LOOK_CHARACTERS = 10_000


@dataclass(frozen=True)
class Reading:
    """Texts that a step would read, and how well they are known."""

    texts: Texts
    known: Known = Known.exactly


Split = tuple[str, str]
"""Domain, and `probe` or `validation`."""


def probe_texts(probes: Artifact | Planned) -> dict[Split, Reading | None]:
    """Samples of a probe set by domain and split; None for what cannot be estimated."""
    if isinstance(probes, Artifact):
        return dict(_collected_probes(probes.path / "probes.parquet"))
    given = probes.inputs
    return {
        (domain, split): (
            _corpus_texts(given["corpus"], domain, split)
            if isinstance(source, CorpusSamples)
            else source_texts(source, given["max_length"])
        )
        for domain, splits in given["samples"].items()
        for split, source in splits.items()
    }


def unreadable(source: Any) -> str | None:
    """Why no sample can be read of a source on this machine; None when the first one can."""
    if isinstance(source, CorpusSamples | HubSamples) or source.unusable != "refuse":
        return None
    from models.choice import chosen_texts

    try:
        next(chosen_texts(source.model_copy(update={"seed": None}), {}, _LOOK_CHARACTERS, {}), None)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def instruction_texts(instructions: Artifact | Planned) -> Reading | None:
    """Samples that a checkpoint would be tuned on, once."""
    if isinstance(instructions, Artifact):
        return Reading(_table_texts(instructions.path / "instructions.parquet"))
    return source_texts(instructions.inputs["samples"], instructions.inputs["max_length"])


def source_texts(source: FileSamples, max_length: int) -> Reading | None:
    """Samples of a source that was not read yet.

    With a limit: so many of the greatest length, at most. Without one: about as many as files of
    that size hold; of a data set on a hub nothing is known then.
    """
    if source.limit is not None:
        return Reading(Texts.alike(source.limit, max_length), Known.at_most)
    if isinstance(source, HubSamples):
        return None
    files = _files(source)
    num_bytes = sum(file.stat().st_size for file in files)
    if isinstance(source, ParquetSamples):
        footers = [pq.read_metadata(file) for file in files]
        num_records = sum(footer.num_rows for footer in footers)
        num_bytes = sum(
            footer.row_group(at).total_byte_size
            for footer in footers
            for at in range(footer.num_row_groups)
        )
    elif isinstance(source, TextSamples) and source.per == "file":
        num_records = len(files)
    else:
        paragraphs = isinstance(source, TextSamples) and source.per == "paragraph"
        num_records = sum(_num_parts(file, b"\n\n" if paragraphs else b"\n") for file in files)
    length = num_bytes // BYTES_PER_TOKEN // max(1, num_records)
    return Reading(Texts.alike(num_records, max(1, min(length, max_length))), Known.about)


def _files(source: FileSamples) -> list[Path]:
    assert not isinstance(source, HubSamples)
    if source.path.is_dir():
        pattern = "*.parquet" if isinstance(source, ParquetSamples) else "*.txt"
        return sorted(source.path.rglob(pattern))
    return [source.path]


def _num_parts(file: Path, end: bytes) -> int:
    """About how many parts a file has, judged by its beginning."""
    with file.open("rb") as opened:
        beginning = opened.read(_LOOK_BYTES)
    num_parts = beginning.strip().count(end) + 1 if beginning.strip() else 0
    return round(num_parts * file.stat().st_size / max(1, len(beginning)))


# ---------------------------------------------------------------- what was collected


@lru_cache
def _collected_probes(path: Path) -> tuple[tuple[Split, Reading], ...]:
    table = pq.read_table(path, columns=["domain", "split", "token_ids", "counted"])
    pairs = sorted(
        set(zip(*(table[name].to_pylist() for name in ("domain", "split")), strict=True))
    )
    found = []
    for domain, split in pairs:
        chosen = pc.and_(pc.equal(table["domain"], domain), pc.equal(table["split"], split))
        found.append(((domain, split), Reading(_texts(table.filter(chosen)))))
    return tuple(found)


@lru_cache
def _table_texts(path: Path) -> Texts:
    return _texts(pq.read_table(path, columns=["token_ids", "counted"]))


def _texts(table: Any) -> Texts:
    lengths = pc.cast(pc.list_value_length(table["token_ids"]), "int64")
    return Texts(
        num_texts=table.num_rows,
        num_tokens=pc.sum(lengths).as_py() or 0,
        num_pairs=pc.sum(pc.multiply(lengths, lengths)).as_py() or 0,
        num_counted=pc.sum(pc.list_flatten(table["counted"])).as_py() or 0,
    )


# ---------------------------------------------------------------- the nano corpus


@dataclass(frozen=True)
class CorpusSize:
    """Samples of a corpus by domain and split (train, validation, benchmark), and its words."""

    num_samples: Counter[Split]
    num_words: int


def corpus_size(corpus: Artifact | Planned) -> CorpusSize:
    """Size of a nano corpus; generated, a quarter of a second, when it is not there."""
    if isinstance(corpus, Artifact):
        return _kept_corpus(corpus.path, corpus.summary["num_words"])
    return _generated_corpus(corpus.inputs["corpus"])


@lru_cache
def _kept_corpus(folder: Path, num_words: int) -> CorpusSize:
    return _size(pq.read_table(folder / "samples.parquet", columns=["domain", "split"]), num_words)


@lru_cache
def _generated_corpus(spec: CorpusSpec) -> CorpusSize:
    from models.nano.corpus import build_corpus

    built = build_corpus(spec)
    return _size(built.samples, len(built.vocabulary))


def _size(samples: Any, num_words: int) -> CorpusSize:
    pairs = zip(samples["domain"].to_pylist(), samples["split"].to_pylist(), strict=True)
    return CorpusSize(Counter(pairs), num_words)


def _corpus_texts(corpus: Artifact | Planned, domain: str, split: str) -> Reading:
    from models.samples import CORPUS_SPLITS

    num = corpus_size(corpus).num_samples[domain, CORPUS_SPLITS[split]]
    return Reading(corpus_texts(num))


def corpus_texts(num_samples: int) -> Texts:
    """So many samples of the nano corpus, of which the answer alone counts."""
    num_tokens = num_samples * TOKENS_PER_SAMPLE
    return Texts(num_samples, num_tokens, num_tokens * TOKENS_PER_SAMPLE, num_samples)
