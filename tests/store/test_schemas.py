import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.schemas import TABLES, TYPES, conform, lookup

ROW = {"series": "main", "step": 25, "domain": "math", "loss": 3.5}


def test_every_table_and_column_explains_itself() -> None:
    for table in TABLES.values():
        assert table.description.endswith(".")
        for column in table.columns:
            assert len(column.description) > 10, (table.name, column.name)


def test_shared_columns_have_one_type_everywhere() -> None:
    for name, wanted in {"series": pa.string(), "step": pa.int64(), "domain": pa.string()}.items():
        types = {c.type for t in TABLES.values() for c in t.columns if c.name == name}
        assert types == {wanted}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_no_rows_conform_to_every_table(name: str) -> None:
    assert conform(name, []).schema == TABLES[name].schema


def test_numbers_are_cast() -> None:
    narrow = pa.table(
        {
            "loss": pa.array([3.5], pa.float32()),
            "step": pa.array([25], pa.int32()),
            "domain": pa.array(["math"]).dictionary_encode(),
            "series": ["main"],
        }
    )
    assert conform("loss_curve", narrow).to_pylist() == [ROW]


def test_nan_becomes_null_where_null_is_allowed() -> None:
    row = {"series": "a", "domain": "b", "step": 1, "monitor": "c", "value": math.nan}
    assert conform("curves", [row])["value"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**ROW, "los": 1.0}], "unknown column los; its columns are series, step, domain, loss"),
        ([{"series": "main", "step": 1, "loss": 1.0}], "missing column domain"),
        ([ROW, {"series": "main", "step": 1, "loss": 1.0}], "row 1 has no value for 'domain'"),
        ([{**ROW, "step": "late"}], "column step: expected int64"),
        ([{**ROW, "step": 2.5}], "column step: expected int64"),
        ([{**ROW, "loss": math.nan}], "column loss: 1 of 1 values are null or NaN"),
        ([{**ROW, "domain": None}], "column domain: 1 of 1 values are null"),
    ],
)
def test_what_does_not_fit_is_named(rows: list[dict], message: str) -> None:
    with pytest.raises(ValueError, match="table loss_curve") as caught:
        conform("loss_curve", rows)
    assert message in str(caught.value)


def test_doubled_column_is_refused() -> None:
    doubled = pa.Table.from_arrays([pa.array(["a"])] * 2, names=["series", "series"])
    with pytest.raises(ValueError, match="doubled column series"):
        conform("loss_curve", doubled)


def test_unknown_table_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no table 'curve'; did you mean 'curves'"):
        lookup("curve")


VALUES = {
    "series": st.sampled_from(["main", "shuffled"]),
    "domain": st.text(max_size=5),
    "step": st.integers(0, 2**62),
    "monitor": st.just("pathway_distance"),
    "value": st.none() | st.floats(allow_nan=False),
}


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=8),
    order=st.permutations(list(VALUES)),
)
def test_rows_and_tables_in_any_order_conform_alike(rows: list[dict], order: list[str]) -> None:
    from_rows = conform("curves", rows)
    types = {c.name: c.type for c in TABLES["curves"].columns}
    shuffled = pa.table({n: pa.array([row[n] for row in rows], types[n]) for n in order})
    assert conform("curves", shuffled).equals(from_rows)
    assert conform("curves", from_rows).equals(from_rows)
    assert from_rows.to_pylist() == [{n: row[n] for n in types} for row in rows]
    assert from_rows.schema.field("value").type == TYPES["real"]
