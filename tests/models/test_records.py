import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.records import Malformed, Record, named_fields, passes_filter, read_records, text_of
from studies.sources import Contains, JsonlSamples, ParquetSamples, TextSamples

ROW = {"question": "What is {x}?", "hint": "none", "answer": "12", "level": 5, "tags": ["a"]}


def source(**fields):
    return JsonlSamples(path="samples.jsonl", **fields)


def read(row=ROW, max_characters=1000, **fields):
    return text_of(Record(0, "line 1", row), source(**fields), max_characters)


def test_a_template_joins_fields_and_knows_no_more_than_that():
    text = read(template="Q: {question} {{sic}} ({hint})")
    assert text.text == "Q: What is {x}? {sic} (none)"


@pytest.mark.parametrize("separator", ["", " ", "\n### Answer:\n"])
def test_the_answer_begins_after_the_separator(separator):
    text = read(template="{question}", answer_field="answer", separator=separator)
    assert text.text == f"What is {{x}}?{separator}12"
    assert text.text[text.answer_at :] == "12"


@pytest.mark.parametrize(("max_characters", "clipped"), [(1000, False), (12, False), (11, True)])
def test_a_long_text_is_clipped(max_characters, clipped):
    text = read(text_field="question", max_characters=max_characters)
    assert (text.text, text.clipped) == ("What is {x}?"[:max_characters], clipped)


@pytest.mark.parametrize(
    ("row", "blank"),
    [
        ({"text": " \n\t", "answer": "12"}, False),
        ({"text": "two", "answer": " \n"}, True),
        ({"text": "", "answer": ""}, True),
    ],
)
def test_blank_is_what_has_nothing_to_count(row, blank):
    assert read(row, answer_field="answer").blank is blank


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("questions", "found question, hint, answer, level, tags; did you mean 'question'"),
        ("text", "expected a text field 'text', found question, hint"),
        ("level", "found level with a value of type int"),
        ("tags", "found tags with a value of type list"),
    ],
)
def test_a_field_that_is_no_text_is_told(field, message):
    for fields in ({"text_field": field}, {"template": f"{{question}} {{{field}}}"}):
        with pytest.raises(Malformed, match=f"^line 1: .*{message}"):
            read(**fields)


def test_a_field_without_a_value_is_malformed():
    with pytest.raises(Malformed, match="found text with a value of type NoneType"):
        read({"text": None})


def test_a_record_that_could_not_be_read_says_why():
    with pytest.raises(Malformed, match=r"^line 1: not JSON"):
        text_of(Record(0, "line 1", None, problem="not JSON"), source(), 10)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("x IN organic CHEMISTRY.", True), ("organic  chemistry", False), ("", False)],
)
def test_samples_are_kept_by_a_text_whatever_its_case(text, kept):
    keep = Contains(field="text", text="Organic Chemistry")
    assert passes_filter(Record(0, "line 1", {"text": text}), source(keep=keep)) is kept


def test_the_field_of_keep_must_be_there():
    keep = Contains(field="title", text="Organic")
    with pytest.raises(Malformed, match="expected a text field 'title', found text"):
        passes_filter(Record(0, "line 1", {"text": "organic"}), source(keep=keep))


def test_only_fields_that_are_used_are_named():
    keep = Contains(field="hint", text="no")
    assert named_fields(source()) == ("text",)
    fields = {"template": "{question} {hint} {question}", "answer_field": "answer", "keep": keep}
    assert named_fields(source(**fields)) == ("question", "hint", "answer")


MANY = 10_000


def read_all(source, max_characters=MANY):
    return list(read_records(source, {}, max_characters))


def texts(source, max_characters=MANY):
    return [record.fields["text"] for record in read_all(source, max_characters)]


def write(path, rows, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **settings)


# ---------------------------------------------------------------- JSON lines


def test_a_line_of_any_json_is_a_record_and_what_is_none_says_so(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_text('{"text": "one"}\n\n"text"\n[1]\nnull\n{\n' + "[" * 100_000 + "\n")
    records = read_all(JsonlSamples(path=path))
    assert [record.number for record in records] == [0, 2, 3, 4, 5, 6]
    assert [record.fields for record in records] == [{"text": "one"}, "text", [1], None, None, None]
    assert [bool(record.problem) for record in records] == [False] * 4 + [True] * 2
    assert records[-1].place == f"{path}, line 7"


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2"])
def test_compressed_lines_are_read_as_what_is_in_them(ending, tmp_path):
    lines = "".join(json.dumps({"text": f"sample {n} é"}) + "\n" for n in range(3000))
    codec = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}[ending]
    path = tmp_path / f"samples.jsonl{ending}"
    with pa.output_stream(str(path), compression=codec) as file:
        file.write(lines.encode())
    assert path.read_bytes()[:6] != lines.encode()[:6]
    assert texts(JsonlSamples(path=path)) == [f"sample {n} é" for n in range(3000)]
    assert len(texts(TextSamples(path=path, per="line"))) == 3000


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_that_is_not_compressed_as_it_is_called_is_named(ending, tmp_path):
    path = tmp_path / f"samples.jsonl{ending}"
    path.write_text('{"text": "plain"}\n')
    with pytest.raises(ValueError, match=f"samples.jsonl{ending}: cannot be decompressed"):
        read_all(JsonlSamples(path=path))


