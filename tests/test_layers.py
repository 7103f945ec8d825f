"""The architecture as a test: which room may import which, and one door per outside system."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
ROOMS = (
    "flows",
    "tasks",
    "models",
    "evals",
    "metrics",
    "hub",
    "store",
    "reports",
    "studies",
    "deployments",
)
MAY_IMPORT = {
    "studies": set(),
    "metrics": set(),
    "store": {"studies"},
    "models": {"hub", "studies"},
    "evals": {"studies"},
    "reports": {"store", "studies"},
    "hub": {"store", "studies"},
    "tasks": {"models", "evals", "metrics", "hub", "store", "reports", "studies"},
    "deployments": {"store", "studies"},
    "flows": {"deployments", "tasks", "store", "studies"},
}
DOORS = {
    "duckdb": {"store/warehouse.py"},
    "mlflow": {
        *(f"store/{name}.py" for name in ("tracking", "telling", "unreachable")),
        "deployments/mlflow_server.py",
    },
    "lm_eval": {
        f"evals/{name}.py"
        for name in ("catalog", "checks", "harness", "kept_tasks", "tasks/dart_math/grading")
    },
    "distributed": {"flows/dask_runner.py", "tasks/cluster.py"},
    "fsspec": {"store/shared.py"},
    "peft": {"models/adapters.py"},
    "datasets": {"hub/streams.py", "evals/harness.py"},
    "huggingface_hub": {"hub/connection.py"},
    "httpx2": {"hub/connection.py"},
}


def modules():
    return [
        path.relative_to(HOUSE) for room in ROOMS for path in sorted((HOUSE / room).rglob("*.py"))
    ]


def imported(path, *, top_only=False):
    """First names of what a module imports; only what runs at import when asked."""
    tree = ast.parse((HOUSE / path).read_text())
    nodes = tree.body if top_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", modules(), ids=str)
def test_no_import_climbs(path):
    room = path.parts[0]
    climbing = imported(path) & set(ROOMS) - MAY_IMPORT[room] - {room}
    assert not climbing, f"{path} imports {climbing}; {room} may import {MAY_IMPORT[room]}"


@pytest.mark.parametrize(("package", "doors"), DOORS.items(), ids=list(DOORS))
def test_one_door_per_outside_system(package, doors):
    found = {path.as_posix() for path in modules() if package in imported(path)}
    assert found == doors


@pytest.mark.parametrize("path", [p for p in modules() if p.parts[0] == "metrics"], ids=str)
def test_the_science_knows_no_files_and_no_frameworks(path):
    assert not imported(path) & {"torch", "prefect", "pathlib", "os", "transformers", "pyarrow"}


@pytest.mark.parametrize("path", [p for p in modules() if p.parts[0] == "flows"], ids=str)
def test_flows_only_call(path):
    assert not imported(path) & {"torch", "numpy", "pandas", "duckdb", "mlflow", "pyarrow"}


@pytest.mark.parametrize(
    "path", [p for p in modules() if p.parts[0] in ("tasks", "flows", "store", "studies")], ids=str
)
def test_heavy_libraries_are_imported_where_they_are_used(path):
    heavy = {"torch", "transformers", "lm_eval", "altair", "numba", "datasets", "peft"}
    assert not imported(path, top_only=True) & heavy
