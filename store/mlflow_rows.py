"""What MLflow gets of a study, read from its warehouse: params, curves, checkpoints, data sets.

Names are chosen for MLflow's pages: a slash groups charts (`main/math/pathway_distance`), and a
checkpoint's metrics (`pathway_distance_math`) can be searched without quoting. The data sets:

    <domain>-probe          the training samples that are measured      context training
    <domain>-validation     the samples of the validation loss          context validation
    <benchmark>             the benchmark's documents                   context evaluation

A digest covers the texts (of a benchmark: the numbers and right answers of its documents), so two
studies name the same data set exactly when they read the same. Series share what they share: where
the control has answers of its own, its probe set has the same name and another digest.

This module knows no MLflow; :mod:`store.mlflow_run` sends what is read here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from store.warehouse import query

MAX_PARAM_LENGTH = 500
# Tables and views that are stored with the study run as CSV and Parquet.
TABLES = ("correlation_table", "correlations", "separation", "curves", "monitors", "artifacts")

STUDY_METRICS = """
    SELECT concat_ws('/', series, domain, monitor) AS name, value, step FROM curves
    WHERE value IS NOT NULL
    UNION ALL
    SELECT concat_ws('/', series, domain, benchmark, metric), value, step FROM benchmark_scores
    UNION ALL
    SELECT concat_ws('/', 'versus_accuracy', "window", series, number, monitor || '_' || domain),
      value, 0
    FROM (
        UNPIVOT (
            SELECT series, domain, monitor, "window", pearson, spearman, difference_p AS detrended_p
            FROM correlations
        )
        ON pearson, spearman, detrended_p INTO NAME number VALUE value
    )
    ORDER BY name, step
"""
CHECKPOINTS = """
    SELECT checkpoints.*, series.role FROM checkpoints JOIN series USING (series)
    ORDER BY series.position, step
"""
# `part` is what a number was measured on, as in `data_sets`. The consistency that is held
# against accuracy is the median; searches find it under the plain name too.
CHECKPOINT_METRICS = """
    WITH named AS (
        SELECT series, step, domain, monitor, value FROM curves WHERE value IS NOT NULL
        UNION ALL
        SELECT series, step, domain, 'pathway_consistency', value FROM curves
        WHERE value IS NOT NULL AND monitor = 'pathway_consistency_median'
    )
    SELECT series, step, domain, monitor || '_' || domain AS name, value,
      CASE monitor WHEN 'accuracy' THEN benchmark WHEN 'validation_loss' THEN 'validation'
        ELSE 'probe' END AS part
    FROM named LEFT JOIN domains USING (domain)
    UNION ALL
    SELECT series, step, domain, benchmark || '_' || metric, value, benchmark FROM benchmark_scores
    ORDER BY series, step, name
"""
SAMPLES = """
    SELECT series, domain, split AS part,
      md5(string_agg(md5(text), '' ORDER BY sample_id)) AS digest,
      count(*) AS num_samples, sum(num_tokens)::BIGINT AS num_tokens
    FROM probes JOIN series USING (series) GROUP BY ALL
    ORDER BY any_value(series.position), domain, part
"""
DOCUMENTS = """
    SELECT series, domain, benchmark AS part, count(*) AS num_documents,
      md5(string_agg(concat(document_id, ':', target), '|' ORDER BY document_id)) AS digest
    FROM (
        FROM benchmark_documents
        QUALIFY step = min(step) OVER (PARTITION BY series, domain, benchmark)
    ) JOIN series USING (series) GROUP BY ALL
    ORDER BY any_value(series.position), domain, part
