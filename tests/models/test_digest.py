import pytest

from models.digest import LocalCheckpoint, checkpoint_digest, list_checkpoints, tokenizer_digest


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "step10"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_digest_follows_content_not_place(checkpoint, tmp_path):
    digest = checkpoint_digest(checkpoint)
    assert len(digest) == 64
    moved = checkpoint.rename(tmp_path / "elsewhere")
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
def test_every_file_of_the_model_counts(checkpoint, name):
    before = checkpoint_digest(checkpoint)
    (checkpoint / name).write_bytes(b"changed")
    assert checkpoint_digest(checkpoint) != before


def test_the_digest_is_what_it_was_before_further_files_counted(checkpoint):
    # Artifacts of earlier runs are known by it.
    before = "c8185115ef19973c06daebe6a37ae2086037c760c668ee82ce29f51a78e2e08f"
    assert checkpoint_digest(checkpoint) == before


@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model", "tekken.json"])
def test_every_vocabulary_is_part_of_the_tokenizer(checkpoint, name):
    before = tokenizer_digest(checkpoint)
    (checkpoint / name).write_bytes(b"changed")
    assert tokenizer_digest(checkpoint) != before


def test_a_renamed_weight_file_counts(checkpoint):
    before = checkpoint_digest(checkpoint)
    (checkpoint / "model.safetensors").rename(checkpoint / "other.safetensors")
    assert checkpoint_digest(checkpoint) != before


def test_other_files_do_not_count(checkpoint):
    before = checkpoint_digest(checkpoint)
    (checkpoint / "README.md").write_text("hello")
    (checkpoint / "optimizer.pt").write_bytes(b"state")
    assert checkpoint_digest(checkpoint) == before


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"config\.json is missing"),
        ("model.safetensors", r"no \*\.safetensors weights"),
    ],
)
def test_what_is_missing_is_named(checkpoint, missing, message):
    (checkpoint / missing).unlink()
    with pytest.raises(ValueError, match=message):
        checkpoint_digest(checkpoint)


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
