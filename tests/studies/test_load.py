import pytest
import yaml

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
