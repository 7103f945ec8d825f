"""Tokens that count, with tokenizers that join, prepend and append."""

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from models.records import Text
from models.tokens import tokenize

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
