"""Benchmarks: score one checkpoint with lm-eval."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from store.artifacts import Artifact, Checkpoint
from store.identity import Label, file_digest, files_digest
from studies.settings import EvaluationSpec, Runtime
from studies.spec import Benchmark
from tasks.step import step
from tasks.workers import report

NO_LABEL = Label("")
PARTS = "parts"
ADAPTER = "adapter"
PACKAGES = ("lm_eval", "transformers", "torch", "datasets")
SCORED = ("benchmark", "metric", "value", "std_error", "num_documents")
DATA = ("dataset", "commit", "version", "documents_digest")


def find_benchmarks(
    benchmarks: dict[str, list[Benchmark]], evaluation: EvaluationSpec
) -> dict[str, Any]:
    """Look up every benchmark of a study; needs no data and no network, takes seconds.

    Returns
    -------
    dict
        `definitions`: name to a digest of what defines the benchmark. `data_sets`: repositories on
        the hub that hold the benchmarks' data.

    Raises
    ------
    ValueError
        One line for each benchmark that could not be scored, and why.
    """
    from evals.checks import check_benchmarks, hub_datasets
    from evals.items import TASK_FILES

    chosen = [benchmark for domain in benchmarks.values() for benchmark in domain]
    where: dict[str, Any] = {"settings": evaluation, "folders": [TASK_FILES]}
    return {
        "definitions": check_benchmarks(chosen, **where),
        "data_sets": hub_datasets(chosen, **where),
    }


def check_sandbox(benchmarks: dict[str, list[Benchmark]]) -> None:
    """Refuse benchmarks with programs where no sandbox works; checked anew in every run.

    Raises
    ------
    ValueError
        Saying what was tried and what to do.
    """
    from evals.sandbox import BOXED, find_sandbox

    if any(benchmark.name in BOXED for chosen in benchmarks.values() for benchmark in chosen):
        find_sandbox()


def known_benchmarks() -> dict[str, str]:
    """What decides which benchmarks there are, beside the study's own: lm-eval and our files."""
    house = Path(__file__).parent.parent / "evals"
    files = sorted(p for kind in ("*.yaml", "*.py") for p in house.rglob(kind))
    digests = {path.relative_to(house).as_posix(): file_digest(path) for path in files}
    return {"lm_eval": version("lm_eval"), "evals": files_digest(digests)}


