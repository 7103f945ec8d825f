import pytest
import yaml

from studies.base import RESERVED_NAMES
from studies.load import StudyError, load_study, shipped_studies


def minimal(**changes):
    """A whole, valid study as plain data, with fields replaced."""
    return {
        "name": "tiny",
        "series": [{"name": "main", "source": {"kind": "nano"}}],
        "domains": [{"name": "math", "probes": {"kind": "corpus"}}],
        **changes,
    }


@pytest.fixture
def load(tmp_path):
    def load_text(content):
        path = tmp_path / "tiny.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return load_study(path)

    return load_text


def message(load, content):
    with pytest.raises(StudyError) as caught:
        load(content)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_shipped_studies_load_by_name(name):
    assert load_study(name).name == name


def test_defaults_fill_a_minimal_study(load):
    study = load(minimal())
    assert study.pathways.threshold == 0.7
    assert study.memorization.delta == 0.05
    assert study.series[0].role == "main"


def test_study_is_frozen(load):
    with pytest.raises(ValueError, match="frozen"):
        load(minimal()).name = "other"


def test_unknown_key_names_file_field_and_near_name(load):
    text = message(load, minimal(pathways={"treshold": 0.7}))
    assert "tiny.yaml: pathways.treshold: unknown key" in text
    assert "did you mean 'threshold'" in text
    assert "max_pairs" in text


def test_unknown_key_inside_a_series_source(load):
    series = [{"name": "main", "source": {"kind": "nano", "suffle_answers": True}}]
    text = message(load, minimal(series=series))
    assert "series[0].source.suffle_answers: unknown key; did you mean 'shuffle_answers'?" in text


@pytest.mark.parametrize("threshold", [0, 1.2, -0.1])
def test_threshold_outside_its_range(load, threshold):
    text = message(load, minimal(pathways={"threshold": threshold}))
    assert "pathways.threshold" in text
    assert str(threshold) in text
    assert "greater than 0" in text or "less than or equal to 1" in text


def test_wrong_type_shows_what_was_found(load):
    text = message(load, minimal(bound={"ridge": "large"}))
    assert "bound.ridge" in text
    assert "'large'" in text


def test_duplicate_checkpoint_step(load):
    source = {"kind": "nano", "pretraining": {"checkpoint_steps": [0, 10, 10]}}
    text = message(load, minimal(series=[{"name": "main", "source": source}]))
    assert "series[0].source.pretraining.checkpoint_steps" in text
    assert "10 is given more than once" in text


def test_no_checkpoints_at_all(load):
    source = {"kind": "nano", "pretraining": {"checkpoint_steps": []}}
    assert "checkpoint_steps" in message(load, minimal(series=[{"name": "main", "source": source}]))


def test_missing_local_folder_is_named(load, tmp_path):
    domains = [{"name": "math", "probes": {"kind": "jsonl", "path": "probes.jsonl"}}]
    (tmp_path / "probes.jsonl").write_text('{"text": "a b"}\n')
    series = [{"name": "main", "source": {"kind": "local", "path": "nowhere"}}]
    text = message(load, minimal(series=series, domains=domains))
    assert "series[0].source.path: no such file or folder" in text
    assert str(tmp_path / "nowhere") in text


def test_relative_paths_start_at_the_study_file(load, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "probes.jsonl").write_text('{"text": "a b"}\n')
    study = load(
        minimal(
            series=[{"name": "main", "source": {"kind": "local", "path": "checkpoints"}}],
            domains=[{"name": "math", "probes": {"kind": "jsonl", "path": "probes.jsonl"}}],
        )
    )
    assert study.series[0].source.path == tmp_path / "checkpoints"
    assert study.domains[0].probes.path == tmp_path / "probes.jsonl"


def test_missing_probe_file(load):
    domains = [{"name": "math", "probes": {"kind": "jsonl", "path": "nowhere.jsonl"}}]
    series = [{"name": "main", "source": {"kind": "local", "path": "."}}]
    assert "domains[0].probes.path: no such file" in message(
        load, minimal(series=series, domains=domains)
    )


@pytest.mark.parametrize("field", ["domains", "series"])
def test_empty_lists(load, field):
    assert f"tiny.yaml: {field}" in message(load, minimal(**{field: []}))


