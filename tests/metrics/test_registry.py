import dataclasses

import pytest

from metrics.registry import REGISTRY, by_name, markdown, monitor_rows


def test_every_measure_has_its_title_unit_source_and_formula():
    for name, one in REGISTRY.items():
        assert name == one.measure == one.measure.lower()
        assert min(len(one.title), len(one.unit), len(one.source), len(one.formula)) > 2, name
        assert one.expected_direction in (-1, 0, 1)
        assert one.family in ("paper", "field", "candidate", "baseline")
        assert one.low is None or one.high is None or one.low < one.high


def test_a_name_is_given_once():
    one = next(iter(REGISTRY.values()))
    with pytest.raises(ValueError, match="is defined twice"):
        by_name([one, dataclasses.replace(one, title="another")])


def test_page_and_table_hold_all():
    page = markdown()
    assert all(f"| `{name}` |" in page for name in REGISTRY)
    assert [row["monitor"] for row in monitor_rows()] == list(REGISTRY)


def test_the_papers_table_1_is_the_family_paper():
    monitored = {n for n, one in REGISTRY.items() if one.family == "paper" and one.monitored}
    assert monitored == {
        "pathway_distance",
        "pathway_consistency_mean",
        "pathway_consistency_median",
        "training_loss",
        "training_loss_moving_average",
        "validation_loss",
    }
