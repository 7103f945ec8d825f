"""A study over a folder of checkpoints, as a training run writes them, that grows."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from flows.run import study_flow
from store.warehouse import query
from studies.load import load_study
from tests.flows.test_cli import grokpath

STEPS = {0: "step0-tokens0", 10: "step10-tokens3.2K", 20: "step20-tokens6.4K"}


def checkpoints_of(finished):
    """Checkpoint folders of the smoke study's main series, by name."""
    for folder in (finished / "artifacts" / "pretraining").iterdir():
        inputs = json.loads((folder / "record.json").read_text())["inputs"]
        if not inputs["shuffle_answers"] and not inputs["pretraining"]["model"]["dense"]:
            return folder / "checkpoints"
    raise AssertionError("the smoke study has no main series")


@pytest.fixture
def workplace(finished, tmp_path):
    """Checkpoints at steps 0 and 10, probes and a benchmark as files, and the study over them."""
    for step in (0, 10):
        shutil.copytree(
            checkpoints_of(finished) / STEPS[step], tmp_path / "checkpoints" / STEPS[step]
        )
    rows = query(
        finished / "smoke" / "warehouse.duckdb",
        "select text from probes where series = 'main' and domain = 'math' and split = 'probe' "
        "order by sample_id limit 60",
    ).to_pylist()
    with (tmp_path / "probes.jsonl").open("w") as file:
        for row in rows:
            prompt, answer = row["text"].rsplit(" ", 1)
            file.write(json.dumps({"question": prompt, "answer": answer}) + "\n")
    (items,) = (finished / "artifacts" / "benchmark-items").iterdir()
    shutil.copytree(items, tmp_path / "benchmarks", ignore=shutil.ignore_patterns("re*.json"))
    study = {
        "name": "mine",
        "series": [{"name": "main", "source": {"kind": "local", "path": "checkpoints"}}],
        "domains": [
            {
                "name": "math",
                "probes": {
                    "kind": "jsonl",
                    "path": "probes.jsonl",
                    "text_field": "question",
                    "answer_field": "answer",
                },
                "benchmarks": [{"name": "nano_math_choice", "metric": "acc"}],
            }
        ],
        "evaluation": {"tasks_folder": "benchmarks", "limit": 20},
        "runtime": {"workers": 1},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    return tmp_path


def test_a_growing_folder_is_measured_checkpoint_by_checkpoint(workplace, finished, root, bodies):
    paths = study_flow(load_study(workplace / "mine.yaml"))
    assert bodies["routing"] == bodies["pathways"] == bodies["benchmarks"] == 2
    bodies.clear()
    shutil.copytree(checkpoints_of(finished) / STEPS[20], workplace / "checkpoints" / STEPS[20])
    paths = study_flow(load_study(workplace / "mine.yaml"))
    assert bodies["routing"] == bodies["pathways"] == bodies["benchmarks"] == 1

    mine = query(
        Path(paths["warehouse"]), "select step, sample_id, loss from sample_losses"
    ).to_pylist()
    assert {row["step"] for row in mine} == {0, 10, 20}
    theirs = query(
        finished / "smoke" / "warehouse.duckdb",
        "select l.step, l.loss from sample_losses l where series = 'main' and domain = 'math' "
        "and split = 'probe' and step <= 20 order by step, sample_id",
    ).to_pylist()
    for step in (0, 10, 20):
        ours = [row["loss"] for row in mine if row["step"] == step]
        same = [row["loss"] for row in theirs if row["step"] == step][:60]
        assert ours == pytest.approx(same, abs=1e-5)
    report = (root / "mine" / "report.html").read_text()
    assert "not available, because" in report.lower()


def test_a_control_is_measured_on_its_own_probes(workplace, root):
    lines = (workplace / "probes.jsonl").read_text().splitlines()
    (workplace / "other.jsonl").write_text("\n".join(reversed(lines[:20])) + "\n")
    study = yaml.safe_load((workplace / "mine.yaml").read_text())
    probes = study["domains"][0]["probes"] | {"path": "other.jsonl"}
    study["series"].append(
        study["series"][0] | {"name": "control", "role": "control", "probes": {"math": probes}}
    )
    (workplace / "mine.yaml").write_text(yaml.safe_dump(study))
    paths = study_flow(load_study(workplace / "mine.yaml"))
    counts = query(
        Path(paths["warehouse"]),
        "select series, count(*) as n, first(text order by sample_id) as text from probes "
        "group by series order by n",
    ).to_pylist()
    assert [(row["series"], row["n"]) for row in counts] == [("control", 20), ("main", 60)]
    assert counts[0]["text"] != counts[1]["text"]


def test_a_missing_step_is_told(workplace, root):
    study = yaml.safe_load((workplace / "mine.yaml").read_text())
    study["series"][0]["source"]["steps"] = [0, 30]
    (workplace / "mine.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(ValueError, match="no checkpoint for step 30; found steps 0, 10"):
        study_flow(load_study(workplace / "mine.yaml"))


def test_the_same_weights_under_two_names_are_refused(workplace, root):
    shutil.copytree(
        workplace / "checkpoints" / STEPS[10], workplace / "checkpoints" / "step11-tokens3.3K"
    )
    with pytest.raises(ValueError, match="identical, byte for byte"):
        study_flow(load_study(workplace / "mine.yaml"))


def changed(workplace, **domain):
    """The study with other fields in its one domain."""
    study = yaml.safe_load((workplace / "mine.yaml").read_text())
    study["domains"][0].update(domain)
    (workplace / "mine.yaml").write_text(yaml.safe_dump(study))
    return load_study(workplace / "mine.yaml")


def test_one_checkpoint_without_a_benchmark_is_measured_and_says_what_it_lacks(workplace, root):
    shutil.rmtree(workplace / "checkpoints" / STEPS[10])
    paths = study_flow(changed(workplace, benchmarks=[]))

    def ask(sql):
        return query(Path(paths["warehouse"]), sql).to_pylist()

    assert ask("select count(*) as n from pathway_metrics where scope = 'domain'")[0]["n"] > 0
    assert ask("from correlations") == ask("from clean_scores") == ask("from pairing") == []
    assert "too few changes" in ask("select note from router_dynamics")[0]["note"]
    assert "fewer than 4" in ask("select note from trend_fits")[0]["note"]
    told = ask("select note from routing_measures where measure = 'signature_separation'")
    assert "two domains" in told[0]["note"]
    assert "Not available, because no accuracy was measured" in Path(paths["report"]).read_text()


def test_samples_that_are_all_alike_leave_measures_out_and_nothing_crashes(workplace, root):
    line = (workplace / "probes.jsonl").read_text().splitlines()[0]
    (workplace / "probes.jsonl").write_text(f"{line}\n" * 3)
    probes = load_study(workplace / "mine.yaml").domains[0].probes.model_dump(mode="json")
    paths = study_flow(changed(workplace, probes=probes | {"duplicates": "keep"}))
    rows = query(
        Path(paths["warehouse"]), "select measure, note from routing_measures where value is null"
    ).to_pylist()
    missing = {row["measure"] for row in rows}
    assert {"kernel_alignment", "likeness_answer", "answer_variance_share"} <= missing
    assert all(row["note"].startswith("not available, because") for row in rows)


def test_a_single_sample_is_refused_before_anything_is_measured(workplace, root):
    line = (workplace / "probes.jsonl").read_text().splitlines()[0]
    (workplace / "probes.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match="domain 'math' has 1 probe sample, expected at least 2"):
        study_flow(load_study(workplace / "mine.yaml"))


def test_a_checkpoint_with_fewer_layers_is_named(workplace, root):
    config = workplace / "checkpoints" / STEPS[10] / "config.json"
    shape = json.loads(config.read_text())
    shape["num_hidden_layers"] -= 1
    config.write_text(json.dumps(shape))
    with pytest.raises(ValueError, match=rf"{STEPS[10]} has num_hidden_layers 2, {STEPS[0]} has 3"):
        study_flow(load_study(workplace / "mine.yaml"))


def test_weights_that_are_no_numbers_stop_with_checkpoint_and_tensor(workplace, root):
    file = workplace / "checkpoints" / STEPS[10] / "model.safetensors"
    weights = load_file(file)
    weights["model.layers.1.mlp.gate.weight"] = weights["model.layers.1.mlp.gate.weight"] * np.nan
    save_file(weights, file, metadata={"format": "pt"})
    said = rf"{STEPS[10]} holds NaN in model\.layers\.1\.mlp\.gate\.weight"
    with pytest.raises(ValueError, match=said):
        study_flow(load_study(workplace / "mine.yaml"))


def test_a_broken_checkpoint_can_be_left_out_by_name_and_the_report_says_so(workplace, root):
    broken = workplace / "checkpoints" / "step20-tokens6.4K"
    shutil.copytree(workplace / "checkpoints" / STEPS[10], broken)
    weights = load_file(broken / "model.safetensors")
    weights["lm_head.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    file = workplace / "mine.yaml"
    with pytest.raises(ValueError, match=r"holds NaN in lm_head.weight(.|\n)*skip_steps"):
        study_flow(load_study(file))
    study = yaml.safe_load(file.read_text())
    study["series"][0]["source"]["skip_steps"] = [20]
    file.write_text(yaml.safe_dump(study))
    paths = study_flow(load_study(file))
    rows = query(Path(paths["warehouse"]), "select * from left_out").to_pylist()
    assert rows == [
        {
            "series": "main",
            "revision": "step20-tokens6.4K",
            "step": 20,
            "reason": "the study skips its step",
        }
    ]
    page = Path(paths["report"]).read_text()
    assert "Checkpoint step20-tokens6.4K of main is left out: the study skips its step." in page
    for command in ("plan", "status", "report"):
        done = grokpath(command, str(file), cwd=workplace, root=root)
        assert "left out: step20-tokens6.4K of series main" in done.stderr, command
        assert done.returncode == 0


def test_commands_name_a_checkpoint_that_was_cut_after_it_was_measured(workplace, root, finished):
    shutil.copytree(checkpoints_of(finished) / STEPS[20], workplace / "checkpoints" / STEPS[20])
    study_flow(load_study(workplace / "mine.yaml"))
    weights = workplace / "checkpoints" / STEPS[10] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    done = grokpath("plan", str(workplace / "mine.yaml"), cwd=workplace, root=root)
    assert "left out: step10-tokens3.2K of series main: it was complete before" in done.stderr
    study_flow(load_study(workplace / "mine.yaml"))
    page = (root / "mine" / "report.html").read_text()
    assert "Checkpoint step10-tokens3.2K of main is left out: it was complete before" in page