@step("benchmark-definitions", version=1, run_name="benchmark definitions")
def look_up_benchmarks(
    out: Path,
    *,
    benchmarks: dict[str, list[Benchmark]],
    evaluation: EvaluationSpec,
    known: dict[str, str],
    runtime: Runtime,
) -> dict[str, Any]:
    """Look up every benchmark before anything is downloaded or trained (:func:`find_benchmarks`).

    Writes definitions.json. `known` is what :func:`known_benchmarks` says.
    """
    found = find_benchmarks(benchmarks, evaluation)
    (out / "definitions.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


@step(
    "benchmarks",
    version=4,
    run_name="benchmarks {checkpoint.series} {checkpoint.revision}{label}",
    resumable=True,
    loads_model=True,
)
def score_benchmarks(
    out: Path,
    *,
    label: Label = NO_LABEL,
    checkpoint: Checkpoint,
    benchmarks: dict[str, list[Benchmark]],
    definitions: dict[str, str],
    items: Artifact | None,
    adapters: dict[str, Artifact],
    commits: dict[str, str],
    evaluation: EvaluationSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Run the benchmarks of every domain on one checkpoint; keep scores and single documents.

    Writes benchmark_scores.parquet and benchmark_documents.parquet. One model load serves all
    benchmarks; a domain with an adapter is scored with it. `definitions` are what
    :func:`find_benchmarks` returned, `commits` those of hub data sets by repository. The summary
    says by benchmark which documents were scored. Costs one to three seconds per nano checkpoint.
    Runs again when a benchmark's files, its data, an adapter or the settings change. What was
    scored before an interruption, or beside a benchmark that failed, is not scored again. `label`
    tells the scores of one checkpoint under several tunings apart.
    """
    wanted = [(domain, one) for domain, chosen in benchmarks.items() for one in chosen]
    parts = [Part(out / PARTS / f"{at:03d}", *one, definitions) for at, one in enumerate(wanted)]
    missing = [part for part in parts if not part.is_complete()]
    if missing:
        from evals.harness import check_special_tokens, score
        from models.loading import load_checkpoint
        from models.samples import load_tokenizer

        tokenizer = load_tokenizer(checkpoint.path)
        check_special_tokens(tokenizer)
        model, _, device = load_checkpoint(checkpoint.path, runtime.device, evaluation.dtype)
        use = _with_adapters(model, adapters)

        def run(part: Part) -> dict[str, Any]:
            (result,) = score(
                use(part.domain if part.domain in adapters else None),
                tokenizer,
                [part.benchmark],
                include_path=None if items is None else items.path,
                settings=evaluation,
                batch_size=runtime.batch_size,
                device=device,
                commits=commits,
                on_batch=lambda num: report(
                    parts.index(part), len(parts), f"{part.benchmark.name}, {num} prompts"
                ),
            )
            return {**vars(result), "device": device}

        _fill(missing, run, len(parts))
    summary = _put_together(parts, out)
    shutil.rmtree(out / PARTS)
    return summary


@dataclass(frozen=True)
class Part:
    """One benchmark's pair of files while others are still to be scored: rows, then a record.

    The record is written last and names the digest of the rows, the definition of the benchmark
    and the packages that scored it; a pair that does not fit is scored again.
    """

    stem: Path
    domain: str
    benchmark: Benchmark
    definitions: dict[str, str]

    def is_complete(self) -> bool:
        """Whether the pair is there and is what would be computed now."""
        try:
            record = self.read()
            return (
                record["made_from"] == self._inputs() and file_digest(self.rows) == record["sha256"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def write(self, result: dict[str, Any]) -> None:
        """Keep what :func:`evals.harness.score` found."""
        self.stem.parent.mkdir(exist_ok=True)
        pq.write_table(result["documents"], self.rows, compression="zstd")
        record = {
            "score": {"domain": self.domain, **{name: result[name] for name in SCORED}},
            "data": {name: result[name] for name in DATA},
            "device": result["device"],
            "made_from": self._inputs(),
            "sha256": file_digest(self.rows),
        }
        unfinished = self.stem.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(record), encoding="utf-8")
        unfinished.rename(self.record)

    def read(self) -> dict[str, Any]:
        """The record."""
        record: dict[str, Any] = json.loads(self.record.read_text(encoding="utf-8"))
        return record

    @property
    def rows(self) -> Path:
        """File with one row per document."""
        return self.stem.with_suffix(".parquet")

    @property
    def record(self) -> Path:
        """File with the score."""
        return self.stem.with_suffix(".json")

    def _inputs(self) -> list[Any]:
        definition = self.definitions.get(self.benchmark.name)
        return [self.domain, self.benchmark.name, definition, {p: version(p) for p in PACKAGES}]


def _with_adapters(model: Any, adapters: dict[str, Artifact]) -> Callable[[str | None], Any]:
    if not adapters:
        return lambda domain: model
    from models.adapters import with_adapters

    folders = {domain: adapter.path / ADAPTER for domain, adapter in adapters.items()}
    return with_adapters(model, folders).use


def _fill(missing: list[Part], run: Callable[[Part], dict[str, Any]], num_parts: int) -> None:
    """Score what is missing; a benchmark that fails does not keep the others from being scored."""
    failures: dict[str, Exception] = {}
    for part in missing:
        try:
            part.write(run(part))
        except Exception as error:
            failures[part.benchmark.name] = error
    if failures:
        saved = num_parts - len(failures)
        messages = "\n".join(f"{name}: {_message(error)}" for name, error in failures.items())
        first = next(iter(failures.values()))
        kind = ValueError if all(isinstance(e, ValueError) for e in failures.values()) else None
        raise (kind or RuntimeError)(
            f"{len(failures)} of {num_parts} benchmarks failed; the other {saved} are saved "
            f"and are not scored again.\n{messages}"
        ) from first


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _put_together(parts: list[Part], out: Path) -> dict[str, Any]:
    records = [part.read() for part in parts]
    scores = [record["score"] for record in records]
    documents = [
        pq.read_table(part.rows)
        .append_column("domain", pa.array([part.domain] * score["num_documents"]))
        .append_column("benchmark", pa.array([part.benchmark.name] * score["num_documents"]))
        for part, score in zip(parts, scores, strict=True)
    ]
    scored, rows = out / "benchmark_scores.parquet", out / "benchmark_documents.parquet"
    pq.write_table(pa.Table.from_pylist(scores), scored, compression="zstd")
    pq.write_table(pa.concat_tables(documents), rows, compression="zstd")
    names = [f"{part.domain}/{part.benchmark.name}" for part in parts]
    by_domain: dict[str, dict[str, float]] = {}
    for score in scores:
        by_domain.setdefault(score["domain"], {})[score["benchmark"]] = score["value"]
    return {
        "device": records[-1]["device"],
        "by_domain": by_domain,
        "scores": dict(zip(names, (score["value"] for score in scores), strict=True)),
        "data": dict(zip(names, (record["data"] for record in records), strict=True)),
    }
