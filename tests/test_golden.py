"""The comparison of warehouses finds one number that moved in its last bit."""

import math

import duckdb
import pytest

from tests.golden import differences, record


@pytest.fixture
def warehouse(tmp_path):
    """Write a warehouse of one table with some values."""

    def write(name, values, table="curves"):
        file = tmp_path / f"{name}.duckdb"
        with duckdb.connect(str(file)) as db:
            db.execute(f"CREATE TABLE {table} (step BIGINT, value DOUBLE)")
            db.executemany(f"INSERT INTO {table} VALUES (?, ?)", list(enumerate(values)))
        return file

    return write


def test_what_moved_is_found_and_what_did_not_is_not(warehouse, tmp_path):
    values = [0.1, 2.0, None]
    record(warehouse("one", values), tmp_path / "before")
    assert differences(tmp_path / "before", warehouse("same", values)) == []
    moved = warehouse("moved", [math.nextafter(0.1, 1), 2.0, None])
    assert differences(tmp_path / "before", moved) == ["curves: 1 rows are gone, 1 are new"]
    fewer = warehouse("fewer", values[:2])
    assert differences(tmp_path / "before", fewer) == ["curves: 1 rows are gone, 0 are new"]
    other = warehouse("other", values, table="scores")
    assert differences(tmp_path / "before", other) == [
        "curves: only in one of them",
        "scores: only in one of them",
    ]
