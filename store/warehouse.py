"""The warehouse: one DuckDB file that holds every number of a study.

DuckDB lets one process write and shuts everybody else out while it does, so the file is never
written in place. :func:`build` makes a new one beside it and renames it over the old: who is
reading has the old file, who opens it next the new one, and a build that fails changes nothing.
The file can be built again from the artifacts at any time.

Tables come from :mod:`store.schemas`; each `sql/NN_name.sql` becomes the view `name`, and the
comment it starts with becomes the view's description.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from store.schemas import TABLES, Table, conform, lookup

VIEWS = Path(__file__).parent / "sql"
# Nothing is fetched from the network, whatever a query names.
OFFLINE = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
# A reader sees the database and nothing else of the machine, and cannot change that.
READING = {**OFFLINE, "enable_external_access": False, "lock_configuration": True}

Ask = Callable[[str], pa.Table]


class WarehouseError(ValueError):
    """A warehouse that cannot be built, opened or queried; the message says what to do."""


@dataclass(frozen=True)
class Relation:
    """One table or view of a warehouse, as `grokpath sql --tables` lists it."""

    name: str
    kind: str
    description: str
    num_rows: int
    columns: tuple[tuple[str, str, str], ...]
    """Name, type and description of each column; views have no column descriptions."""


def build(tables: Mapping[str, Sequence[Path] | pa.Table], out: Path) -> None:
    """Make a new database file with these tables and every view, and put it in place at once.

    Parameters
    ----------
    tables
        Per table its Parquet files (written through :func:`store.schemas.conform`) or its rows.
        Rows keep the order in which they are given; tables left out are created empty.
    out
        The database file; replaced when it exists.

    Raises
    ------
    ValueError
        Unknown table, a file that is missing or has other columns, null where a value must be. An
        existing database is left untouched.
    """
    for name in tables:
        lookup(name)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        draft = Path(folder) / out.name
        with duckdb.connect(str(draft), config=OFFLINE) as connection:
            connection.execute("BEGIN")  # one commit; each of some 200 comments would wait for disk
            for table in TABLES.values():
                _create(connection, table)
                _load(connection, table, tables.get(table.name, ()))
            for name, (description, select) in view_definitions().items():
                connection.execute(f"CREATE VIEW {name} AS {select}")
                connection.execute(f"COMMENT ON VIEW {name} IS {_quoted(description)}")
            connection.execute("COMMIT")
            connection.execute("CHECKPOINT")
        _sync(draft)
        # A log that somebody left beside the old file does not belong to the new one.
        out.with_name(f"{out.name}.wal").unlink(missing_ok=True)
        draft.replace(out)
        _sync(out.parent)


def query(path: Path, sql: str) -> pa.Table:
    """Run one SQL query against a warehouse; nothing but reading is possible.

    Raises
    ------
    WarehouseError
        The file is missing, locked or no database, DuckDB refuses the query, or two columns of
        the result have one name (rows as mappings would lose one of them).

    Examples
    --------
    >>> query(Path("grokpath-data/warehouse.duckdb"), "SELECT name FROM study")  # doctest: +SKIP
    """
    with reading(path) as ask:
        return ask(sql)


@contextmanager
def reading(path: Path) -> Iterator[Ask]:
    """Open a warehouse once for many queries; each is run, and may fail, as by :func:`query`."""
    with _connected(path) as connection:
        yield partial(_ask, connection)


def _ask(connection: duckdb.DuckDBPyConnection, sql: str) -> pa.Table:
    try:
        result = connection.sql(sql)
        if result is None:
            raise WarehouseError("the query returns nothing; give one SELECT statement")
        _check_names(result.columns)
        table: pa.Table = result.to_arrow_table()
    except duckdb.Error as error:
        raise WarehouseError(f"{error}\n(grokpath sql --tables lists what there is)") from error
    return table


def _check_names(columns: Sequence[str]) -> None:
    twice = [name for name, times in Counter(columns).items() if times > 1]
    if twice:
        raise WarehouseError(
            f"the result has more than one column {', '.join(map(repr, twice))}; give each a name "
            "of its own with an alias (SELECT a.value AS first, b.value AS second)"
        )


def describe(path: Path) -> tuple[Relation, ...]:
    """Tables, then views, of a warehouse with descriptions and row counts."""
    found = "SELECT {0}_name, comment FROM duckdb_{0}s() WHERE NOT internal ORDER BY 1"
    columns = (
        "SELECT column_name, data_type, coalesce(comment, '') FROM duckdb_columns() "
        "WHERE table_name = ? AND NOT internal ORDER BY column_index"
    )
    with _connected(path) as connection:
        return tuple(
            Relation(
                name=name,
                kind=kind,
                description=description or "",
                num_rows=connection.table(name).count("*").fetchall()[0][0],
                columns=tuple(connection.execute(columns, [name]).fetchall()),
            )
            for kind in ("table", "view")
            for name, description in connection.execute(found.format(kind)).fetchall()
        )


def view_definitions() -> dict[str, tuple[str, str]]:
    """Description and SELECT statement of every view, by name, in the order of their files."""
    definitions = {}
    for file in sorted(VIEWS.glob("*.sql")):
        lines = file.read_text(encoding="utf-8").splitlines()
        length = next(n for n, line in enumerate(lines) if not line.startswith("--"))
        description = " ".join(line.removeprefix("--").strip() for line in lines[:length])
        assert description, f"{file.name} does not start with a comment"
        name = file.stem.split("_", 1)[1]
        definitions[name] = description, "\n".join(lines[length:]).strip().removesuffix(";")
    return definitions


def _create(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    kinds = {pa.string(): "VARCHAR", pa.int64(): "BIGINT", pa.float64(): "DOUBLE"}
    columns = ", ".join(
        f'"{c.name}" {kinds.get(c.type, "BOOLEAN")}{"" if c.nullable else " NOT NULL"}'
        for c in table.columns
    )
    connection.execute(f"CREATE TABLE {table.name} ({columns})")
    connection.execute(f"COMMENT ON TABLE {table.name} IS {_quoted(table.description)}")
    for column in table.columns:
        connection.execute(
            f'COMMENT ON COLUMN {table.name}."{column.name}" IS {_quoted(column.description)}'
        )


def _load(
    connection: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[Path] | pa.Table
) -> None:
    if isinstance(rows, pa.Table):
        connection.register("incoming", conform(table.name, rows))
        connection.execute(f"INSERT INTO {table.name} FROM incoming")
        connection.unregister("incoming")
        return
    for file in rows:
        _check_file(table, file)
    if rows:
        names = [str(file) for file in rows]
        try:
            connection.execute(
                f"INSERT INTO {table.name} BY NAME SELECT * FROM read_parquet(?)", [names]
            )
        except duckdb.Error as error:
            raise WarehouseError(f"table {table.name}, {_some(names)}: {error}") from error


def _check_file(table: Table, file: Path) -> None:
    """Refuse a Parquet file whose columns are not the table's: an INSERT would cast silently."""
    try:
        found = pq.read_schema(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise WarehouseError(
            f"table {table.name}: {file} is missing or no Parquet file; make its artifact again"
        ) from error
    wanted = {column.name: column.type for column in table.columns}
    if dict(zip(found.names, found.types, strict=True)) != wanted:
        raise WarehouseError(
            f"table {table.name}: {file} has columns "
            f"{', '.join(f'{n} {t}' for n, t in zip(found.names, found.types, strict=True))}; "
            f"expected {', '.join(f'{n} {t}' for n, t in wanted.items())}; write it through "
            "store.schemas.conform"
        )


@contextmanager
def _connected(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    if not path.is_file():
        raise WarehouseError(f"{path}: there is no warehouse; `grokpath run` makes one")
    try:
        connection = duckdb.connect(str(path), read_only=True, config=READING)
    except duckdb.Error as error:
        hint = (
            "another process has it open for writing; close that one, or copy the file"
            if "Could not set lock" in str(error)
            else "it is no warehouse or a damaged one; `grokpath run` makes it again"
        )
        raise WarehouseError(f"{path}: cannot be opened: {hint} ({error})") from error
    with connection:
        yield connection


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
