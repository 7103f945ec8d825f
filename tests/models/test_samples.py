import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from models.nano.corpus import SPECIAL_TOKENS
from models.nano.model import build_tokenizer
from models.samples import COUNTED, FATES, instruction_samples, load_tokenizer, read_samples
from studies.sources import JsonlSamples, ParquetSamples, TextSamples
from studies.spec import Domain

WORDS = [*SPECIAL_TOKENS, "one", "two", "three", "naïve", "数学", "🙂"]
TOKENIZER = build_tokenizer(WORDS)


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


def read(path, content, max_length=8, **fields):
    """Write a file of these bytes, lines or objects, and read its samples."""
    return read_and_count(path, content, max_length, **fields)[0]


def read_and_count(path, content, max_length=8, **fields):
    """The same with the counts that are not zero."""
    if not isinstance(content, bytes):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in content]
        content = "\n".join(lines).encode()
    path.write_bytes(content)
    source = JsonlSamples(path=path, **fields)
    table, counts = read_samples(source, TOKENIZER, max_length)
    assert counts["read"] == sum(counts[fate] for fate in FATES)
    assert counts["samples"] == table.num_rows
    return table.to_pylist(), {name: count for name, count in counts.items() if count}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "samples.jsonl"


# ---------------------------------------------------------------- samples


def test_every_token_but_the_first_counts(path):
    assert read(path, [{"text": "one two three"}]) == [
        {
            "sample_id": 0,
            "text": "one two three",
            "token_ids": ids("one two three"),
            "counted": [False, True, True],
        }
    ]


def test_with_an_answer_field_only_the_answer_counts(path):
    rows = [{"question": "one two", "answer": "three one"}]
    (sample,) = read(path, rows, text_field="question", answer_field="answer")
    assert sample["text"] == "one two three one"
    assert sample["token_ids"] == ids("one two three one")
    assert sample["counted"] == [False, False, True, True]


def test_a_long_sample_is_cut(path):
    rows = [{"text": "one two", "answer": "three one two"}]
    (sample,) = read(path, rows, max_length=3, answer_field="answer")
    assert sample["token_ids"] == ids("one two three")
    assert sample["counted"] == [False, False, True]
    assert sample["text"] == "one two three one two"


def test_empty_lines_are_passed_over_and_ids_are_line_numbers(path):
    samples = read(path, ["", {"text": "one two"}, "  ", {"text": "two three"}, ""])
    assert [(s["sample_id"], s["text"]) for s in samples] == [(1, "one two"), (3, "two three")]


def test_the_limit_counts_samples_and_what_follows_is_not_read(path):
    rows = [{"text": "one two"}, "", {"text": "two three"}, "not JSON"]
    assert [s["text"] for s in read(path, rows, limit=2)] == ["one two", "two three"]
    with pytest.raises(ValueError, match="line 4: not JSON"):
        read(path, rows, limit=3)


def test_text_of_any_script_comes_through(path):
    escaped = json.dumps({"text": "naïve 数学 🙂"})
    plain = json.dumps({"text": "naïve 数学 🙂"}, ensure_ascii=False)
    assert escaped != plain
    for sample in read(path, [escaped, plain]):
        assert sample["text"] == "naïve 数学 🙂"
        assert sample["token_ids"] == ids("naïve 数学 🙂")


def test_a_byte_order_mark_and_windows_line_ends_are_read(path):
    (first, second) = read(path, b'\xef\xbb\xbf{"text": "one two"}\r\n{"text": "two one"}\r\n')
    assert (first["token_ids"], second["token_ids"]) == (ids("one two"), ids("two one"))


# ---------------------------------------------------------------- files that are refused


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not JSON"),
        ({"body": "one two"}, "line 2: expected a text field 'text', found body"),
        ({}, "line 2: expected a text field 'text', found nothing"),
        ({"text": 3}, "line 2: expected a text field 'text', found text"),
        (["text"], "line 2: expected a text field 'text', found list"),
        ({"text": "one"}, "line 2: 1 tokens, of which none can count"),
        ({"text": ""}, "line 2: 0 tokens, of which none can count"),
    ],
)
def test_a_line_that_is_no_sample_is_named(path, row, message):
    with pytest.raises(ValueError, match=rf"samples\.jsonl, {message}"):
        read(path, [{"text": "one two"}, row])


def test_an_answer_that_is_missing_or_cut_off_is_named(path):
    with pytest.raises(ValueError, match="line 1: expected a text field 'answer', found text"):
        read(path, [{"text": "one two"}], answer_field="answer")
    rows = [{"text": "one two three", "answer": "one"}]
    with pytest.raises(ValueError, match=r"3 tokens.* larger routing\.max_length \(now 3\)"):
        read(path, rows, max_length=3, answer_field="answer")
    assert len(read(path, rows, max_length=4, answer_field="answer")) == 1


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_a_file_without_samples_is_refused(path, content):
    with pytest.raises(ValueError, match=r"samples\.jsonl: no samples; expected one JSON object"):
        read(path, content)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused(path, encoding):
    content = '{"text": "naïve one"}\n'.encode(encoding)
    with pytest.raises(
        ValueError, match=r"samples\.jsonl: not UTF-8 text .*save the file as UTF-8"
    ):
        read(path, content)


