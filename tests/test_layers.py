"""The architecture as a test: which room may import which, and one door per outside system."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
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
        *(f"store/{name}.py" for name in ("tracking", "mlflow_run")),
        "deployments/services.py",
    },
    "lm_eval": {
        f"evals/{name}.py"
        for name in ("catalog", "checks", "harness", "cached_tasks", "tasks/dart_math/grading")
    },
    "distributed": {"flows/dask_runner.py", "tasks/workers.py"},
    "fsspec": {"store/shared.py"},
    "peft": {"models/adapters.py"},
    "datasets": {"hub/streams.py", "evals/harness.py"},
    "huggingface_hub": {"hub/connection.py"},
    "httpx2": {"hub/connection.py"},
}
NOT_IN = {
    "metrics": {"torch", "prefect", "pathlib", "os", "transformers", "pyarrow"},
    "flows": {"torch", "numpy", "pandas", "duckdb", "mlflow", "pyarrow"},
}
HEAVY = {"torch", "transformers", "lm_eval", "altair", "numba", "datasets", "peft"}
MODULES = {
    path.relative_to(HOUSE).as_posix(): ast.parse(path.read_text())
    for room in MAY_IMPORT
    for path in sorted((HOUSE / room).rglob("*.py"))
}


def imported(name, *, top_only=False):
    """Full names of what a module imports; only what runs at import when `top_only`."""
    tree = MODULES[name]
    names = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def packages(name, **how):
    return {one.partition(".")[0] for one in imported(name, **how)}


def in_rooms(*rooms):
    return [name for name in MODULES if name.partition("/")[0] in rooms]


def test_no_import_climbs():
    climbing = {}
    for name in MODULES:
        room = name.partition("/")[0]
        if found := packages(name) & set(MAY_IMPORT) - MAY_IMPORT[room] - {room}:
            climbing[name] = found
    assert climbing == {}


def test_no_modules_import_each_other():
    """Not even where only a type checker looks."""
    by_module = {name.removesuffix(".py").replace("/", "."): name for name in MODULES}
    graph = {
        module: {one for one in imported(name) if one in by_module and one != module}
        for module, name in by_module.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(("package", "doors"), DOORS.items(), ids=list(DOORS))
def test_one_door_per_outside_system(package, doors):
    assert {name for name in MODULES if package in packages(name)} == doors


@pytest.mark.parametrize(("room", "strangers"), NOT_IN.items(), ids=list(NOT_IN))
def test_the_science_knows_no_files_and_flows_only_call(room, strangers):
    found = {name: packages(name) & strangers for name in in_rooms(room)}
    assert {name: some for name, some in found.items() if some} == {}


def test_heavy_libraries_are_imported_where_they_are_used():
    rooms = in_rooms("tasks", "flows", "store", "studies")
    found = {name: packages(name, top_only=True) & HEAVY for name in rooms}
    assert {name: some for name, some in found.items() if some} == {}


def test_looking_at_a_study_needs_no_prefect_and_no_mlflow():
    code = "import sys, flows.study; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOUSE, check=True, capture_output=True, text=True
    )
    assert not {"prefect", "mlflow", "torch", "scipy", "pandas", "duckdb"} & set(
        done.stdout.split()
    )
