"""Which ids: those of tokenizer.json, whatever class the library has for the model's type."""

import json
import logging

import pytest
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as pre
from transformers import (
    AutoTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from models import tokenizer as module
from models.records import Text
from models.tokenizer import PROBES, load_tokenizer, tokenize

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
    module._warn_of_class.cache_clear()
    made = own(normalizer=normalizers.Lowercase())
    place = folder(made, "qwen2_moe", tokenizer_class="Qwen2Tokenizer", eos_token="<eos>")
    with caplog.at_level(logging.WARNING, "grokpath.models"):
        tokenizer = load_tokenizer(place)
        load_tokenizer(place)
    assert tokenizer("THE")["input_ids"] == made.encode("the").ids
    assert tokenizer.eos_token_id == 0
    (record,) = caplog.records  # said once
    assert "Qwen2Tokenizer gives other token ids than tokenizer.json" in record.getMessage()


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


CORPUS = ["the answer is twelve", "the answers are: two, twelve", "ab abc abcd"] * 20


def byte_level(*, begin=False, end=False):
    """A byte-level BPE tokenizer, as OLMoE's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    template = ["<s>"] * begin + ["$A"] + ["</s>"] * end
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=" ".join(template), special_tokens=[("<s>", 0), ("</s>", 1)]
            ),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def text(prompt, answer=None, separator=" ", clipped=False):
    whole = prompt if answer is None else f"{prompt}{separator}{answer}"
    answer_at = None if answer is None else len(whole) - len(answer)
    return Text(0, "here", whole, answer_at, blank=False, clipped=clipped)


def tokens(tokenizer, *arguments, max_length=100, ended=False, **fields):
    (found,) = tokenize([text(*arguments, **fields)], tokenizer, max_length, ended=ended)
    return found


def counting(tokenizer, found):
    """What the counted tokens say, and what the others say."""
    pairs = list(zip(found.token_ids, found.counted, strict=True))
    return tuple(tokenizer.decode([i for i, c in pairs if c is flag]) for flag in (True, False))


@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize("end", [False, True])
def test_only_the_answer_and_its_end_count_whatever_the_tokenizer_adds(begin, end):
    tokenizer = byte_level(begin=begin, end=end)
    found = tokens(tokenizer, "the answer is", "twelve")
    assert counting(tokenizer, found) == (
        " twelve" + "</s>" * end,
        "<s>" * begin + "the answer is",
    )
    assert found.token_ids == tokenizer.encode("the answer is twelve")


def test_a_token_that_joins_prompt_and_answer_is_the_answers():
    tokenizer = byte_level()
    assert tokenizer.tokenize("the answer") == ["the", "Ġanswer"]
    found = tokens(tokenizer, "the answ", "er is", separator="")
    assert counting(tokenizer, found) == (" answer is", "the")


@pytest.mark.parametrize("separator", ["", " ", "\n", "\n\n### Answer:\n"])
def test_the_separator_is_the_prompts(separator):
    tokenizer = byte_level()
    found = tokens(tokenizer, "the answer:", "two", separator=separator)
    said, before = counting(tokenizer, found)
    assert said.strip() == "two"
    assert before + said == f"the answer:{separator}two"


def test_characters_of_several_bytes_are_not_torn_apart():
    tokenizer = byte_level()
    found = tokens(tokenizer, "数学 is", "🙂數")
    assert counting(tokenizer, found)[0].strip() == "🙂數"


def test_a_normalizer_that_changes_lengths_does_not_move_the_border():
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    found = tokens(tokenizer, "ﬁﬁﬁﬁ①", "twelve")
    assert counting(tokenizer, found) == (" twelve", "fifififi1")


def test_without_an_answer_all_but_the_first_count():
    found = tokens(byte_level(end=True), "the answer is twelve")
    assert found.counted == [False] + [True] * (len(found.token_ids) - 1)


def test_what_is_too_long_is_cut_and_marked():
    tokenizer = byte_level()
    whole = tokens(tokenizer, "the answer is", "twelve two")
    length = len(whole.token_ids)
    assert not whole.overlong
    found = tokens(tokenizer, "the answer is", "twelve two", max_length=length - 1)
    assert (found.token_ids, found.overlong) == (whole.token_ids[:-1], True)
    assert found.counted == whole.counted[:-1]


@pytest.mark.parametrize("end", [False, True])
def test_an_answer_ends_once(end):
    tokenizer = byte_level(end=end)
    found = tokens(tokenizer, "the answer is", "twelve", ended=True)
    assert counting(tokenizer, found)[0] == " twelve</s>"


def test_an_answer_that_is_cut_or_clipped_has_no_end():
    tokenizer = byte_level()
    whole = tokens(tokenizer, "the answer is", "twelve")
    length = len(whole.token_ids)
    cut = tokens(tokenizer, "the answer is", "twelve", ended=True, max_length=length)
    clipped = tokens(tokenizer, "the answer is", "twelve", ended=True, clipped=True)
    assert cut.token_ids == clipped.token_ids == whole.token_ids
    assert (cut.overlong, clipped.overlong) == (True, True)


def test_a_tokenizer_without_an_end_adds_none():
    tokenizer = byte_level()
    tokenizer.eos_token = None
    found = tokens(tokenizer, "the answer is", "twelve", ended=True)
    assert counting(tokenizer, found)[0] == " twelve"


def test_a_batch_says_the_same_as_one_text_at_a_time():
    tokenizer = byte_level(begin=True)
    texts = [text("the answer is", "two"), text("ab", "abcd"), text("", "twelve, two")]
    together = list(tokenize(texts, tokenizer, 5, ended=True))
    alone = [next(tokenize([one], tokenizer, 5, ended=True)) for one in texts]
    assert together == alone
