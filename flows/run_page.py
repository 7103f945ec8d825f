"""What a study shows on the page of its flow run in Prefect, also when it failed.

    <study>-completeness        table: checkpoints down, steps across, how each ended
    <study>-summary             the verdict, where everything is, what was computed and what reused
    <study>-correlations        table: monitors against accuracy in the main series
    <study>-accuracy, <study>-pathway-distance      the main figures
    <study>-report              link to the report

The last three only when the study is complete. A retried run shows them anew, and the artifact's
page has the earlier ones too. Nothing of this can fail a run.
"""

import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from flows.execution import Ended, Ending, Execution
from flows.study import LaidOut
from store.addresses import is_server, run_file, run_page
from store.artifacts import Artifact
from studies.spec import Study
from tasks.publish import FIGURES, REPORT, WAREHOUSE, delivered, tracking_destination
from tasks.task_page import create_artifact

MAIN_FIGURES = {"accuracy": "Accuracy", "pathway_distance": "Pathway distance"}
MAX_LISTED = 20
"""Steps that are named one by one; the table has all of them."""
MAX_MESSAGE = 300
CORRELATIONS = """
    SELECT t.domain, t.monitor, t.n, t.pearson, t.spearman, t.detrended_p_holm AS p_detrended,
      t.verdict, t.series
    FROM correlation_table t
    JOIN series USING (series)
    JOIN domains USING (domain)
    LEFT JOIN monitors ON monitors.title = t.monitor
    WHERE t."window" = 'after_onset' AND role = 'main'
    ORDER BY coalesce(monitors.family, '') <> 'paper', monitors.rowid, t.monitor, domains.position
"""
WORST_FIRST = (Ending.failed, Ending.missing, Ending.computed, Ending.reused)
MARKS = {
    Ending.computed: "✓ computed",
    Ending.reused: "✓ reused",
    Ending.failed: "✗ failed",
    Ending.missing: "– missing",
}


@contextmanager
def showing(study: Study, execution: Execution) -> Iterator[list[LaidOut]]:
    """Show on the flow run's page what the study computed meanwhile, or what is missing.

    Put what was laid out into the list that it yields.
    """
    laid: list[LaidOut] = []
    try:
        yield laid
    except Exception as error:
        _carefully(_show_incomplete, study, execution.endings(), error)
        raise
    _carefully(_show_complete, study, execution, laid[0])


