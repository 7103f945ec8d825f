"""What every test needs: a data folder of its own, quiet servers, repeatable hypothesis."""

import os

import pytest
from hypothesis import settings

# Before Prefect is imported anywhere: no telemetry, and no waiting for logs that nobody reads.
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
os.environ.pop("MLFLOW_TRACKING_URI", None)

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("repeatable")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder, used by everything that asks for the root."""
    folder = tmp_path / "data"
    monkeypatch.setenv("GROKPATH_ROOT", str(folder))
    return folder


@pytest.fixture(scope="session")
def prefect_server():
    """A real Prefect server with a database of its own, for the whole test session."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
