"""One finished smoke study, made once by the real flow and shared by the tests that read it."""

import os
import shutil

import pytest

from studies.load import load_study


@pytest.fixture(scope="session")
def smoke():
    """The smoke study as it ships."""
    return load_study("smoke")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, prefect_server, smoke):
    """Data folder of a finished smoke study; tests that change it take `copied`."""
    from flows.study import study_flow

    folder = tmp_path_factory.mktemp("smoke") / "data"
    os.environ["GROKPATH_ROOT"] = str(folder)
    try:
        study_flow(smoke)
    finally:
        del os.environ["GROKPATH_ROOT"]
    return folder


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """A copy of the finished study that a test may damage."""
    folder = tmp_path / "data"
    shutil.copytree(finished, folder, symlinks=True)
    monkeypatch.setenv("GROKPATH_ROOT", str(folder))
    return folder