def key_of(study_name: str, what: str) -> str:
    """Key of an artifact: Prefect admits lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{study_name}-{what}".lower()).strip("-")


def completeness(ended: Sequence[Ended]) -> list[dict[str, str]]:
    """Rows of the matrix: a checkpoint each, with how every step of it ended."""
    columns = dict.fromkeys(one.step_name for one in ended if one.checkpoint is not None)
    rows: dict[tuple[str, str], dict[str, list[Ending]]] = {}
    for one in ended:
        if one.checkpoint is not None:
            row = rows.setdefault((one.checkpoint.series, one.checkpoint.revision), {})
            row.setdefault(one.step_name, []).append(one.ending)
    return [
        {
            "series": series,
            "checkpoint": checkpoint,
            **{name: _mark(row.get(name, [])) for name in columns},
        }
        for (series, checkpoint), row in rows.items()
    ]


def steps_table(ended: Sequence[Ended]) -> str:
    """Markdown: kinds of steps down, how many ended how across."""
    counts: dict[str, Counter[Ending]] = {}
    for one in ended:
        counts.setdefault(one.step_name, Counter())[one.ending] += 1
    ends = [end for end in Ending if any(count[end] for count in counts.values())]
    lines = [f"| step | {' | '.join(ends)} |", "|---" * (1 + len(ends)) + "|"]
    lines += [
        f"| {name} | {' | '.join(str(count[end] or '') for end in ends)} |"
        for name, count in counts.items()
    ]
    return "\n".join(lines)


def in_short(ended: Sequence[Ended]) -> str:
    """How many steps there were and how they ended, in one line."""
    counts = Counter(one.ending for one in ended)
    listed = [f"{counts[end]} {end}" for end in Ending if counts[end]]
    return f"{len(ended)} steps: {', '.join(listed)}"


# ---------------------------------------------------------------- the two endings


def _show_incomplete(study: Study, ended: Sequence[Ended], error: Exception) -> None:
    get_run_logger().error("%s is not complete; %s", study.name, in_short(ended))
    _show_matrix(study, ended)
    failed = [one for one in ended if one.ending is Ending.failed]
    missing = [one.label for one in ended if one.ending is Ending.missing]
    parts = [
        f"# {study.title or study.name}: not complete",
        f"{in_short(ended)}. Retry this run, or run the study again: what is there is reused.",
    ]
    if not failed:
        parts.append(str(error))
    if failed:
        listed = [f"- **{one.label}**: {_message(one)}" for one in failed[:MAX_LISTED]]
        parts.append("\n".join(["## Failed", "", *listed, *_and_more(len(failed))]))
    if missing:
        listed = [f"- {label}" for label in missing[:MAX_LISTED]]
        parts.append(
            "\n".join(["## Missing, because of that", "", *listed, *_and_more(len(missing))])
        )
    parts.append(f"## Steps\n\n{steps_table(ended)}")
    _show_summary(study, parts)


def _show_complete(study: Study, execution: Execution, laid: LaidOut) -> None:
    ended = execution.endings()
    get_run_logger().info("%s is complete; %s", study.name, in_short(ended))
    _show_matrix(study, ended)
    assert laid.warehouse is not None
    assert laid.report is not None
    assert laid.tracking is not None
    report = execution.artifact(laid.report)
    place = _Place(study, report, execution.artifact(laid.tracking))
    headline = report.summary.get("headline", "The verdict is in the report.")
    where = [
        f"| report | {place.report_link()} |",
        f"| warehouse | `{delivered(study.name, WAREHOUSE)}` |",
        f"| MLflow run | {place.tracked()} |",
    ]
    parts = [
        f"# {study.title or study.name}",
        headline,
        "\n".join(["| | |", "|---|---|", *where]),
        f"{in_short(ended)}.",
        f"## Steps\n\n{steps_table(ended)}",
    ]
    _show_summary(study, parts)
    _show_correlations(study, execution.artifact(laid.warehouse).path / WAREHOUSE)
    _show_figures(study, place)
    _attach(
        key=key_of(study.name, "report"),
        type="markdown",
        data=place.report_link(),
        description=f"Where the report of {study.name} is.",
    )


class _Place:
    """Where a study's report, figures and run are: on an MLflow server, or in files."""

    def __init__(self, study: Study, report: Artifact, tracking: Artifact) -> None:
        destination = tracking_destination()
        self.server = destination if is_server(destination) else None
        self._study = study
        self._report = report
        self._run_id = tracking.summary["run_id"]
        self._experiment_id = tracking.summary["experiment_id"]

    def report_page(self) -> str:
        assert self.server is not None
        return run_page(self.server, self._experiment_id, self._run_id, f"report/{REPORT}")

    def report_link(self) -> str:
        if self.server is None:
            return f"`{delivered(self._study.name, REPORT)}`"
        return f"[{REPORT}]({self.report_page()})"

    def tracked(self) -> str:
        if self.server is None:
            return f"`{self._run_id}` in the embedded store or database"
        return f"[{self._run_id}]({run_page(self.server, self._experiment_id, self._run_id)})"

    def figure(self, name: str) -> str | None:
        """Address of a figure that a browser can show; None where it was not drawn."""
        file = self._report.path / FIGURES / f"{name}.png"
        if not file.is_file():
            return None
        if self.server is not None:
            return run_file(self.server, self._run_id, f"report/{FIGURES}/{file.name}")
        return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()


# ---------------------------------------------------------------- pieces


def _show_matrix(study: Study, ended: Sequence[Ended]) -> None:
    _attach(
        key=key_of(study.name, "completeness"),
        type="table",
        data=json.dumps(completeness(ended)),
        description=f"Checkpoints of {study.name} and how each step of them ended.",
    )


def _show_summary(study: Study, parts: list[str]) -> None:
    _attach(
        key=key_of(study.name, "summary"),
        type="markdown",
        data="\n\n".join(parts),
        description=f"What came of {study.name}, where it is, what was computed and what reused.",
    )


def _show_correlations(study: Study, warehouse: Path) -> None:
    from store.warehouse import query

    rows = [
        {name: "-" if value is None else value for name, value in row.items()}
        for row in query(warehouse, CORRELATIONS).to_pylist()
    ]
    _attach(
        key=key_of(study.name, "correlations"),
        type="table",
        data=json.dumps(rows),
        description="Monitors against accuracy over the checkpoints from the onset of its rise on, "
        "main series. Trust the detrended columns: two trends correlate whether they have to do "
        "with each other or not.",
    )


def _show_figures(study: Study, place: _Place) -> None:
    for name, title in MAIN_FIGURES.items():
        address = place.figure(name)
        if address is not None:
            _attach(
                key=key_of(study.name, name),
                type="image",
                data=address,
                description=f"{title} over training steps; solid: main, dashed: control.",
            )


def _carefully(show: Callable[..., Any], *what: Any) -> None:
    """A page is worth no failed run: whatever goes wrong is logged."""
    try:
        show(*what)
    except Exception as error:
        get_run_logger().warning("this page lacks something: %s: %s", type(error).__name__, error)


def _attach(**artifact: Any) -> None:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    create_artifact(flow_run_id=context.flow_run.id, **artifact)


def _mark(endings: list[Ending]) -> str:
    return MARKS[min(endings, key=WORST_FIRST.index)] if endings else ""


def _message(one: Ended) -> str:
    message = one.message.removeprefix("Task run encountered an exception ")
    return " ".join(message.split())[:MAX_MESSAGE]


def _and_more(count: int) -> list[str]:
    return [f"- and {count - MAX_LISTED} more"] if count > MAX_LISTED else []
