"""Complete or still being written: every state that a training run can leave a folder in."""

import json
import random

import pytest

from models.checkpoints import (
    LocalCheckpoint,
    checkpoint_digest,
    list_checkpoints,
    refuse_unreadable,
    safetensors_size,
    tokenizer_digest,
    weight_files,
    why_incomplete,
)
from tests.little import write_checkpoint


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path, 3)


@pytest.fixture
def sharded(checkpoint):
    """The same weights in two files with an index."""
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    names = sorted(weights)
    halves = {
        "model-00001-of-00002.safetensors": names[: len(names) // 2],
        "model-00002-of-00002.safetensors": names[len(names) // 2 :],
    }
    for file, half in halves.items():
        save_file({name: weights[name] for name in half}, checkpoint / file)
    (checkpoint / "model.safetensors").unlink()
    shard_of = {name: file for file, half in halves.items() for name in half}
    index = {"metadata": {}, "weight_map": shard_of}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    return checkpoint


def test_what_save_pretrained_leaves_is_complete(checkpoint):
    assert why_incomplete(checkpoint) is None


def test_shards_are_complete(sharded):
    assert why_incomplete(sharded) is None


def test_the_size_by_the_header_is_the_size(checkpoint):
    file = checkpoint / "model.safetensors"
    assert safetensors_size(file) == file.stat().st_size


def test_no_prefix_of_the_weights_passes(checkpoint):
    file = checkpoint / "model.safetensors"
    whole = file.read_bytes()
    rng = random.Random(0)
    for length in [0, 1, 7, 8, 9, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(30))]:
        file.write_bytes(whole[:length])
        why = why_incomplete(checkpoint)
        assert why.startswith(("model.safetensors is cut short", "model.safetensors has no c")), why
    file.write_bytes(whole + b"\0")
    assert "is longer than in its header" in why_incomplete(checkpoint)


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("config.json", "config.json is not there yet"),
        ("model.safetensors", "no *.safetensors weights are there yet"),
        ("tokenizer.json", "no tokenizer is there yet"),
    ],
)
def test_what_is_missing_is_named(checkpoint, missing, why):
    (checkpoint / missing).unlink()
    assert why in why_incomplete(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_that_is_cut_short(checkpoint, name):
    file = checkpoint / name
    file.write_bytes(file.read_bytes()[:-3])
    assert why_incomplete(checkpoint) == f"{name} is cut short or no JSON"


def test_shards_of_which_one_is_missing(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors first" in why_incomplete(sharded)


def test_shards_whose_index_is_missing_or_cut_short(sharded):
    index = sharded / "model.safetensors.index.json"
    text = index.read_text()
    index.write_text(text[:-5])
    assert "weight_map" in why_incomplete(sharded)
    index.unlink()
    assert why_incomplete(sharded) == "model.safetensors.index.json is not there yet"


@pytest.mark.parametrize(
    "name",
    [".tmpVgL1Lu", "model.safetensors.tmp", ".model.safetensors.Xa81Fz", "tmp-weights", "w.part"],
)
def test_temporary_files(checkpoint, name):
    (checkpoint / name).write_bytes(b"")
    assert why_incomplete(checkpoint) == f"{name} is a temporary file"


@pytest.mark.parametrize(
    "name", ["template.jinja", "README.md", "optimizer.pt", "._config.json", "notes.json"]
)
def test_other_files_do_not_matter(checkpoint, name):
    (checkpoint / name).write_bytes(b"{")
    assert why_incomplete(checkpoint) is None


def test_the_marker(checkpoint):
    assert why_incomplete(checkpoint, "done") == "the marker done is not there yet"
    (checkpoint / "done").touch()
    assert why_incomplete(checkpoint, "done") is None


def test_a_folder_that_vanishes_is_not_complete(tmp_path):
    assert "cannot be read" in why_incomplete(tmp_path / "step9")


# ---------------------------------------------------------------- what waiting does not help


def test_what_is_complete_is_not_refused(checkpoint, sharded):
    refuse_unreadable(checkpoint)
    assert [file.name for file in weight_files(sharded)] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "consolidated.00.pth", "model.gguf", "__0_0.distcp", "tf_model.h5"],
)
def test_weights_in_another_form_are_refused_with_what_to_do(checkpoint, name):
    (checkpoint / "model.safetensors").rename(checkpoint / name)
    (checkpoint / "training_args.bin").touch()
    with pytest.raises(
        ValueError, match=rf"step3\S* has its weights only as {name}, which .* Save"
    ):
        refuse_unreadable(checkpoint)


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state_0.pth", "training_args.bin"])
def test_the_state_of_a_training_is_no_weights(checkpoint, name):
    (checkpoint / "model.safetensors").rename(checkpoint / name)
    refuse_unreadable(checkpoint)
    assert why_incomplete(checkpoint) == "no *.safetensors weights are there yet"


