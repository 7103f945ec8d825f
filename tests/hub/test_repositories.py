import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.repositories import (
    Incomplete,
    Revision,
    choose,
    list_revisions,
    resolve,
    resolve_dataset,
)
from studies.base import checkpoint_name
from studies.sources import HubSource

from .conftest import REPOSITORY, SMALL, checkpoint, sharded, tensors


def names(found):
    return [file.name for file in found.files]


def test_a_revision_is_what_a_checkpoint_needs_and_no_pickle_and_no_code(hub, publish):
    commit = publish("step5000-tokens20B")
    found = resolve(REPOSITORY, "step5000-tokens20B")
    assert (found.commit, found.step, found.tokens_seen) == (commit, 5000, 20 * 10**9)
    assert names(found) == sorted([*SMALL, "model.safetensors"])
    assert (found.model_type, found.remote_code) == ("olmoe", False)
    assert found.num_bytes == len(tensors(0, 200_000))
    assert hub.sent("model.safetensors") == 0


def test_shards_come_with_their_index(publish):
    publish("main", sharded())
    found = resolve(REPOSITORY, "main")
    assert "model.safetensors.index.json" in names(found)
    assert len(found.weights) == 3
    assert found.step is None


def test_of_a_single_file_and_other_tensors_only_what_transformers_loads_is_taken(publish):
    publish("main", {**checkpoint(), "consolidated.safetensors": tensors(1, 10)})
    assert [file.name for file in resolve(REPOSITORY, "main").weights] == ["model.safetensors"]


def test_a_revision_of_pickles_is_refused_with_the_reason(publish):
    publish("main", {**SMALL, "pytorch_model.bin": b"pickle"})
    with pytest.raises(
        ValueError, match=r"only as pytorch_model.bin, which is not read, because pickled"
    ):
        resolve(REPOSITORY, "main")


def test_an_adapter_is_refused_alone_and_beside_weights(publish):
    adapter = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"adapter"}
    publish("main", {**SMALL, **adapter})
    with pytest.raises(ValueError, match=r"main is an adapter .* without its model") as refused:
        resolve(REPOSITORY, "main")
    assert not isinstance(refused.value, Incomplete)  # no waiting for it
    publish("main", {**checkpoint(), **adapter})
    with pytest.raises(ValueError, match="has weights and an adapter"):
        resolve(REPOSITORY, "main")


def test_two_sets_of_weights_are_refused(publish):
    publish("main", {**sharded(), "model.safetensors": tensors(0, 10)})
    with pytest.raises(ValueError, match=r"has two sets of weights, model\.safetensors and 3"):
        resolve(REPOSITORY, "main")


def test_every_vocabulary_comes_and_counts(publish):
    publish("plain")
    publish("more", {**checkpoint(), "spiece.model": b"pieces", "old/spiece.model": b"old"})
    plain, more = resolve(REPOSITORY, "plain"), resolve(REPOSITORY, "more")
    assert names(more) == sorted([*names(plain), "spiece.model"])
    assert more.tokenizer_digest != plain.tokenizer_digest


def test_a_revision_without_weights_says_what_it_has(publish):
    publish("main", {**SMALL, "adapter_model.safetensors": b"adapter"})
    with pytest.raises(ValueError, match=r"neither model.safetensors nor .* adapter_model"):
        resolve(REPOSITORY, "main")


def test_a_revision_without_a_configuration_is_refused(publish):
    publish("main", {"model.safetensors": b"weights"})
    with pytest.raises(ValueError, match=r"has no config.json"):
        resolve(REPOSITORY, "main")


@pytest.mark.parametrize("gone", ["model-00002-of-00003", "model.safetensors.index"])
def test_a_half_uploaded_revision_is_refused(publish, gone):
    publish("main", {k: v for k, v in sharded().items() if not k.startswith(gone)})
    with pytest.raises(ValueError, match=rf"not complete: .* missing {gone}"):
        resolve(REPOSITORY, "main")


def test_code_that_a_configuration_names_is_reported_and_never_fetched(hub, publish):
    config = json.dumps({"model_type": "own", "auto_map": {"AutoModel": "modeling_olmoe.Own"}})
    publish("main", {**checkpoint(), "config.json": config.encode()})
    found = resolve(REPOSITORY, "main")
    assert (found.remote_code, found.model_type) == (True, "own")
    assert "modeling_olmoe.py" not in names(found)
    assert hub.asked(".py") == []


def test_a_configuration_that_is_not_json_is_refused(publish):
    publish("main", {**checkpoint(), "config.json": b"<html>"})
    with pytest.raises(ValueError, match=r"config.json .* is not JSON"):
        resolve(REPOSITORY, "main")


def test_the_tokenizers_digest_follows_the_tokenizer_alone(publish):
    publish("step1", seed=1)
    publish("step2", seed=2)
    publish("step3", {**checkpoint(seed=1), "tokenizer.json": b"{}"})
    one, two, three = (resolve(REPOSITORY, f"step{i}") for i in (1, 2, 3))
    assert one.tokenizer_digest == two.tokenizer_digest != three.tokenizer_digest
    assert one.weights_digest == three.weights_digest != two.weights_digest


def test_an_unknown_revision_is_refused_with_near_names(publish):
    publish("step5000-tokens20B")
    with pytest.raises(ValueError, match=r"no revision step500-tokens20B; did you mean step5000-"):
        resolve(REPOSITORY, "step500-tokens20B")


