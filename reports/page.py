"""The report: one HTML file that needs nothing else, and its figures as PNG and SVG.

Reads the warehouse file only, so a report can be built again from the database alone, and the same
database gives the same bytes: no clock, no random ids.
"""

import functools
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
import yaml
from markupsafe import Markup

from reports import words
from reports.charts import (
    DARK,
    VEGA_LITE,
    chart_config,
    step_ticks,
)
from reports.contents import counterparts, sections_with_content
from reports.evidence import RISE, Evidence, rising
from reports.figures import Figure, Names, Read, Row, make_figure, save, series_lines, specs_of
from reports.headline import headline
from reports.limits import limits
from reports.order import ORDER_SQL, order_of_events
from reports.prose import findings, separation_mark
from reports.questions import FIGURES, TABLES
from reports.tables import ReadTable, by_section, read_table
from store.warehouse import reading

FOLDER = Path(__file__).parent
PAGE_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
SIGNIFICANCE = 0.05

CONTROLS_SQL = """
select m.series, coalesce(list(c.series) filter (c.series is not null), []) as controls
from series m left join series c
  on c.role = 'control' and coalesce(c.control_for, m.series) = m.series
where m.role = 'main' group by m.series"""
GLANCE_SQL = """with ends as (
  select series, domain,
    arg_min(value, step) filter (monitor = 'accuracy') as accuracy_first,
    arg_max(value, step) filter (monitor = 'accuracy') as accuracy_last,
    max(value) filter (monitor = 'accuracy') as accuracy_max,
    arg_max(value, step) filter (monitor = 'training_loss') as loss_last
  from curves where value is not null group by all
)
select * from (select series, domain from series cross join domains)
left join ends using (series, domain)
left join memorization_thresholds using (series, domain)
left join (select series, domain, training_loss as loss_then, validation_loss as validation_then,
  is_memorized from memorization_evidence) using (series, domain) order by domain, series"""
# The sentences are about the paper's monitors and the five others that stand best.
SHOWN_SQL = """select m.*, m.family = 'paper' or coalesce(rank <= 5, false) as shown
from monitors m left join (
  select monitor, row_number() over (order by position) as rank
  from leaderboard where family <> 'paper'
) using (monitor)
where monitored order by m.family <> 'paper', coalesce(rank, 999), m.rowid"""
CORRELATIONS_SQL = "select * from correlations order by all"
POWER_SQL = """select power.* from power join domains using (domain) join series using (series)
  order by series.position, domains.position"""
SEPARATION_SQL = "select * from separation order by all"
STEPS_SQL = """select step_name, count(*) as num_artifacts, sum(seconds) as seconds,
  sum(num_bytes) / 1e6 as megabytes
from artifacts group by all order by min(started_at), step_name"""
INPUTS_SQL = """select distinct output.step_name, coalesce(used.step_name, input_name) as input
from lineage join artifacts output using (fingerprint)
left join artifacts used on used.fingerprint = input_fingerprint order by all"""


def build_report(database: Path, out: Path) -> str:
    """Write `out/report.html` and `out/figures/<name>.png|svg` from a warehouse file.

    Parameters
    ----------
    database
        The warehouse (store/warehouse.py); nothing else is read.
    out
        Folder of the report; created when missing. Figures of an earlier report stay only where
        this one draws them again.

    Returns
    -------
    str
        The headline: the study in two or three sentences.

    Raises
    ------
    ValueError
        When the file is no warehouse of a study (see `store.warehouse.query`), or holds no study.
    """

    with reading(database) as ask:

        def read(sql: str) -> list[Row]:
            rows: list[Row] = ask(sql).to_pylist()
            return rows

        figures, tables, names = read_answers(read)
        page = render(read, figures, tables, names)
        (study,) = read("select * from study")
        headline = str(_judgement(read, study, names, num_steps=0)["headline"])
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.html").write_text(page, encoding="utf-8")
    folder = out / "figures"
    for old in [*folder.glob("*.png"), *folder.glob("*.svg")]:
        old.unlink()
    for figure in figures:
        if figure.drawn:
            save(figure, folder)
    return headline


def read_answers(read: Read) -> tuple[list[Figure], list[ReadTable], Names]:
    """Every figure and table, there or missing, and the names the study gives to things."""
    series = read("select * from series order by position")
    domains = read("select * from domains order by position")
    names = Names(
        domains=_domain_labels(domains),
        series={row["series"]: _series_label(row["series"], row["title"]) for row in series},
        roles={row["series"]: row["role"] for row in series},
    )
    figures = [make_figure(question, read, names) for question in FIGURES]
    return figures, [read_table(question, read, names) for question in TABLES], names


def _domain_labels(domains: Sequence[Row]) -> dict[str, str]:
    """Titles of the domains, with the name where there is no title or two have the same."""
    shared = Counter(row["title"] for row in domains)
    labels = {}
    for row in domains:
        name, title = row["domain"], row["title"]
        labels[name] = title if shared[title] == 1 else f"{title} ({name})"
        if not title:
            labels[name] = name
    return labels


def _series_label(name: str, title: str) -> str:
    if not title or title == name:
        return name
    return title if title.startswith(name) else f"{name} ({title})"


