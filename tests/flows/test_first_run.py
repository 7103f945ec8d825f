"""The first run on somebody else's machine: proxies, passwords, no home, strange working folders.

Each of these ended the run once, some after two minutes of silence.
"""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from store import artifacts
from tests.servers import CHECKOUT, give_prefect_database

pytestmark = pytest.mark.timeout(1200)

NOWHERE = "http://127.0.0.1:9"
BY_PROXY = {"http_proxy": NOWHERE, "HTTPS_PROXY": NOWHERE, "no_proxy": "localhost,127.0.0.0/8,::1"}
FOR_ANOTHER_SERVER = {
    "PREFECT_SERVER_API_AUTH_STRING": "admin:secret",
    "PREFECT_SERVER_API_BASE_PATH": "/prefect",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nowhere/prefect.db",
}
CONDITIONS = {
    "http_proxy": {"http_proxy": NOWHERE},
    "http_proxy, with a range as exception": BY_PROXY,
    "a password for another server": FOR_ANOTHER_SERVER,
    "no home": {"HOME": "/proc/nowhere"},
    "flows.py in the working folder": {},
}


def grokpath(root, cwd, *words, **env):
    """The command in an environment of its own: no Prefect home, no settings of these tests."""
    root.mkdir(parents=True, exist_ok=True)
    if words[0] == "run":
        give_prefect_database(root / "prefect")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "HF_"))}
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *words],
        cwd=cwd,
        env={
            **inherited,
            "HOME": str(cwd),
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONSAFEPATH": "1",  # as the installed command has it
            "GROKPATH_ROOT": str(root),
            "HF_HUB_OFFLINE": "1",
            **env,
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture
def strange(tmp_path):
    """A working folder with modules of our names in it."""
    folder = tmp_path / "strange"
    (folder / "tasks").mkdir(parents=True)
    for name in ("flows.py", "store.py", "tasks/__init__.py"):
        (folder / name).write_text("raise SystemExit('not ours')\n")
    return folder


@pytest.fixture
def nearly(copied):
    """The finished smoke study without its report and one checkpoint's pathways."""
    for step in ("report", "pathways"):
        artifacts.discard(next((copied / "artifacts" / step).iterdir()))
    shutil.rmtree(copied / "smoke")
    return copied


@pytest.mark.parametrize("condition", CONDITIONS)
def test_smoke_comes_to_its_report(condition, nearly, strange):
    done = grokpath(nearly, strange, "run", "smoke", **CONDITIONS[condition])
    assert done.returncode == 0, done.stdout + done.stderr
    assert (nearly / "smoke" / "report.html").exists()
    assert set(done.stderr.splitlines()) <= {"waiting for the temporary Prefect server"}


def test_all_of_it_at_once_and_from_nothing(tmp_path, strange):
    root = tmp_path / "it's a folder"
    env = {**BY_PROXY, **FOR_ANOTHER_SERVER, "HOME": "/proc/nowhere"}
    done = grokpath(root, strange, "run", "smoke", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (root / "smoke" / "report.html").exists()
    assert sorted(path.name for path in strange.iterdir()) == ["flows.py", "store.py", "tasks"]
    assert (root / "prefect" / "prefect.db").exists()


def test_the_users_own_prefect_database_is_left_alone(nearly, strange):
    theirs = strange / ".prefect" / "prefect.db"
    theirs.parent.mkdir()
    theirs.write_bytes(b"of an older Prefect")
    done = grokpath(nearly, strange, "run", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert theirs.read_bytes() == b"of an older Prefect"


def test_mlflow_out_of_reach_is_found_out_before_anything_is_computed(tmp_path, strange):
    root = tmp_path / "data"
    done = grokpath(root, strange, "run", "smoke", MLFLOW_TRACKING_URI=NOWHERE)
    assert done.returncode == 1
    assert f"{NOWHERE} does not answer as an MLflow server" in done.stderr
    assert "MLFLOW_TRACKING_URI" in done.stderr
    assert list((root / "artifacts").iterdir()) == []


@contextmanager
def healthy_only():
    """A server that answers as if it were healthy and then serves nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_report_is_delivered_although_its_export_fails(nearly, strange):
    with healthy_only() as address:
        done = grokpath(nearly, strange, "run", "smoke", MLFLOW_TRACKING_URI=address)
    assert done.returncode == 1
    assert f"{address} does not answer as an MLflow server" in done.stderr
    report = nearly / "smoke" / "report.html"
    assert f"the report and the warehouse are finished: {report}" in done.stderr
    assert report.exists()


@pytest.mark.parametrize("name", ["what?", "all [x]", "a*"])
def test_a_data_folder_whose_path_is_a_pattern_is_refused(name, tmp_path, strange):
    done = grokpath(tmp_path / name, strange, "run", "smoke")
    assert done.returncode == 1
    assert "cannot be the data folder" in done.stderr
    assert "--root" in done.stderr


def test_the_process_ends_with_its_work(tmp_path):
    """Exit handlers are the last thing that happens; the interpreter is not taken down."""
    code = (
        "import atexit, os, sys; from flows.console import run_and_leave\n"
        "class Kept:\n"
        "    def __del__(self): os.write(1, b'taken down')\n"
        "kept = Kept()\n"
        "def command():\n"
        "    atexit.register(lambda: print('handlers run'))\n"
        "    sys.exit(3)\n"
        "run_and_leave(command)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "handlers run\n", "")


@pytest.mark.parametrize(("study", "code"), [("nothing", 2), ("nano", 3)])
def test_exit_codes_are_what_they_were(study, code, tmp_path, strange):
    assert grokpath(tmp_path / "data", strange, "report", study).returncode == code
