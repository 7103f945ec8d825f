"""The whole path on the smoke study: what a second run does, and whether the numbers agree."""

import json

import numpy as np
import pytest

from flows.run import study_flow
from flows.study import plan_study
from metrics.pathways import pathway_strings
from store import artifacts
from store.warehouse import query


def one_of(folder, step_name):
    return next(p for p in sorted((folder / "artifacts" / step_name).iterdir()) if p.is_dir())


def test_everything_is_there(finished, smoke):
    for name in ("report.html", "warehouse.duckdb", "figures"):
        assert (finished / smoke.name / name).exists()
    assert (finished / "mlflow.db").exists()
    assert "<html" in (finished / smoke.name / "report.html").read_text()


def test_every_artifact_is_whole(finished, monkeypatch):
    monkeypatch.setenv("GROKPATH_ROOT", str(finished))
    folders = list(artifacts.all_artifacts())
    assert len(folders) == len({f.name for f in folders})
    assert {str(f): artifacts.verify(f) for f in folders} == {str(f): [] for f in folders}


def test_nothing_is_left_half_done(finished):
    assert not list(finished.rglob(".draft-*"))
    assert not list(finished.rglob("*.part"))
    assert not list(finished.rglob("*.wal"))


def test_a_second_run_executes_no_body(copied, smoke, bodies):
    study_flow(smoke)
    assert bodies == {}


def test_a_deleted_artifact_is_made_again_alone(copied, smoke, bodies):
    artifacts.discard(one_of(copied, "routing"))
    study_flow(smoke)
    assert bodies == {"routing": 1}


def test_a_corrupted_artifact_is_made_again_alone(copied, smoke, bodies):
    damaged = one_of(copied, "pathways") / "pathway_metrics.parquet"
    content = damaged.read_bytes()
    damaged.write_bytes(b"nonsense")
    study_flow(smoke)
    assert bodies == {"pathways": 1}
    assert damaged.read_bytes() == content


def test_a_field_of_analysis_reruns_analysis_alone(copied, smoke, bodies):
    changed = smoke.model_copy(
        update={"analysis": smoke.analysis.model_copy(update={"num_permutations": 499})}
    )
    study_flow(changed)
    assert bodies == {"monitors": 1, "sensitivity": 1, "warehouse": 1, "report": 1, "tracking": 1}


def test_titles_rerun_nothing_but_what_shows_them(copied, smoke):
    domains = tuple(d.model_copy(update={"title": d.title + "!"}) for d in smoke.domains)
    plan = plan_study(smoke.model_copy(update={"domains": domains}))
    waiting = {name for name, (total, reused) in plan.counts().items() if reused < total}
    assert waiting == {"warehouse", "report", "tracking"}


def test_another_benchmark_leaves_probes_and_routing_alone(copied, smoke):
    first = smoke.domains[0].model_copy(update={"benchmarks": smoke.domains[0].benchmarks[:1]})
    plan = plan_study(smoke.model_copy(update={"domains": (first, *smoke.domains[1:])}))
    counts = plan.counts()
    for name in ("probes", "routing", "pathways", "memorization", "groups"):
        assert counts[name][0] == counts[name][1], name
    assert counts["benchmarks"] == (13, 0)


def test_a_run_that_is_gone_from_mlflow_is_exported_again(copied, smoke, bodies):
    for file in copied.glob("mlflow.db*"):
        file.unlink()
    study_flow(smoke)
    assert bodies == {"tracking": 1}


def test_a_plan_of_a_finished_study_has_nothing_to_do(copied, smoke):
    plan = plan_study(smoke)
    assert all(reused == total for total, reused in plan.counts().values())
    assert plan.counts()["routing"] == (13, 13)


def test_a_plan_of_a_new_study_does_nothing(root, smoke):
    plan = plan_study(smoke)
    assert all(reused == 0 for _, reused in plan.counts().values())
    assert len(plan.entries) == 95
    assert not root.exists()


# ---------------------------------------------------------------- numbers, recomputed by hand


@pytest.fixture
def warehouse(finished, smoke):
    path = finished / smoke.name / "warehouse.duckdb"

    def rows(sql):
        return query(path, sql).to_pylist()

    return rows


