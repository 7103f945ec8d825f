"""Routing and losses of samples: `models.extraction.extract` against the loop one would write.

    python benchmarks/extraction.py [--shape small|olmoe-1b-7b] [--repeat 3]

The loop pads samples in the order in which they come, asks transformers for all router logits and
all next-token logits, and averages. Same model (random weights of the shape), same samples (random
tokens, lengths spread like those of instruction data), same answers (asserted). Each way runs in a
process of its own; peak memory is what it needs on top of the weights. On a CUDA device the shape
olmoe-1b-7b is that of OLMoE-1B-7B. Writes benchmarks/extraction_<shape>.md.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import OlmoeConfig, OlmoeForCausalLM, PreTrainedModel

from models.devices import resolve_device
from models.extraction import extract
from models.families.registry import family_of

HERE = Path(__file__).parent
MIB = 2**20
OLMOE = {"num_hidden_layers": 16, "num_experts": 64, "num_experts_per_tok": 8}
SHAPES = {
    "olmoe-1b-7b": {**OLMOE, "hidden_size": 2048, "intermediate_size": 1024},
    "small": {
        "num_hidden_layers": 4,
        "num_experts": 16,
        "num_experts_per_tok": 4,
        "hidden_size": 512,
        "intermediate_size": 512,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    },
}
NUM_SAMPLES = {"olmoe-1b-7b": 4096, "small": 64}
MEDIAN_LENGTH, LENGTH_SPREAD, MAX_LENGTH = 160, 0.9, 1024
# The largest difference of a mean routing weight, and of a loss in nats.
TOLERANCES = {"float32": (1e-5, 1e-4), "bfloat16": (1e-2, 5e-2)}
# Dense bfloat16 operations per second, from the makers' data sheets.
PEAKS = {"H200": 989e12, "H100 80GB HBM3": 989e12, "H100 PCIe": 756e12, "A100": 312e12}


@dataclass(frozen=True)
class Measured:
    """One way, once."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    device: str


def main() -> None:
    """Run both ways in turn, compare their answers, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=TOLERANCES, help="bfloat16 on CUDA, else float32")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--loop-batch-size", type=int, default=8)
    parser.add_argument("--batch-size", default="auto", help="of extract")
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--answers", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.device = resolve_device(options.device)
    options.dtype = options.dtype or ("float32" if options.device == "cpu" else "bfloat16")
    if options.only:
        print(json.dumps(asdict(run(options))))
        return
    measured: dict[str, list[Measured]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.repeat):
            for way in WAYS:
                measured[way].append(in_child(way, Path(folder)))
                print(way, measured[way][-1], flush=True)
        differences = compare(Path(folder), options.dtype)
    result = HERE / f"extraction_{options.shape.replace('-', '_')}.md"
    result.write_text(table(options, measured, differences))


def in_child(way: str, folder: Path) -> Measured:
    """Measure one way in a process of its own; its answers go into the folder."""
    command = [sys.executable, *sys.argv, "--only", way, "--answers", str(folder / f"{way}.npz")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Measured(**json.loads(done.stdout))


def run(options: argparse.Namespace) -> Measured:
    """Measure one way in this process."""
    model = build(options.shape, options.device, options.dtype)
    token_ids = samples(options.shape)
    WAYS[options.only](model, token_ids[:2], options)  # libraries load and choose kernels
    before = memory(model.device, reset=True)
    start, cpu_start = time.perf_counter(), time.process_time()
    weights_NLK, losses_N = WAYS[options.only](model, token_ids, options)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    peak = memory(model.device)
    np.savez(options.answers, weights_NLK=weights_NLK, losses_N=losses_N)
    name = torch.cuda.get_device_name() if model.device.type == "cuda" else processor()
    return Measured(wall, cpu, (peak - before) / MIB, name)


def ours(model: PreTrainedModel, token_ids: list, options: argparse.Namespace) -> tuple:
    """`extract`, as the routing step calls it."""
    batch_size = options.batch_size if options.batch_size == "auto" else int(options.batch_size)
    counted = [[True] * len(ids) for ids in token_ids]
    result = extract(model, family_of("olmoe"), token_ids, counted, batch_size=batch_size)
    return result.routing_weights_NLK, result.losses_N


@torch.inference_mode()
def loop(model: PreTrainedModel, token_ids: list, options: argparse.Namespace) -> tuple:
    """Padded batches in the order given, all logits at once."""
    weights_NLK, losses_N = [], []
    for begin in range(0, len(token_ids), options.loop_batch_size):
        chosen = token_ids[begin : begin + options.loop_batch_size]
        ids_BT = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(ids) for ids in chosen], batch_first=True
        ).to(model.device)
        lengths_B = torch.tensor([len(ids) for ids in chosen], device=model.device)
        mask_BT = torch.arange(ids_BT.shape[1], device=model.device) < lengths_B[:, None]
        output = model(input_ids=ids_BT, attention_mask=mask_BT.long(), output_router_logits=True)
        logits_LBTK = torch.stack(output.router_logits).unflatten(1, ids_BT.shape)
        sums_LBK = (logits_LBTK.float().softmax(-1) * mask_BT[..., None]).sum(dim=2)
        weights_NLK.append((sums_LBK / lengths_B[:, None]).transpose(0, 1).cpu().numpy())
        losses_BT = torch.nn.functional.cross_entropy(
            output.logits[:, :-1].float().transpose(1, 2), ids_BT[:, 1:], reduction="none"
        )
        sums_B = (losses_BT * mask_BT[:, 1:]).sum(dim=1)
        losses_N.append((sums_B / (lengths_B - 1)).cpu().numpy())
    return np.concatenate(weights_NLK), np.concatenate(losses_N)


WAYS = {"loop": loop, "extract": ours}


def build(shape: str, device: str, dtype: str) -> PreTrainedModel:
    """A model of the shape with random weights, the same each time."""
    torch.manual_seed(0)
    config = OlmoeConfig(**SHAPES[shape])
    with torch.device(device):
        return OlmoeForCausalLM._from_config(config, dtype=getattr(torch, dtype)).eval()


def samples(shape: str) -> list[list[int]]:
    """Random tokens in samples of random lengths, the same each time."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(MEDIAN_LENGTH), LENGTH_SPREAD, NUM_SAMPLES[shape])
    lengths = lengths.astype(int).clip(2, MAX_LENGTH)
    return [rng.integers(2, 50_000, size=length).tolist() for length in lengths]


