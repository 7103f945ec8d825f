"""Whether two warehouses hold the same numbers: for a change that must not move one.

python -m tests.golden record data/smoke/warehouse.duckdb before/    # sorted Parquet, a table each
python -m tests.golden compare before/ other/smoke/warehouse.duckdb  # exit code 1 if they differ
"""

import sys
from pathlib import Path

import duckdb

OF_THE_RUN = {"artifacts", "artifact_sizes"}
"""Tables of identities, times and bytes, which another run or another version may change."""


def record(warehouse: Path, folder: Path) -> None:
    """Write every table, sorted, to a Parquet file."""
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(warehouse), read_only=True) as db:
        for (table,) in db.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            file = folder / f"{table}.parquet"
            db.execute(f"COPY (FROM \"{table}\" ORDER BY ALL) TO '{file}'")


def differences(before: Path, warehouse: Path) -> list[str]:
    """What differs, a line per table; numbers are compared exactly."""
    found = []
    with duckdb.connect(str(warehouse), read_only=True) as db:
        names = {
            name for (name,) in db.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
        recorded = {file.stem for file in before.glob("*.parquet")}
        found += [f"{name}: only in one of them" for name in sorted(names ^ recorded)]
        for name in sorted(names & recorded - OF_THE_RUN):
            old, new = f"(FROM '{before / name}.parquet')", f'(FROM "{name}")'
            columns = [row[0] for row in db.execute(f"DESCRIBE {new}").fetchall()]
            if columns != [row[0] for row in db.execute(f"DESCRIBE {old}").fetchall()]:
                found.append(f"{name}: other columns")
                continue
            lost, added = (
                len(db.execute(f"{a} EXCEPT ALL {b}").fetchall())
                for a, b in ((old, new), (new, old))
            )
            if lost or added:
                found.append(f"{name}: {lost} rows are gone, {added} are new")
    return found


def main() -> int:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["record", warehouse, folder]:
            record(Path(warehouse), Path(folder))
            return 0
        case ["compare", before, warehouse]:
            found = differences(Path(before), Path(warehouse))
            print("\n".join(found) or "the same numbers")
            return bool(found)
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main())
