"""Every query on the page of queries, asked of the finished smoke study."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from store.warehouse import query

PAGE = (Path(__file__).parents[2] / "docs" / "queries.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```sql\n(.*?)```\n\n((?:\|[^\n]*\n)+)", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def answers(finished):
    """Rows by number of the block."""
    warehouse = finished / "smoke" / "warehouse.duckdb"
    return [query(warehouse, statement) for statement, _ in SHOWN]


def test_there_are_ten_and_each_has_its_output():
    assert re.findall(r"^## (\d+)\. ", PAGE, flags=re.MULTILINE) == [str(n) for n in range(1, 11)]
    assert len(SHOWN) == PAGE.count("```sql") == 11  # the last has two


@pytest.mark.parametrize("number", range(len(SHOWN)))
def test_a_query_gives_the_columns_and_as_many_rows_as_shown(answers, number):
    header, _, *shown = SHOWN[number][1].strip().splitlines()
    assert answers[number].column_names == [name.strip() for name in header.strip("| ").split("|")]
    if shown[-1].startswith("| …"):
        assert answers[number].num_rows > len(shown) - 1
    else:
        assert answers[number].num_rows == len(shown)


def test_what_the_page_shows_is_what_the_study_gives(answers):
    assert answers[0].to_pylist()[0] == {
        "series": "main",
        "role": "main",
        "checkpoints": 5,
        "first_step": 0,
        "last_step": 40,
        "experts": 4,
        "layers": 3,
    }
    assert [row["step"] for row in answers[1].to_pylist()] == [0, 10, 20, 30, 40]
    assert all(row["verdict"].startswith("cannot tell") for row in answers[2].to_pylist())
    assert all(row["main_moves"] is not None for row in answers[3].to_pylist())


def test_numbers_that_hang_together_do(answers):
    losses = [row["loss"] for row in answers[5].to_pylist()]
    assert losses == sorted(losses, reverse=True)
    pathways = answers[6].to_pylist()
    assert pathways[0]["changed"] is None
    for before, after in pairwise(pathways):
        assert (after["changed"] == 0) == (before["pathway"] == after["pathway"])
    for row in answers[7].to_pylist():
        assert row["balanced"] <= row["share"] <= 1
    for row in answers[8].to_pylist():
        assert row["learned"] + row["lost"] + row["always_right"] <= row["documents"] == 40
