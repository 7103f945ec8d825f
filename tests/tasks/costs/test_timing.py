"""Times of earlier runs, found in the records of artifacts."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from store import artifacts
from studies.nano_model import PretrainingSpec
from tasks.costs.timing import Timing
from tasks.plan import Planned

ROUTING = Planned("routing", "", None, None)


def commit(step_name, key, seconds, inputs, summary=None, device="cpu", fill=lambda out: None):
    with artifacts.draft(step_name, 1, key, resumable=False) as out:
        fill(out)
        (out / "data.txt").write_text(key)
        return artifacts.commit(
            out,
            step_name=step_name,
            version=1,
            fingerprint=key,
            inputs=inputs,
            summary=summary or {},
            started_at=datetime.now(UTC) - timedelta(seconds=seconds),
            device=device,
        )


def probes(key, num_tokens):
    columns = {
        "domain": ["math"],
        "split": ["probe"],
        "token_ids": [[1] * num_tokens],
        "counted": [[True] * num_tokens],
    }
    return commit(
        "probes",
        key,
        1,
        {},
        fill=lambda out: pq.write_table(pa.table(columns), out / "probes.parquet"),
    )


def routed(key, seconds, num_parameters=100, num_tokens=50, device="cpu"):
    made = probes(f"p{key}", num_tokens)
    inputs = {"checkpoint": {"checkpoint": f"c{key}"}, "probes": made.identity()}
    return commit(
        "routing", key, seconds, inputs, {"model": {"num_parameters": num_parameters}}, device
    )


def test_nothing_was_measured_in_an_empty_folder(root):
    assert Timing().measured(ROUTING, 100, 50) is None


def test_runs_on_models_of_the_same_size_count_scaled_by_tokens(root):
    routed("a", seconds=10, num_tokens=50)
    routed("b", seconds=40, num_tokens=100)
    routed("c", seconds=999, num_parameters=7)
    measured = Timing().measured(ROUTING, 100, 25)
    assert measured.seconds == pytest.approx((10 / 2 + 40 / 4) / 2, rel=0.01)
    assert measured.device == "cpu"


def test_times_of_a_gpu_are_not_mixed_with_those_of_the_processor(root):
    routed("a", seconds=500)
    routed("b", seconds=5, device="cuda")
    measured = Timing().measured(ROUTING, 100, 50)
    assert (measured.seconds, measured.device) == (pytest.approx(5, rel=0.01), "cuda")


def test_other_steps_are_known_by_the_checkpoints_that_were_routed(root):
    routed("a", seconds=1)
    commit("measures", "m", 3, {"checkpoint": {"checkpoint": "ca"}})
    commit("measures", "n", 9, {"checkpoint": {"checkpoint": "never routed"}})
    timing = Timing()
    assert timing.num_parameters("ca") == 100
    assert timing.num_parameters("never routed") is None
    measured = timing.measured(Planned("measures", "", None, None), 100, None)
    assert measured.seconds == pytest.approx(3, rel=0.01)


def test_a_training_is_scaled_by_its_steps(root):
    spec = PretrainingSpec()
    half = {**spec.model_dump(mode="json"), "num_steps": spec.num_steps // 2}
    commit("pretraining", "a", 60, {"pretraining": half})
    entry = Planned("pretraining", "", None, None, {"pretraining": spec})
    tokens = spec.num_steps * spec.batch_size * 5
    assert Timing().measured(entry, None, tokens).seconds == pytest.approx(120, rel=0.01)
    other = spec.model_copy(update={"model": spec.model.model_copy(update={"num_layers": 9})})
    entry = Planned("pretraining", "", None, None, {"pretraining": other})
    assert Timing().measured(entry, None, tokens) is None
