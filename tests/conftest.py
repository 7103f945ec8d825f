"""What every test needs: a data folder of its own, quiet servers, repeatable hypothesis."""

import atexit
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from tests import servers
from tests.attempts import counted_bodies
from tests.browser import chromium
from tests.loopback_hub import LoopbackHub
from tests.throwaway_postgres import postgres_server

# Before Prefect is imported anywhere: no telemetry, no waiting for logs that nobody reads, and
# nothing of the user's own settings and results.
PREFECT_HOME = Path(tempfile.mkdtemp(prefix="grokpath-prefect-home-"))
atexit.register(shutil.rmtree, PREFECT_HOME, ignore_errors=True)
for name in [n for n in os.environ if n.startswith("PREFECT_")]:
    del os.environ[name]
os.environ["PREFECT_HOME"] = str(PREFECT_HOME)
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
# A server of Prefect's own, which some tests get by the way, has 20 seconds otherwise.
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "180"
os.environ.pop("MLFLOW_TRACKING_URI", None)

# huggingface_hub and datasets copy these into constants when they are imported, and worker
# processes inherit them: so there is one hub for the whole session, named before either can be
# imported, and nothing of the user's own cache or token is seen.
HUB = LoopbackHub()
HF_HOME = Path(tempfile.mkdtemp(prefix="grokpath-hf-home-"))
atexit.register(shutil.rmtree, HF_HOME, ignore_errors=True)
assert "huggingface_hub" not in sys.modules, "huggingface_hub was imported before its endpoint"
for name in [n for n in os.environ if n.startswith(("HF_", "HUGGING"))]:
    del os.environ[name]
os.environ |= {
    "HF_ENDPOINT": HUB.endpoint,
    "HF_HOME": str(HF_HOME),
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("repeatable")

ACCEPTANCE = (
    "operate/",
    "flows/test_production.py",
    "cluster/",
    "flows/test_watch.py",
    "flows/test_first_run.py",
    "flows/test_stopping.py",
    "flows/test_local.py",
    "deployments/",
    "flows/test_run_page.py",
    "tasks/test_task_page.py",
    "tasks/test_events.py",
    "evals/test_harness_hub.py",
    "flows/test_watching.py",
    "flows/test_runner.py",
    "reports/test_browser.py",
    "store/test_mlflow_pages.py",
)
"""The second tier, longest first: real servers, browsers, killed processes, whole studies."""


def pytest_collection_modifyitems(items):
    """Mark the second tier, and put what takes longest first; the order inside a file stays."""
    first = (*ACCEPTANCE, "flows/")  # one process would still be at them when the others are done
    place = {name: number for number, name in enumerate(first)}

    def rank(item):
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        if path.startswith(ACCEPTANCE):
            item.add_marker("acceptance")
        return min((place[name] for name in first if path.startswith(name)), default=len(place))

    items.sort(key=rank)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder, used by everything that asks for the root."""
    folder = tmp_path / "data"
    monkeypatch.setenv("GROKPATH_ROOT", str(folder))
    return folder


@pytest.fixture
def hub():
    """An empty model hub on loopback, which huggingface_hub and datasets take for the real one."""
    from huggingface_hub import HfFileSystem

    HUB.clear()
    HfFileSystem.clear_instance_cache()  # it keeps listings of repositories by name
    yield HUB
    HUB.clear()
    shutil.rmtree(HF_HOME, ignore_errors=True)


@pytest.fixture(scope="module")
def browser():
    """A real Chromium; the test skips itself, saying why, where there is none."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def postgres():
    """Address of a PostgreSQL server; the test skips itself where its programs are missing."""
    with postgres_server() as address:
        yield address


@pytest.fixture(scope="session", autouse=True)
def prefect_database(tmp_path_factory):
    """Tell tests.servers where the empty database is; made when the first server wants it."""
    make = servers.make_prefect_database
    servers.prefect_database = partial(made_once, tmp_path_factory, "empty-prefect", make)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory):
    """A real Prefect server with a database of its own, for the whole test session.

    Commands that tests run as processes start servers of their own; their database is ready too.
    """
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_SERVER_DATABASE_CONNECTION_URL,
        temporary_settings,
    )

    servers.give_prefect_database(PREFECT_HOME)
    home = tmp_path_factory.mktemp("prefect-server")
    with servers.prefect_at(home) as api_url:
        ours = {
            PREFECT_API_URL: api_url,
            PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        }
        with temporary_settings(ours):
            yield


def made_once(tmp_path_factory, name, make):
    """A folder that the first of the test processes to ask fills with `make(folder)`."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def smoke():
    """The smoke study as it ships."""
    from studies.load import load_study

    return load_study("smoke")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, prefect_server, smoke):
    """Data folder of a finished smoke study, by the real flow; tests that change it take `copied`.

    Made once for all tests that read it.
    """

    def make(folder):
        from flows.run import study_flow

        os.environ["GROKPATH_ROOT"] = str(folder)
        try:
            study_flow(smoke)
        finally:
            del os.environ["GROKPATH_ROOT"]

    return made_once(tmp_path_factory, "finished-smoke", make)


@pytest.fixture
def bodies():
    """How often each step's body ran to its end."""
    with counted_bodies() as counts:
        yield counts


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """A copy of the finished study that a test may damage."""
    folder = tmp_path / "data"
    shutil.copytree(finished, folder, symlinks=True)
    monkeypatch.setenv("GROKPATH_ROOT", str(folder))
    return folder
