"""The command line as a user meets it: a process, its output, its exit code."""

import os
import subprocess
import sys

import pytest

from studies.load import shipped_studies


def grokpath(*words, cwd, root=None, env=None):
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *(["--root", str(root)] if root else []), *words],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "120", **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_help_teaches_and_names_every_command(tmp_path):
    done = grokpath("--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("run", "plan", "status", "report", "sql", "verify", "nano", "GROKPATH_ROOT"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["run", "plan", "status", "report", "sql", "verify"])
def test_every_command_has_help(command, tmp_path):
    done = grokpath(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys, flows.cli; "
        "heavy = {'torch', 'prefect', 'mlflow', 'duckdb', 'numpy', 'pandas', 'transformers'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["run", "plan", "status", "report"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("name: x\nseries: []\n", "series"),
        ("pathways: {treshold: 1}\n", "did you mean 'threshold'"),
        (": [", "not readable as YAML"),
    ],
)
def test_a_bad_study_is_one_message_and_exit_code_2(command, content, told, tmp_path):
    (tmp_path / "bad.yaml").write_text(content)
    done = grokpath(command, "bad.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "bad.yaml" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "grokpath-data").exists()


def test_an_unknown_study(tmp_path):
    done = grokpath("run", "nanno", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'nano'?" in done.stderr


def test_plan_of_a_new_study_does_nothing(tmp_path):
    done = grokpath("plan", "smoke", cwd=tmp_path)
    assert done.returncode == 0
    assert "smoke: 95 steps, 0 reused, 95 to be run" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_status_of_a_finished_study(finished, tmp_path):
    done = grokpath("status", "smoke", cwd=tmp_path, root=finished)
    assert done.returncode == 0
    assert "complete: all 95 steps are there" in done.stdout
    assert done.stdout.count("✓") == 95
    assert "step40-tokens12.8K" in done.stdout


def test_status_shows_what_is_missing(copied, tmp_path):
    from store import artifacts

    artifacts.discard(next((copied / "artifacts" / "benchmarks").iterdir()))
    done = grokpath("status", "smoke", cwd=tmp_path, root=copied)
    assert done.returncode == 3
    assert "·" in done.stdout
    assert "are missing: grokpath run smoke" in done.stdout


def test_report_says_where_it_is(finished, tmp_path):
    done = grokpath("report", "smoke", cwd=tmp_path, root=finished)
    assert done.returncode == 0
    assert done.stdout.strip() == str(finished / "smoke" / "report.html")


def test_a_report_older_than_its_study_says_so(finished, tmp_path):
    shipped = shipped_studies()["smoke"].read_text()
    (tmp_path / "changed.yaml").write_text(shipped.replace("num_permutations: 199", "seed: 7"))
    done = grokpath("report", "changed.yaml", cwd=tmp_path, root=finished)
    assert done.returncode == 0
    assert done.stdout.strip() == str(finished / "smoke" / "report.html")
    assert "older than the study file" in done.stderr
    assert "older" not in grokpath("report", "smoke", cwd=tmp_path, root=finished).stderr


def test_report_before_there_is_one(tmp_path):
    done = grokpath("report", "smoke", cwd=tmp_path)
    assert done.returncode == 3
    assert "grokpath run smoke" in done.stderr


def test_sql_answers_in_three_formats(finished, tmp_path):
    ask = ["sql", "--study", "smoke", "select series, role from series order by position"]
    table = grokpath(*ask, cwd=tmp_path, root=finished)
    assert table.returncode == 0
    assert "main" in table.stdout
    csv = grokpath(*ask, "--format", "csv", cwd=tmp_path, root=finished)
    assert csv.stdout == "series,role\nmain,main\nshuffled,control\ndense,variant\n"
    json = grokpath(*ask, "--format", "json", cwd=tmp_path, root=finished)
    assert '"role": "control"' in json.stdout


def test_sql_lists_what_there_is(finished, tmp_path):
    done = grokpath("sql", "--study", "smoke", "--tables", cwd=tmp_path, root=finished)
    assert done.returncode == 0
    assert "correlation_table" in done.stdout
    assert "sample_losses" in done.stdout


@pytest.mark.parametrize("statement", ["select * from nowhere", "drop table series", "selec 1"])
def test_bad_sql_is_told_without_a_traceback(statement, finished, tmp_path):
    done = grokpath("sql", "--study", "smoke", statement, cwd=tmp_path, root=finished)
    assert done.returncode == 1
    assert done.stderr.startswith("failed: ")
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly(finished, tmp_path):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "flows.cli", "--root", str(finished), "sql"),
            *("--study", "smoke", "select * from benchmark_documents", "--format", "csv"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 0
    assert process.stderr.read() == b""


def test_verify_finds_a_changed_byte(copied, tmp_path):
    whole = grokpath("verify", cwd=tmp_path, root=copied)
    assert whole.returncode == 0
    assert "artifacts, none damaged" in whole.stdout
    victim = next((copied / "artifacts" / "routing").glob("*/math.probe.npz"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    damaged = grokpath("verify", cwd=tmp_path, root=copied)
    assert damaged.returncode == 1
    assert "math.probe.npz has changed" in damaged.stdout


def test_a_local_folder_without_checkpoints_is_told(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "probes.jsonl").write_text('{"text": "a b c"}\n')
    (tmp_path / "mine.yaml").write_text(
        "name: mine\n"
        "series: [{name: main, source: {kind: local, path: checkpoints}}]\n"
        "domains: [{name: math, probes: {kind: jsonl, path: probes.jsonl}}]\n"
    )
    done = grokpath("plan", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "step1000-tokens2B" in done.stderr or "step" in done.stderr
    assert "Traceback" not in done.stderr
