"""How much a large series would take: the numbers of docs/cluster.md, by the machinery of `plan`.

    python -m flows.capacity      prints the page's tables

No hub is asked; what is assumed of the model stands in :mod:`tasks.costs.assumed`.
"""

import sys
from dataclasses import dataclass
from functools import cache

from flows.study import plan_study
from studies.load import load_study
from studies.spec import Study
from tasks.costs.assumed import BYTES_PER_PARAMETER, OLMOE_1B_7B, AssumedRevisions
from tasks.costs.study import Cost, Costs, study_costs

NUM_REVISIONS, NUM_MODELS, NUM_CARDS = 244, 10, 8
GPU = "H100"
BITS_PER_SECOND = 1e9
STUDIES = {
    "olmoe_1b_7b_zero_shot": "no tuning, zero-shot",
    "olmoe_1b_7b_40": "tuned, one rank",
    "olmoe_1b_7b": "tuned, ranks 32, 0 and 64",
}
HEAD = (
    f"| study | checkpoints | tokens | FLOPs | {GPU} hours | days on {NUM_CARDS} | download | "
    "hours at 1 Gbit/s | artifacts | disk per checkpoint |\n" + "|---|" + "---:|" * 9
)


@dataclass(frozen=True)
class Capacity:
    """What a number of checkpoints takes in all."""

    num_checkpoints: int
    tokens: float
    flops: float
    gpu_hours: float
    download: float
    disk: float

    def times(self, number: int) -> "Capacity":
        """So many models, each with samples and checkpoints of its own."""
        return Capacity(
            *(number * getattr(self, name) for name in self.__dataclass_fields__),
        )

    def row(self, name: str) -> str:
        """Line of the page's table."""
        days = self.gpu_hours / NUM_CARDS / 24
        hours = self.download * 8 / BITS_PER_SECOND / 3600
        return (
            f"| {name} | {self.num_checkpoints:,} | {self.tokens / 1e9:,.1f} B | {self.flops:.1e} "
            f"| {self.gpu_hours:,.0f} | {days:,.1f} | {self.download / 1e12:,.2f} TB "
            f"| {hours:,.0f} | {self.disk / 1e12:,.2f} TB "
            f"| {self.disk / self.num_checkpoints / 1e6:,.0f} MB |"
        )


def with_revisions(study: Study, number: int) -> Study:
    """The study over so many revisions of its model; which ones makes no difference to its cost."""
    (series,) = study.series
    every = [f"step{5000 * (1 + count)}" for count in range(number)]
    chosen = {"steps": None, "count": None, "first_step": None, "last_step": None}
    source = series.source.model_copy(update={**chosen, "revisions": tuple(every)})
    return study.model_copy(update={"series": (series.model_copy(update={"source": source}),)})


@cache
def costs_of(study_name: str, num_checkpoints: int = NUM_REVISIONS) -> Costs:
    """What one model's checkpoints take, step by step, under a study that ships."""
    study = with_revisions(load_study(study_name), num_checkpoints)
    assumed = AssumedRevisions(OLMOE_1B_7B, BYTES_PER_PARAMETER)
    return study_costs(study, plan_study(study), GPU, revisions=assumed)


def capacity(cost: Cost, num_checkpoints: int = NUM_REVISIONS) -> Capacity:
    """The amounts of a step, or of all together; nothing where there is no such thing."""
    amounts = (cost.tokens, cost.flops, cost.gpu_seconds, cost.download, cost.disk)
    tokens, flops, seconds, download, disk = (
        0.0 if amount is None else float(amount.value) for amount in amounts
    )
    return Capacity(num_checkpoints, tokens, flops, seconds / 3600, download, disk)


def table() -> str:
    """The page's table: one model and ten, under each study."""
    lines = [HEAD]
    for study_name, words in STUDIES.items():
        one = capacity(costs_of(study_name).altogether())
        lines.append(one.row(f"{words} (`{study_name}`)"))
        lines.append(one.times(NUM_MODELS).row(f"the same, {NUM_MODELS} models"))
    return "\n".join(lines)


def arithmetic(study_name: str = "olmoe_1b_7b_40") -> str:
    """Where the numbers of one study come from: a line per step that costs something."""
    lines = [
        f"| step | runs | tokens per run | tokens | FLOPs | {GPU} hours | download | disk |\n"
        "|---|" + "---:|" * 7
    ]
    for step in costs_of(study_name).steps:
        one = capacity(step)
        if one.tokens or one.disk:
            lines.append(
                f"| {step.step_name} | {step.num_runs:,} "
                f"| {one.tokens / step.num_runs / 1e6:,.2f} M "
                f"| {one.tokens / 1e9:,.1f} B | {one.flops:.1e} | {one.gpu_hours:,.1f} "
                f"| {one.download / 1e12:,.2f} TB | {one.disk / 1e9:,.1f} GB |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n\n{arithmetic()}\n")
