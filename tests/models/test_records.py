import pytest

from models.records import Malformed, Record, is_kept, named_fields, text_of
from studies.sources import Contains, JsonlSamples

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
    assert is_kept(Record(0, "line 1", {"text": text}), source(keep=keep)) is kept


def test_the_field_of_keep_must_be_there():
    keep = Contains(field="title", text="Organic")
    with pytest.raises(Malformed, match="expected a text field 'title', found text"):
        is_kept(Record(0, "line 1", {"text": "organic"}), source(keep=keep))


def test_only_fields_that_are_used_are_named():
    keep = Contains(field="hint", text="no")
    assert named_fields(source()) == ("text",)
    fields = {"template": "{question} {hint} {question}", "answer_field": "answer", "keep": keep}
    assert named_fields(source(**fields)) == ("question", "hint", "answer")
