"""What GPUs can do at best, as their makers publish it, and what is assumed of it."""

import difflib
from dataclasses import dataclass

UTILISATION = 0.25
"""Share of the published peak that is assumed to be reached, in every kind of step."""

REFERENCE = "A100-80GB"
"""The card of arXiv 2506.21551, App. B; hours are told for it when no other is named."""

_NVIDIA = "https://www.nvidia.com/en-us/data-center"


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU: dense peaks in FLOP/s, without sparsity, and where they are published.

    `float32` is the peak outside of tensor cores, which is what torch uses for float32 by default.
    """

    name: str
    bfloat16: float
    float32: float
    source: str

    def seconds(self, flops: float, dtype: str) -> float:
        """Seconds for so many operations in `bfloat16` or `float32` at the assumed utilisation."""
        peak = {"bfloat16": self.bfloat16, "float32": self.float32}[dtype]
        return flops / (peak * UTILISATION)


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A10", 125e12, 31.2e12, f"{_NVIDIA}/products/a10-gpu/"),
        Gpu("A100-40GB", 312e12, 19.5e12, f"{_NVIDIA}/a100/"),
        Gpu("A100-80GB", 312e12, 19.5e12, f"{_NVIDIA}/a100/"),
        Gpu("B200", 2250e12, 80e12, f"{_NVIDIA}/hgx/"),
        Gpu("H100", 989e12, 67e12, f"{_NVIDIA}/h100/"),
        Gpu("H100-NVL", 835e12, 60e12, f"{_NVIDIA}/h100/"),
        Gpu("H200", 989e12, 67e12, f"{_NVIDIA}/h200/"),
        Gpu("L4", 121e12, 30.3e12, f"{_NVIDIA}/l4/"),
        Gpu("L40S", 362e12, 91.6e12, f"{_NVIDIA}/l40s/"),
    )
}


def gpu_named(name: str) -> Gpu:
    """A kind of GPU by its name, in capitals or not.

    Raises
    ------
    ValueError
        When it is not among the kinds known; names those that look alike.
    """
    known = {gpu.lower(): gpu for gpu in GPUS}
    wanted = name.strip().lower()
    if wanted in known:
        return GPUS[known[wanted]]
    alike = [gpu for gpu in known if gpu.startswith(wanted)] if wanted else []
    alike = alike or difflib.get_close_matches(wanted, known, n=3)
    hint = f"did you mean {' or '.join(known[gpu] for gpu in alike)}?" if alike else "known are"
    rest = "" if alike else f" {', '.join(GPUS)}"
    raise ValueError(f"no peak is known of a GPU {name!r}; {hint}{rest}")
