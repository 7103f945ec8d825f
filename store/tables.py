"""From artifacts to warehouse tables: what each step wrote, with series and step put beside it.

Artifacts of a checkpoint know nothing of series and step (the same weights measured on the same
samples are the same artifact, whatever they are called), so the two columns are added here.
"""

from collections.abc import Collection, Iterator
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from store import artifacts
from store.artifacts import Artifact
from store.identity import canonical_json
from store.schemas import TABLES, conform
from store.tensors import load_losses
from studies.spec import Domain


class SeriesArtifacts(TypedDict):
    """All that was measured of one series; lists run along its checkpoints.

    An artifact's Parquet files that are named as a table of the warehouse are parts of that table.
    """

    name: str
    role: str
    title: str
    variant: str
    control_for: str | None
    source_kind: str
    steps: list[int]
    tokens_seen: list[int | None]
    revisions: list[str]
    digests: list[str | None]
    repositories: list[str | None]
    probes: Artifact
    instructions: list[Artifact]
    loss_curve: Artifact | None
    routing: list[Artifact]
    pathways: list[Artifact]
    measures: list[Artifact]
    scores: list[Artifact]
    tuned: list[dict[str, Artifact]]
    ablation: dict[str, list[Artifact]]
    memorization: Artifact
    groups: Artifact
    drift: Artifact
    dynamics: Artifact
    contamination: Artifact | None
    generalization: Artifact | None
    pairing: Artifact | None


BOUND_MONITORS = {
    "gating": {
        "effective_dimension": "effective_dimension",
        "bound_bias": "bias",
        "bound_total": "total",
    },
    "tangent": {"effective_dimension_tangent": "effective_dimension"},
}
"""Monitors in the table `bound`, by kernel, and their columns there."""


MODEL_COLUMNS = {
    "family": "model_type",
    "num_layers": "num_moe_layers",
    "num_experts": "num_experts",
    "top_k": "top_k",
    "num_parameters": "num_parameters",
}
"""Columns of the table `checkpoints` and what a routing artifact's summary calls them."""


def curves_of_series(
    series: SeriesArtifacts, accuracy: dict[str, str | None], monitored: Collection[str]
) -> list[dict[str, Any]]:
    """Accuracy, losses and routing measures of one series as rows of the table `curves`.

    `accuracy` names the benchmark that is read as accuracy, by domain; of the measures those in
    `monitored` are taken.
    """
    rows = []
    for place, step in enumerate(series["steps"]):
        values = _values_at(series, place, accuracy)
        rows += [
            {"series": series["name"], "domain": d, "step": step, "monitor": m, "value": v}
            for (d, m), v in values.items()
            if m == "accuracy" or m in monitored
        ]
    return rows


def warehouse_tables(
    series: list[SeriesArtifacts],
    domains: list[Domain],
    judged: list[Artifact],
    study: dict[str, str],
    left_out: list[dict[str, Any]],
) -> dict[str, pa.Table]:
    """Every table of the warehouse; `judged` are the artifacts that belong to no single series."""
    tables: dict[str, list[pa.Table]] = {
        "study": [conform("study", [study])],
        "series": [conform("series", [_series_row(one, i) for i, one in enumerate(series)])],
        "domains": [conform("domains", [_domain_row(d, i) for i, d in enumerate(domains)])],
        "left_out": [conform("left_out", left_out)],
    }
    for one in series:
        for name, table in _series_tables(one):
            tables.setdefault(name, []).append(conform(name, table))
    for artifact in judged:
        for name, table in _own_tables(artifact):
            tables.setdefault(name, []).append(conform(name, table))
    used = [*_artifacts_of(series), *judged]
    tables["artifacts"] = [conform("artifacts", _artifact_rows(used))]
    tables["lineage"] = [conform("lineage", _lineage_rows(used))]
    return {name: pa.concat_tables(parts) for name, parts in tables.items()}


