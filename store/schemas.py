"""Every table of the warehouse, from `tables.yaml`: its columns, their types, units and ranges.

A task that writes a table passes its rows through :func:`conform`; :mod:`store.warehouse` creates
the tables from here and writes the descriptions into the database as comments, so that a table
explains itself.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

TYPES = {"text": pa.string(), "integer": pa.int64(), "real": pa.float64(), "boolean": pa.bool_()}
OR_NULL = " or null"


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type, what it holds (unit, range) and whether it may be null."""

    name: str
    type: pa.DataType
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One table of the warehouse: its name, what a row is, and its columns in order."""

    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The table as an Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)


def _read() -> dict[str, Table]:
    file = Path(__file__).with_name("tables.yaml")
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    shared = content["shared"]
    return {
        name: Table(
            name,
            table["is"],
            tuple(_column(c, text or shared[c]) for c, text in table["columns"].items()),
        )
        for name, table in content["tables"].items()
    }


def _column(name: str, text: str) -> Column:
    kind, _, description = text.partition("; ")
    nullable = kind.endswith(OR_NULL)
    return Column(name, TYPES[kind.removesuffix(OR_NULL)], description, nullable)


TABLES = _read()


def conform(
    table_name: str, rows: pa.Table | Sequence[Mapping[str, Any]], *, leave_out: Sequence[str] = ()
) -> pa.Table:
    """Cast rows to a table of the warehouse, or say what does not fit.

    Columns may come in any order. NaN means "no value": it becomes null where null is allowed and
    is refused elsewhere, because NaN sorts above every number in DuckDB.

    Parameters
    ----------
    table_name
        A key of :data:`TABLES`.
    rows
        An Arrow table, or one mapping per row with a value (or None) for every column.
    leave_out
        Columns that are put beside later, because an artifact does not know them.

    Returns
    -------
    pa.Table
        With exactly the table's schema.

    Raises
    ------
    ValueError
        Unknown table, unknown or missing column, a value of another type, null or NaN in a column
        that must have a value.

    Examples
    --------
    >>> conform("loss_curve", [{"series": "main", "step": 25, "domain": "math", "loss": 3.4}]).shape
    (1, 4)
    """
    table = lookup(table_name)
    columns_left = tuple(column for column in table.columns if column.name not in leave_out)
    table = replace(table, columns=columns_left)
    if isinstance(rows, pa.Table):
        _check_names(table, rows.column_names)
    elif rows:
        _check_names(table, sorted({name for row in rows for name in row}))
    columns = []
    for column in table.columns:
        values = rows[column.name] if isinstance(rows, pa.Table) else _values(table, column, rows)
        columns.append(_cast(table, column, values))
    return pa.Table.from_arrays(columns, schema=table.schema)


def write_rows(
    table_name: str,
    rows: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    leave_out: Sequence[str] = (),
) -> None:
    """Write conformed rows as `<table>.parquet`; columns left out are added when it is read."""
    table = conform(table_name, rows, leave_out=leave_out)
    pq.write_table(table, folder / f"{table_name}.parquet", compression="zstd")


def lookup(table_name: str) -> Table:
    """Definition of a table; an unknown name is answered with the nearest one."""
    if table_name not in TABLES:
        near = difflib.get_close_matches(table_name, TABLES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TABLES)}"
        raise ValueError(f"the warehouse has no table {table_name!r}; {hint}")
    return TABLES[table_name]


def _check_names(table: Table, given: Sequence[str]) -> None:
    unknown = [name for name in given if name not in table.column_names]
    missing = [name for name in table.column_names if name not in given]
    doubled = sorted({name for name in given if list(given).count(name) > 1})
    problems = [
        f"{what} column {', '.join(names)}"
        for what, names in (("unknown", unknown), ("missing", missing), ("doubled", doubled))
        if names
    ]
    if problems:
        raise ValueError(
            f"table {table.name}: {'; '.join(problems)}; its columns are "
            f"{', '.join(table.column_names)} (store/tables.yaml)"
        )


def _values(table: Table, column: Column, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    short = next((place for place, row in enumerate(rows) if column.name not in row), None)
    if short is not None:
        raise ValueError(f"table {table.name}: row {short} has no value for {column.name!r}")
    return [row[column.name] for row in rows]


def _cast(table: Table, column: Column, values: pa.ChunkedArray | list[Any]) -> pa.Array:
    try:
        if isinstance(values, list):
            # Converting to integers, Arrow would cut 2.5 to 2; a cast refuses.
            values = pa.array(values, type=None if column.type == TYPES["integer"] else column.type)
        array = values.cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ValueError(
            f"table {table.name}, column {column.name}: expected {column.type}: {error}"
        ) from error
    if column.type == TYPES["real"]:
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, TYPES["real"]), array)
    if array.null_count and not column.nullable:
        raise ValueError(
            f"table {table.name}, column {column.name}: {array.null_count} of {len(array)} values "
            f"are null or NaN; every row needs one ({column.description})"
        )
    return array
