"""Which ids: those of tokenizer.json, whatever class the library has for the model's type."""

import json
import logging

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, processors, trainers
from tokenizers import pre_tokenizers as pre
from transformers import AutoTokenizer, GPT2Tokenizer, GPTNeoXTokenizer, Qwen2Tokenizer

from models import tokenizer as module
from models.tokenizer import PROBES, load_tokenizer

TYPES = ("olmoe", "qwen2_moe", "qwen3_moe", "gpt_oss", "deepseek_v2", "deepseek_v3")
TEXTS = [f"The Sum of {number} and {7 * number} is {8 * number}" for number in range(900, 990)]
THREES = pre.Sequence(
    [
        pre.Split(Regex(r" ?\p{L}+| ?\p{N}{1,3}|\p{N}{1,3}|\s+"), "isolated"),
        pre.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)


def own(**parts) -> Tokenizer:
    """A byte-level BPE with parts of its own."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = parts.pop("pre_tokenizer", pre.ByteLevel(add_prefix_space=False))
    made.decoder = decoders.ByteLevel()
    for name, part in parts.items():
        setattr(made, name, part)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<eos>", "<bos>"],
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


def with_bos() -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])


@pytest.fixture
def folder(tmp_path):
    def write(made: Tokenizer, model_type: str, **config):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        made.save(str(tmp_path / "tokenizer.json"))
        if config:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        return tmp_path

    return write


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": normalizers.Lowercase()},
        {"pre_tokenizer": THREES},
        {"post_processor": with_bos()},
    ],
    ids=["normalizer", "pre_tokenizer", "post_processor"],
)
def test_the_ids_are_those_of_the_file(folder, model_type, parts):
    made = own(**parts)
    tokenizer = load_tokenizer(folder(made, model_type))
    for text in [*TEXTS, *PROBES]:
        assert tokenizer(text)["input_ids"] == made.encode(text).ids


def test_a_class_that_is_named_does_not_win_over_the_file(folder, caplog):
    module._tell_other_class.cache_clear()
    made = own(normalizer=normalizers.Lowercase())
    place = folder(made, "qwen2_moe", tokenizer_class="Qwen2Tokenizer", eos_token="<eos>")
    with caplog.at_level(logging.WARNING, "grokpath.models"):
        tokenizer = load_tokenizer(place)
        load_tokenizer(place)
    assert tokenizer("THE")["input_ids"] == made.encode("the").ids
    assert tokenizer.eos_token_id == 0
    (record,) = caplog.records  # said once
    assert "Qwen2Tokenizer gives other token ids than the tokenizer.json" in record.getMessage()


def test_special_tokens_come_from_the_configuration_and_no_others_are_invented(folder):
    place = folder(own(pre_tokenizer=THREES), "olmoe", eos_token="<eos>", bos_token="<bos>")
    tokenizer = load_tokenizer(place)
    assert tokenizer.special_tokens_map == {"eos_token": "<eos>", "bos_token": "<bos>"}
    assert len(tokenizer) == 400
    # The library's class would add two tokens that the model has no embedding for.
    assert len(AutoTokenizer.from_pretrained(place)) > 400


@pytest.mark.parametrize(
    ("kind", "model_type"),
    [
        (GPTNeoXTokenizer, "olmoe"),
        (Qwen2Tokenizer, "qwen2_moe"),
        (Qwen2Tokenizer, "qwen3_moe"),
        (GPT2Tokenizer, "gpt_oss"),
    ],
)
def test_where_class_and_file_agree_nothing_changes(folder, tmp_path, kind, model_type, caplog):
    state = json.loads(own().to_str())["model"]
    made = kind(vocab=state["vocab"], merges=[tuple(merge) for merge in state["merges"]])
    made.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    tokenizer, usual = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert type(tokenizer) is type(usual) is kind
    assert tokenizer.special_tokens_map == usual.special_tokens_map
    assert not caplog.records


def test_what_a_file_says_of_padding_and_length_is_no_other_tokenizer(folder):
    made = own()
    made.enable_padding(length=64)
    made.enable_truncation(4)
    tokenizer = load_tokenizer(folder(made, "olmoe"))
    made.no_padding()
    made.no_truncation()
    assert tokenizer(TEXTS[0])["input_ids"] == made.encode(TEXTS[0]).ids


def test_a_file_that_cannot_be_read_is_named(folder):
    place = folder(own(), "olmoe")
    (place / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=rf"{place}: the tokenizer cannot be read"):
        load_tokenizer(place)