def test_a_gated_repository_is_refused_without_showing_the_token(hub, publish, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    publish("main")
    hub.gate("model", REPOSITORY, "hf_right")
    with pytest.raises(ValueError, match=r"accepted its terms, and no token is set \(HF_TOKEN\)"):
        resolve(REPOSITORY, "main")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ValueError, match="the token in use has no access") as refused:
        resolve(REPOSITORY, "main")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert resolve(REPOSITORY, "main").model_type == "olmoe"
    assert "hf_" not in caplog.text + str(refused.value)


def test_offline_a_revision_is_what_it_was_last_time(publish, start):
    publish("step1")
    code = f"from hub.repositories import resolve; print(resolve({REPOSITORY!r}, 'step1'))"
    _, errors = start(code, HF_HUB_OFFLINE="1").communicate()
    assert "offline (HF_HUB_OFFLINE), and revision step1" in errors
    found = resolve(REPOSITORY, "step1")
    publish("step1", seed=9)
    assert start(code, HF_HUB_OFFLINE="1").communicate()[0].strip() == str(found)
    assert resolve(REPOSITORY, "step1") != found


def test_a_data_set_is_resolved_to_its_commit(hub, root):
    first = hub.add_revision("dataset", "some/data", "main", {"a.jsonl": b"{}"})
    assert resolve_dataset("some/data") == first
    second = hub.add_revision("dataset", "some/data", "main", {"a.jsonl": b"[]"})
    assert resolve_dataset("some/data") == second
    assert resolve_dataset("some/data", first) == first
    with pytest.raises(ValueError, match=r"some/other: no such dataset.*mean some/data\?"):
        resolve_dataset("some/other")


# ---------------------------------------------------------------- which revisions


def revisions(*steps):
    return tuple(Revision(s, checkpoint_name(s, s * 10**6), "0" * 40) for s in steps)


def chosen_steps(offered, **fields):
    found = choose(offered, HubSource(repository=REPOSITORY, **fields))
    return [revision.step for revision in found]


def test_branches_that_are_checkpoints_are_listed_by_step_with_one_request(hub, publish):
    for name in ("main", "step10000-tokens41B", "step5000-tokens20B", "final", "step20"):
        publish(name)
    found = list_revisions(REPOSITORY)
    assert [(r.name, r.step) for r in found] == [
        ("step20", 20),
        ("step5000-tokens20B", 5000),
        ("step10000-tokens41B", 10000),
    ]
    assert len(hub.requests) == 1


def test_an_unknown_repository_is_refused_with_near_names(publish):
    publish("main")
    with pytest.raises(ValueError, match=rf"OLMoE-1B-7B-924: no such.*mean {REPOSITORY}\?"):
        list_revisions("allenai/OLMoE-1B-7B-924")
    with pytest.raises(ValueError, match=r"nobody/nothing: no such.*no token is set"):
        list_revisions("nobody/nothing")


def test_offline_the_list_is_that_of_last_time(publish, start):
    publish("step1")
    code = f"from hub.repositories import list_revisions; print(list_revisions({REPOSITORY!r}))"
    before = start(code, HF_HUB_OFFLINE="1")
    assert "ValueError: allenai/OLMoE-1B-7B-0924: offline" in before.communicate()[1]
    found = list_revisions(REPOSITORY)
    assert start(code, HF_HUB_OFFLINE="1").communicate()[0].strip() == str(found)


def test_of_two_names_for_one_step_one_is_taken():
    offered = (*revisions(5), Revision(5, "step5", "0" * 40))
    assert chosen_steps(offered) == [5]


def test_a_range_includes_both_ends():
    offered = revisions(*range(0, 11))
    assert chosen_steps(offered, first_step=3, last_step=5) == [3, 4, 5]
    assert chosen_steps(offered, first_step=9) == [9, 10]


def test_too_few_are_refused_saying_what_there_is():
    with pytest.raises(ValueError, match=r"found 2 checkpoints .* expected 3; .* has 4"):
        chosen_steps(revisions(1, 2, 3, 4), count=3, last_step=2)
    with pytest.raises(ValueError, match="no checkpoint at all"):
        chosen_steps((), count=3)


def test_ten_of_the_published_series_lie_on_an_even_grid():
    offered = revisions(*range(5000, 1_220_001, 5000))
    assert len(offered) == 244
    assert chosen_steps(offered, count=10) == list(range(5000, 1_220_001, 135_000))


@given(st.sets(st.integers(0, 10**6), min_size=2, max_size=60), st.data())
def test_a_count_is_met_without_doubles_and_with_both_ends(numbers, data):
    offered = revisions(*sorted(numbers))
    count = data.draw(st.integers(2, len(offered)))
    chosen = chosen_steps(offered, count=count)
    assert len(set(chosen)) == count
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (min(numbers), max(numbers))


def test_steps_are_chosen_whatever_else_the_names_say():
    assert chosen_steps(revisions(5, 10, 20, 40), steps=[5, 40]) == [5, 40]
    with pytest.raises(ValueError, match="no checkpoint of step 15 among 4; near it are 5, 10, 20"):
        chosen_steps(revisions(5, 10, 20, 40), steps=[5, 15])


def test_with_a_prefix_only_its_branches_are_checkpoints(publish):
    for name in ("stage1-step10-tokens1B", "stage2-step10-tokens2B", "step10"):
        publish(name)
    assert [r.name for r in list_revisions(REPOSITORY, "stage1-")] == ["stage1-step10-tokens1B"]
    assert [r.name for r in list_revisions(REPOSITORY)] == ["step10"]
