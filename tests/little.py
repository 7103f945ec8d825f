"""A study of seconds over a folder of tiny checkpoints, for tests of what runs around a study.

The models are OLMoEs with random weights and the benchmark's questions mean nothing. The benchmark
is a task file with its data beside it: moved away, scoring fails; put back, it succeeds.
"""

import json
from pathlib import Path

import torch
import yaml
from transformers import OlmoeConfig, OlmoeForCausalLM

from tests.published import text, tokenizer

DOMAINS = ("math", "prose")
DATA = "questions.jsonl"


def write_checkpoint(folder: Path, step: int) -> Path:
    """Write the checkpoint of a step as a training run does; returns its folder."""
    config = OlmoeConfig(
        vocab_size=400,
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        pad_token_id=1,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(step)
        model = OlmoeForCausalLM(config)
    place = folder / f"step{step}-tokens{step}K"
    model.save_pretrained(place)
    tokenizer().save_pretrained(place)
    return place


def write_study(folder: Path, steps: tuple[int, ...] = (0, 10), name: str = "little") -> Path:
    """Write checkpoints, samples, a benchmark and the study over them; returns the study file."""
    for step in steps:
        write_checkpoint(folder / "checkpoints", step)
    for domain in DOMAINS:
        rows = [{"text": text(domain, number)} for number in range(16)]
        write_lines(folder / f"{domain}.jsonl", rows)
    questions = [
        {
            "document_id": number,
            "question": text("math", number, 6),
            "choices": ["one", "two"],
            "answer": number % 2,
        }
        for number in range(12)
    ]
    write_lines(folder / "benchmarks" / DATA, questions)
    task = {
        "task": "questions",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": DATA}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    (folder / "benchmarks" / "questions.yaml").write_text(yaml.safe_dump(task))
    study = {
        "name": name,
        "title": "A little study",
        "series": [{"name": "main", "source": {"kind": "local", "path": "checkpoints"}}],
        "domains": [
            {
                "name": domain,
                "probes": {"kind": "jsonl", "path": f"{domain}.jsonl", "text_field": "text"},
            }
            for domain in DOMAINS
        ],
        "routing": {"max_length": 24, "kernel_samples": 4},
        "pathways": {"max_pairs": 100},
        "memorization": {"min_group_size": 2},
        "analysis": {"num_permutations": 99, "num_bootstrap": 100},
        "sensitivity": None,
        "evaluation": {"tasks_folder": "benchmarks"},
        "runtime": {"workers": 1, "batch_size": 8},
    }
    study["domains"][0]["benchmarks"] = [{"name": "questions", "metric": "acc"}]
    place = folder / f"{name}.yaml"
    place.write_text(yaml.safe_dump(study, sort_keys=False))
    return place


def write_lines(path: Path, rows: list[dict]) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
