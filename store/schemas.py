"""Every table of the warehouse: its columns, their types, units and ranges.

This is the only place that says what a table holds. A task that writes a table passes its rows
through :func:`conform`; :mod:`store.warehouse` creates the tables from here and writes the
descriptions into the database as comments, so that a table explains itself where it is read.
Columns are not null unless they are marked nullable.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

TEXT, WHOLE, REAL, TRUTH = pa.string(), pa.int64(), pa.float64(), pa.bool_()


@dataclass(frozen=True)
class Column:
    """One column: its name, Arrow type, what it holds (unit, range) and whether it may be null."""

    name: str
    type: pa.DataType
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One table of the warehouse: its name, what a row is, and its columns in order."""

    name: str
    description: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The table as an Arrow schema."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)


def conform(table_name: str, rows: pa.Table | Sequence[Mapping[str, Any]]) -> pa.Table:
    """Cast rows to a table of the warehouse, or say what does not fit.

    Columns may come in any order. NaN means "no value": it becomes null where null is allowed and
    is refused elsewhere, because NaN sorts above every number in DuckDB.

    Parameters
    ----------
    table_name
        A key of :data:`TABLES`.
    rows
        An Arrow table, or one mapping per row with a value (or None) for every column.

    Returns
    -------
    pa.Table
        With exactly the table's schema.

    Raises
    ------
    ValueError
        Unknown table, unknown or missing column, a value of another type, null or NaN in a column
        that must have a value.

    Examples
    --------
    >>> conform("loss_curve", [{"series": "main", "step": 25, "domain": "math", "loss": 3.4}]).shape
    (1, 4)
    """
    table = lookup(table_name)
    if isinstance(rows, pa.Table):
        _check_names(table, rows.column_names)
    elif rows:
        _check_names(table, sorted({name for row in rows for name in row}))
    columns = []
    for column in table.columns:
        values = rows[column.name] if isinstance(rows, pa.Table) else _values(table, column, rows)
        columns.append(_cast(table, column, values))
    return pa.Table.from_arrays(columns, schema=table.schema)


def lookup(table_name: str) -> Table:
    """Definition of a table; an unknown name is answered with the nearest one."""
    if table_name not in TABLES:
        near = difflib.get_close_matches(table_name, TABLES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TABLES)}"
        raise ValueError(f"the warehouse has no table {table_name!r}; {hint}")
    return TABLES[table_name]


def _check_names(table: Table, given: Sequence[str]) -> None:
    unknown = [name for name in given if name not in table.column_names]
    missing = [name for name in table.column_names if name not in given]
    doubled = sorted({name for name in given if list(given).count(name) > 1})
    problems = [
        f"{what} column {', '.join(names)}"
        for what, names in (("unknown", unknown), ("missing", missing), ("doubled", doubled))
        if names
    ]
    if problems:
        raise ValueError(
            f"table {table.name}: {'; '.join(problems)}; its columns are "
            f"{', '.join(table.column_names)} (store/schemas.py)"
        )


def _values(table: Table, column: Column, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    short = next((place for place, row in enumerate(rows) if column.name not in row), None)
    if short is not None:
        raise ValueError(f"table {table.name}: row {short} has no value for {column.name!r}")
    return [row[column.name] for row in rows]


def _cast(table: Table, column: Column, values: pa.ChunkedArray | list[Any]) -> pa.Array:
    try:
        if isinstance(values, list):
            # Told to make whole numbers, Arrow would cut 2.5 to 2; a cast refuses.
            values = pa.array(values, type=None if column.type == WHOLE else column.type)
        array = values.cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ValueError(
            f"table {table.name}, column {column.name}: expected {column.type}: {error}"
        ) from error
    if column.type == REAL:
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, REAL), array)
    if array.null_count and not column.nullable:
        raise ValueError(
            f"table {table.name}, column {column.name}: {array.null_count} of {len(array)} values "
            f"are null or NaN; every row needs one ({column.description})"
        )
    return array


# ---------------------------------------------------------------- the tables


def _text(name: str, description: str, nullable: bool = False) -> Column:
    return Column(name, TEXT, description, nullable)


def _whole(name: str, description: str, nullable: bool = False) -> Column:
    return Column(name, WHOLE, description, nullable)


