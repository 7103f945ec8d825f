"""The invented warehouse, built once; tests only read it."""

from pathlib import Path

import pytest

from tests.store.invented import build_invented


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled warehouse."""
    return build_invented(tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb")
