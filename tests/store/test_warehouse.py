import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store.schemas import TABLES, conform
from store.warehouse import (
    READING,
    WarehouseError,
    build,
    describe,
    query,
    view_definitions,
)
from tests.store.invented import NUM_DOCUMENTS, NUM_SAMPLES, STEPS, build_invented, invent_rows


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("empty") / "warehouse.duckdb"
    build({}, out)
    return out


def contents(database: Path) -> dict[str, list[dict]]:
    return {name: query(database, f"FROM {name}").to_pylist() for name in TABLES}


# ---------------------------------------------------------------- what is in it


def test_rows_come_back_as_they_went_in(database: Path) -> None:
    found = contents(database)
    for name, rows in invent_rows().items():
        columns = TABLES[name].column_names
        assert found[name] == [{c: row[c] for c in columns} for row in rows], name


def test_parquet_files_and_arrow_tables_give_the_same(database: Path, tmp_path: Path) -> None:
    files: dict[str, list[Path]] = {}
    for name, rows in invent_rows().items():
        table, half = conform(name, rows), len(rows) // 2
        # Columns in another order: files are read by name. Two files: in the order given.
        table = table.select(list(reversed(table.column_names)))
        files[name] = [tmp_path / f"{name}-{part}.parquet" for part in ("b", "a")]
        pq.write_table(table.slice(0, half), files[name][0], compression="zstd")
        pq.write_table(table.slice(half), files[name][1], compression="zstd")
    out = tmp_path / "new" / "warehouse.duckdb"
    build(files, out)
    assert contents(out) == contents(database)
    assert [f.name for f in out.parent.iterdir()] == ["warehouse.duckdb"]  # no log, no draft


def test_every_table_column_and_view_has_its_comment(database: Path) -> None:
    relations = {relation.name: relation for relation in describe(database)}
    assert set(relations) == {*TABLES, *view_definitions()}
    for table in TABLES.values():
        found = relations[table.name]
        assert (found.kind, found.description) == ("table", table.description)
        assert [(n, d) for n, _, d in found.columns] == [
            (c.name, c.description) for c in table.columns
        ]
    for name, (description, _) in view_definitions().items():
        assert (relations[name].kind, relations[name].description) == ("view", description)
    assert relations["curves"].num_rows == len(invent_rows()["curves"])
    assert ("loss", "DOUBLE") in [(n, t) for n, t, _ in relations["sample_losses"].columns]


@pytest.mark.parametrize("view", sorted(view_definitions()))
def test_every_view_runs_empty_and_filled(view: str, empty: Path, database: Path) -> None:
    assert query(empty, f"FROM {view}").num_rows == 0
    filled = query(database, f"FROM {view}")
    assert filled.num_rows > 0
    assert filled.schema.names == query(empty, f"FROM {view}").schema.names


# ---------------------------------------------------------------- what the views say


def test_monitor_vs_accuracy_joins_the_same_checkpoint(database: Path) -> None:
    rows = query(
        database,
        "SELECT role, step, tokens_seen, value, accuracy, training_loss, validation_loss "
        "FROM monitor_vs_accuracy WHERE series = 'main' AND domain = 'code' "
        "AND monitor = 'pathway_distance' AND step = 50",
    ).to_pylist()
    assert rows == [
        {
            "role": "main",
            "step": 50,
            "tokens_seen": 80_000,
            "value": 17.0,
            "accuracy": 0.4,
            "training_loss": 5 / 3,
            "validation_loss": 3.4,
        }
    ]
    monitors = query(database, "SELECT DISTINCT monitor FROM monitor_vs_accuracy").to_pydict()
    assert "accuracy" not in monitors["monitor"]
    total = query(database, "FROM monitor_vs_accuracy").num_rows
    assert total == sum(row["monitor"] != "accuracy" for row in invent_rows()["curves"])


