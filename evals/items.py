"""The nano benchmarks as a folder that lm-eval understands: items per domain and the task files.

The folder stands on its own: `lm_eval run --include_path . --tasks nano_math_exact ...`, started
inside it, gives the scores that :func:`evals.harness.score` gives.
"""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

TASK_FILES = Path(__file__).parent / "nano"
ITEM_FIELDS = ("document_id", "prompt", "choices", "choice_index", "answer")


def benchmark_domains() -> tuple[str, ...]:
    """Domains that ship with task files, in alphabetical order."""
    names = (file.stem for file in TASK_FILES.glob("nano_*_choice.yaml"))
    return tuple(sorted(name.removeprefix("nano_").removesuffix("_choice") for name in names))


def write_benchmark_items(samples: pa.Table, out: Path) -> None:
    """Write the held-out benchmark samples and their task files into one folder.

    Parameters
    ----------
    samples
        Samples of the nano corpus: sample_id (int), domain, split, prompt, answer (str), choices
        (list of str) and choice_index (int, position of the answer in choices). Rows of other
        splits than `benchmark` are left out.
    out
        The folder; created when missing. Gets `<domain>.jsonl`, one object per sample with
        the fields document_id (the sample_id), prompt, choices, choice_index and answer, and the
        lm-eval task files of those domains.

    Raises
    ------
    ValueError
        When there is no benchmark sample, or a domain has no task files.
    """
    items = samples.filter(pc.equal(samples["split"], "benchmark"))
    domains = pc.unique(items["domain"]).to_pylist()
    if not domains:
        raise ValueError(
            f"none of the {samples.num_rows} samples has split 'benchmark'; hold some out "
            "(a smaller train share or validation share of the corpus)"
        )
    if unknown := sorted(set(domains) - set(benchmark_domains())):
        raise ValueError(
            f"domain {', '.join(unknown)} has no benchmark files; there are some for "
            f"{', '.join(benchmark_domains())}. Add nano_<domain>_choice.yaml and _exact.yaml"
        )
    out.mkdir(parents=True, exist_ok=True)
    for domain in domains:
        _write_items(items.filter(pc.equal(items["domain"], domain)), out / f"{domain}.jsonl")
        for file in TASK_FILES.glob(f"nano_{domain}_*.yaml"):
            shutil.copyfile(file, out / file.name)
    for file in TASK_FILES.glob("_*.yaml"):
        shutil.copyfile(file, out / file.name)


def _write_items(items: pa.Table, file: Path) -> None:
    table = items.rename_columns({"sample_id": "document_id"}).select(ITEM_FIELDS)
    rows = table.sort_by("document_id").to_pylist()
    for row in rows:
        assert row["choices"][row["choice_index"]] == row["answer"], row
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