def test_domain_without_probes(load):
    text = message(load, minimal(domains=[{"name": "math"}]))
    assert "domains[0].probes: missing" in text


def test_duplicate_domain(load):
    domains = [{"name": "math", "probes": {"kind": "corpus"}}] * 2
    assert "domain math is given more than once" in message(load, minimal(domains=domains))


def test_domain_the_corpus_does_not_have(load):
    text = message(load, minimal(domains=[{"name": "law", "probes": {"kind": "corpus"}}]))
    assert "'law' is not in the nano corpus" in text
    assert "chemistry, code, commonsense, math" in text


def test_corpus_samples_need_a_nano_series(load):
    series = [{"name": "main", "source": {"kind": "local", "path": "."}}]
    assert "takes samples from the nano corpus" in message(load, minimal(series=series))


def test_probes_of_a_series_belong_to_a_domain_of_the_study(load, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"text": "a b"}\n')
    jsonl = {"kind": "jsonl", "path": "p.jsonl"}
    domains = [{"name": "math", "probes": jsonl}]
    one = {"name": "main", "source": {"kind": "local", "path": "."}}
    assert (
        load(minimal(series=[{**one, "probes": {"math": jsonl}}], domains=domains))
        .series[0]
        .probes["math"]
        .path
        == tmp_path / "p.jsonl"
    )
    text = message(load, minimal(series=[{**one, "probes": {"law": jsonl}}], domains=domains))
    assert "series 'main' has probes for law" in text
    nano = {"name": "main", "source": {"kind": "nano"}, "probes": {"math": jsonl}}
    assert "leave `probes` out" in message(load, minimal(series=[nano]))


def test_a_study_needs_a_main_series(load):
    series = [{"name": "main", "role": "control", "source": {"kind": "nano"}}]
    assert "no series has role 'main'" in message(load, minimal(series=series))


def test_unknown_source_kind_lists_the_kinds(load):
    text = message(load, minimal(series=[{"name": "main", "source": {"kind": "s3"}}]))
    assert "series[0].source" in text
    assert "'nano', 'local'" in text


def test_every_problem_is_told_at_once(load):
    text = message(load, minimal(pathways={"threshold": 2}, bound={"ridge": 0}))
    assert "pathways.threshold" in text
    assert "bound.ridge" in text


@pytest.mark.parametrize("content", ["a: [1", "- 1\n- 2", "", "\x00"])
def test_not_a_study_at_all(load, content):
    assert "tiny.yaml" in message(load, content)


def test_unknown_study_name_suggests_a_near_one():
    with pytest.raises(StudyError, match=r"did you mean 'smoke'\?"):
        load_study("smoek")


def test_a_folder_is_not_a_study(tmp_path):
    with pytest.raises(StudyError, match="no such study file"):
        load_study(tmp_path)


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_a_study_cannot_take_a_folder_of_the_data_root(load, name):
    text = message(load, minimal(name=name))
    assert "tiny.yaml: name: a study's results lie in a folder of its name" in text
    assert f"Found: '{name}'." in text
    assert load(minimal(name=f"{name}-2")).name == f"{name}-2"


# ---------------------------------------------------------------- hostile and broken YAML


def levels(first, level):
    """Nine levels of nine aliases each: 9**9 values in a few hundred characters."""
    lines = [f"a0: &a0 {first}"]
    for i in range(1, 10):
        lines.append(f"a{i}: &a{i} " + level.format(", ".join([f"*a{i - 1}"] * 9)))
    return "\n".join(lines)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "content",
    [levels("[x]", "[{}]"), levels("{x: 1}", "{{<<: [{}]}}"), "a: &a [*a]"],
    ids=["lists", "merges", "cycle"],
)
def test_alias_bombs_are_refused_before_they_go_off(load, content):
    text = message(load, content)
    assert "tiny.yaml: not readable as YAML: more than 100,000 values" in text
    assert len(text) < 500


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("runtime: {workers: " + "9" * 5000 + "}", "value has 5000 digits"),
        ("runtime: {workers: 0x" + "f" * 5000 + "}", "numbers must be below 2**63"),
        ("title: 2020-99-99", "'2020-99-99' cannot be read: month must be in 1..12"),
        ("title: !!bool maybe", "'maybe' cannot be read"),
        ("title: !!int ''", "'' cannot be read"),
        ('title: "\\ud800"', "surrogates not allowed"),
        ('title: "\\UFFFFFFFF"', "too large"),
        ("title: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    ],
)
def test_values_that_cannot_be_read(load, content, problem):
    text = message(load, content)
    assert "tiny.yaml: not readable as YAML: " in text
    assert problem in text
    assert len(text) < 700