# ---------------------------------------------------------------- Parquet


def test_the_rows_of_a_folder_come_in_order_of_name(tmp_path):
    write(tmp_path / "b" / "0.parquet", [{"text": "four", "other": 1}])
    write(tmp_path / "a-1.parquet", [{"text": "three"}])
    write(tmp_path / "a-0.parquet", [{"text": "one"}, {"text": None}], row_group_size=1)
    (tmp_path / "README.md").write_text("no Parquet")
    records = read_all(ParquetSamples(path=tmp_path))
    assert [record.fields for record in records] == [
        {"text": text} for text in ("one", None, "three", "four")
    ]
    assert [record.number for record in records] == [0, 1, 2, 3]
    assert [record.place for record in records][1:3] == [
        f"{tmp_path / 'a-0.parquet'}, row 2",
        f"{tmp_path / 'a-1.parquet'}, row 1",
    ]


def test_only_the_columns_that_are_used_are_read(tmp_path):
    write(tmp_path / "a.parquet", [{"text": "one", "title": "two", "other": "three"}])
    keep = Contains(field="title", text="w")
    (record,) = read_all(ParquetSamples(path=tmp_path / "a.parquet", keep=keep))
    assert record.fields == {"text": "one", "title": "two"}


def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path):
    write(tmp_path / "a.parquet", [{"contents": "one", "id": 1}])
    with pytest.raises(
        ValueError,
        match=r"a\.parquet: expected a text field 'content', found contents, id; did you",
    ):
        read_all(ParquetSamples(path=tmp_path, text_field="content"))


def test_a_damaged_file_and_an_empty_folder_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"expected \*\.parquet files in this folder, found none"):
        read_all(ParquetSamples(path=tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"a\.parquet: .*Parquet"):
        read_all(ParquetSamples(path=tmp_path))


def test_a_file_much_larger_than_what_is_held_is_read(tmp_path):
    rows = [{"text": chr(97 + i % 26) * 100_000} for i in range(1000)]  # 100 MB
    write(
        tmp_path / "a.parquet", rows, use_dictionary=False, row_group_size=500, write_batch_size=8
    )
    del rows
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    most = 0
    for record in read_records(ParquetSamples(path=tmp_path), {}, MANY):  # 64 rows are 6.4 MB
        assert len(record.fields["text"]) == 100_000
        most = max(most, pa.total_allocated_bytes() - before)
    _, python = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most + python < 40_000_000


# ---------------------------------------------------------------- text


def test_a_sample_is_a_line_a_paragraph_or_a_file(tmp_path):
    (tmp_path / "b.txt").write_text("five\n")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n two\n\n \n\nthree\nfour")
    (tmp_path / "c.md").write_text("not asked for")

    def found(per):
        return texts(TextSamples(path=tmp_path, per=per))

    assert found("line") == ["one", " two", "three", "four", "five"]
    assert found("paragraph") == ["one\n two", "three\nfour", "five"]
    assert found("file") == ["one\n two\n\n \n\nthree\nfour", "five\n"]


def test_places_of_text_are_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\none\n\n\ntwo\n")
    assert [record.place for record in read_all(TextSamples(path=path))] == [
        f"{path}, line 2",
        f"{path}, line 5",
    ]
    (record,) = read_all(TextSamples(path=path, per="file"))
    assert record.place == str(path)


@pytest.mark.parametrize("per", ["paragraph", "file"])
def test_of_an_endless_text_only_what_is_looked_at_is_held(tmp_path, per):
    path = tmp_path / "a.txt"
    path.write_text("a line of text\n" * 200_000)
    tracemalloc.start()
    (text,) = texts(TextSamples(path=path, per=per), max_characters=1000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 1000 < len(text) < 1100
    assert most < 1_000_000


@pytest.mark.parametrize("per", ["line", "paragraph", "file"])
def test_text_of_another_encoding_is_refused(tmp_path, per):
    (tmp_path / "a.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt: not UTF-8 text .*save the file as UTF-8"):
        read_all(TextSamples(path=tmp_path, per=per))


def test_the_kinds_agree(tmp_path):
    rows = [{"text": text} for text in ("one two", "数学 🙂", "x" * 100)]
    write(tmp_path / "a.parquet", rows)
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "a.txt").write_text("\n".join(row["text"] for row in rows))
    found = [
        texts(ParquetSamples(path=tmp_path / "a.parquet")),
        texts(JsonlSamples(path=tmp_path / "a.jsonl")),
        texts(TextSamples(path=tmp_path / "a.txt", per="line")),
    ]
    assert found == [[row["text"] for row in rows]] * 3
