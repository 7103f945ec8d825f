import json

import pytest

from models.nano.corpus import SPECIAL_TOKENS
from models.nano.tokenizer import build_tokenizer
from models.samples import jsonl_samples, load_tokenizer
from studies.sources import JsonlSamples

WORDS = [*SPECIAL_TOKENS, "one", "two", "three", "naïve", "数学", "🙂"]
TOKENIZER = build_tokenizer(WORDS)


def ids(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


def read(path, content, max_length=8, **fields):
    """Write a file of these bytes, lines or objects, and read its samples."""
    if not isinstance(content, bytes):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in content]
        content = "\n".join(lines).encode()
    path.write_bytes(content)
    return jsonl_samples(JsonlSamples(path=path, **fields), TOKENIZER, max_length)


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
