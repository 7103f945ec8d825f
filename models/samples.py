"""Samples as token ids: from the nano corpus, or from the records of a source with a tokenizer.

    records -- filter --> texts -- choose --> tokens -- cut, compare --> samples

Every record is counted once on its way (:data:`COUNTED`). Only what is chosen is held in memory, as
Arrow tables; and of a text only :data:`CHARACTERS_PER_TOKEN` characters are read for every token of
the longest sample, so a book costs no more than its beginning.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models.records import Malformed, Text, origin, passes_filter, read_records, text_of
from models.tokenizer import Tokens, load_tokenizer, tokenize
from studies.sources import FileSamples, HubSamples

__all__ = [
    "COUNTED",
    "SCHEMA",
    "chosen_texts",
    "corpus_samples",
    "instruction_samples",
    "load_tokenizer",
    "read_samples",
]

CORPUS_SPLITS = {"probe": "train", "validation": "validation"}
CHARACTERS_PER_TOKEN = 8  # three to five in practice
TEXTS_AT_ONCE = 32
SPARE = 1.125  # of the texts chosen at random, some turn out to be duplicates

SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("counted", pa.list_(pa.bool_())),
    ]
)
COUNTED = {
    "read": "records of the source that were read: the sum of the next eight",
    "filtered_out": "without the text of `keep`",
    "malformed": "not readable, or a field missing or not text",
    "empty": "nothing but white space where tokens should count in the loss",
    "too_short": "no token that could count in the loss",
    "overlong": "longer than the longest sample, and dropped for it",
    "duplicates": "the tokens of a sample before",
    "not_chosen": "not among the samples chosen at random",
    "samples": "what is there now",
    "cut": "samples that went on for longer",
}
FATES = tuple(COUNTED)[1:-1]
Counts = dict[str, int]


def read_samples(
    source: FileSamples,
    tokenizer: Any,
    max_length: int,
    commits: Mapping[str, str] | None = None,
    *,
    ended: bool = False,
) -> tuple[pa.Table, Counts]:
    """Samples of a file, a folder or a data set, and what became of its records.

    `sample_id` is the position in the source; of a data set on the hub, in its stream. Samples
    that are chosen at random come in the order of the choice, so fewer are the first of more;
    others in the order of the source, which is read no further than it must be.

    Parameters
    ----------
    source
        Where the samples are, and which of them are taken.
    tokenizer
        From :func:`load_tokenizer`.
    max_length
        Tokens of the longest sample.
    commits
        Commit of each data set on the hub, by `repository@revision`.
    ended
        Append the end-of-text token to what is not cut; this is how a model is tuned.

    Returns
    -------
    tuple
        A table of :data:`SCHEMA` and the counts of :data:`COUNTED`.

    Raises
    ------
    ValueError
        Naming the place of a sample that is malformed, empty or too short to have a loss, unless
        the source drops those. Naming the source: it cannot be read, or holds no sample.
    """
    counts = dict.fromkeys(COUNTED, 0)
    texts = chosen_texts(source, commits or {}, CHARACTERS_PER_TOKEN * max_length, counts)

    def tokens() -> Iterator[Tokens]:
        while batch := list(islice(texts, _num_next(source, counts))):
            yield from tokenize(batch, tokenizer, max_length, ended=ended)

    longer = f"a larger {'tuning' if ended else 'routing'}.max_length (now {max_length})"
    table = _table(_usable(tokens(), source, counts, longer))
    counts["not_chosen"] = counts["read"] - sum(counts[fate] for fate in FATES)
    if not counts["samples"]:
        raise ValueError(_nothing_found(source, counts))
    return table, counts


def instruction_samples(
    source: FileSamples, tokenizer: Any, max_length: int, commits: Mapping[str, str] | None = None
) -> tuple[list[dict[str, Any]], Counts]:
    """Instructions with answers to tune a model on, and what became of the source's records.

    As :func:`read_samples`, with the end-of-text token after each answer. The samples have
    `sample_id`, `text`, `token_ids`, `counted` (the answer and its end alone) and `ended` (whether
    the end-of-text token is there).
    """
    table, counts = read_samples(source, tokenizer, max_length, commits, ended=True)
    samples = table.to_pylist()
    for sample in samples:
        sample["ended"] = sample["token_ids"][-1] == tokenizer.eos_token_id
    return samples, counts


def corpus_samples(
    corpus_folder: Path, domain: str, split: str, shuffle_answers: bool
) -> tuple[pa.Table, Counts]:
    """Samples of one domain of the nano corpus; only the answer token counts in the loss.

    `split` is `probe` (the training samples) or `validation`. With `shuffle_answers` the answers
    are those that the control series was trained on.
    """
    from models.nano.corpus import load_corpus
    from models.nano.model import build_tokenizer

    corpus = load_corpus(corpus_folder)
    tokenizer = build_tokenizer(corpus.vocabulary)
    answer = "shuffled_answer" if shuffle_answers else "answer"
    samples = []
    for row in corpus.samples.to_pylist():
        if row["domain"] == domain and row["split"] == CORPUS_SPLITS[split]:
            text = f"{row['prompt']} {row[answer]}"
            token_ids = tokenizer.encode(text, add_special_tokens=False)
            counted = [False] * (len(token_ids) - 1) + [True]
            values = (row["sample_id"], text, token_ids, counted)
            samples.append(dict(zip(SCHEMA.names, values, strict=True)))
    if not samples:
        raise ValueError(f"the nano corpus has no {split} samples in domain {domain!r}")
    counts = dict.fromkeys(COUNTED, 0) | {"read": len(samples), "samples": len(samples)}
    return pa.Table.from_pylist(samples, SCHEMA), counts


# ---------------------------------------------------------------- which texts, in which order


def chosen_texts(
    source: FileSamples, commits: Mapping[str, str], max_characters: int, counts: Counts
) -> Iterator[Text]:
    """Texts of a source in the order in which they become samples.

    With `limit` and `seed` a file is read to its end and its texts come in a random order; with a
    seed the stream of a data set is shuffled inside its window. Everything else comes in the order
    of the source, and is read no further than requested. `read`, `filtered_out` and `malformed`
    are counted in `counts`.

    Raises
    ------
    ValueError
        As :func:`models.records.read_records` does; and naming the place of a malformed record,
        unless the source drops those.
    """

    def texts() -> Iterator[Text]:
        return _texts(source, commits, max_characters, counts)

    if source.seed is None:
        return texts()
    if isinstance(source, HubSamples):
        return in_window(texts(), source.seed, source.shuffle_window)
    if source.limit is None:
        return texts()
    return in_random_order(texts, source.seed, int(SPARE * source.limit) + 1)


def in_random_order(read: Callable[[], Iterable[Text]], seed: int, num_held: int) -> Iterator[Text]:
    """Texts in a seeded random order, of which at most `num_held` are in memory at a time.

    They are read once for the first `num_held`, and again for every further `num_held`.
    """
    above = -1.0
    while True:
        rng = np.random.default_rng(seed)
        ranked = ((rng.random(), text) for text in read())
        rest = (pair for pair in ranked if pair[0] > above)
        held = heapq.nsmallest(num_held, rest, key=itemgetter(0))
        yield from (text for _, text in held)
        if len(held) < num_held:
            return
        above = held[-1][0]


def in_window(texts: Iterable[Text], seed: int, num_held: int) -> Iterator[Text]:
    """Texts of a stream, shuffled inside a window of `num_held` that moves along it."""
    rng = np.random.default_rng(seed)
    held: list[Text] = []
    for text in texts:
        if len(held) < num_held:
            held.append(text)
        else:
            at = int(rng.integers(num_held))
            held[at], text = text, held[at]
            yield text
    yield from (held[at] for at in rng.permutation(len(held)))


def _texts(
    source: FileSamples, commits: Mapping[str, str], max_characters: int, counts: Counts
) -> Iterator[Text]:
    """Texts of the records that pass and are well formed, counted anew on every reading."""
    counts.update(read=0, filtered_out=0, malformed=0)
    for record in read_records(source, commits, max_characters):
        counts["read"] += 1
        try:
            if passes_filter(record, source):
                yield text_of(record, source, max_characters)
            else:
                counts["filtered_out"] += 1
        except Malformed:
            if source.unusable == "refuse":
                raise
            counts["malformed"] += 1


# ---------------------------------------------------------------- from texts to samples


def _num_next(source: FileSamples, counts: Counts) -> int:
    """How many texts to tokenize next: never more than there can still be samples."""
    left = TEXTS_AT_ONCE if source.limit is None else source.limit - counts["samples"]
    return min(left, TEXTS_AT_ONCE)


def _usable(
    found: Iterable[Tokens], source: FileSamples, counts: Counts, longer: str
) -> Iterator[Tokens]:
    """Tokens that become samples; what becomes of the others is counted, or refused."""
    digests: set[bytes] = set()
    for tokens in found:
        fate = _fate(tokens, source, digests)
        if fate in ("empty", "too_short") and source.unusable == "refuse":
            raise ValueError(
                f"{tokens.text.place}: {len(tokens.token_ids)} tokens, of which none can count in "
                f"the loss; give longer samples or {longer}"
            )
        counts[fate] += 1
        if fate == "samples":
            counts["cut"] += tokens.overlong
            yield tokens


def _fate(tokens: Tokens, source: FileSamples, digests: set[bytes]) -> str:
    if tokens.text.blank:
        return "empty"
    if tokens.overlong and source.overlong == "drop":
        return "overlong"
    if not any(tokens.counted):
        return "too_short"
    if source.duplicates == "drop":
        digest = hashlib.sha256(np.asarray(tokens.token_ids, np.int32).tobytes()).digest()
        if digest in digests:
            return "duplicates"
        digests.add(digest)
    return "samples"


def _table(found: Iterator[Tokens]) -> pa.Table:
    batches = []
    while some := list(islice(found, TEXTS_AT_ONCE)):
        columns = [
            [tokens.text.number for tokens in some],
            [tokens.text.text for tokens in some],
            [tokens.token_ids for tokens in some],
            [tokens.counted for tokens in some],
        ]
        arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
        batches.append(pa.record_batch(arrays, schema=SCHEMA))
    return pa.Table.from_batches(batches, SCHEMA)


def _nothing_found(source: FileSamples, counts: Counts) -> str:
    name, expected = origin(source)
    if not counts["read"]:
        return f"{name}: no samples; expected {expected}"
    fates = [f"{counts[fate]} {fate.replace('_', ' ')}" for fate in FATES if counts[fate]]
    return f"{name}: none of its {counts['read']} records is a sample ({', '.join(fates)})"
