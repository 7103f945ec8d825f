"""Generalization and pairing of documents that are right or wrong, or neither."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from metrics.grokking import NEVER
from store.artifacts import Artifact
from store.identity import Label
from store.tensors import RoutingTensors, save_routing
from studies.settings import GeneralizationSpec, MemorizationSpec, PairingSpec, Runtime
from tasks.analysis import find_generalization, find_memorization
from tasks.pairing import pair_groups_by_text

STEPS = [0, 10, 20]
ASKED = [("math", "exam"), ("math", "shares"), ("prose", "exam")]
NUM = 4


@pytest.fixture
def write(root):
    """Write tables as an artifact's files."""

    def artifact(name, summary=None, **tables):
        made = Artifact(
            step_name=name, version=1, fingerprint=name, digest="0" * 64, summary=summary or {}
        )
        made.path.mkdir(parents=True)
        for table, rows in tables.items():
            pq.write_table(pa.Table.from_pylist(rows), made.path / f"{table}.parquet")
        return made

    return artifact


def key(domain, benchmark, number):
    return {"domain": domain, "benchmark": benchmark, "document_id": number}


def value_at(place, domain, benchmark, number):
    """Right from the second checkpoint on; shares that are all 0 at first."""
    if benchmark == "shares":
        return 0.2 * place * number
    return float(place >= 1 and (domain == "math" or number == 0))


@pytest.fixture
def found(write, tmp_path):
    scores = []
    for place in range(len(STEPS)):
        rows = [
            {**key(*asked, number), "value": value_at(place, *asked, number)}
            for asked in ASKED
            for number in range(NUM)
        ]
        for row in rows:
            share = row["benchmark"] == "shares" and place > 0
            row["correct"] = None if share else row["value"] == 1
        data = {f"{d}/{b}": {"documents_digest": "same"} for d, b in ASKED}
        scores.append(write(f"scores{place}", {"data": data}, benchmark_documents=rows))
    documents = [key(*asked, number) for asked in ASKED for number in range(NUM)]
    marked = [{**one, "marked": one["document_id"] == 3, "removed": False} for one in documents]
    contamination = write(
        "contamination",
        contamination=marked,
        documents=[{**one, "text": f"text {one['document_id']}"} for one in documents],
    )
    summary = find_generalization.body(
        tmp_path,
        label=None,
        steps=STEPS,
        scores=scores,
        contamination=contamination,
        settings=GeneralizationSpec(),
        runtime=Runtime(),
    )
    return tmp_path, summary, contamination


def table(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_accuracy_is_the_mean_of_the_values_by_domain(found):
    folder, _, _ = found
    means = {
        (row["domain"], row["benchmark"], row["step"]): row["value"]
        for row in table(folder, "clean_scores")
    }
    assert means["math", "exam", 20] == 1.0
    assert means["prose", "exam", 20] == 0.25
    assert means["math", "shares", 0] == 0.0
    assert means["math", "shares", 20] == pytest.approx(0.4 * (0 + 1 + 2 + 3) / 4)


def test_shares_are_generalized_at_no_step_and_said_so(found):
    folder, summary, _ = found
    rows = table(folder, "generalization")
    assert {(row["domain"], row["benchmark"]) for row in rows} == {
        ("math", "exam"),
        ("prose", "exam"),
    }
    steps = {(r["domain"], r["document_id"]): r["generalization_step"] for r in rows}
    assert steps["math", 0] == steps["prose", 0] != NEVER
    assert steps["prose", 1] is None
    assert summary["without_steps"] == ["math/shares"]
    assert summary["by_domain"] == {"math": {"generalized": 1.0}, "prose": {"generalized": 0.25}}


@pytest.mark.parametrize(
    ("benchmark", "said"), [("shares", "share per document"), ("exam", None)], ids=str
)
def test_pairs_are_those_of_the_domain_and_say_why_there_are_none(write, found, benchmark, said):
    folder, summary, contamination = found
    generalization = write(
        "generalization", summary, generalization=table(folder, "generalization")
    )
    texts = [
        {"domain": "math", "split": "probe", "sample_id": n, "text": f"text {n}"} for n in range(6)
    ]
    learned = [{"domain": "math", "sample_id": n, "memorization_step": 10} for n in range(6)]
    out = folder / "pairs"
    out.mkdir()
    pair_groups_by_text.body(
        out,
        label=None,
        probes=write("probes", probes=texts),
        memorization=write("memorization", memorization=learned),
        generalization=generalization,
        contamination=contamination,
        accuracy={"math": benchmark},
        pairing=PairingSpec(min_group_size=2),
        runtime=Runtime(),
    )
    (row,) = table(out, "pairing")
    if said is None:
        assert (row["num_documents"], row["note"]) == (NUM, None)  # prose has one more
    else:
        assert row["delay"] is None
        assert said in row["note"]


def test_with_nothing_but_shares_there_are_scores_and_no_steps(write, tmp_path):
    rows = [
        {
            **key("math", "shares", n),
            "value": 0.1 * n,
            "correct": pa.scalar(None, pa.bool_()).as_py(),
        }
        for n in range(NUM)
    ]
    scores = [
        write(
            f"s{at}", {"data": {"math/shares": {"documents_digest": "d"}}}, benchmark_documents=rows
        )
        for at in range(2)
    ]
    marked = [{**key("math", "shares", n), "marked": False, "removed": False} for n in range(NUM)]
    summary = find_generalization.body(
        tmp_path,
        label=None,
        steps=STEPS[:2],
        scores=scores,
        contamination=write("c", contamination=marked),
        settings=GeneralizationSpec(),
        runtime=Runtime(),
    )
    assert table(tmp_path, "generalization") == []
    assert summary["share"] is None
    assert [row["value"] for row in table(tmp_path, "clean_scores")] == pytest.approx([0.15] * 2)


def test_memorization_needs_no_more_memory_than_the_losses(tmp_path):
    """Six checkpoints of real size took 246 MB for 0.24 MB of losses."""
    rng, num_samples, num_checkpoints = np.random.default_rng(0), 500, 8
    routing = []
    for number in range(num_checkpoints):
        folder = tmp_path / f"routing{number}"
        folder.mkdir()
        tensors = RoutingTensors(
            sample_ids_N=np.arange(num_samples),
            routing_weights_NLK=rng.random((num_samples, 16, 64), dtype=np.float32),
            losses_N=rng.random(num_samples) / (number + 1),
            num_tokens_N=np.full(num_samples, 9, np.int32),
            num_counted_N=np.full(num_samples, 8, np.int32),
        )
        save_routing(tensors, folder / "math.probe.npz")
        routing.append(SimpleNamespace(path=folder))
    out = tmp_path / "out"
    out.mkdir()
    settings = {
        "label": Label("main"),
        "steps": list(range(num_checkpoints)),
        "domains": ["math"],
        "settings": MemorizationSpec(),
        "sensitivity": None,
        "runtime": Runtime(),
    }
    find_memorization.body(out, routing=routing, **settings)  # imports what it imports
    tracemalloc.start()
    find_memorization.body(out, routing=routing, **settings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    of_one_checkpoint = num_samples * 16 * 64 * 4
    assert peak < of_one_checkpoint / 2
