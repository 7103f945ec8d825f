"""What the production study asks of the hub, tiny: its repositories, revisions and data sets.

Names of repositories, branches, columns and files are the public ones; contents are made here. The
models are OLMoEs with random weights, a different draw for every step, so nothing they say means
anything.
"""

import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedTokenizerFast

from tests.loopback_hub import LoopbackHub

TOKENS_PER_STEP = 4_194_304
WORDS = {
    "math": "sum product prime angle root proof limit square number equation seven twelve",
    "code": "def return for in range print list value index class import self",
    "prose": "the river ran under a bridge and nobody asked where all that water went",
    "chemistry": "carbon bond alkene ester ring acid reaction yields alcohol",
}


def branch_name(step: int) -> str:
    """A revision as allenai/OLMoE-1B-7B-0924 calls it."""
    return f"step{step}-tokens{step * TOKENS_PER_STEP // 10**9}B"


def text(domain: str, number: int, length: int = 30) -> str:
    """Words of a domain in a random order, the same for the same number."""
    rng = random.Random(f"{domain} {number}")
    begin = "Organic Chemistry: " if domain == "chemistry" else ""
    return begin + " ".join(rng.choices(WORDS[domain].split(), k=length)) + f" {number}."


def parquet(rows: list[dict]) -> bytes:
    """Rows as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens, as OLMoE's is one of 50,304."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([text(d, n) for d in WORDS for n in range(20)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|padding|>"
    )


def publish_model(
    hub: LoopbackHub, folder, repository: str, steps: tuple[int, ...], *, seed: int = 0
) -> dict[str, str]:
    """Put a tiny OLMoE's revisions on the hub; commit by branch."""
    config = OlmoeConfig(
        vocab_size=400,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=4096,
        initializer_range=0.3,
        pad_token_id=1,
        eos_token_id=0,
    )
    commits = {}
    for step in steps:
        with torch.random.fork_rng():
            torch.manual_seed(seed + step)
            model = OlmoeForCausalLM(config)
        place = folder / repository / branch_name(step)
        model.save_pretrained(place, max_shard_size="20KB")
        tokenizer().save_pretrained(place)
        commits[branch_name(step)] = hub.add_revision("model", repository, branch_name(step), place)
    hub.add_revision("model", repository, "main", folder / repository / branch_name(steps[-1]))
    return commits


def publish_data(hub: LoopbackHub, num_rows: int = 24) -> None:
    """Put every data set of the production study on the hub, in its own columns."""
    for repository, files in data_sets(num_rows).items():
        hub.add_revision("dataset", repository, "main", files)


def data_sets(num_rows: int) -> dict[str, dict[str, bytes]]:
    """Files by data set."""
    n = range(num_rows)

    def train(rows: list[dict], split: str = "train") -> dict[str, bytes]:
        return {f"data/{split}-00000-of-00001.parquet": parquet(rows)}

    choices = {"label": list("ABCDE"), "text": ["water", "bridge", "river", "ring", "root"]}
    return {
        "open-web-math/open-web-math": train(
            [{"url": f"u{i}", "text": text("math", i), "date": "2023", "metadata": "{}"} for i in n]
        ),
        "bigcode/starcoderdata": {
            "python/train-00000-of-00001.parquet": parquet(
                [
                    {"max_stars_repo_path": f"p{i}", "content": text("code", i), "id": str(i)}
                    for i in n
                ]
            )
        },
        "emozilla/dolma-v1_7-books": train(
            [{"id": str(i), "text": text("prose", i), "source": "books"} for i in n]
        ),
        "blester125/mediawiki-dolma": train(
            [
                {"id": str(i), "text": text("chemistry" if i % 2 else "prose", i), "source": "wiki"}
                for i in range(2 * num_rows)
            ]
        ),
        "qwedsacf/competition_math": train(
            [
                {
                    "problem": text("math", 100 + i),
                    "level": "Level 1",
                    "type": "Algebra",
                    "solution": text("math", 200 + i, 8),
                }
                for i in n
            ]
        ),
        "newfacade/LeetCodeDataset": {
            f"LeetCodeDataset-{split}.jsonl": _lines(
                [
                    {
                        "task_id": f"{split}-{i}",
                        "problem_description": text("code", 100 + i),
                        "completion": text("code", 200 + i, 9),
                        "query": text("code", 300 + i),
                        "response": text("code", 400 + i, 9),
                    }
                    for i in n
                ]
            )
            for split in ("train", "test")
        },
        "kowndinya23/flan2021-commonsense": train(
            [{"inputs": text("prose", 100 + i), "targets": text("prose", 200 + i, 4)} for i in n]
        ),
        "chemNLP/chemistry-bookshelves-merged": train(
            [{"text": text("chemistry", 100 + i)} for i in n]
        ),
        "meta-math/MetaMathQA": {
            "MetaMathQA-395K.json": json.dumps(
                [
                    {
                        "query": text("math", 500 + i, 8),
                        "response": f"The answer is: {i}",
                        "type": "GSM_AnsAug",
                        "original_question": "",
                    }
                    for i in n
                ]
            ).encode()
        },
        "HuggingFaceH4/CodeAlpaca_20K": train(
            [
                {"prompt": text("code", 500 + i, 8), "completion": text("code", 600 + i, 6)}
                for i in n
            ]
        ),
        "yahma/alpaca-cleaned": {
            "alpaca_data_cleaned.json": json.dumps(
                [
                    {
                        "instruction": text("prose", 500 + i, 6),
                        "input": "" if i % 2 else text("prose", 600 + i, 3),
                        "output": text("prose", 700 + i, 5),
                    }
                    for i in n
                ]
            ).encode()
        },
        "hkust-nlp/dart-math-pool-math": train(
            [
                {"query": text("math", 800 + i, 8), "gt_ans": str(i), "ans": str(i), "resp": "x"}
                for i in n
            ]
        ),
        "evalplus/humanevalplus": train([_problem(i) for i in range(6)], "test"),
        "tau/commonsense_qa": {
            f"data/{split}-00000-of-00001.parquet": parquet(
                [
                    {
                        "id": f"{split}{i}",
                        "question": text("prose", 800 + i, 8),
                        "question_concept": "river",
                        "choices": choices,
                        "answerKey": "ABCDE"[i % 5],
                    }
                    for i in n
                ]
            )
            for split in ("train", "validation", "test")
        },
        "cais/mmlu": {"README.md": _card("college_chemistry", "dev", "validation", "test")}
        | {
            f"college_chemistry/{split}-00000-of-00001.parquet": parquet(
                [
                    {
                        "question": text("chemistry", 800 + i, 8),
                        "subject": "college_chemistry",
                        "choices": ["ester", "alkene", "ring", "acid"],
                        "answer": i % 4,
                    }
                    for i in n
                ]
            )
            for split in ("dev", "validation", "test")
        },
    }


def _card(subset: str, *splits: str) -> bytes:
    """A data set card that names the files of one configuration."""
    files = "".join(f"  - split: {s}\n    path: {subset}/{s}-*\n" for s in splits)
    return f"---\nconfigs:\n- config_name: {subset}\n  data_files:\n{files}---\n".encode()


def _problem(i: int) -> dict:
    name = f"add_{i}"
    return {
        "task_id": f"HumanEval/{i}",
        "prompt": f'def {name}(x):\n    """Add {i} to a number."""\n',
        "entry_point": name,
        "canonical_solution": f"    return x + {i}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {i + 1}\n",
    }


def _lines(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