def test_memorized_share_counts_up(database: Path) -> None:
    rows = query(
        database,
        "SELECT step, num_memorized, share_memorized, accuracy FROM memorized_vs_accuracy "
        "WHERE series = 'main' AND domain = 'math'",
    ).to_pydict()
    assert rows["step"] == list(STEPS)
    assert rows["num_memorized"] == [0, 2, 4, 5]
    assert rows["share_memorized"] == [n / NUM_SAMPLES for n in (0, 2, 4, 5)]
    assert rows["accuracy"] == [0.0, 0.2, 0.4, 0.8]


def test_generalized_share_and_delay(database: Path) -> None:
    shares = query(
        database,
        "SELECT share_generalized FROM generalized_share WHERE series = 'main' AND domain = 'math'",
    ).to_pydict()["share_generalized"]
    assert shares == [0.0, 0.0, 0.0, 4 / NUM_DOCUMENTS]


def test_delay_leaves_out_what_is_reached_at_the_final_step(tmp_path: Path) -> None:
    rows = invent_rows()
    for row in rows["generalization"]:
        learned = row["series"] == "main" and row["document_id"] < 3
        row["generalization_step"] = (50, 50, 100)[row["document_id"]] if learned else None
    rows["memorization_thresholds"][0]["in_range"] = True
    out = tmp_path / "warehouse.duckdb"
    build({name: conform(name, some) for name, some in rows.items()}, out)
    delays = query(out, "FROM generalization_delay WHERE domain = 'math'").to_pylist()
    assert delays == [
        {
            "series": series,
            "domain": "math",
            "num_memorized": 4,  # 25, 25, 50, 50; the fifth is memorized at the final step
            "num_generalized": num_generalized,
            "memorization_in_range": in_range,
            "is_memorized": is_memorized,
            "accuracy_rise": rise,
            "median_memorization_step": 25,  # the lower of the two in the middle
            "median_generalization_step": generalized,
            "delay": delay,
        }
        for series, num_generalized, in_range, is_memorized, rise, generalized, delay in (
            # The control, which cannot generalize, reaches 0.2: what counts lies above that.
            ("main", 2, True, True, pytest.approx(0.6), 50, 25),
            ("shuffled", 0, False, True, None, None, None),
        )
    ]


def test_the_correlation_table_shows_what_its_p_value_belongs_to(tmp_path: Path) -> None:
    rows = invent_rows()
    rows["correlations"][0] |= {"difference_pearson": -0.9, "difference_spearman": 0.5}
    out = tmp_path / "warehouse.duckdb"
    build({name: conform(name, some) for name, some in rows.items()}, out)
    shown = query(out, "FROM correlation_table").to_pydict()
    assert 0.5 in shown["detrended_spearman"]
    assert -0.9 not in {value for column in shown.values() for value in column}


def test_main_vs_control_stands_side_by_side(database: Path) -> None:
    rows = query(
        database,
        "SELECT main, control FROM main_vs_control WHERE domain = 'math' AND monitor = 'accuracy'",
    ).to_pydict()
    assert rows == {"main": [0.0, 0.2, 0.4, 0.8], "control": [0.2, 0.2, 0.2, 0.2]}


# ---------------------------------------------------------------- replacing it


def test_a_reader_keeps_the_old_file_and_the_next_sees_the_new(tmp_path: Path) -> None:
    out = build_invented(tmp_path / "warehouse.duckdb")
    question = "SELECT min(value) FROM curves WHERE monitor = 'pathway_distance'"
    with duckdb.connect(str(out), read_only=True, config=READING) as reader:
        build_invented(out, shift=100.0)
        assert reader.sql(question).fetchall() == [(15.0,)]
    assert query(out, question).to_pydict() == {'min("value")': [115.0]}


def test_a_build_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    out = build_invented(tmp_path / "warehouse.duckdb")
    before = out.read_bytes()
    wrong = tmp_path / "wrong.parquet"
    pq.write_table(pa.table({"series": ["main"]}), wrong)
    with pytest.raises(WarehouseError, match=r"curves: .*wrong.parquet has columns series string"):
        build({"curves": [wrong]}, out)
    wrong.unlink()
    assert out.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["warehouse.duckdb"]