def test_half_a_character_is_refused(path):
    with pytest.raises(ValueError, match=r"line 1: the field 'text' holds half a character"):
        read(path, ['{"text": "one \\ud83d two"}'])


# ---------------------------------------------------------------- what becomes of the records

MIXED = [
    {"text": "one two three"},
    {"text": "one  two three"},  # the same words, so the same tokens
    {"text": " "},
    {"text": "one"},
    {"text": "two three one two"},
    {"text": "two three one three"},  # the same once it is cut
    {"text": None},
    "{",
    "3",
    {"text": "one two 数学"},
    {"text": "three two"},
]
KEEP = {"field": "text", "text": "TWO"}


def test_every_record_is_counted_once(path):
    samples, counts = read_and_count(path, MIXED, 3, unusable="drop")
    assert [sample["sample_id"] for sample in samples] == [0, 4, 9, 10]
    assert counts == {
        "read": 11,
        "malformed": 3,
        "empty": 1,
        "too_short": 1,
        "duplicates": 2,
        "samples": 4,
        "cut": 1,
    }


def test_the_guide_says_what_is_counted_and_its_example_is_a_study_s():
    guide = (Path(__file__).parents[2] / "docs" / "samples.md").read_text()
    rows = [line for line in guide.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {meaning} |" for name, meaning in COUNTED.items()]
    example = yaml.safe_load(guide.split("```yaml")[1].split("```")[0])
    kinds = [Domain.model_validate(domain).probes.kind for domain in example["domains"]]
    assert kinds == ["hub", "text"]


def test_long_samples_can_be_dropped_and_duplicates_kept(path):
    samples, counts = read_and_count(
        path, MIXED, 3, unusable="drop", overlong="drop", duplicates="keep"
    )
    assert [sample["sample_id"] for sample in samples] == [0, 1, 9, 10]
    assert (counts["overlong"], "duplicates" in counts, "cut" in counts) == (2, False, False)


def test_what_is_filtered_out_need_not_be_well_formed(path):
    rows = [{"text": "one two"}, {"text": "one"}, {"text": "three"}, {"text": "two three"}]
    samples, counts = read_and_count(path, rows, keep=KEEP)
    assert [sample["sample_id"] for sample in samples] == [0, 3]
    assert counts == {"read": 4, "filtered_out": 2, "samples": 2}


def test_the_first_samples_are_those_of_the_whole(path):
    whole, _ = read_and_count(path, MIXED, 3, unusable="drop")
    for limit in range(1, 5):
        assert read(path, MIXED, 3, unusable="drop", limit=limit) == whole[:limit]


@pytest.mark.parametrize("seed", range(5))
def test_fewer_random_samples_are_the_first_of_more(path, seed):
    settings = {"unusable": "drop", "seed": seed}
    most, counts = read_and_count(path, MIXED, 3, limit=100, **settings)
    assert len(most) == 4
    assert "not_chosen" not in counts
    for limit in range(1, 4):
        found, counts = read_and_count(path, MIXED, 3, limit=limit, **settings)
        assert found == most[:limit]
        assert counts["read"] == 11
        assert counts["not_chosen"] > 0


def test_another_seed_chooses_others(path):
    rows = [{"text": f"one {word}"} for word in WORDS[3:]]
    chosen = {
        tuple(sample["sample_id"] for sample in read(path, rows, limit=3, seed=seed))
        for seed in range(10)
    }
    assert len(chosen) > 5


@given(
    words=st.lists(st.sampled_from(["one", "one two", "two one", "two two", "one two three", ""])),
    limit=st.integers(1, 6),
    seed=st.integers(0, 3),
)
def test_a_choice_is_one_of_usable_and_different_samples(tmp_path_factory, words, limit, seed):
    path = tmp_path_factory.mktemp("choice") / "samples.jsonl"
    rows = [{"text": text} for text in words]
    usable = {text for text in words if " " in text}
    if not usable:
        with pytest.raises(ValueError, match=r"no samples|none of its"):
            read(path, rows, unusable="drop", limit=limit, seed=seed)
        return
    samples, counts = read_and_count(path, rows, unusable="drop", limit=limit, seed=seed)
    texts = [sample["text"] for sample in samples]
    assert set(texts) <= usable
    assert len(set(texts)) == len(texts) == min(limit, len(usable))
    assert counts["read"] == len(words)
    assert samples == read(path, rows, unusable="drop", limit=limit, seed=seed)


def test_a_source_of_which_nothing_is_left_says_what_became_of_it(path):
    rows = [{"text": "one"}, {"text": " "}, {"text": 3}]
    with pytest.raises(
        ValueError,
        match=r"jsonl: none of its 3 records is a sample \(1 malformed, 1 empty, 1 too short\)",
    ):
        read(path, rows, unusable="drop")
    with pytest.raises(ValueError, match=r"none of its 1 records is a sample \(1 filtered out\)"):
        read(path, [{"text": "one"}], keep=KEEP)


def test_files_of_other_kinds_are_tokenized_alike(path, tmp_path):
    rows = [{"text": "one two"}, {"text": "two three one"}]
    expected = read(path, rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "samples.parquet")
    (tmp_path / "samples.txt").write_text("one two\n\ntwo three one\n")
    sources = [
        ParquetSamples(path=tmp_path / "samples.parquet"),
        TextSamples(path=tmp_path / "samples.txt"),
    ]
    for source in sources:
        table, _ = read_samples(source, TOKENIZER, 8)
        assert table.to_pylist() == expected


@pytest.mark.parametrize("kind", [ParquetSamples, TextSamples])
def test_an_empty_file_of_another_kind_is_refused(tmp_path, kind):
    path = tmp_path / "samples"
    if kind is ParquetSamples:
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    else:
        path.write_text("\n\n")
    with pytest.raises(ValueError, match="samples: no samples; expected"):
        read_samples(kind(path=path), TOKENIZER, 8)


def test_of_a_book_only_the_beginning_is_looked_at(tmp_path):
    (tmp_path / "book.txt").write_text("one two three\n" * 10_000)
    source = TextSamples(path=tmp_path / "book.txt", per="file")
    table, counts = read_samples(source, TOKENIZER, 5)
    assert table["token_ids"].to_pylist() == [ids("one two three one two")]
    assert len(table["text"][0].as_py()) == 8 * 5
    assert counts["cut"] == 1


# ---------------------------------------------------------------- instructions


def test_instructions_end_with_the_end_of_text(path):
    rows = [
        {"question": "one two", "answer": "three"},
        {"question": "one two three", "answer": "one two"},  # cut, so it does not end
    ]
    read(path, rows, text_field="question", answer_field="answer")
    source = JsonlSamples(path=path, text_field="question", answer_field="answer")
    (short, long), counts = instruction_samples(source, TOKENIZER, 4)
    end = TOKENIZER.eos_token_id
    assert end is not None
    assert short["token_ids"] == [*ids("one two three"), end]
    assert short["counted"] == [False, False, True, True]
    assert short["ended"]
    assert long["token_ids"] == ids("one two three one")
    assert long["counted"] == [False, False, False, True]
    assert not long["ended"]
    assert (counts["samples"], counts["cut"]) == (2, 1)


def test_an_instruction_whose_answer_is_cut_off_names_its_own_setting(path):
    rows = [{"question": "one two three", "answer": "one"}]
    read(path, rows, text_field="question", answer_field="answer")
    source = JsonlSamples(path=path, text_field="question", answer_field="answer")
    with pytest.raises(ValueError, match=r"line 1: 3 tokens.* larger tuning\.max_length \(now 3\)"):
        instruction_samples(source, TOKENIZER, 3)


# ---------------------------------------------------------------- memory

MEASURED = """
import resource, sys
from models.nano.corpus import SPECIAL_TOKENS
from models.nano.model import build_tokenizer
from models.samples import read_samples
from studies.sources import ParquetSamples

words = [f"word{i:03d}" for i in range(1000)]
tokenizer = build_tokenizer([*SPECIAL_TOKENS, *words])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source = ParquetSamples(path=sys.argv[1], limit=500, seed=1)
table, counts = read_samples(source, tokenizer, 512)
assert counts["samples"] == counts["cut"] == 500, counts
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_is_what_the_samples_need_and_not_what_the_source_holds(tmp_path):
    rng = np.random.default_rng(0)
    page = [" ".join(f"word{i:03d}" for i in rng.integers(1000, size=100)) for _ in range(1000)]
    with pq.ParquetWriter(tmp_path / "a.parquet", pa.schema([("text", pa.string())])) as writer:
        for _ in range(20):  # 2000 texts of 80,000 characters: 160 MB
            books = rng.integers(1000, size=(100, 100))
            writer.write_table(pa.table({"text": [" ".join(page[i] for i in b) for b in books]}))
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path / "a.parquet")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 60_000  # KiB


# ---------------------------------------------------------------- the tokenizer


def test_the_saved_tokenizer_is_read_again(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).encode("two 数学") == ids("two 数学")


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "olmoe"}')
    (tmp_path / "tokenizer_config.json").write_text("{}")  # settings alone know no word
    with pytest.raises(
        ValueError, match=r"holds no tokenizer: expected one of tokenizer\.json"
    ) as e:
        load_tokenizer(tmp_path)
    assert str(e.value).startswith(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "{}", ""])
def test_a_damaged_tokenizer_is_refused(tmp_path, content):
    TOKENIZER.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"the tokenizer cannot be read .*save the model's") as e:
        load_tokenizer(tmp_path)
    assert str(e.value).startswith(str(tmp_path))
