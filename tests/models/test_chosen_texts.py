from collections import Counter

import pytest

from models.records import Malformed, Text
from models.samples import chosen_texts, in_random_order, in_window
from studies.sources import Contains, JsonlSamples

COUNTS = ("read", "filtered_out", "malformed")


def texts(num):
    return [Text(i, f"line {i}", f"text {i}", None, blank=False, clipped=False) for i in range(num)]


def numbers(found):
    return [text.number for text in found]


@pytest.mark.parametrize("num_held", [1, 7, 99, 100, 101, 1000])
def test_a_random_order_does_not_depend_on_how_much_is_held(num_held):
    whole = numbers(in_random_order(lambda: texts(100), 3, 1000))
    assert sorted(whole) == list(range(100)) != whole
    assert numbers(in_random_order(lambda: texts(100), 3, num_held)) == whole


def test_another_seed_is_another_order():
    orders = {tuple(numbers(in_random_order(lambda: texts(50), seed, 60))) for seed in range(20)}
    assert len(orders) == 20


def test_every_text_is_as_likely_to_come_first():
    first = Counter(
        next(iter(in_random_order(lambda: texts(5), seed, 5))).number for seed in range(1000)
    )
    assert all(140 < first[number] < 260 for number in range(5))  # 200 expected, 5 deviations


def test_more_is_read_only_when_it_is_asked_for():
    readings = []

    def read():
        readings.append(1)
        yield from texts(100)

    found = in_random_order(read, 0, 10)
    for _ in range(10):
        next(found)
    assert len(readings) == 1
    next(found)
    assert len(readings) == 2


@pytest.mark.parametrize("num_held", [1, 10, 100, 1000])
def test_a_window_loses_nothing_and_moves_along(num_held):
    found = numbers(in_window(texts(100), 5, num_held))
    assert sorted(found) == list(range(100))
    assert all(number < at + num_held for at, number in enumerate(found))
    assert found == numbers(in_window(texts(100), 5, num_held))
    assert (found == list(range(100))) is (num_held == 1)


def test_a_window_reads_no_further_than_it_must():
    stream = iter(texts(100))
    next(in_window(stream, 0, 10))
    assert next(stream).number == 11


# ---------------------------------------------------------------- sources


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "samples.jsonl"
    lines = [f'{{"text": "{"even" if i % 2 == 0 else "odd"} {i}"}}' for i in range(20)]
    lines[7] = "not JSON"
    path.write_text("\n".join(lines))
    return path


def choose(path, **fields):
    counts = dict.fromkeys(COUNTS, 0)
    source = JsonlSamples(path=path, unusable="drop", **fields)
    return numbers(chosen_texts(source, {}, 100, counts)), counts


def test_without_a_seed_the_order_is_the_sources(path):
    found, counts = choose(path)
    assert found == [i for i in range(20) if i != 7]
    assert counts == {"read": 20, "filtered_out": 0, "malformed": 1}


def test_a_seed_without_a_limit_takes_all_in_order(path):
    assert choose(path, seed=1)[0] == choose(path)[0]


def test_what_is_kept_and_what_is_not_is_counted_once(path):
    keep = Contains(field="text", text="EVEN")
    found, counts = choose(path, keep=keep, limit=2, seed=4)  # read more than once to the end
    assert sorted(found) == list(range(0, 20, 2)) != found
    assert counts == {"read": 20, "filtered_out": 9, "malformed": 1}


def test_a_malformed_record_is_refused_where_it_is(path):
    with pytest.raises(Malformed, match=r"samples\.jsonl, line 8: not JSON"):
        list(chosen_texts(JsonlSamples(path=path), {}, 100, dict.fromkeys(COUNTS, 0)))