"""
CONTEXTS = {"probe": "training", "validation": "validation"}
COUNTS = ("num_samples", "num_tokens", "num_documents")
Place = tuple[str, str, str]
"""Series, domain, and `probe`, `validation` or the name of a benchmark."""


@dataclass(frozen=True)
class DataSet:
    """One data set; `source` and `profile` are JSON."""

    name: str
    digest: str
    context: str
    source_type: str
    source: str
    profile: str


@dataclass(frozen=True)
class Point:
    """One number of one metric; `step` is the pretraining step."""

    name: str
    value: float
    step: int
    measured_on: DataSet | None = None


@dataclass(frozen=True)
class CheckpointMirror:
    """One checkpoint with all its params and numbers."""

    title: str
    family: str
    step: int
    params: dict[str, str]
    points: list[Point] = field(default_factory=list)


def study_row(database: Path) -> dict[str, str]:
    """The row of table study."""
    rows = query(database, "FROM study").to_pylist()
    if len(rows) != 1:
        raise ValueError(
            f"{database}: table study has {len(rows)} rows, expected 1; build it again"
        )
    row: dict[str, str] = rows[0]
    return row


def study_points(database: Path) -> list[Point]:
    """Curves and scores over the steps, and the correlations (step 0) that runs are compared by."""
    return [_point(row) for row in query(database, STUDY_METRICS).to_pylist()]


def checkpoint_mirrors(database: Path) -> list[CheckpointMirror]:
    """Every checkpoint of every series, in order."""
    points: dict[tuple[str, int], list[Point]] = {}
    known = data_sets(database)
    for row in query(database, CHECKPOINT_METRICS).to_pylist():
        measured_on = known.get((row["series"], row["domain"], row["part"]))
        points.setdefault((row["series"], row["step"]), []).append(_point(row, measured_on))
    return [
        CheckpointMirror(
            title=f"{row['series']}-step{row['step']}",
            family=row["family"],
            step=row["step"],
            params=_checkpoint_params(row),
            points=points.get((row["series"], row["step"]), []),
        )
        for row in query(database, CHECKPOINTS).to_pylist()
    ]


def study_params(spec_yaml: str) -> dict[str, str]:
    """Settings of a study as params: dotted names, values cut to 500 characters.

    A list of named parts is keyed by their names, so that the same part of two studies stands in
    the same row when they are compared. `runtime` says how fast, not what, and is left out.

    Examples
    --------
    >>> study_params("{pathways: {threshold: 0.7}, series: [{name: main, role: main}]}")
    {'pathways.threshold': '0.7', 'series.main.role': 'main'}
    """
    settings = {name: part for name, part in yaml.safe_load(spec_yaml).items() if name != "runtime"}
    return {safe_name(name): value[:MAX_PARAM_LENGTH] for name, value in _leaves(settings, "")}


def safe_name(name: str) -> str:
    """A name with the characters that MLflow allows; others become underscores."""
    return re.sub(r"[^/\w.\- :]", "_", name)


def _point(row: Mapping[str, Any], measured_on: DataSet | None = None) -> Point:
    return Point(safe_name(row["name"]), row["value"], row["step"], measured_on)


def _checkpoint_params(row: Mapping[str, Any]) -> dict[str, str]:
    renamed = {"tokens_seen": "tokens", "digest": "commit"}
    return {
        renamed.get(name, name): "unknown" if value is None else str(value)
        for name, value in row.items()
    }


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    named = isinstance(value, list) and all(isinstance(v, dict) and "name" in v for v in value)
    if named and value:
        value = {part["name"]: {k: v for k, v in part.items() if k != "name"} for part in value}
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


# ---------------------------------------------------------------- data sets


def data_sets(database: Path) -> dict[Place, DataSet]:
    """What every series measured what on."""
    (study,) = query(database, "SELECT spec_yaml FROM study").to_pylist()
    spec = yaml.safe_load(study["spec_yaml"])
    found: dict[Place, DataSet] = {}
    for sql in (SAMPLES, DOCUMENTS):
        for row in query(database, sql).to_pylist():
            place = (row["series"], row["domain"], row["part"])
            found[place] = _data_set(place, row, _source(spec, *place))
    return found


def _data_set(place: Place, row: Mapping[str, Any], source: Mapping[str, Any]) -> DataSet:
    _, domain, part = place
    return DataSet(
        name=f"{domain}-{part}" if part in CONTEXTS else part,
        digest=row["digest"],
        context=CONTEXTS.get(part, "evaluation"),
        source_type=str(source.get("kind", "lm-eval")),
        source=json.dumps(source, default=str),
        profile=json.dumps({name: row[name] for name in COUNTS if name in row}),
    )


def _source(spec: Mapping[str, Any], series: str, domain: str, part: str) -> dict[str, Any]:
    """What the study's file says of a data set."""
    of_domain: dict[str, Any] = _named(spec.get("domains"), domain)
    if part not in CONTEXTS:
        return _named(of_domain.get("benchmarks"), part)
    own: dict[str, Any] = _named(spec.get("series"), series).get("probes") or {}
    if part == "probe" and domain in own:
        return dict(own[domain])
    return dict(of_domain.get({"probe": "probes"}.get(part, part)) or {})


def _named(parts: Any, name: str) -> dict[str, Any]:
    return next((dict(part) for part in parts or [] if part.get("name") == name), {})
