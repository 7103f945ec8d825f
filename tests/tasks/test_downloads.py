"""Weights are downloaded for the steps that load a model, held until released, then evictable."""

import pytest

from hub import cache
from store.artifacts import Checkpoint
from store.identity import Label
from studies.settings import Runtime
from studies.sources import HubSource
from studies.spec import Series
from tasks.benchmarks import score_benchmarks
from tasks.contamination import find_contamination
from tasks.downloads import inputs_here, num_in_flight, release_checkpoint
from tasks.hub import hub_checkpoints, hub_tokenizer, pin_revision
from tasks.measures import measure_routing
from tasks.pathways import measure_pathways
from tasks.routing import extract_routing
from tasks.tuning import tune_checkpoint
from tests.published import branch_name, publish_model

REPOSITORY = "tiny/moe"
RUNTIME = Runtime(workers=1, disk_budget="1MB")


@pytest.fixture
def checkpoint(hub, root, tmp_path) -> Checkpoint:
    """The only revision of a hub series, pinned; nothing of its weights is here."""
    publish_model(hub, tmp_path / "models", REPOSITORY, (10,))
    name = branch_name(10)
    pinned = pin_revision.run(
        label=Label("main"), repository=REPOSITORY, revision=name, runtime=RUNTIME
    )
    source = HubSource(repository=REPOSITORY, revisions=(name,))
    (found,) = hub_checkpoints(Series(name="main", source=source), {name: pinned}, looking=False)
    return found


def weights(checkpoint):
    return sorted(path.name for path in checkpoint.path.glob("*.safetensors"))


def test_only_steps_that_load_a_model_download_weights():
    loading = (extract_routing, tune_checkpoint, score_benchmarks, find_contamination)
    assert all(step.loads_model for step in loading)
    assert not any(step.loads_model for step in (measure_pathways, measure_routing))


def test_a_tokenizer_comes_without_weights(checkpoint):
    tokenizer = hub_tokenizer(checkpoint)
    inputs = {"tokenizer": tokenizer, "checkpoint": checkpoint, "other": 3}
    with inputs_here(inputs, RUNTIME, weights=False):
        pass
    assert (tokenizer.path / "tokenizer.json").is_file()
    assert weights(checkpoint) == []


def test_weights_are_held_until_released(checkpoint):
    with inputs_here({"checkpoint": checkpoint}, RUNTIME, weights=True):
        pass
    with inputs_here({"last": checkpoint}, RUNTIME, weights=True):
        pass
    assert len(weights(checkpoint)) > 1, "the shards are here"
    assert not cache.evict(checkpoint.path)
    release_checkpoint(checkpoint)
    release_checkpoint(checkpoint)
    assert cache.evict(checkpoint.path)
    assert weights(checkpoint) == []


def test_a_step_whose_download_fails_leaves_the_lease_of_its_siblings(checkpoint):
    with inputs_here({"checkpoint": checkpoint}, RUNTIME, weights=True):
        pass
    (checkpoint.path / "model.safetensors.index.json").resolve().unlink()
    small = Runtime(workers=1, disk_budget=1000)
    for file in checkpoint.path.glob("*.safetensors"):
        file.resolve().unlink()
    refused = pytest.raises(ValueError, match=r"raise runtime\.disk_budget")
    with refused, inputs_here({"checkpoint": checkpoint}, small, weights=True):
        pass
    assert not cache.evict(checkpoint.path)
    release_checkpoint(checkpoint)
    assert cache.evict(checkpoint.path)


def test_two_series_hold_the_same_checkpoint_each_for_itself(checkpoint):
    other = checkpoint.model_copy(update={"series": "other"})
    with inputs_here({"checkpoint": checkpoint}, RUNTIME, weights=True):
        pass
    with inputs_here({"checkpoint": other}, RUNTIME, weights=True):
        pass
    release_checkpoint(checkpoint)
    assert not cache.evict(checkpoint.path)
    release_checkpoint(other)
    assert cache.evict(checkpoint.path)


def test_as_many_are_in_flight_as_the_budget_holds(checkpoint):
    size = checkpoint.pinned.summary["num_bytes"]
    for budget, expected in ((size // 2, 1), (size, 1), (2 * size, 2), (5 * size + 1, 5)):
        assert num_in_flight([checkpoint] * 3, Runtime(disk_budget=budget)) == expected
    local = checkpoint.model_copy(update={"pinned": None})
    assert num_in_flight([local] * 3, RUNTIME) == 3