def _real(name: str, description: str, nullable: bool = False) -> Column:
    return Column(name, REAL, description, nullable)


def _truth(name: str, description: str, nullable: bool = False) -> Column:
    return Column(name, TRUTH, description, nullable)


# Columns that mean the same wherever they stand.
SERIES = _text("series", "Name of the series of checkpoints.")
STEP = _whole("step", "Optimizer steps taken when the checkpoint was written, 0 or more.")
DOMAIN = _text("domain", "Name of the domain.")
SAMPLE_ID = _whole("sample_id", "Number of the sample, unique within series and domain.")
SPLIT = _text("split", "'probe' (trained on) or 'validation' (held out, according to the study).")
BENCHMARK = _text("benchmark", "Name of the lm-eval task.")
METRIC = _text("metric", "Per-document 0/1 metric read as accuracy, such as acc.")
DOCUMENT_ID = _whole("document_id", "Number of the document within the benchmark.")
MONITOR = _text("monitor", "Name of the monitor (table monitors).")
FINGERPRINT = _text("fingerprint", "Fingerprint of the artifact (hex).")

_TABLES = (
    Table(
        "study",
        "What was asked: one row, the study.",
        (
            _text("name", "Name of the study."),
            _text("title", "Title in plain words; may be empty."),
            _text("description", "What the study is for; may be empty."),
            _text("spec_yaml", "The whole study file as YAML, defaults filled in."),
            _text("spec_fingerprint", "sha256 (hex) of the study without its runtime part."),
        ),
    ),
    Table(
        "series",
        "The series of checkpoints, one row each.",
        (
            SERIES,
            _text("role", "'main' (judged) or 'control' (nothing can generalize in it)."),
            _text("title", "Title in plain words; may be empty."),
            _text("source_kind", "Where its checkpoints come from: 'nano', 'local' or 'hub'."),
            _whole("position", "Place in the study file, from 0."),
        ),
    ),
    Table(
        "domains",
        "The domains, one row each.",
        (
            DOMAIN,
            _text("title", "Title in plain words; may be empty."),
            _whole("position", "Place in the study file, from 0."),
            _text("benchmark", "lm-eval task read as the domain's accuracy; null if none.", True),
            _text("metric", "Metric of that task; null if there is none.", True),
        ),
    ),
    Table(
        "checkpoints",
        "The checkpoints that were measured, one row each.",
        (
            SERIES,
            STEP,
            _whole("tokens_seen", "Tokens trained on so far; null when unknown.", True),
            _text("revision", "Revision or folder name, such as step150-tokens240K."),
            _text("digest", "Commit sha of the repository, or sha256 of the weight files."),
            _text("family", "Model family, such as olmoe."),
            _whole("num_layers", "MoE layers, L."),
            _whole("num_experts", "Experts per MoE layer, K."),
            _whole("top_k", "Experts executed per token and layer."),
            _whole("num_parameters", "Parameters of the model, all experts counted."),
        ),
    ),
    Table(
        "probes",
        "The samples that are measured, one row each.",
        (
            SERIES,
            DOMAIN,
            SAMPLE_ID,
            SPLIT,
            _whole("num_tokens", "Tokens of the sample after cutting, without padding."),
            _whole("num_counted", "Tokens that count in the loss."),
            _text("text", "The sample's text."),
        ),
    ),
    Table(
        "sample_losses",
        "Loss of every sample at every checkpoint.",
        (
            SERIES,
            STEP,
            DOMAIN,
            SPLIT,
            SAMPLE_ID,
            _real("loss", "Mean negative log-likelihood in nats per counted token, 0 or more."),
        ),
    ),
    Table(
        "loss_curve",
        "Loss as the training loop saw it, per domain.",
        (
            SERIES,
            STEP,
            _text("domain", "Name of the domain, or 'all' for the whole batch."),
            _real("loss", "Training loss in nats per counted token."),
        ),
    ),
    Table(
        "memorization",
        "When each probe sample was memorized (arXiv 2506.21551, sec. 3.1).",
        (
            SERIES,
            DOMAIN,
            SAMPLE_ID,
            _whole("memorization_step", "First step memorized for good; null if never.", True),
        ),
    ),
    Table(
        "memorization_thresholds",
        "Thresholds that decided what counts as memorized (arXiv 2506.21551, App. B.1).",
        (
            SERIES,
            DOMAIN,
            _real("epsilon", "Largest loss of a memorized sample, nats per token."),
            _real("delta", "Largest distance to the sample's final loss, nats per token."),
            _real("share_memorized", "Share memorized before the final checkpoint, 0 to 1."),
            _real("share_low", "Lower end of the wanted share, 0 to 1."),
            _real("share_high", "Upper end of the wanted share, 0 to 1."),
            _truth("in_range", "Whether the share lies in the wanted range."),
            _text("note", "What to know about this threshold; null if nothing.", True),
        ),
    ),
    Table(
        "pathway_metrics",
        "Routing measures of a set of samples at a checkpoint, in tidy form.",
        (
            SERIES,
            STEP,
            DOMAIN,
            _text("scope", "'domain', 'group', 'layer' or 'layer_pair' (layer and the next)."),
            _whole("group_step", "Memorization step of the group; null outside groups.", True),
            _whole("layer", "MoE layer from 0; null when all layers are meant.", True),
            _text("metric", "Name of the measure, such as pathway_distance."),
            _real("value", "Value in the measure's unit; null when it cannot be had.", True),
            _real("low", "Lower end of its uncertainty interval; null if none.", True),
            _real("high", "Upper end of its uncertainty interval; null if none.", True),
            _whole("num_samples", "Samples behind the value."),
            _whole("num_pairs", "Pairs behind the value; null for measures of samples.", True),
            _text("note", "What to know about this value; null if nothing.", True),
        ),
    ),
    Table(
        "sample_pathways",
        "Pathway of every probe sample at every checkpoint (arXiv 2506.21551, sec. 4).",
        (
            SERIES,
            STEP,
            DOMAIN,
            SAMPLE_ID,
            _text("pathway", "Expert ids joined by ',' inside a layer, layers joined by '-'."),
            _whole("pathway_length", "Experts in the pathway, all layers together."),
            _real("roughness", "Pathway roughness; lower is smoother; null if undefined.", True),
            _real("mean_cosine", "Mean cosine of neighbouring layers, -1 to 1.", True),
            _real("max_cosine", "Largest cosine of neighbouring layers, -1 to 1.", True),
            _real("routing_entropy", "Routing entropy in nats, mean over layers, 0 to log K."),
        ),
    ),
    Table(
        "benchmark_scores",
        "Score of every benchmark at every checkpoint.",
        (
            SERIES,
            STEP,
            DOMAIN,
            BENCHMARK,
            METRIC,
            _real("value", "Mean of the metric over the documents, 0 to 1."),
            _real("std_error", "Standard error of that mean; null for one document.", True),
            _whole("num_documents", "Documents scored."),
        ),
    ),
    Table(
        "benchmark_documents",
        "Answer to every benchmark document at every checkpoint.",
        (
            SERIES,
            STEP,
            DOMAIN,
            BENCHMARK,
            DOCUMENT_ID,
            _truth("correct", "Whether the answer counts as right."),
            _text("target", "The right answer."),
            _text("response", "The model's answer."),
        ),
    ),
    Table(
        "generalization",
        "When each benchmark document was generalized (arXiv 2506.21551, App. B.1).",
        (
            SERIES,
            DOMAIN,
            BENCHMARK,
            DOCUMENT_ID,
            _whole("generalization_step", "First step right for good; null if never.", True),
        ),
    ),
    Table(
        "curves",
        "Accuracy and every monitor over the checkpoints, in tidy form.",
        (
            SERIES,
            DOMAIN,
            STEP,
            _text("monitor", "Name of the monitor (table monitors), or 'accuracy'."),
            _real("value", "Value in the monitor's unit; null when it cannot be had.", True),
        ),
    ),
    Table(
        "monitors",
        "The monitors: what they measure and which way they should go with accuracy.",
        (
            _text("monitor", "Name of the monitor."),
            _text("title", "Title in plain words."),
            _text("unit", "Unit of its values."),
            _whole("expected_direction", "Expected sign of the correlation: -1, 0 (none), +1."),
            _text("source", "Where it is defined, such as a section of arXiv 2506.21551."),
            _text("formula", "How it is computed, in one line."),
        ),
    ),
    Table(
        "correlations",
        "Each monitor against accuracy over the checkpoints (arXiv 2506.21551, sec. 4.3).",
        (
            SERIES,
            DOMAIN,
            MONITOR,
            _text("window", "'all' checkpoints, or 'after_onset' of the rise of accuracy."),
            _whole("num_checkpoints", "Checkpoints in the window, n."),
            _real("pearson", "Pearson correlation, -1 to 1.", True),
            _real("pearson_low", "Lower end of its bootstrap interval.", True),
            _real("pearson_high", "Upper end of its bootstrap interval.", True),
            _real("pearson_p", "Permutation p-value of Pearson; naive about trends.", True),
            _real("spearman", "Spearman rank correlation, -1 to 1.", True),
            _real("smallest_p", "Smallest p-value that n points can reach.", True),
            _real("partial_pearson", "Pearson correlation given the step, -1 to 1.", True),
            _real("linear_r2", "R squared of accuracy on the monitor, 0 to 1.", True),
            _real("linear_mse", "Mean squared error of that line, accuracy squared.", True),
            _real("difference_pearson", "Pearson correlation of the detrended series.", True),
            _real("difference_spearman", "Spearman correlation of the detrended series.", True),
            _real("difference_p", "p-value of the detrended test; carries the verdict.", True),
            _real("difference_smallest_p", "Smallest p-value the detrended test can reach.", True),
            _real("holm_p", "difference_p after Holm's correction over the table.", True),
            _text("verdict", "What the detrended test says, in plain words."),
            _text("note", "Why a number is missing, or what to know; null if nothing.", True),
        ),
    ),
    Table(
        "separation",
        "Whether a monitor tells the main series from the control series.",
        (
            DOMAIN,
            MONITOR,
            _text("main_series", "Name of the main series."),
            _text("control_series", "Name of the control series."),
            _real("main_change", "Last minus first checkpoints of the window, main.", True),
            _real("control_change", "The same change in the control.", True),
            _text("main_moves", "'rises', 'falls' or 'stays' in the main series."),
            _text("control_moves", "'rises', 'falls' or 'stays' in the control series."),
            _real("graded", "Difference of the changes over the noise; null if unknown.", True),
            _text("verdict", "Whether the monitor tells them apart."),
            _text("sentence", "The same in one plain sentence with its numbers."),
        ),
    ),
    Table(
        "bound",
        "Terms of the excess-risk bound, constants 1 (arXiv 2506.21551, sec. 4.4).",
        (
            SERIES,
            STEP,
            DOMAIN,
            _whole("num_samples", "Probe samples in the routing kernel, n."),
            _real("ridge", "Ridge, lambda, above 0."),
            _real("effective_dimension", "Tr(H (H + lambda I)^-1), 0 to n."),
            _real("bias", "lambda^2/n y'(H + lambda I)^-2 y; null without targets.", True),
            _real("variance", "sigma^2 effective_dimension / n."),
            _real("noise", "sigma^2 log(1/delta) / n."),
            _real("total", "Sum of the terms; null without targets.", True),
        ),
    ),
    Table(
        "artifacts",
        "The artifacts behind the numbers, one row each.",
        (
            FINGERPRINT,
            _text("step_name", "Name of the step of the study that made it."),
            _whole("version", "Version of that step's code."),
            _text("digest", "sha256 (hex) over its files."),
            _text("path", "Folder, relative to the data root."),
            _real("seconds", "Seconds it took to make."),
            _whole("num_bytes", "Bytes of its files."),
            _text("started_at", "When its making began, ISO 8601, UTC."),
            _text("git_commit", "Commit of the code that made it; null when unknown.", True),
            _text("packages", "Versions of the packages that made it, JSON object."),
            _text("device", "Device that made it, such as cpu."),
        ),
    ),
    Table(
        "lineage",
        "What each artifact was made from, one row per input.",
        (
            FINGERPRINT,
            _text("input_name", "Name of the input."),
            _text("input_digest", "Digest of the input (hex)."),
            _text("input_fingerprint", "Fingerprint when it is an artifact, else null.", True),
        ),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _TABLES}
