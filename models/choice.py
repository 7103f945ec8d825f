"""Which records of a source are taken, and in which order."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter

import numpy as np

from models.readers import read_records
from models.records import Malformed, Text, is_kept, text_of
from studies.sources import FileSamples, HubSamples

SPARE = 1.125  # of the texts chosen at random, some turn out to be duplicates


def chosen_texts(
    source: FileSamples, commits: Mapping[str, str], max_characters: int, counts: dict[str, int]
) -> Iterator[Text]:
    """Texts of a source in the order in which they are to become samples.

    With `limit` and `seed` a file is read to its end and its texts come in a random order; with a
    seed the stream of a data set is shuffled inside its window. Everything else comes as it lies
    in the source, and is read no further than it is asked for.

    Parameters
    ----------
    source, commits, max_characters
        As in :func:`models.readers.read_records`.
    counts
        Here `read`, `filtered_out` and `malformed` are counted.

    Raises
    ------
    ValueError
        As :func:`models.readers.read_records` does; and naming the place of a malformed record,
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

    They are read once for the first `num_held`, and again whenever as many more are asked for.
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
    source: FileSamples, commits: Mapping[str, str], max_characters: int, counts: dict[str, int]
) -> Iterator[Text]:
    """Texts of the records that are kept and well formed, counted anew on every reading."""
    counts.update(read=0, filtered_out=0, malformed=0)
    for record in read_records(source, commits, max_characters):
        counts["read"] += 1
        try:
            if is_kept(record, source):
                yield text_of(record, source, max_characters)
            else:
                counts["filtered_out"] += 1
        except Malformed:
            if source.unusable == "refuse":
                raise
            counts["malformed"] += 1
