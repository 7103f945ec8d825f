"""The data sets that a study reads, as MLflow shows them: name, digest, where from, how much.

    <domain>-probe          the training samples that are measured      context training
    <domain>-validation     the samples of the validation loss          context validation
    <benchmark>             the benchmark's documents                   context evaluation

A digest covers the texts (of a benchmark: the numbers and right answers of its documents), so two
studies name the same data set exactly when they read the same. Series share what they share: where
the control has answers of its own, its probe set has the same name and another digest.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from store.warehouse import query

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
