"""Complete or still being written: every state that a training run can leave a folder in."""

import json
import random

import pytest

from models.complete import refuse_unreadable, safetensors_size, weight_files, why_incomplete
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
    assert "is longer than its header says" in why_incomplete(checkpoint)


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