def test_a_number_in_quotes_has_an_end_too(load):
    source = {"kind": "nano", "pretraining": {"batch_size": "9" * 4000}}
    text = message(load, minimal(series=[{"name": "main", "source": source}]))
    assert "pretraining.batch_size: the number must be below 2**63. Found: '999" in text
    assert len(text) < 500


def test_a_key_given_twice_is_named_with_its_line(load):
    text = message(load, "name: tiny\nbound:\n  ridge: 1\n  ridge: 2\n")
    assert "key 'ridge' is given more than once" in text
    assert "line 4, column 3" in text


def test_a_merged_key_may_be_replaced(load):
    study = load(
        "name: tiny\n"
        "series:\n"
        "  - {name: main, source: &source {kind: nano, corpus: {seed: 7}}}\n"
        "  - {name: other, source: {<<: *source, kind: nano, shuffle_answers: true}}\n"
        "domains: [{name: math, probes: {kind: corpus}}]\n"
    )
    assert [series.source.corpus.seed for series in study.series] == [7, 7]
    assert [series.source.shuffle_answers for series in study.series] == [False, True]


def test_a_long_value_is_cut(load):
    text = message(load, minimal(title=["word"] * 1000))
    assert "tiny.yaml: title: input should be a valid string. Found: ['word', " in text
    assert text.endswith("....")
    assert len(text.partition("Found: ")[2]) == 204


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800", ""])
def test_an_argument_that_cannot_be_a_file(name):
    with pytest.raises(StudyError, match=r"File name too long|no such study file"):
        load_study(name)


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("x" * 300, "File name too long"),
        ("a\0b", "null byte"),
        ("~nobody-of-this-name/x", "home directory"),
    ],
)
def test_a_path_that_cannot_be_one(load, folder, problem):
    text = message(load, minimal(evaluation={"tasks_folder": folder}))
    assert "tiny.yaml: evaluation.tasks_folder: not a usable path" in text
    assert problem in text


# ---------------------------------------------------------------- one line for one mistake


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_numbers_must_be_finite(load, number):
    text = message(load, minimal(memorization={"delta": number}))
    assert text.endswith(
        f"tiny.yaml: memorization.delta: input should be a finite number. Found: {number}."
    )


def test_a_bad_entry_does_not_blame_its_list(load):
    text = message(load, minimal(series=[{"name": "MAIN", "source": {"kind": "nano"}}]))
    assert text.count("tiny.yaml") == 1
    assert "series[0].name: string should match pattern" in text
    assert "Found: 'MAIN'." in text


@pytest.mark.parametrize("epsilon", [-1, 0, "auot", float("inf"), [1]])
def test_a_bad_epsilon_is_one_line(load, epsilon):
    text = message(load, minimal(memorization={"epsilon": epsilon}))
    assert text.endswith(
        f"tiny.yaml: memorization.epsilon: expected auto or a number above 0. Found: {epsilon!r}."
    )
    assert text.count("tiny.yaml") == 1


@pytest.mark.parametrize("epsilon", ["auto", 0.5, 2])
def test_a_good_epsilon_is_kept(load, epsilon):
    assert load(minimal(memorization={"epsilon": epsilon})).memorization.epsilon == epsilon


@pytest.mark.parametrize("part", ["pathways", "evaluation", "analysis"])
def test_seeds_fit_32_bits(load, part):
    assert getattr(load(minimal(**{part: {"seed": 2**32 - 1}})), part).seed == 2**32 - 1
    assert f"{part}.seed: input should be less than 4294967296" in message(
        load, minimal(**{part: {"seed": 2**32}})
    )


def test_a_local_series_needs_two_checkpoints(load):
    series = [{"name": "main", "source": {"kind": "local", "path": ".", "steps": [3]}}]
    domains = [{"name": "math", "probes": {"kind": "jsonl", "path": "."}}]
    text = message(load, minimal(series=series, domains=domains))
    assert "series[0].source.steps: tuple should have at least 2 items" in text