def test_a_log_left_beside_the_old_file_goes_with_it(tmp_path: Path) -> None:
    out = build_invented(tmp_path / "warehouse.duckdb")
    (tmp_path / "warehouse.duckdb.wal").write_bytes(b"from another database")
    build_invented(out)
    assert query(out, "FROM study").num_rows == 1


def test_files_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    out = tmp_path / "warehouse.duckdb"
    with pytest.raises(WarehouseError, match=r"gone.parquet is missing or no Parquet file"):
        build({"curves": [tmp_path / "gone.parquet"]}, out)
    text = tmp_path / "text.parquet"
    step = pa.array(["late"])
    pq.write_table(conform("loss_curve", []).set_column(1, "step", step[:0]), text)
    with pytest.raises(
        WarehouseError, match=r"step string, .*; expected series string, step int64"
    ):
        build({"loss_curve": [text]}, out)
    nothing = tmp_path / "null.parquet"
    schema = pa.schema([f.with_nullable(True) for f in TABLES["loss_curve"].schema])
    pq.write_table(pa.Table.from_pylist([{"series": "main"}], schema=schema), nothing)
    with pytest.raises(WarehouseError, match=r"loss_curve, .*null.parquet: .*NOT NULL"):
        build({"loss_curve": [nothing]}, out)
    with pytest.raises(ValueError, match="did you mean 'curves'"):
        build({"curve": []}, out)
    assert not out.exists()


# ---------------------------------------------------------------- reading it


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM curves",
        "DROP TABLE curves",
        "CREATE TABLE mine AS SELECT 1",
        "COPY curves TO '{folder}/stolen.csv'",
        "FROM read_csv('{folder}/secret.csv')",
        "ATTACH '{folder}/other.duckdb'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
    ],
)
def test_nothing_but_reading_is_possible(sql: str, database: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    before = database.read_bytes()
    with pytest.raises(WarehouseError, match=r"read-only|disabled by configuration|locked"):
        query(database, sql.format(folder=tmp_path))
    assert database.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["secret.csv"]


def test_errors_teach(database: Path, tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="there is no warehouse; `grokpath run` makes one"):
        query(tmp_path / "warehouse.duckdb", "SELECT 1")
    with pytest.raises(WarehouseError, match=r"no_such_table does not exist[\s\S]*sql --tables"):
        query(database, "FROM no_such_table")
    with pytest.raises(WarehouseError, match="syntax error"):
        query(database, "SELEC 1")
    with pytest.raises(WarehouseError, match="the query returns nothing"):
        query(database, "")
    with pytest.raises(WarehouseError, match=r"more than one column 'a'; give each .* an alias"):
        query(database, "SELECT 1 AS a, 2 AS a, 3 AS b")
    with pytest.raises(WarehouseError, match="more than one column 'a', 'b'"):
        query(database, "FROM (SELECT 1 AS a, 2 AS b), (SELECT 1 AS a, 2 AS b)")
    assert query(database, "SELECT 1 AS a, 2 AS A").to_pylist() == [{"a": 1, "A": 2}]
    (tmp_path / "text.duckdb").write_text("no database " * 500)
    with pytest.raises(WarehouseError, match="no warehouse or a damaged one"):
        query(tmp_path / "text.duckdb", "SELECT 1")


def test_a_file_that_another_process_writes_is_explained(tmp_path: Path) -> None:
    out = tmp_path / "warehouse.duckdb"
    build({}, out)
    writer = f"import duckdb; c = duckdb.connect({str(out)!r}); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", writer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(WarehouseError, match="another process has it open for writing"):
            query(out, "SELECT 1")
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    assert query(out, "SELECT 1 AS one").to_pylist() == [{"one": 1}]