@pytest.fixture
def last_checkpoint(finished):
    """The last checkpoint of the main series, loaded without any code of ours."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record = next(
        json.loads((p / "record.json").read_text())
        for p in sorted((finished / "artifacts" / "pretraining").iterdir())
        if json.loads((p / "record.json").read_text())["inputs"]["shuffle_answers"] is False
    )
    folder = (
        finished
        / "artifacts"
        / "pretraining"
        / f"v{record['version']}-{record['fingerprint']}"
        / "checkpoints"
        / sorted(record["summary"]["digests"], key=lambda n: int(n[4:].split("-")[0]))[-1]
    )
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def run_sample(model, tokenizer, text):
    """Routing weights [L, K] of the prompt and loss of the answer, straight from transformers."""
    import torch

    gates = [layer.mlp.gate for layer in model.model.layers]
    captured = []
    hooks = [
        gate.register_forward_hook(lambda m, args, _: captured.append(args[0] @ m.weight.T))
        for gate in gates
    ]
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
    with torch.no_grad():
        logits = model(ids).logits[0]
    for hook in hooks:
        hook.remove()
    weights_LTK = torch.stack([c.reshape(ids.shape[1], -1).softmax(-1) for c in captured])
    loss = -logits[-2].log_softmax(-1)[ids[0, -1]]
    return weights_LTK[:, :-1].mean(1).numpy(), float(loss)


def test_loss_pathway_and_score_agree_with_a_recomputation(warehouse, last_checkpoint):
    model, tokenizer = last_checkpoint
    rows = warehouse(
        """
        select p.text, l.loss, s.pathway
        from probes p
        join sample_losses l using (series, domain, split, sample_id)
        join sample_pathways s using (series, domain, sample_id, step)
        where p.series = 'main' and p.split = 'probe' and p.domain = 'math' and l.step = 40
        order by sample_id limit 25
        """
    )
    assert len(rows) == 25
    for row in rows:
        weights_LK, loss = run_sample(model, tokenizer, row["text"])
        assert row["loss"] == pytest.approx(loss, abs=2e-5)
        assert row["pathway"] == pathway_strings(weights_LK[np.newaxis], 0.7)[0]


def test_exact_match_agrees_with_a_greedy_answer(warehouse, last_checkpoint, finished):
    import torch

    model, tokenizer = last_checkpoint
    items = {
        item["document_id"]: item
        for line in (one_of(finished, "benchmark-items") / "math.jsonl").read_text().splitlines()
        for item in [json.loads(line)]
    }
    rows = warehouse(
        "select document_id, correct from benchmark_documents "
        "where series = 'main' and step = 40 and benchmark = 'nano_math_exact'"
    )
    assert len(rows) == 40
    for row in rows:
        item = items[row["document_id"]]
        ids = torch.tensor([tokenizer.encode(item["prompt"], add_special_tokens=False)])
        with torch.no_grad():
            answer = tokenizer.decode(model(ids).logits[0, -1].argmax())
        assert row["correct"] == (answer.strip() == item["answer"])
    (score,) = warehouse(
        "select value from benchmark_scores "
        "where series = 'main' and step = 40 and benchmark = 'nano_math_exact'"
    )
    assert score["value"] == pytest.approx(np.mean([row["correct"] for row in rows]))


def test_correlations_agree_with_numpy(warehouse):
    rows = warehouse(
        """
        select c.series, c.domain, c.monitor, c.pearson,
               array_agg(m.value order by m.step) as monitor_values,
               array_agg(a.value order by a.step) as accuracy
        from correlations c
        join curves m using (series, domain, monitor)
        join curves a on a.series = m.series and a.domain = m.domain and a.step = m.step
             and a.monitor = 'accuracy'
        where c."window" = 'all' and c.pearson is not null
        group by all
        """
    )
    assert rows
    for row in rows:
        expected = np.corrcoef(row["monitor_values"], row["accuracy"])[0, 1]
        assert row["pearson"] == pytest.approx(expected, abs=1e-9)


def test_mlflow_and_the_warehouse_hold_the_same_numbers(warehouse, finished, smoke):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(smoke.name)
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(children) == 13
    curves = warehouse("select * from curves where value is not null")
    by_key = {(c["series"], c["step"], c["monitor"], c["domain"]): c["value"] for c in curves}
    compared = 0
    for child in children:
        series, step = child.data.params["series"], int(child.data.params["step"])
        for (s, t, monitor, domain), value in by_key.items():
            if (s, t) == (series, step):
                assert child.data.metrics[f"{monitor}_{domain}"] == pytest.approx(value)
                compared += 1
    assert compared == len(by_key)
    history = client.get_metric_history(parent.info.run_id, "main/math/pathway_distance")
    assert {h.step: h.value for h in history} == pytest.approx(
        {
            t: v
            for (s, t, m, d), v in by_key.items()
            if (s, m, d) == ("main", "pathway_distance", "math")
        }
    )


def test_every_series_has_every_checkpoint_in_every_table(warehouse):
    for table in ("sample_losses", "pathway_metrics", "benchmark_scores", "curves", "bound"):
        rows = warehouse(f"select series, count(distinct step) as n from {table} group by series")
        assert {row["series"]: row["n"] for row in rows} == {
            "main": 5,
            "shuffled": 5,
            "dense": 3,
        }, table
