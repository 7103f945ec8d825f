import pytest
import yaml

from studies.load import StudyError, load_study
from studies.overlay import lay_over


def test_mappings_are_merged_and_other_values_replaced():
    study = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert lay_over(study, {"a": {"c": [5]}, "e": None}) == {
        "a": {"b": 1, "c": [5]},
        "d": 3,
        "e": None,
    }
    assert study == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


def test_lists_of_named_entries_are_merged_by_name_and_keep_their_order():
    study = {"domains": [{"name": "x", "n": 1}, {"name": "y", "n": 1, "m": 0}]}
    merged = lay_over(study, {"domains": [{"name": "y", "n": 2}]})
    assert merged == {"domains": [{"name": "x", "n": 1}, {"name": "y", "n": 2, "m": 0}]}


@pytest.fixture
def overlay(tmp_path):
    def write(content):
        (tmp_path / "over.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "over.yaml"

    return write


def test_an_overlay_changes_a_shipped_study(overlay):
    changed = load_study(
        "smoke",
        [overlay({"name": "tiny", "series": [{"name": "shuffled", "title": "S"}], "tuning": None})],
    )
    plain = load_study("smoke")
    assert changed.name == "tiny"
    assert [series.title for series in changed.series] == ["as it is", "S", "dense twin"]
    assert changed.domains == plain.domains
    assert changed.series[1].source == plain.series[1].source


def test_an_unknown_entry_is_told_with_a_near_name(overlay):
    with pytest.raises(StudyError, match=r"over.yaml: domains: .*'maths'.*did you mean 'math'"):
        load_study("smoke", [overlay({"domains": [{"name": "maths"}]})])


def test_a_bad_value_of_an_overlay_is_a_study_error(overlay):
    with pytest.raises(StudyError, match=r"analysis\.num_permutations"):
        load_study("smoke", [overlay({"analysis": {"num_permutations": 3}})])


def test_an_overlay_that_is_no_mapping_or_not_there(overlay, tmp_path):
    with pytest.raises(StudyError, match="expected a mapping of fields, found list"):
        load_study("smoke", [overlay([1])])
    with pytest.raises(StudyError, match="cannot be opened"):
        load_study("smoke", [tmp_path / "nowhere.yaml"])


def test_a_study_extends_another(tmp_path):
    (tmp_path / "more.yaml").write_text(
        "extends: smoke\nname: more\ndomains: [{name: math, title: M}]\n"
    )
    study, base = load_study(tmp_path / "more.yaml"), load_study("smoke")
    assert [domain.title for domain in study.domains] == ["M", base.domains[1].title]
    assert study.series == base.series


def test_a_study_that_extends_itself_is_refused(tmp_path):
    (tmp_path / "one.yaml").write_text("extends: two.yaml\n")
    (tmp_path / "two.yaml").write_text("extends: one.yaml\n")
    with pytest.raises(StudyError, match="extends itself"):
        load_study(tmp_path / "one.yaml")
    (tmp_path / "one.yaml").write_text("extends: nowhere\n")
    with pytest.raises(StudyError, match="no such study file"):
        load_study(tmp_path / "one.yaml")


def test_the_shipped_overlays_fit_the_production_study():
    production = load_study("olmoe_1b_7b")
    for name in ("pilot", "tiny"):
        small = load_study("olmoe_1b_7b", [name])
        assert small.series == production.series
        assert [d.benchmarks for d in small.domains] == [d.benchmarks for d in production.domains]
        for ours, theirs in zip(small.domains, production.domains, strict=True):
            assert ours.probes.repository == theirs.probes.repository
            assert ours.probes.limit < theirs.probes.limit
    with pytest.raises(StudyError, match="did you mean 'pilot'"):
        load_study("olmoe_1b_7b", ["pilott"])
