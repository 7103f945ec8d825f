"""The cache decision, on the real steps `corpus` and `benchmark-items` in a real Prefect flow."""

import shutil
import threading
from contextvars import copy_context

import pytest
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from store import artifacts, state
from store.identity import Label
from studies.nano_model import CorpusSpec
from studies.settings import Runtime
from tasks.checkpoints import make_benchmark_items, make_corpus
from tasks.graph import Graph
from tasks.listeners import listening
from tasks.plan import Plan
from tasks.prefect_task import submit, task_of
from tasks.step import failed_step

pytestmark = pytest.mark.usefixtures("root", "prefect_server")
SPEC = CorpusSpec(modulus=7)
RUNTIME = Runtime(workers=1)
MAIN = Label("main")


@flow(task_runner=ThreadPoolTaskRunner(max_workers=4))
def two_steps(spec: CorpusSpec, runtime: Runtime) -> list:
    corpus = submit(make_corpus, {"label": MAIN, "corpus": spec, "runtime": runtime})
    items = submit(make_benchmark_items, {"label": MAIN, "corpus": corpus, "runtime": runtime})
    return [corpus.result(), items.result()]


def run_again(bodies, spec=SPEC, runtime=RUNTIME):
    """Run the flow; which bodies ran this time."""
    bodies.clear()
    made = two_steps(spec, runtime)
    return made, dict(bodies)


def test_the_second_run_executes_no_body(bodies):
    first, ran = run_again(bodies)
    assert ran == {"corpus": 1, "benchmark-items": 1}
    second, ran = run_again(bodies)
    assert ran == {}
    assert second == first


def test_runtime_does_not_make_a_step_new(bodies):
    run_again(bodies)
    _, ran = run_again(bodies, runtime=Runtime(workers=1, batch_size=7))
    assert ran == {}


def test_a_changed_setting_makes_it_and_its_readers_new(bodies):
    (corpus, _), _ = run_again(bodies)
    (other, _), ran = run_again(bodies, spec=CorpusSpec(modulus=7, seed=1))
    assert ran == {"corpus": 1, "benchmark-items": 1}
    assert other.fingerprint != corpus.fingerprint
    assert corpus.path.exists()


def test_a_deleted_artifact_is_made_again_alone(bodies):
    (_, items), _ = run_again(bodies)
    artifacts.discard(items.path)
    made, ran = run_again(bodies)
    assert ran == {"benchmark-items": 1}
    assert made[1] == items


def test_readers_of_a_rebuilt_input_are_reused_when_its_content_is_the_same(bodies):
    (corpus, _), _ = run_again(bodies)
    artifacts.discard(corpus.path)
    made, ran = run_again(bodies)
    assert ran == {"corpus": 1}
    assert made[0].digest == corpus.digest


def test_a_corrupted_artifact_is_found_and_made_again(bodies):
    (_, items), _ = run_again(bodies)
    file = items.path / "math.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-10])
    _, ran = run_again(bodies)
    assert ran == {"benchmark-items": 1}
    assert file.read_bytes() == content


def test_a_lost_prefect_record_costs_no_work(bodies):
    (corpus, _), _ = run_again(bodies)
    (corpus.path / artifacts.RESULT).unlink()
    started = artifacts.read_record(corpus.path)["started_at"]
    _, ran = run_again(bodies)
    assert ran == {}
    assert artifacts.read_record(corpus.path)["started_at"] == started


def test_a_prefect_record_of_another_artifact_is_not_believed(bodies):
    (corpus, _), _ = run_again(bodies)
    (other, _), _ = run_again(bodies, spec=CorpusSpec(modulus=7, seed=1))
    shutil.copy(other.path / artifacts.RESULT, corpus.path / artifacts.RESULT)
    made, ran = run_again(bodies)
    assert ran == {}
    assert made[0] == corpus


def test_a_root_that_was_moved_is_reused(bodies, root, monkeypatch):
    first, _ = run_again(bodies)
    root.rename(root.with_name("elsewhere"))
    monkeypatch.setenv("GROKPATH_ROOT", str(root.with_name("elsewhere")))
    made, ran = run_again(bodies)
    assert ran == {}
    assert made == first


