"""What the documentation says, tried: paths exist, commands parse, the example study loads."""

import re
from pathlib import Path

import pytest
import yaml

from studies.load import load_study

HOUSE = Path(__file__).parent.parent
PAGES = [
    *(HOUSE / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((HOUSE / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(HOUSE).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_files_named_in_the_readme_exist():
    text = (HOUSE / "README.md").read_text()
    for name in re.findall(r"`((?:flows|tasks|studies|metrics|docs|tests)/[\w./-]+)`", text):
        assert (HOUSE / name).exists(), name


def test_the_example_study_loads(tmp_path):
    text = (HOUSE / "README.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "benchmarks").mkdir()
    for name in ("math_train.jsonl", "math_heldout.jsonl"):
        (tmp_path / name).write_text('{"text": "a b"}\n')
    study = load_study(tmp_path / "mine.yaml")
    assert study.domains[0].probes.limit == 2000


def test_commands_in_the_readme_exist():
    from typer.main import get_command

    from flows.cli import app

    text = (HOUSE / "README.md").read_text()
    assert set(get_command(app).commands) == set(re.findall(r"^\| `grokpath ([\w-]+)", text, re.M))


def test_make_help_names_every_target():
    import subprocess

    shown = subprocess.run(
        ["make", "help"], cwd=HOUSE, capture_output=True, text=True, check=True
    ).stdout
    targets = re.findall(r"^([a-z-]+):.*##", (HOUSE / "Makefile").read_text(), flags=re.MULTILINE)
    assert targets
    for target in targets:
        assert f"make {target}" in shown


def test_deployments_name_flows_that_exist():
    import importlib

    content = yaml.safe_load((HOUSE / "deployments" / "prefect.yaml").read_text())
    for deployment in content["deployments"]:
        file, flow = deployment["entrypoint"].split(":")
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        assert getattr(module, flow).name


def test_the_page_of_measures_is_up_to_date():
    from metrics.registry import markdown

    assert (HOUSE / "docs" / "measures.md").read_text(encoding="utf-8") == markdown(), (
        "run `make docs`"
    )
