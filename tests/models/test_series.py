"""Checkpoints of one training, and what is none."""

import json

import pytest
from tokenizers import Tokenizer, models, trainers
from tokenizers import pre_tokenizers as pre

from models.checkpoints import tokenizer_digest
from models.series import Member, check_series, token_digests
from tests.little import write_checkpoint


@pytest.fixture
def folders(tmp_path):
    return [write_checkpoint(tmp_path, step) for step in (0, 10, 20)]


def check(folders):
    check_series("main", [Member(one.name, one, tokenizer_digest(one)) for one in folders])


def change(file, **fields):
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_checkpoints_of_one_training_fit(folders):
    check(folders)
    check([])


@pytest.mark.parametrize(
    ("field", "value"), [("num_experts", 16), ("num_hidden_layers", 3), ("vocab_size", 512)]
)
def test_a_model_that_grows_is_refused(folders, field, value):
    change(folders[2] / "config.json", **{field: value})
    said = rf"'main': step20-tokens20K has {field} {value}, step0-tokens0K has \d+; .* two series"
    with pytest.raises(ValueError, match=said):
        check(folders)


def test_the_text_part_of_a_configuration_counts(folders):
    for folder, experts in zip(folders, (8, 8, 16), strict=True):
        change(folder / "config.json", text_config={"num_experts": experts})
    with pytest.raises(ValueError, match="has num_experts 16"):
        check(folders)


def test_another_tokenizer_is_refused(folders):
    other = Tokenizer(models.BPE())
    other.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    other.train_from_iterator(
        ["zq " * 5 + "wx vy " * 9],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|endoftext|>", "<|padding|>"],
            initial_alphabet=pre.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    other.save(str(folders[1] / "tokenizer.json"))
    with pytest.raises(
        ValueError, match=r"tokenizer of step10\S* is not that of step0\S* \(model "
    ):
        check(folders)


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "added_tokens"])
def test_every_part_that_decides_ids_counts(folders, part):
    change(folders[1] / "tokenizer.json", **{part: [] if part == "added_tokens" else None})
    file = folders[1] / "tokenizer.json"
    if part == "normalizer":
        change(file, normalizer={"type": "Lowercase"})
    with pytest.raises(ValueError, match=rf"\({part} of tokenizer.json\)"):
        check(folders)


def test_how_a_tokenizer_was_saved_does_not_count(folders):
    file = folders[1] / "tokenizer.json"
    model = json.loads(file.read_text())["model"]
    merges = [" ".join(m) if isinstance(m, list) else m.split(" ") for m in model["merges"]]
    older = {**{k: v for k, v in model.items() if v}, "merges": merges}
    change(file, padding={"strategy": "BatchLongest"}, truncation=None, model=older)
    change(folders[1] / "tokenizer_config.json", transformers_version="4.0")
    check(folders)


def test_without_tokenizer_json_the_vocabulary_files_count(folders):
    for folder in folders:
        (folder / "tokenizer.json").unlink()
        (folder / "spiece.model").write_bytes(b"pieces")
    check(folders)
    assert list(token_digests(folders[0])) == ["spiece.model"]
    (folders[2] / "spiece.model").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"step20\S* is not that of step0\S* \(spiece\.model\)"):
        check(folders)
