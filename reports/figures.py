"""Which figures a report has; each is one SQL query whose rows become lines over steps.

A query answers with `step`, `value` and the columns named in `panels` (one small chart per value)
and `line` (one line per value). What is drawn can so be had again with `grokpath sql`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.charts import (
    CONTROL_COLOURS,
    DASHED,
    MAIN_COLOURS,
    QUANTITY_COLOURS,
    Axis,
    Line,
    Panel,
    ramp_colour,
)

Row = dict[str, Any]
Read = Callable[[str], list[Row]]

# For the page: past this many panels a figure takes four columns of smaller charts.
MANY_PANELS = 9


@dataclass(frozen=True)
class Question:
    """A figure before it is drawn: where it stands, what it asks, how it is told."""

    name: str
    section: str
    title: str
    caption: str
    sql: str
    missing: str
    panels: tuple[str, ...] = ("domain",)
    line: str = "series"
    format: str = ".3~g"
    zero: bool = False
    shared: bool = True
    domain: tuple[float, float] | None = None


@dataclass(frozen=True)
class Figure:
    """A figure that can be drawn: panels and lines, or no panel and `missing` says why."""

    question: Question
    panels: tuple[Panel, ...]
    lines: tuple[Line, ...]
    axis: Axis

    @property
    def drawn(self) -> tuple[Panel, ...]:
        """The panels that hold anything."""
        return tuple(panel for panel in self.panels if panel.rows)

    @property
    def columns(self) -> int:
        """Charts side by side on a wide page."""
        return 2 if len(self.panels) < MANY_PANELS else 4


@dataclass(frozen=True)
class Names:
    """Titles in plain words for what the tables hold as short names, in the study's order."""

    domains: Mapping[str, str]
    series: Mapping[str, str]
    roles: Mapping[str, str] = field(default_factory=dict)

    def of(self, column: str, value: Any) -> str:
        """How a column's value is called on the page."""
        if column == "domain":
            return self.domains.get(value, value)
        if column == "series":
            return self.series.get(value, value)
        if column == "layer":
            return f"layer {value}"
        if column == "group_step":
            return f"memorized at step {value}"
        return str(value)


def _curve(monitor: str) -> str:
    return (
        "select domain, series, step, value from curves\n"
        f"where monitor = '{monitor}' and value is not null order by all"
    )


def _scoped(scope: str, metric: str, extra: str) -> str:
    return (
        f"select domain, series, {extra}, step, value from pathway_metrics\n"
        f"where scope = '{scope}' and metric = '{metric}' and value is not null order by all"
    )


QUESTIONS: tuple[Question, ...] = (
    Question(
        name="accuracy",
        section="training",
        title="Accuracy on the benchmark",
        caption="Share of benchmark questions answered correctly. None of them was trained on.",
        sql=_curve("accuracy"),
        missing="no benchmark was scored in this study",
        format=".0%",
        domain=(0.0, 1.0),
    ),
    Question(
        name="training_loss",
        section="training",
        title="Training loss",
        caption="Mean loss of the probe set, which is training data, in nats per counted token. "
        "When it is flat the data is learned.",
        sql=_curve("training_loss"),
        missing="no loss of training samples was measured",
        zero=True,
    ),
    Question(
        name="validation_loss",
        section="training",
        title="Validation loss",
        caption="Mean loss of samples that were never trained on, in nats per counted token.",
        sql=_curve("validation_loss"),
        missing="the study's domains name no validation samples",
        zero=True,
    ),
    Question(
        name="memorized_vs_accuracy",
        section="memorization",
        title="Memorized samples and accuracy",
        caption="Share of probe samples memorized so far, beside the accuracy at the same step. "
        "A gap between the two rises is the delay from memorizing to generalizing.",
        sql="""select m.domain, m.series, 'memorized samples' as quantity, c.step,
  count(*) filter (m.memorization_step <= c.step) / count(*) as value
from memorization m join checkpoints c using (series) group by all
union all
select domain, series, 'accuracy', step, value from curves
where monitor = 'accuracy' and value is not null order by all""",
        missing="neither memorized samples nor accuracy were recorded",
        panels=("domain", "series"),
        line="quantity",
        format=".0%",
        domain=(0.0, 1.0),
    ),
    Question(
        name="pathway_distance",
        section="pathways",
        title="Pathway distance",
        caption="Mean edit distance between the pathways of two samples, in characters. It falls "
        "when samples become alike, and also when pathways merely become shorter.",
        sql=_curve("pathway_distance"),
        missing="no pathways were measured",
    ),
    Question(
        name="pathway_distance_normalized",
        section="pathways",
        title="Pathway distance, length-normalised",
        caption="The same, each distance divided by the longer of the two pathways: 0 identical, "
        "1 nothing in common. Shortening alone cannot lower it.",
        sql=_curve("pathway_distance_normalized"),
        missing="no length-normalised distance was measured",
    ),
    Question(
        name="pathway_consistency_median",
        section="pathways",
        title="Pathway consistency (median)",
        caption="How smoothly a sample's routing passes from layer to layer; higher is smoother. "
        "The median is shown because the ratio explodes for single samples. Each chart has its "
        "own scale.",
        sql=_curve("pathway_consistency_median"),
        missing="no pathway consistency was measured (it needs two MoE layers)",
        shared=False,
    ),
    Question(
        name="layer_distance",
        section="layers",
        title="Pathway distance by layer",
        caption="Mean edit distance within one MoE layer, in experts. Layer 0 is the first.",
        sql=_scoped("layer", "pathway_distance_expert", "layer"),
        missing="no distances of single layers were measured",
        panels=("domain", "layer"),
    ),
    Question(
        name="layer_cosine",
        section="layers",
        title="Likeness of neighbouring layers",
        caption="Mean cosine between the routing embeddings of a layer and the next, the "
        "ingredient of pathway consistency; 1 is the same direction.",
        sql=_scoped("layer_pair", "cosine", "layer"),
        missing="no pairs of layers were measured (it needs two MoE layers)",
        panels=("domain", "layer"),
    ),
    Question(
        name="effective_dimension",
        section="bound",
        title="Effective dimension",
        caption="How many directions the routing of the samples spreads over, "
        "Tr(H (H + λI)⁻¹) of the gating kernel; from 0 to the number of samples.",
        sql="""select domain, series, step, effective_dimension as value from bound order by all""",
        missing="no bound terms were computed",
    ),
    Question(
        name="bound_terms",
        section="bound",
        title="Terms of the bound",
        caption="Bias, variance and noise of the excess-risk bound, up to constants. Each chart "
        "has its own scale.",
        sql="""select domain, series, quantity, step, value from bound
unpivot (value for quantity in (bias, variance, noise)) order by all""",
        missing="no bound terms were computed",
        panels=("domain", "series"),
        line="quantity",
        zero=True,
        shared=False,
    ),
    Question(
        name="group_distance",
        section="groups",
        title="Pathway distance of memorized groups",
        caption="A group is all probe samples memorized at the same step. Colour runs from early "
        "to late memorization.",
        sql=_scoped("group", "pathway_distance", "group_step"),
        missing="no group of samples memorized at the same step is large enough to be measured",
        panels=("domain", "series"),
        line="group_step",
    ),
)


