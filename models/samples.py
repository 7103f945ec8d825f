"""Samples as token ids: from the nano corpus, or from a JSON-lines file with a tokenizer."""

import json
from pathlib import Path
from typing import Any

from studies.sources import JsonlSamples

CORPUS_SPLITS = {"probe": "train", "validation": "validation"}
# Without one of these the library makes a tokenizer that knows no word, and says nothing.
VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def corpus_samples(
    corpus_folder: Path, domain: str, split: str, shuffle_answers: bool
) -> list[dict[str, Any]]:
    """Samples of one domain of the nano corpus; only the answer token counts in the loss.

    Parameters
    ----------
    corpus_folder
        Folder written by :func:`models.nano.corpus.save_corpus`.
    domain, split
        Domain name; `probe` (the training samples) or `validation`.
    shuffle_answers
        Take the shuffled answers, as the control series was trained on them.
    """
    from models.nano.corpus import load_corpus
    from models.nano.tokenizer import build_tokenizer

    corpus = load_corpus(corpus_folder)
    tokenizer = build_tokenizer(corpus.vocabulary)
    answer = "shuffled_answer" if shuffle_answers else "answer"
    samples = []
    for row in corpus.samples.to_pylist():
        if row["domain"] == domain and row["split"] == CORPUS_SPLITS[split]:
            text = f"{row['prompt']} {row[answer]}"
            token_ids = tokenizer.encode(text, add_special_tokens=False)
            counted = [False] * (len(token_ids) - 1) + [True]
            samples.append(_sample(row["sample_id"], text, token_ids, counted))
    if not samples:
        raise ValueError(f"the nano corpus has no {split} samples in domain {domain!r}")
    return samples


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved beside a checkpoint.

    Raises
    ------
    ValueError
        Naming the folder: it holds no tokenizer, or one that cannot be read.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in VOCABULARY_FILES):
        raise ValueError(
            f"{folder} holds no tokenizer: expected one of {', '.join(VOCABULARY_FILES)} beside "
            "the weights; save the model's tokenizer there"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library raises nothing more special for a damaged file
        raise ValueError(
            f"{folder}: the tokenizer cannot be read ({error}); save the model's tokenizer again"
        ) from error


def jsonl_samples(source: JsonlSamples, tokenizer: Any, max_length: int) -> list[dict[str, Any]]:
    """Samples of a JSON-lines file; longer ones are cut to `max_length` tokens.

    Without an answer field every token but the first counts in the loss (the first is predicted
    from nothing); with one, only the answer's tokens do.

    Raises
    ------
    ValueError
        Naming file and line: not JSON, field missing or not text, too short to have a loss.
        Naming the file: not UTF-8, or no sample at all.
    """
    samples: list[dict[str, Any]] = []
    try:
        with source.path.open(encoding="utf-8-sig") as file:  # some editors begin with a mark
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                if source.limit is not None and len(samples) == source.limit:
                    break
                samples.append(_jsonl_sample(line, number, source, tokenizer, max_length))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{source.path}: not UTF-8 text ({error.reason}); save the file as UTF-8 and run again"
        ) from error
    if not samples:
        raise ValueError(f"{source.path}: no samples; expected one JSON object per line")
    return samples


def _jsonl_sample(
    line: str, number: int, source: JsonlSamples, tokenizer: Any, max_length: int
) -> dict[str, Any]:
    place = f"{source.path}, line {number}"
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not JSON ({error})") from error
    text = _text_field(row, source.text_field, place)
    token_ids = tokenizer.encode(text)
    num_prompt = 1
    if source.answer_field is not None:
        answer = _text_field(row, source.answer_field, place)
        num_prompt = len(token_ids)
        text = f"{text} {answer}"
        token_ids = tokenizer.encode(text)
    token_ids = token_ids[:max_length]
    if len(token_ids) <= num_prompt or num_prompt == 0:
        raise ValueError(
            f"{place}: {len(token_ids)} tokens, of which none can count in the loss; give longer "
            f"samples or a larger routing.max_length (now {max_length})"
        )
    counted = [index >= num_prompt for index in range(len(token_ids))]
    return _sample(number - 1, text, token_ids, counted)


def _text_field(row: Any, field: str, place: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        found = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(f"{place}: expected a text field {field!r}, found {found or 'nothing'}")
    text: str = row[field]
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(
            f"{place}: the field {field!r} holds half a character (a lone surrogate such as "
            "\\ud83d); write the file again from the original text"
        )
    return text


def _sample(sample_id: int, text: str, token_ids: list[int], counted: list[bool]) -> dict[str, Any]:
    return {"sample_id": sample_id, "text": text, "token_ids": token_ids, "counted": counted}