def test_what_is_still_to_be_marked_may_yet_change(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    refuse_unreadable(checkpoint, "done")
    (checkpoint / "done").touch()
    with pytest.raises(ValueError, match="pytorch_model"):
        refuse_unreadable(checkpoint, "done")


def test_an_adapter_alone_is_refused_with_what_to_do(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "adapter_model.safetensors")
    (checkpoint / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is an adapter .* without its model: merge the two"):
        refuse_unreadable(checkpoint)


def test_an_adapter_beside_weights_is_refused(checkpoint):
    (checkpoint / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"weights and an adapter .* delete adapter_config\.json"):
        refuse_unreadable(checkpoint)


def test_one_file_beside_shards_is_refused(sharded):
    (sharded / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"two sets of weights, model\.safetensors and 2 others"):
        weight_files(sharded)


def test_a_shard_that_the_index_does_not_name_is_refused(sharded):
    (sharded / "model-00003-of-00003.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model-00003-of-00003\.safetensors, which .* not name"):
        weight_files(sharded)


def test_an_index_of_the_one_file_is_no_second_set(checkpoint):
    index = {"weight_map": {"lm_head.weight": "model.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_files(checkpoint) == [checkpoint / "model.safetensors"]


def test_tensors_under_another_name_are_not_there_yet(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "consolidated.safetensors")
    assert why_incomplete(checkpoint) == (
        "neither model.safetensors nor model.safetensors.index.json is there yet"
    )


@pytest.fixture
def little(tmp_path):
    folder = tmp_path / "step10"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_digest_follows_content_not_place(little, tmp_path):
    digest = checkpoint_digest(little)
    assert len(digest) == 64
    moved = little.rename(tmp_path / "elsewhere")
    assert checkpoint_digest(moved) == digest


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "tokenizer_config.json",
        "adapter_config.json",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tekken.json",
        "qwen.tiktoken",
    ],
)
def test_every_file_of_the_model_counts(little, name):
    before = checkpoint_digest(little)
    (little / name).write_bytes(b"changed")
    assert checkpoint_digest(little) != before


def test_the_digest_is_what_it_was_before_further_files_counted(little):
    # Artifacts of earlier runs are known by it.
    before = "c8185115ef19973c06daebe6a37ae2086037c760c668ee82ce29f51a78e2e08f"
    assert checkpoint_digest(little) == before


@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model", "tekken.json"])
def test_every_vocabulary_is_part_of_the_tokenizer(little, name):
    before = tokenizer_digest(little)
    (little / name).write_bytes(b"changed")
    assert tokenizer_digest(little) != before


def test_a_renamed_weight_file_counts(little):
    before = checkpoint_digest(little)
    (little / "model.safetensors").rename(little / "other.safetensors")
    assert checkpoint_digest(little) != before


def test_other_files_do_not_count(little):
    before = checkpoint_digest(little)
    (little / "README.md").write_text("hello")
    (little / "optimizer.pt").write_bytes(b"state")
    assert checkpoint_digest(little) == before


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"config\.json is missing"),
        ("model.safetensors", r"no \*\.safetensors weights"),
    ],
)
def test_a_digest_needs_config_and_weights(little, missing, message):
    (little / missing).unlink()
    with pytest.raises(ValueError, match=message):
        checkpoint_digest(little)


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        checkpoint_digest(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no such folder"):
        list_checkpoints(tmp_path / "nothing")


def test_checkpoints_are_listed_by_step(tmp_path):
    for name in ("step1000-tokens2B", "step200", "step30-tokens1.5K", "logs", "step5.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "step7").write_text("a file, not a folder")
    assert list_checkpoints(tmp_path) == [
        LocalCheckpoint(30, 1500, "step30-tokens1.5K", tmp_path / "step30-tokens1.5K"),
        LocalCheckpoint(200, None, "step200", tmp_path / "step200"),
        LocalCheckpoint(1000, 2 * 10**9, "step1000-tokens2B", tmp_path / "step1000-tokens2B"),
    ]


def test_two_checkpoints_of_one_step_are_refused(tmp_path):
    (tmp_path / "step10").mkdir()
    (tmp_path / "step10-tokens1K").mkdir()
    with pytest.raises(ValueError, match="two checkpoints of step 10: step10 and step10-tokens1K"):
        list_checkpoints(tmp_path)


def test_no_checkpoint_says_what_was_expected(tmp_path):
    (tmp_path / "logs").mkdir()
    with pytest.raises(ValueError, match="names like step1000 or step1000-tokens2B"):
        list_checkpoints(tmp_path)
