"""What the finished smoke study holds beyond the paper's main path."""

import json

import numpy as np
import pytest

from metrics.registry import REGISTRY
from store.artifacts import Artifact
from store.schemas import TABLES
from store.tensors import load_kernel, load_tokens, save_tokens
from store.warehouse import query
from studies.settings import ContaminationSpec, EvaluationSpec, Runtime
from studies.spec import Benchmark
from tasks.contamination import find_contamination
from tasks.dynamics import measure_drift


@pytest.fixture
def ask(finished, smoke):
    def rows(sql):
        return query(finished / smoke.name / "warehouse.duckdb", sql).to_pylist()

    return rows


def folders(finished, step_name):
    return sorted(p for p in (finished / "artifacts" / step_name).iterdir() if p.is_dir())


def test_every_table_has_rows(ask):
    empty = {name for name in TABLES if not ask(f"select count(*) as n from {name}")[0]["n"]}
    assert empty == {"ablation_scores", "tuning_loss", "left_out"}, "nothing is tuned or left out"


def test_every_measure_in_the_warehouse_is_in_the_registry(ask):
    found = {row["m"] for row in ask("select distinct measure as m from routing_measures")}
    found |= {row["m"] for row in ask("select distinct metric as m from pathway_metrics")}
    found |= {row["m"] for row in ask("select distinct monitor as m from curves")}
    assert found - set(REGISTRY) == {"accuracy"}
    told = {row["monitor"] for row in ask("select monitor from monitors")}
    assert told == set(REGISTRY)


def test_no_number_is_nan_and_what_is_missing_says_why(ask):
    for table in ("routing_measures", "pathway_metrics"):
        assert ask(f"select * from {table} where isnan(value) or isinf(value)") == []
        assert ask(f"select * from {table} where value is null and note is null") == []


def test_the_dense_twin_has_pathways_and_no_tangent_kernel(ask, finished):
    kernels = ask("select distinct series, kernel from bound order by all")
    assert {r["series"] for r in kernels if r["kernel"] == "tangent"} == {"main", "shuffled"}
    assert {r["series"] for r in kernels if r["kernel"] == "gating"} == {
        "main",
        "shuffled",
        "dense",
    }
    kinds = {r["kind"] for r in ask("select kind from parameter_norms where series = 'dense'")}
    assert "router" not in kinds


def test_the_global_distance_is_over_the_pairs_of_all_domains(ask):
    rows = ask(
        """select g.value, d.value as inside, g.num_samples, d.num_samples as fewer
        from pathway_metrics g join pathway_metrics d using (series, step, metric)
        where g.scope = 'global' and d.scope = 'domain' and metric = 'num_ill_conditioned'"""
    )
    assert rows
    assert all(row["num_samples"] > row["fewer"] for row in rows)
    assert all(row["value"] >= row["inside"] for row in rows)
    pairs = ask("select distinct num_pairs as n from pathway_metrics where scope = 'global'")
    assert {row["n"] for row in pairs} == {None, 20_000}


def test_tangent_kernels_have_a_mean_diagonal_of_one(finished):
    files = [f for folder in folders(finished, "routing") for f in folder.glob("*.tangent.npz")]
    assert len(files) == 2 * 10  # two domains, ten checkpoints of mixtures
    kernel = load_kernel(files[0])
    assert kernel.kernel_NN.diagonal().mean() == pytest.approx(1, rel=1e-5)
    assert kernel.scale > 0


def test_accuracy_is_the_score_of_the_documents_that_were_kept(ask):
    rows = ask(
        """select c.value, avg(d.correct::int) as by_hand, count(*) as kept
        from clean_scores c join benchmark_documents d using (series, step, domain, benchmark)
        join contamination using (series, domain, benchmark, document_id)
        where not removed group by c.series, c.step, c.benchmark, c.value"""
    )
    assert rows
    assert all(row["value"] == pytest.approx(row["by_hand"]) for row in rows)
    shares = ask("select avg(removed::int) as share from contamination group by series, benchmark")
    assert [row["share"] for row in shares] == pytest.approx([0.1] * len(shares))
    used = ask(
        """select max(abs(u.value - c.value)) as gap from curves u join domains using (domain)
        join clean_scores c using (series, step, domain, benchmark) where monitor = 'accuracy'"""
    )
    assert used[0]["gap"] == 0


def test_grouped_texts_hold_every_sample_once(finished, ask):
    folder = folders(finished, "pairing")[0] / "groups" / "math"
    for kind in ("pretrain", "test"):
        lines = [
            json.loads(line)
            for file in folder.glob(f"{kind}@*.jsonl")
            for line in file.read_text(encoding="utf-8").splitlines()
        ]
        ids = [line["id"] for line in lines]
        assert len(ids) == len(set(ids)) > 10
        assert all(line["text"] for line in lines)


def test_the_last_checkpoint_is_saturated_and_drift_is_symmetric_in_name_only(ask):
    last = ask(
        """select distinct value from routing_measures where measure = 'saturation_top_k'
        qualify step = max(step) over (partition by series)"""
    )
    assert last == [{"value": 1.0}]
    assert ask("select * from drift where step_a > step_b") == []
    same = ask("select distinct top_k_overlap as o from drift where step_a = step_b")
    assert same == [{"o": 1.0}]


def test_drift_refuses_checkpoints_that_were_measured_on_other_tokens(
    tmp_path, monkeypatch, finished
):
    tokens = load_tokens(folders(finished, "routing")[0] / "math.tokens.npz")
    monkeypatch.setenv("GROKPATH_ROOT", str(tmp_path))
    made = []
    for name, shift in (("a", 0), ("b", 1)):
        artifact = reference_in(tmp_path, name)
        changed = tokens.token_ids_T + shift
        fields = {**vars(tokens), "token_ids_T": changed.astype(np.int32)}
        save_tokens(type(tokens)(**fields), artifact.path / "math.tokens.npz")
        made.append(artifact)
    with pytest.raises(ValueError, match="step 10 was measured on other tokens of domain 'math'"):
        measure_drift.body(
            tmp_path, label=None, steps=[0, 10], routing=made, domains=["math"], runtime=Runtime()
        )


def reference_in(root, name):
    artifact = Artifact(
        step_name="routing",
        version=2,
        fingerprint=name * 20,
        digest="0" * 64,
        summary={"model": {"top_k": 1}},
    )
    artifact.path.mkdir(parents=True)
    return artifact


def test_with_nothing_to_remove_no_model_is_loaded(tmp_path, finished):
    class Untouched:
        def __getattr__(self, name):
            raise AssertionError(f"the checkpoint was asked for its {name}")

    class Items:
        path = folders(finished, "benchmark-items")[0]

    summary = find_contamination.body(
        tmp_path,
        label=None,
        last=Untouched(),
        benchmarks={"math": [Benchmark(name="nano_math_exact", metric="exact_match")]},
        definitions={},
        items=Items(),
        commits={},
        evaluation=EvaluationSpec(limit=8),
        contamination=ContaminationSpec(removed_share=0.0),
        runtime=Runtime(),
    )
    assert summary == {"num_marked": 0, "num_removed": 0, "num_documents": 8}