def _values_at(
    series: SeriesArtifacts, place: int, accuracy: dict[str, str | None]
) -> dict[tuple[str, str], float | None]:
    values: dict[tuple[str, str], float | None] = {}
    losses = series["routing"][place].summary["mean_losses"]
    scores = clean_scores(series["generalization"], series["steps"][place])
    metrics = _parquet(series["pathways"][place], "pathway_metrics").to_pylist()
    bounds = _parquet(series["pathways"][place], "bound").to_pylist()
    measures = _parquet(series["measures"][place], "routing_measures").to_pylist()
    drift = _parquet(series["drift"], "routing_measures").to_pylist()
    measures += [row for row in drift if row["step"] == series["steps"][place]]
    for domain, benchmark in accuracy.items():
        if benchmark is not None:
            values[domain, "accuracy"] = scores[domain, benchmark]
        values[domain, "training_loss"] = losses[domain]["probe"]
        if "validation" in losses[domain]:
            values[domain, "validation_loss"] = losses[domain]["validation"]
    for row in metrics:
        if row["scope"] == "domain":
            values[row["domain"], row["metric"]] = row["value"]
    for row in measures:
        if row["layer"] is None and row["domain"] in accuracy:
            values[row["domain"], row["measure"]] = row["value"]
    for row in bounds:
        for monitor, column in BOUND_MONITORS[row["kernel"]].items():
            values[row["domain"], monitor] = row[column]
    return values


def clean_scores(generalization: Artifact | None, step: int) -> dict[tuple[str, str], float]:
    """Accuracy by domain and benchmark at a step, without the documents that were left out."""
    if generalization is None:
        return {}
    table = _parquet(generalization, "clean_scores")
    here = table.filter(pc.equal(table["step"], step))
    names = zip(here["domain"].to_pylist(), here["benchmark"].to_pylist(), strict=True)
    return dict(zip(names, here["value"].to_pylist(), strict=True))


def _series_tables(series: SeriesArtifacts) -> Iterator[tuple[str, pa.Table]]:
    name = series["name"]
    yield "probes", _beside(_probe_columns(_parquet(series["probes"], "probes")), series=name)
    yield "probe_counts", _beside(_parquet(series["probes"], "probe_counts"), series=name)
    if series["loss_curve"] is not None:
        curve = _parquet(series["loss_curve"], "loss_curve").select(["step", "domain", "loss"])
        yield "loss_curve", _beside(curve, series=name)
    yield "checkpoints", _checkpoint_table(series)
    for artifact in (
        series["memorization"],
        series["groups"],
        series["drift"],
        series["dynamics"],
        series["contamination"],
        series["generalization"],
        series["pairing"],
    ):
        if artifact is not None:
            for table_name, table in _own_tables(artifact):
                yield table_name, _beside(table, series=name)
    for place, step in enumerate(series["steps"]):
        at = {"series": name, "step": step}
        yield "sample_losses", _beside(_loss_table(series["routing"][place]), **at)
        measured = [series["pathways"][place], series["measures"][place]]
        for artifact in [*measured, *(series["scores"][place : place + 1])]:
            for table_name, table in _own_tables(artifact):
                yield table_name, _beside(table, **at)
        for domain, artifact in (series["tuned"][place] if series["tuned"] else {}).items():
            curve = _parquet(artifact, "tuning_loss")
            names = ["tuning_step" if column == "step" else column for column in curve.column_names]
            yield "tuning_loss", _beside(curve.rename_columns(names), domain=domain, **at)
        for rank, scores in series["ablation"].items():
            found = _parquet(scores[place], "benchmark_scores")
            yield "ablation_scores", _beside(found, tuning_rank=int(rank), **at)


def _own_tables(artifact: Artifact) -> Iterator[tuple[str, pa.Table]]:
    """Parts of the warehouse's tables that an artifact holds: its files named after them."""
    for file in sorted(artifact.path.glob("*.parquet")):
        if file.stem in TABLES:
            yield file.stem, pq.read_table(file)


def _probe_columns(probes: pa.Table) -> pa.Table:
    counted = [sum(flags) for flags in probes["counted"].to_pylist()]
    return (
        probes.select(["domain", "split", "sample_id", "text"])
        .append_column("num_tokens", pc.list_value_length(probes["token_ids"]))
        .append_column("num_counted", pa.array(counted))
    )