def test_two_runs_at_once_make_it_once(bodies):
    # A thread begins without Prefect's settings: it would start a server of its own.
    threads = [
        threading.Thread(target=copy_context().run, args=(two_steps, SPEC, RUNTIME))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert bodies == {"benchmark-items": 1, "corpus": 1}


def test_a_failing_body_leaves_nothing_and_the_next_run_succeeds(bodies, root):
    (corpus, items), _ = run_again(bodies)
    artifacts.discard(items.path)
    samples = corpus.path / "samples.parquet"
    content = samples.read_bytes()

    @flow
    def items_of_a_corpus_that_is_gone():
        samples.unlink()
        inputs = {"label": MAIN, "corpus": corpus, "runtime": RUNTIME}
        return submit(make_benchmark_items, inputs).result()

    with pytest.raises(ValueError, match=r"samples\.parquet is missing"):
        items_of_a_corpus_that_is_gone()
    assert list(items.path.parent.iterdir()) == []
    samples.write_bytes(content)
    _, ran = run_again(bodies)
    assert ran == {"benchmark-items": 1}


def test_planning_runs_nothing_and_knows_what_is_there(bodies, root):
    def plan():
        corpus = make_corpus(label=MAIN, corpus=SPEC, runtime=RUNTIME)
        items = make_benchmark_items(label=MAIN, corpus=corpus, runtime=RUNTIME)
        made = Plan()
        made.look_up(Graph(items).nodes)
        return made.counts()

    assert plan() == {"corpus": (1, 0), "benchmark-items": (1, 0)}
    assert not root.exists()
    (_, items), _ = run_again(bodies)
    assert plan() == {"corpus": (1, 1), "benchmark-items": (1, 1)}
    (items.path / "math.jsonl").write_text("")
    assert plan() == {"corpus": (1, 1), "benchmark-items": (1, 0)}
    assert items.path.exists()


def test_prefects_record_lies_beside_the_data(bodies):
    made, _ = run_again(bodies)
    for artifact in made:
        assert (artifact.path / artifacts.RESULT).is_file()


def test_a_task_run_has_a_speaking_name_and_a_description():
    assert task_of(make_corpus).name == "corpus"
    assert "Costs" in task_of(make_corpus).description


def test_an_attempt_that_cannot_be_recorded_hides_no_error_and_no_artifact(monkeypatch, caplog):
    def refuse(*_):
        raise ValueError("state.db is in use")

    monkeypatch.setattr(state, "attempt_ended", refuse)
    corpus = make_corpus.run(label=MAIN, corpus=SPEC, runtime=RUNTIME)
    assert corpus.path.exists()
    assert "state.db is in use" in caplog.text
    (corpus.path / "samples.parquet").unlink()
    with pytest.raises(artifacts.DamagedArtifact, match="is missing") as failed:
        make_benchmark_items.run(label=MAIN, corpus=corpus, runtime=RUNTIME)
    assert failed_step(failed.value) == "benchmark items main"


def test_a_damaged_artifact_is_discarded_but_not_what_came_in_its_place(monkeypatch):
    inputs = {"label": MAIN, "corpus": SPEC, "runtime": RUNTIME}
    corpus = make_corpus.run(**inputs)
    (corpus.path / "samples.parquet").write_bytes(b"")
    real = artifacts.find

    def slowly(*identity):
        try:
            return real(*identity)
        finally:  # meanwhile another run computes it again
            monkeypatch.setattr(artifacts, "find", real)
            make_corpus.run(**inputs)

    monkeypatch.setattr(artifacts, "find", slowly)
    assert make_corpus.reusable(inputs) is None
    assert make_corpus.reusable(inputs) == corpus


def test_a_listener_that_fails_changes_nothing():
    def leave(_):
        raise SystemExit(1)

    with listening(leave):
        assert make_corpus.run(label=MAIN, corpus=SPEC, runtime=RUNTIME).path.exists()
