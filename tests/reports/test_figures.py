"""Figures sort rows by names, never by titles: a study need not give any, or may give one twice."""

import pytest

from reports.figures import Names, make_figure
from reports.page import _domain_labels
from reports.questions import FIGURES
from store.warehouse import query

DOMAINS = ("math", "code", "prose")
TITLES = {
    "none": ("", "", ""),
    "all the same": ("Text", "Text", "Text"),
    "one each": ("Math", "Code", "Prose"),
}


@pytest.fixture
def warehouse_of(write_database, make_rows):
    """Reads the invented study with other rows in some tables."""

    def of(**rows):
        held = make_rows(steps=(0, 10)) | rows
        path = write_database(held)
        return lambda sql: query(path, sql).to_pylist()

    return of


def question(name):
    return next(q for q in FIGURES if q.name == name)


def labels(titles):
    return _domain_labels([{"domain": d, "title": t} for d, t in zip(DOMAINS, titles, strict=True)])


@pytest.mark.parametrize("titles", TITLES.values(), ids=TITLES)
def test_each_pair_of_domains_has_a_panel(titles, warehouse_of):
    pairs = [("math", "code"), ("math", "prose"), ("code", "prose")]
    rows = [
        {
            "series": "main", "domain": a, "other_domain": b, "step": step,
            "metric": "pathway_distance", "value": float(step), "low": None, "high": None,
            "num_pairs": 10,
        }
        for a, b in pairs for step in (0, 10)
    ]  # fmt: skip
    read = warehouse_of(cross_domain=rows, domains=_domains(titles))
    figure = make_figure(question("cross_domain"), read, Names(labels(titles), {"main": "main"}))
    assert len(figure.panels) == 3
    assert len({panel.full_title for panel in figure.panels}) == 3
    assert all(" × " in panel.full_title for panel in figure.panels)
    assert all([row["step"] for row in panel.rows] == [0, 10] for panel in figure.panels)


@pytest.mark.parametrize("titles", TITLES.values(), ids=TITLES)
def test_each_domain_has_a_row_of_experts(titles, warehouse_of):
    rows = [
        {
            "series": "main", "domain": domain, "step": 10, "layer": 0, "expert": expert,
            "token_share": 0.5, "load_share": 0.5, "gate_share": 0.5,
        }
        for domain in DOMAINS for expert in (0, 1)
    ]  # fmt: skip
    read = warehouse_of(expert_use=rows, domains=_domains(titles))
    figure = make_figure(question("expert_use"), read, Names(labels(titles), {"main": "main"}))
    (panel,) = figure.panels
    assert len({(row["x"], row["y"]) for row in panel.rows}) == 6
    assert {row["y"] for row in panel.rows} == set(labels(titles).values())
    assert all(row["y"].strip() for row in panel.rows)


def _domains(titles):
    return [
        {"domain": d, "title": t, "position": i, "benchmark": None, "metric": None}
        for i, (d, t) in enumerate(zip(DOMAINS, titles, strict=True))
    ]