def _checkpoint_table(series: SeriesArtifacts) -> pa.Table:
    models = [artifact.summary["model"] for artifact in series["routing"]]
    return pa.table(
        {
            "series": [series["name"]] * len(models),
            "step": series["steps"],
            "tokens_seen": pa.array(series["tokens_seen"], pa.int64()),
            "repository": pa.array(series["repositories"], pa.string()),
            "revision": series["revisions"],
            "digest": series["digests"],
            **{column: [model[key] for model in models] for column, key in MODEL_COLUMNS.items()},
        }
    )


def _loss_table(routing: Artifact) -> pa.Table:
    tables = []
    for file in sorted(routing.path.glob("*.npz")):
        domain, split = file.stem.rsplit(".", 1)
        if split not in ("probe", "validation"):
            continue
        losses = load_losses(file)
        num_samples = len(losses.sample_ids_N)
        tables.append(
            pa.table(
                {
                    "domain": [domain] * num_samples,
                    "split": [split] * num_samples,
                    "sample_id": losses.sample_ids_N,
                    "loss": losses.losses_N,
                }
            )
        )
    return pa.concat_tables(tables)


def _series_row(series: SeriesArtifacts, position: int) -> dict[str, Any]:
    return {
        "series": series["name"],
        "role": series["role"],
        "title": series["title"],
        "variant": series["variant"],
        "control_for": series["control_for"],
        "source_kind": series["source_kind"],
        "position": position,
    }


def _domain_row(domain: Domain, position: int) -> dict[str, Any]:
    headline = domain.benchmarks[0] if domain.benchmarks else None
    return {
        "domain": domain.name,
        "title": domain.title,
        "position": position,
        "benchmark": headline.name if headline else None,
        "metric": headline.metric if headline else None,
    }


def _artifacts_of(series: list[SeriesArtifacts]) -> list[Artifact]:
    found: dict[str, Artifact] = {}
    for one in series:
        for artifact in _artifacts_in(list(one.values())):
            found[artifact.fingerprint] = artifact
    return list(found.values())


def _artifacts_in(value: Any) -> Iterator[Artifact]:
    if isinstance(value, Artifact):
        yield value
    elif isinstance(value, list | dict):
        for item in value if isinstance(value, list) else value.values():
            yield from _artifacts_in(item)


def _artifact_rows(used: list[Artifact]) -> list[dict[str, Any]]:
    rows = []
    for artifact in used:
        record = artifacts.read_record(artifact.path)
        rows.append(
            {
                **{k: record[k] for k in ("fingerprint", "step_name", "version", "digest")},
                **{k: record[k] for k in ("seconds", "num_bytes", "started_at", "device")},
                "git_commit": record["git_commit"],
                "path": artifact.path.relative_to(artifacts.root()).as_posix(),
                "packages": canonical_json(record["packages"]),
            }
        )
    return rows


def _lineage_rows(used: list[Artifact]) -> list[dict[str, Any]]:
    by_digest = {artifact.digest: artifact.fingerprint for artifact in used}
    rows = []
    for artifact in used:
        inputs = artifacts.read_record(artifact.path)["inputs"]
        for name, digest in _digests_in(inputs):
            rows.append(
                {
                    "fingerprint": artifact.fingerprint,
                    "input_name": name,
                    "input_digest": digest,
                    "input_fingerprint": by_digest.get(digest),
                }
            )
    return rows


def _digests_in(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Artifacts and checkpoints that a record's inputs refer to, with where they stand."""
    if isinstance(value, dict):
        if "artifact" in value and "digest" in value:
            yield name, value["digest"]
        elif set(value) in ({"checkpoint"}, {"tokenizer"}):
            yield name, next(iter(value.values()))
        else:
            for key, item in value.items():
                yield from _digests_in(item, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _digests_in(item, f"{name}[{place}]")


def _parquet(artifact: Artifact, name: str) -> pa.Table:
    return pq.read_table(artifact.path / f"{name}.parquet")


def _beside(table: pa.Table, **constants: Any) -> pa.Table:
    """The table with constant columns added."""
    for name, value in constants.items():
        table = table.append_column(name, pa.array([value] * len(table)))
    return table
