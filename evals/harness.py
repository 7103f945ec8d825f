"""Score one checkpoint on benchmarks with lm-eval.

lm-eval does the scoring; this module saves what it would repeat for every checkpoint. A study
scores the same benchmarks on many checkpoints in one process, so loaded tasks with their requests
(:mod:`evals.cached_tasks`) and the token ids of their texts are cached between calls: they depend
on the task files and the tokenizer, never on the weights. `lm_eval.evaluate` is called, not
`simple_evaluate`, which starts several programs per call only to describe the machine.
"""

import contextlib
import hashlib
import io
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import datasets
from accelerate.utils.memory import (  # type: ignore[import-untyped]
    clear_device_cache,
    should_reduce_batch_size,
)
from lm_eval import evaluate
from lm_eval.models.huggingface import HFLM
from transformers import set_seed

from evals.cached_tasks import load_task
from evals.catalog import find_task, tasks_folders
from evals.checks import check_task, num_fewshot
from evals.results import BenchmarkResult, document_id_of, read_result
from studies.settings import EvaluationSpec
from studies.spec import Benchmark

MAX_CACHED_TEXTS = 100_000
AUTO_BATCH_SIZE = {"cpu": 16, "cuda": 64}
# The cached tasks hold the requests of the call in progress, and progress bars are process-wide.
_ONE_AT_A_TIME = threading.Lock()