def memory(device: torch.device, *, reset: bool = False) -> int:
    """Most bytes that were in use since the last reset."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated()
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def compare(folder: Path, dtype: str) -> tuple[float, float]:
    """Largest differences of the two ways' answers; raises when they are not the same."""
    with np.load(folder / "loop.npz") as theirs, np.load(folder / "extract.npz") as mine:
        weights, losses = (
            float(np.abs(theirs[name] - mine[name]).max()) for name in ("weights_NLK", "losses_N")
        )
    assert weights <= TOLERANCES[dtype][0], weights
    assert losses <= TOLERANCES[dtype][1], losses
    return weights, losses


def operations(shape: str, lengths: list[int]) -> float:
    """Floating-point operations that the samples need: matrix products, causal attention."""
    config = OlmoeConfig(**SHAPES[shape])
    width, layers = config.hidden_size, config.num_hidden_layers
    experts = 3 * width * config.intermediate_size * config.num_experts_per_tok
    per_token = layers * (4 * width**2 + experts + width * config.num_experts)
    per_token += width * config.vocab_size
    return sum(2 * length * per_token + layers * 2 * length**2 * width for length in lengths)


def table(
    options: argparse.Namespace, measured: dict[str, list[Measured]], differences: tuple
) -> str:
    """The result as Markdown."""
    lengths = [len(ids) for ids in samples(options.shape)]
    device = measured["loop"][0].device
    peak = next((peak for name, peak in PEAKS.items() if name in device), None)
    seconds = {w: statistics.median(m.wall_seconds for m in ms) for w, ms in measured.items()}
    cpu = {w: statistics.median(m.cpu_seconds for m in ms) for w, ms in measured.items()}
    mib = {w: statistics.median(m.peak_mib for m in ms) for w, ms in measured.items()}
    shape = ", ".join(f"{name} {value}" for name, value in SHAPES[options.shape].items())
    lines = [
        f"# Extraction, shape {options.shape}: `extract` against a padded transformers loop",
        "",
        f"`python {' '.join(['benchmarks/extraction.py', *sys.argv[1:]])}`: {shape}, "
        f"vocab_size {OlmoeConfig().vocab_size}; {options.dtype}; {device}"
        + (f", {os.cpu_count()} cores" if options.device == "cpu" else "")
        + f"; torch {torch.__version__}, Python {platform.python_version()}.",
        "",
        f"{len(lengths)} samples of {min(lengths)} to {max(lengths)} tokens (median "
        f"{statistics.median(lengths):.0f}), {sum(lengths)} together, every token's loss counted. "
        f"Loop: batches of {options.loop_batch_size}. extract: batch_size {options.batch_size}. "
        f"Median of {options.repeat}. Answers differ by at most {differences[0]:.1e} (routing "
        f"weight) and {differences[1]:.1e} (loss, nats).",
        "",
        "| way | wall s | CPU s | tokens/s | peak over weights MiB |"
        + (" share of bf16 peak |" if peak else ""),
        "|---|---|---|---|---|" + ("---|" if peak else ""),
    ]
    for way in WAYS:
        share = operations(options.shape, lengths) / seconds[way] / peak if peak else 0.0
        lines.append(
            f"| {way} | {seconds[way]:.1f} | {cpu[way]:.1f} | "
            f"{sum(lengths) / seconds[way]:.0f} | {mib[way]:.0f} |"
            + (f" {share:.0%} |" if peak else "")
        )
    lines += [
        "",
        f"extract: {seconds['loop'] / seconds['extract']:.1f} times the tokens/s at "
        f"{mib['extract'] / mib['loop']:.2f} of the memory.",
    ]
    if options.device == "cpu":
        lines += ["", "Not measured: the same on a CUDA device; none was at hand."]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """Name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
