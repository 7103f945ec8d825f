"""Tables of online calls: what counts as a lead, and where the baseline stands."""

import pytest

from reports.questions import TABLES
from store.warehouse import query

FIGURES = {table.name: table for table in TABLES}
# Loss flat, called by the measure, half of the rise (None where there is none), false alarm.
CASES = {
    ("main", "math"): (50, 100, 200, False),  # early
    ("main", "code"): (100, 200, 50, False),  # half of the rise came before the loss was flat
    ("shuffled", "math"): (50, None, None, False),
    ("shuffled", "code"): (50, 100, None, True),
}


def lead_row(place, monitor, flat, called, half, false_alarm):
    return {
        "series": place[0],
        "domain": place[1],
        "monitor": monitor,
        "flat_step": flat,
        "call_step": called,
        "accuracy_step": half,
        "could_lead": None if half is None else flat < half,
        "lead": None if half is None or called is None else half - called,
        "false_alarm": false_alarm,
        "note": None,
    }


@pytest.fixture(scope="module")
def ask(make_rows, write_database):
    rows = make_rows()
    baseline = dict(rows["monitors"][0], monitor="loss_flat", title="training loss flat")
    rows["monitors"].append({**baseline, "family": "baseline", "monitored": False})
    for place, (flat, called, half, false_alarm) in CASES.items():
        rows["lead_lag"] += [
            lead_row(place, "pathway_distance", flat, called, half, false_alarm),
            lead_row(place, "loss_flat", flat, flat, half, half is None),
        ]
    path = write_database(rows)
    return lambda name: query(path, FIGURES[name].sql).to_pylist()


def test_leads_are_counted_only_where_one_could_be(ask):
    names = ("title", "risen", "possible", "before", "after", "lead", "quiet", "false_alarms")
    told = [tuple(row[name] for name in names) for row in ask("online_summary")]
    assert told == [
        ("training loss flat", 2, 1, 1, 0, 150, 2, 2),
        ("pathway distance", 2, 1, 1, 0, 100, 2, 1),
    ]


def test_the_baseline_heads_every_case(ask):
    rows = ask("lead_lag")
    assert len(rows) == 2 * len(CASES)
    assert {row["title"] for row in rows[::2]} == {"training loss flat"}
    assert {row["title"] for row in rows[1::2]} == {"pathway distance"}
    told = {(row["series"], row["domain"]): row["could_lead"] for row in rows}
    assert told == {
        ("main", "math"): True,
        ("main", "code"): False,
        ("shuffled", "math"): None,
        ("shuffled", "code"): None,
    }
