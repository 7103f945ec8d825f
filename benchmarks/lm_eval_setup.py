"""Score several checkpoints in one process, and with the `lm_eval` command once per checkpoint.

Same scorer, same benchmarks, same scores (checked): what differs is what is done again for every
checkpoint, which for the command includes starting Python. Loading the weights counts in both.
Prints a table in Markdown.

    python benchmarks/lm_eval_setup.py --checkpoints RUN/checkpoints --items ITEMS --num 3
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from evals.harness import score
from studies.base import parse_checkpoint_name
from studies.settings import EvaluationSpec
from studies.spec import Benchmark

METRICS = {"choice": "acc", "exact": "exact_match"}
BATCH_SIZE = 512


def main() -> None:
    """Time both ways over the same checkpoints, compare their scores, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--items", type=Path, required=True, help="folder of benchmark items")
    parser.add_argument("--num", type=int, default=3, help="checkpoints to score, first to last")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    checkpoints = pick(arguments.checkpoints, arguments.num)
    names = sorted(file.stem for file in arguments.items.glob("nano_*.yaml"))
    benchmarks = [Benchmark(name=name, metric=METRICS[name.split("_")[-1]]) for name in names]
    print(f"{len(benchmarks)} benchmarks, one thread, seconds per checkpoint\n")
    print("| checkpoint | one process | `lm_eval` command | ratio |\n|---|---|---|---|")
    for checkpoint in checkpoints:
        ours, our_seconds = timed(in_process, checkpoint, arguments.items, benchmarks)
        theirs, their_seconds = timed(by_command, checkpoint, arguments.items, benchmarks)
        for name, value in ours.items():
            assert math.isclose(value, theirs[name], abs_tol=1e-12), (name, value, theirs[name])
        ratio = their_seconds / our_seconds
        print(f"| {checkpoint.name} | {our_seconds:.2f} | {their_seconds:.2f} | {ratio:.0f} |")


def pick(folder: Path, num: int) -> list[Path]:
    """Checkpoints spread evenly over a folder, in the order of their steps."""
    steps = {path: parse_checkpoint_name(path.name) for path in folder.iterdir()}
    found = sorted((path for path, step in steps.items() if step), key=lambda path: steps[path])
    if not found:
        raise SystemExit(f"no checkpoints in {folder}; expected folders such as step100-tokens1M")
    num = min(num, len(found))
    return [found[round(i * (len(found) - 1) / max(num - 1, 1))] for i in range(num)]


def timed(way, *arguments):
    """What a way of scoring answers, and its wall time in seconds."""
    start = time.perf_counter()
    return way(*arguments), time.perf_counter() - start


def in_process(checkpoint: Path, items: Path, benchmarks: list[Benchmark]) -> dict[str, float]:
    """Load a checkpoint and score it here."""
    results = score(
        AutoModelForCausalLM.from_pretrained(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint),
        benchmarks,
        include_path=items,
        settings=EvaluationSpec(),
        batch_size=BATCH_SIZE,
        device="cpu",
    )
    return {result.benchmark: result.value for result in results}


def by_command(checkpoint: Path, items: Path, benchmarks: list[Benchmark]) -> dict[str, float]:
    """Score a checkpoint with the `lm_eval` command, started inside the items folder."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args"]
        command += [f"pretrained={checkpoint.resolve()}", "--include_path", ".", "--tasks"]
        command += [benchmark.name for benchmark in benchmarks]
        command += ["--num_fewshot", "0", "--seed", str(EvaluationSpec().seed)]
        command += ["--batch_size", str(BATCH_SIZE), "--device", "cpu", "--output_path", out]
        private = {"HF_HOME": out, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **private}
        subprocess.run(command, cwd=items, check=True, capture_output=True, env=environment)
        (file,) = Path(out).rglob("results_*.json")
        scores = json.loads(file.read_text())["results"]
    return {b.name: scores[b.name][f"{b.metric},none"] for b in benchmarks}


if __name__ == "__main__":
    main()