def score(
    model: Any,
    tokenizer: Any,
    benchmarks: Sequence[Benchmark],
    *,
    include_path: Path | None,
    settings: EvaluationSpec,
    batch_size: int | Literal["auto"],
    device: str,
    commits: Mapping[str, str] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[BenchmarkResult]:
    """Score a model on benchmarks with lm-eval.

    Parameters
    ----------
    model
        A causal language model of transformers; it is moved to `device` and put in eval mode.
    tokenizer
        Its tokenizer.
    benchmarks
        lm-eval tasks by name or file, each with the metric to read, 0 to 1 per document: `acc`,
        or `exact_match,strict-match` where a task has several filters.
    include_path
        Folder with task files, where names are looked up first and relative data files start;
        then come the study's `tasks_folder`, the files of grokpath, those of lm-eval.
    settings
        Few-shot examples (a number replaces the task's own), limit of documents, seed; a
        benchmark's own numbers override them.
    batch_size
        Prompts per forward pass, 1 or more; `auto` begins with 16, on a GPU with 64. Where memory
        runs out the benchmark is repeated with half as many.
    device
        Such as `cpu` or `cuda`.
    commits
        Commits of data sets on the hub, by repository; the main branch of those left out.
    on_batch
        Called before each forward pass with the number of prompts so far.

    Returns
    -------
    list of BenchmarkResult
        In the order of `benchmarks`.

    Raises
    ------
    ValueError
        For an unknown benchmark, a metric it does not have, missing or empty data, few-shot
        examples where a benchmark allows none, documents that would be scored wrongly, a
        tokenizer without an end of text or with tokens that the model does not know,
        log-likelihoods that are not numbers, or a single prompt that does not fit into memory.

    Notes
    -----
    Equal to `lm_eval run --model hf` on one task at a time, with the same few-shot number, limit,
    seed, batch size and dtype, and `peft=` where an adapter is active. Like that command it seeds
    the global random state of Python, NumPy and torch.
    """
    if not benchmarks:
        return []
    check_special_tokens(tokenizer)
    if batch_size == "auto":
        batch_size = AUTO_BATCH_SIZE.get(device.partition(":")[0], 16)
    results = []
    with _ONE_AT_A_TIME, _quiet():
        tasks = [_task(one, include_path, settings, commits or {}) for one in benchmarks]
        for benchmark, task in zip(benchmarks, tasks, strict=True):
            scorer = _CachingModel(
                model.to(device), tokenizer, batch_size, on_batch, benchmark.name
            )
            set_seed(settings.seed)
            outcome = _evaluate(scorer, benchmark, task, _limit(benchmark, settings))
            results.append(read_result(benchmark, task, outcome))
    return results


def document_texts(
    benchmarks: Sequence[Benchmark],
    *,
    include_path: Path | None,
    settings: EvaluationSpec,
    commits: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Prompt and right answer of every document, as lm-eval builds them, without scoring.

    Returns
    -------
    list of dict
        `benchmark`, `document_id` (as in the results of :func:`score`), `prompt` and `target`; a
        document with several right answers has the first.
    """
    texts = []
    with _ONE_AT_A_TIME, _quiet():
        for benchmark in benchmarks:
            task = _task(benchmark, include_path, settings, commits or {})
            limit = _limit(benchmark, settings)
            texts += [
                {
                    "benchmark": benchmark.name,
                    "document_id": document_id_of(document, place),
                    "prompt": _prompt(task, document),
                    "target": _target(task, document),
                }
                for place, document in task.doc_iterator(limit=limit)
            ]
    return texts


def _task(
    benchmark: Benchmark,
    include_path: Path | None,
    settings: EvaluationSpec,
    commits: Mapping[str, str],
) -> Any:
    first = [] if include_path is None else [include_path]
    task = find_task(benchmark, [*first, *tasks_folders(settings)])
    check_task(benchmark, task, settings)
    return load_task(
        task,
        num_fewshot=num_fewshot(benchmark, settings),
        limit=_limit(benchmark, settings),
        seed=settings.seed,
        commit=commits.get(str(task.config.get("dataset_path"))),
        max_generated=settings.max_generated,
    )


def _limit(benchmark: Benchmark, settings: EvaluationSpec) -> int | None:
    return settings.limit if benchmark.limit is None else benchmark.limit


def _evaluate(scorer: "_CachingModel", benchmark: Benchmark, task: Any, limit: int | None) -> Any:
    """The outcome of lm-eval; where memory runs out, it runs again with half the batch."""
    while True:
        try:
            return evaluate(
                scorer,
                {"tasks": {benchmark.name: task}},
                limit=limit,
                bootstrap_iters=0,
                log_samples=True,
            )
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if scorer.batch_size == 1:
                raise ValueError(
                    f"benchmark {benchmark.name!r}: one prompt alone does not fit into memory; use "
                    "evaluation.dtype: bfloat16, fewer few-shot examples, or a larger device"
                ) from error
        clear_device_cache(garbage_collection=True)
        scorer.batch_size_per_gpu = scorer.batch_size // 2


def _prompt(task: Any, document: Any) -> str:
    prompt = task.doc_to_text(document)
    if getattr(task, "multiple_input", False):  # what comes first is chosen, not what follows
        prompt = task.doc_to_choice(document)[prompt]
    return str(prompt)


def _target(task: Any, document: Any) -> str:
    target = task.doc_to_target(document)
    if isinstance(target, list):
        target = target[0]
    if isinstance(target, int) and task.OUTPUT_TYPE == "multiple_choice":
        target = task.doc_to_choice(document)[target]
    return f"{task.config.target_delimiter}{target}"


# ---------------------------------------------------------------- the model, and silence


class _CachingModel(HFLM):
    """lm-eval's transformers model; caches token ids, which the next checkpoint needs again."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        batch_size: int,
        on_batch: Callable[[int], None] | None,
        benchmark: str,
    ) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self._benchmark = benchmark
        self._num_known = model.get_input_embeddings().num_embeddings
        self._token_ids = _token_ids(_tokenizer_digest(tokenizer)) if tokenizer.is_fast else {}
        self._on_batch = on_batch
        self._num_prompts = 0

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        """Token ids of a text, as lm-eval encodes it."""
        key = (string, args, tuple(kwargs.items()))
        known = self._token_ids.get(key)
        if known is None:
            known = super().tok_encode(string, *args, **kwargs)
            if len(self._token_ids) < MAX_CACHED_TEXTS:
                self._token_ids[key] = known
        self._check_known(known)
        return known.copy()

    def tok_batch_encode(self, strings: list[str], *args: Any, **kwargs: Any) -> Any:
        """Token ids and mask of the prompts of a batch, as lm-eval encodes them."""
        ids, mask = super().tok_batch_encode(strings, *args, **kwargs)
        self._check_known(ids[mask.bool()].tolist())
        return ids, mask

    def _check_known(self, token_ids: list[int]) -> None:
        largest = max(token_ids, default=0)
        if largest >= self._num_known:
            token = self.tokenizer.convert_ids_to_tokens(largest)
            raise ValueError(
                f"benchmark {self._benchmark!r}: a text becomes token {largest} ({token!r}), and "
                f"the model knows 0 to {self._num_known - 1}; put the tokenizer that it was "
                "trained with beside it"
            )

    def _model_call(self, inps: Any, *args: Any, **kwargs: Any) -> Any:
        self._report(len(inps))
        return super()._model_call(inps, *args, **kwargs)

    def _model_generate(self, context: Any, *args: Any, **kwargs: Any) -> Any:
        self._report(len(context))
        return super()._model_generate(context, *args, **kwargs)

    def _report(self, num_prompts: int) -> None:
        self._num_prompts += num_prompts
        if self._on_batch is not None:
            self._on_batch(self._num_prompts)


def check_special_tokens(tokenizer: Any) -> None:
    """Refuse a tokenizer that names no end of text, without which lm-eval does not work.

    Raises
    ------
    ValueError
        With what to do.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "the tokenizer names no end of text, with which lm-eval ends answers and fills up "
            "batches; add eos_token to tokenizer_config.json beside the weights"
        )


@lru_cache(maxsize=1)
def _token_ids(_digest: str) -> dict[Any, list[int]]:
    return {}


def _tokenizer_digest(tokenizer: Any) -> str:
    """Digest of all that decides a fast tokenizer's ids; where it was loaded from does not."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # What the last batch needed, not part of the tokenizer.
    del state["padding"], state["truncation"]
    state["class"] = type(tokenizer).__qualname__
    state["special_tokens"] = tokenizer.special_tokens_map
    state["split_special_tokens"] = tokenizer.split_special_tokens
    return hashlib.sha256(json.dumps(state, default=repr).encode()).hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence logs and progress bars of lm-eval and datasets; errors are still raised."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    bars = datasets.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