def render(read: Read, figures: list[Figure], tables: list[ReadTable], names: Names) -> str:
    """The page as HTML text."""
    studies = read("select * from study")
    if len(studies) != 1:
        raise ValueError(
            f"the database holds {len(studies)} studies, expected one; build it again with "
            "`grokpath run`"
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "minus": words.minus,
        "p_short": words.p_short,
        "opening": words.opening,
        "ticked": words.ticked,
        "tint": words.correlation_tint,
    }
    steps = [row["step"] for row in read("select distinct step from checkpoints order by step")]
    counter = itertools.count(1)
    charts: dict[str, Any] = {}
    context = {
        "study": studies[0],
        "contents": sections_with_content([*figures, *tables]),
        "drawn": _sections(figures, charts, counter),
        "written": by_section(tables),
        "counterparts": counterparts([*figures, *tables]),
        "legend": list(series_lines(names).values()),
        "names": names,
        "steps": steps,
        "style": Markup((FOLDER / "style.css").read_text(encoding="utf-8")),
        "script": Markup((FOLDER / "report.js").read_text(encoding="utf-8")),
        "library": Markup(_bundle()),
        **_judgement(read, studies[0], names, len(steps)),
        **_provenance(read),
    }
    shared = {
        "config": chart_config(PAGE_FONT),
        "dark": DARK,
        "ticks": step_ticks(steps),
        "charts": charts,
    }
    context["data"] = Markup(_script_json(shared))
    return environment.get_template("template.html").render(context)


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, once for all charts."""
    bundle: str = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE
    )
    return bundle.replace("</script", "<\\/script")


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")


def _sections(
    figures: list[Figure], charts: dict[str, Any], counter: "itertools.count[int]"
) -> dict[str, list[dict[str, Any]]]:
    """Figures by section for the template; their charts are added to `charts` by id."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for figure in figures:
        height = 210 if figure.columns <= 2 else 140
        drawn = iter(specs_of(figure, width="container", height=height))
        panels: list[dict[str, Any]] = []
        for panel in figure.panels:
            identity = f"chart-{next(counter)}" if panel.rows else ""
            if panel.rows:
                charts[identity] = next(drawn)
            panels.append({"id": identity, "panel": panel})
        sections.setdefault(figure.question.section, []).append(
            {
                "question": figure.question,
                "note": figure.note,
                "rows": [list(g) for _, g in itertools.groupby(panels, lambda p: p["panel"].group)],
                "columns": figure.columns,
                "lines": figure.lines,
            }
        )
    return sections


def _judgement(read: Read, study: Row, names: Names, num_steps: int) -> dict[str, Any]:
    """What the report concludes, and the tables it concludes from."""
    spec = yaml.safe_load(study["spec_yaml"]) or {}
    analysis = spec.get("analysis") or {} if isinstance(spec, dict) else {}
    significance = float(analysis.get("significance", SIGNIFICANCE))
    correlations, separation = read(CORRELATIONS_SQL), read(SEPARATION_SQL)
    monitors = read(SHOWN_SQL)
    rank = {row["monitor"]: at for at, row in enumerate(monitors)}
    domain_rank = {name: at for at, name in enumerate(names.domains)}
    for rows in (correlations, separation):
        rows.sort(key=lambda r: (domain_rank.get(r["domain"], 99), rank.get(r["monitor"], 99)))
    by_domain = [
        (names.of("domain", domain), list(rows))
        for domain, rows in itertools.groupby(correlations, key=lambda r: r["domain"])
    ]
    glance = read(GLANCE_SQL)
    series_rank = {name: at for at, name in enumerate(names.series)}
    glance.sort(key=lambda r: (domain_rank[r["domain"]], series_rank[r["series"]]))
    controls = {row["series"]: row["controls"] for row in read(CONTROLS_SQL)}
    risen = rising(glance, controls)
    shown = [row for row in monitors if row["shown"]]
    evidence = Evidence(
        shown, correlations, separation, risen, names, significance, read(POWER_SQL), controls
    )
    return {
        "headline": headline(evidence),
        "findings": findings(evidence),
        "num_others": sum(row["family"] != "paper" for row in monitors),
        "limits": limits(evidence, num_steps, read("select * from left_out order by series, step")),
        "echoed": evidence.echoed,
        "order": order_of_events(read, names, risen),
        "order_sql": ORDER_SQL,
        "significance": significance,
        "rise": RISE,
        "glance": glance,
        "monitors": {row["monitor"]: row for row in monitors},
        "correlations": correlations,
        "correlations_by_domain": by_domain,
        "compared": [m for m in rank if any(row["monitor"] == m for row in separation)],
        "shown": {row["monitor"] for row in shown},
        "separation": separation,
        "mark": separation_mark,
        "glance_sql": GLANCE_SQL,
        "correlations_sql": CORRELATIONS_SQL,
        "separation_sql": SEPARATION_SQL,
    }


def _provenance(read: Read) -> dict[str, Any]:
    """Where the numbers come from: steps, their inputs, artifacts, package versions."""
    artifacts = read("select * from artifacts order by started_at, step_name, fingerprint")
    inputs: dict[str, list[str]] = {}
    for row in read(INPUTS_SQL):
        inputs.setdefault(row["step_name"], []).append(row["input"])
    versions = Counter(
        (package, version)
        for row in artifacts
        for package, version in json.loads(row["packages"] or "{}").items()
    )
    return {
        "artifacts": artifacts,
        "steps": [row | {"inputs": inputs.get(row["step_name"], [])} for row in read(STEPS_SQL)],
        "versions": sorted(versions),
        "commits": sorted({row["git_commit"] for row in artifacts if row["git_commit"]}),
        "checkpoints": read(
            "select c.* from checkpoints c join series s using (series) order by s.position, step"
        ),
        "thresholds": read("select * from memorization_thresholds order by domain, series"),
    }