def make_figure(question: Question, read: Read, names: Names) -> Figure:
    """Ask the warehouse and sort the answer into panels and lines."""
    rows = read(question.sql)
    keys = _ordered({tuple(row[p] for p in question.panels) for row in rows}, question, names)
    lines = _lines(question, rows, names)
    panels = tuple(
        Panel(
            " · ".join(
                names.of(c, v) for c, v in zip(question.panels, key, strict=True)
            ),
            tuple(
                {
                    "line": lines[row[question.line]].label,
                    "step": row["step"],
                    "value": float(f"{row['value']:.6g}"),
                }
                for row in rows
                if tuple(row[p] for p in question.panels) == key
            ),
            missing=f"Not available, because {question.missing} for this domain.",
        )
        for key in keys
    )
    return Figure(question, panels if rows else (), tuple(lines.values()), _axis(question, rows))


def _ordered(
    keys: set[tuple[Any, ...]], question: Question, names: Names
) -> list[tuple[Any, ...]]:
    # Every domain of the study gets a panel, so that a missing one is seen to be missing.
    if question.panels == ("domain",) and keys:
        keys = keys | {(domain,) for domain in names.domains}
    rank = {
        "domain": {name: at for at, name in enumerate(names.domains)},
        "series": {name: at for at, name in enumerate(names.series)},
    }

    def order(key: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            rank[column].get(value, len(keys)) if column in rank else value
            for column, value in zip(question.panels, key, strict=True)
        )

    return sorted(keys, key=order)


def _lines(question: Question, rows: Iterable[Row], names: Names) -> dict[Any, Line]:
    if question.line == "series":
        return series_lines(names)
    found = sorted({row[question.line] for row in rows})
    if question.line == "group_step":
        return {
            step: Line(names.of("group_step", step), ramp_colour(at / max(len(found) - 1, 1)))
            for at, step in enumerate(found)
        }
    return {
        name: Line(names.of(question.line, name), colour)
        for name, colour in zip(found, QUANTITY_COLOURS, strict=False)
    }


def series_lines(names: Names) -> dict[str, Line]:
    """The look of every series: main ones solid and saturated, controls dashed."""
    counts = {"main": 0, "control": 0}
    lines = {}
    for name in names.series:
        role = names.roles.get(name, "main")
        colours, dash = (CONTROL_COLOURS, DASHED) if role == "control" else (MAIN_COLOURS, (1, 0))
        lines[name] = Line(names.of("series", name), colours[counts[role] % len(colours)], dash)
        counts[role] += 1
    return lines


def _axis(question: Question, rows: Sequence[Row]) -> Axis:
    if question.domain or not question.shared or not rows:
        return Axis(question.format, question.domain, question.zero)
    values = [row["value"] for row in rows]
    low = min(0.0, *values) if question.zero else min(values)
    return Axis(question.format, (float(f"{low:.6g}"), float(f"{max(values):.6g}")), question.zero)
