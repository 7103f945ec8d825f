"""Pairing: which benchmark group goes with which training group."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from store.artifacts import Artifact
from store.identity import Label
from studies.settings import PairingSpec, Runtime
from tasks.step import step

if TYPE_CHECKING:
    import pandas as pd

GROUPS = "groups"


def check_embedder(pairing: PairingSpec) -> None:
    """Refuse an embedder whose package is missing, before days of other work are done.

    Raises
    ------
    ValueError
        Saying what to install.
    """
    if pairing.embedder == "sentence-transformers" and not find_spec("sentence_transformers"):
        raise ValueError(
            "pairing.embedder is sentence-transformers, whose package is not installed: pip "
            "install '.[embeddings]' -c constraints.txt, or set it to tfidf"
        )


@step("pairing", version=1, run_name="pairing {label}")
def pair_groups_by_text(
    out: Path,
    *,
    label: Label,
    probes: Artifact,
    memorization: Artifact,
    generalization: Artifact,
    contamination: Artifact,
    accuracy: dict[str, str | None],
    pairing: PairingSpec,
    runtime: Runtime,
) -> dict[str, Any]:
    """Match training groups to benchmark groups by the likeness of their texts.

    Writes pairing.parquet, group_similarity.parquet, and the grouped texts themselves, so that
    others can check the pairing: groups/<domain>/pretrain@<step>.jsonl and test@<step>.jsonl
    (`never` where there is no step). Costs a second per nano series, more with a sentence model.
    Runs again when a group, a text or the settings change.
    """
    from metrics.pairing import group_means, group_similarity, pair_groups
    from models.embedding import embed
    from store.schemas import write_rows

    samples, documents = _samples(probes, memorization), _documents(generalization, contamination)
    pairs: list[dict[str, Any]] = []
    similar: list[dict[str, Any]] = []
    for domain, benchmark in accuracy.items():
        of_domain = samples[samples["domain"] == domain]
        tests = documents[(documents["domain"] == domain) & (documents["benchmark"] == benchmark)]
        _write_groups(of_domain, "pretrain", out / GROUPS / domain)
        _write_groups(tests, "test", out / GROUPS / domain)
        known = _large(of_domain, pairing), _large(tests, pairing)
        if known[0].empty:
            continue
        vectors = embed([*known[0]["text"], *known[1]["text"]], pairing.embedder, pairing.model)
        training = group_means(vectors[: len(known[0])], known[0]["group"].to_numpy())
        tested = {}
        if not known[1].empty:
            tested = group_means(vectors[len(known[0]) :], known[1]["group"].to_numpy())
            matrix = group_similarity(training, tested)
            similar += [
                {
                    "domain": domain,
                    "memorization_step": p,
                    "generalization_step": q,
                    "similarity": float(matrix[row, column]),
                }
                for row, p in enumerate(training)
                for column, q in enumerate(tested)
            ]
        pairs += _rows(domain, known, training, pair_groups(training, tested), _why(tests))
    write_rows("pairing", pairs, out, leave_out=("series",))
    write_rows("group_similarity", similar, out, leave_out=("series",))
    return {"num_pairs": sum(row["delay"] is not None for row in pairs)}


def _rows(
    domain: str,
    known: "tuple[pd.DataFrame, pd.DataFrame]",
    training: dict[int, Any],
    pairs: list[Any],
    why_not: str,
) -> list[dict[str, Any]]:
    """A row for every training group, paired or not."""
    sizes, tests = (frame["group"].value_counts().to_dict() for frame in known)
    found = {pair.memorization_step: pair for pair in pairs}
    rows = []
    for step_p in training:
        pair = found.get(step_p)
        rows.append(
            {
                "domain": domain,
                "memorization_step": step_p,
                "generalization_step": pair.generalization_step if pair else None,
                "similarity": pair.similarity if pair else None,
                "delay": pair.delay if pair else None,
                "num_samples": int(sizes[step_p]),
                "num_documents": int(tests[pair.generalization_step]) if pair else None,
                "note": None if pair else f"unpaired: {why_not}",
            }
        )
    return rows


def _why(tests: "pd.DataFrame") -> str:
    """Why a training group can be left without a benchmark group."""
    if tests.empty:
        return "the benchmark's metric is a share per document, so none is generalized at a step"
    return "there are fewer benchmark groups"


def _samples(probes: Artifact, memorization: Artifact) -> "pd.DataFrame":
    texts = pq.read_table(
        probes.path / "probes.parquet", columns=["domain", "split", "sample_id", "text"]
    ).to_pandas()
    steps = pq.read_table(memorization.path / "memorization.parquet").to_pandas()
    joined = texts[texts["split"] == "probe"].merge(steps, on=["domain", "sample_id"])
    return joined.rename(columns={"memorization_step": "group", "sample_id": "id"})


def _documents(generalization: Artifact, contamination: Artifact) -> "pd.DataFrame":
    texts = pq.read_table(contamination.path / "documents.parquet").to_pandas()
    steps = pq.read_table(generalization.path / "generalization.parquet").to_pandas()
    joined = texts.merge(steps, on=["domain", "benchmark", "document_id"])
    return joined.rename(columns={"generalization_step": "group", "document_id": "id"})


def _large(frame: "pd.DataFrame", pairing: PairingSpec) -> "pd.DataFrame":
    """What belongs to a group that is large enough; never memorized or generalized is no group."""
    grouped = frame.dropna(subset=["group"])
    sizes = grouped["group"].map(grouped["group"].value_counts())
    return grouped[sizes >= pairing.min_group_size].astype({"group": np.int64})


def _write_groups(frame: "pd.DataFrame", kind: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = frame["group"].map(lambda step: "never" if np.isnan(step) else str(int(step)))
    for name, members in frame.groupby(names):
        lines = (
            json.dumps({"id": int(one), "text": text}, ensure_ascii=False)
            for one, text in zip(members["id"], members["text"], strict=True)
        )
        (folder / f"{kind}@{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
