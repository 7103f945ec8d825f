"""The page stands alone, shows what the warehouse holds, and copes with what is missing."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from reports.contents import SUBJECTS, counterparts
from reports.figures import MAX_SERIES, make_figure
from reports.page import build_report, read_answers, render
from reports.questions import FIGURES, SECTIONS, TABLES
from store.warehouse import query


class Page(HTMLParser):
    """Elements with their attributes, and the text outside scripts and styles."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self._open = [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        if self._open not in ("script", "style"):
            self.text += data

    def ids(self, tag):
        return [attrs["id"] for name, attrs in self.elements if name == tag and "id" in attrs]

    @property
    def words(self):
        return " ".join(self.text.split())


def page_of(database):
    def read(sql):
        return query(database, sql).to_pylist()

    return Page(render(read, *read_answers(read)))


def drop(rows, table, **which):
    rows[table] = [r for r in rows[table] if any(r[k] != v for k, v in which.items())]
    return rows


@pytest.fixture(scope="module")
def page(report):
    return Page((report / "report.html").read_text(encoding="utf-8"))


class TestWhole:
    def test_loads_nothing_from_anywhere(self, page):
        for tag, attrs in page.elements:
            if tag == "a":
                assert attrs["href"].startswith("#")
            else:
                assert not {"src", "href", "srcset", "data", "action"} & set(attrs), (tag, attrs)
        policy = next(a["content"] for _, a in page.elements if a.get("http-equiv"))
        assert "default-src 'none'" in policy
        assert "http" not in policy

    def test_the_library_is_there_once(self, report):
        html = (report / "report.html").read_text(encoding="utf-8")
        assert html.count("window.vegaEmbed=") == 1
        assert len(html) < 1_500_000

    def test_every_section_is_there_and_in_the_contents(self, page):
        used = {question.section for question in [*FIGURES, *TABLES]}
        assert used <= {section.name for section in SECTIONS}
        expected = [s.name for s in SECTIONS if s.page or s.name in used]
        assert page.ids("section") == expected
        links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
        assert links[: len(expected)] == [f"#{name}" for name in expected]

    def test_every_link_leads_somewhere(self, page):
        anchors = {attrs.get("id") for _, attrs in page.elements}
        links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
        assert {link.removeprefix("#") for link in links} <= anchors

    def test_every_figure_has_its_query_and_its_files_or_says_why_not(self, page, report):
        drawn = {file.stem for file in (report / "figures").glob("*.svg")}
        assert {"accuracy", "pathway_distance", "layer_distance", "linear_fits"} <= drawn
        for question in FIGURES:
            assert f"figure-{question.name}" in page.ids("figure")
            assert question.sql in page.text
            if question.name not in drawn:
                assert f"Not available, because {question.missing}." in page.words
                continue
            assert (report / "figures" / f"{question.name}.png").read_bytes()[:4] == b"\x89PNG"
            assert "<svg" in (report / "figures" / f"{question.name}.svg").read_text()

    def test_every_table_has_its_query_or_says_why_not(self, page):
        for question in TABLES:
            assert f"table-{question.name}" in page.ids("div")
            assert question.sql in page.text

    def test_the_papers_figures_and_tables_are_all_listed(self, database):
        def read(sql):
            return query(database, sql).to_pylist()

        figures, tables, _ = read_answers(read)
        rows = counterparts([*figures, *tables])
        listed = {
            (kind.strip("s"), int(number))
            for row in rows
            for kind, numbers in re.findall(r"(Figures?|Tables?) ([\d, ]+)", row.paper)
            for number in numbers.split(",")
        }
        assert listed == {("Figure", n) for n in (1, 2, *range(4, 16))} | {
            ("Table", n) for n in (1, 3, 4, 5)
        }
        assert all(row.links for row in rows)

    def test_the_appendices_are_listed_by_subject_and_that_is_said(self, page):
        assert "which number belongs to which section was not verified" in page.words
        for section, subject in SUBJECTS.items():
            assert f"{section}, {subject}" in page.words
        named = {part for q in [*FIGURES, *TABLES] for part in q.paper.split("; ") if part}
        assert {part for part in named if part.startswith("App.")} == set(SUBJECTS)

    def test_same_database_same_bytes(self, report, database, tmp_path):
        build_report(database, tmp_path)
        for name in ("report.html", "figures/accuracy.svg", "figures/accuracy.png"):
            assert (tmp_path / name).read_bytes() == (report / name).read_bytes(), name

    def test_text_of_the_study_is_escaped(self, report, page):
        assert "Code & <types>" in page.text
        assert "not </script> measured" in page.text
        assert "Code & <types>" not in (report / "report.html").read_text(encoding="utf-8")


class TestManySeries:
    def test_series_with_charts_of_their_own_are_bounded_and_it_is_said(self, database):
        def read(sql):
            return query(database, sql).to_pylist()

        names = read_answers(read)[2]
        many = replace(names, series={f"s{n}": f"s{n}" for n in range(9)})
        question = next(q for q in FIGURES if q.name == "bound_terms")
        rows = [
            {"domain": "math", "series": f"s{n}", "quantity": "bias", "step": 0, "value": 1.0}
            for n in range(9)
        ]
        figure = make_figure(question, lambda sql: rows, many)
        assert len(figure.drawn) == MAX_SERIES
        assert figure.note == "Drawn are the first 6 of 9 series; the query has all."


class TestNumbers:
    def test_the_correlation_table_is_the_warehouse(self, page, database):
        columns = ("pearson", "spearman", "partial_pearson", "difference_spearman", "holm_p")
        shown, row = {}, None
        for tag, attrs in page.elements:
            if tag == "tr" and "data-monitor" in attrs:
                row = tuple(attrs[f"data-{k}"] for k in ("series", "domain", "monitor", "window"))
            elif tag == "td" and attrs.get("data-column") in columns:
                value = attrs["data-value"]
                shown[row, attrs["data-column"]] = None if value == "None" else float(value)
        stored = {
            ((r["series"], r["domain"], r["monitor"], r["window"]), column): r[column]
            for r in query(database, "select * from correlations").to_pylist()
            for column in columns
        }
        assert shown == stored
        assert len(shown) == 2 * 2 * 3 * 2 * len(columns)
        assert "−0.91" in page.text

    def test_the_charts_hold_the_curves(self, report, database):
        html = (report / "report.html").read_text(encoding="utf-8")
        data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
        charts = [
            chart
            for chart in data["charts"].values()
            if chart["layer"][0]["encoding"]["y"]["axis"]["format"] == ".0%"
        ]
        shown = {(r["line"], r["step"], r["value"]) for r in charts[0]["data"]["values"]}
        stored = query(
            database,
            "select series, step, value from curves where domain = 'math' and monitor = 'accuracy'",
        ).to_pylist()
        assert shown == {(r["series"], r["step"], float(f"{r['value']:.6g}")) for r in stored}

    def test_the_findings_follow_from_the_rows(self, page):
        assert (
            "Of 3 measures tested, 3 shown here with a claimed direction: following" in page.words
        )
        assert "in these two runs: pathway distance (Math)." in page.words
        assert "Yes in 1 of 2 domains: Math (ρ\u00a0−0.75, p\u00a0=\u00a00.012)." in page.text
        assert "Differs in 1 of 2 domains: Math." in page.words
        assert "Not known: the test abstains in all 2 domains." in page.words
        assert "a single run each" in page.words
        assert "The smallest p they can reach is 0.0002, set by" in page.words
        assert (
            "would be seen in this share of simulated runs (after correction): Math" in page.words
        )

    def test_the_entropy_control_is_told_at_the_last_checkpoint(self, write_database, make_rows):
        rows = make_rows()
        rows["entropy_control"] = [
            {"series": "main", "domain": domain, "step": step, "threshold": 0.8}
            | {"pearson": r, "spearman": r / 2, "p": 0.005, "num_pairs": 4000, "note": None}
            for domain in ("code", "math")
            for step, r in ((200, 0.1), (400, 0.6))
        ]
        database = write_database(rows)
        tables = read_answers(lambda sql: query(database, sql).to_pylist())[1]
        found = next(table for table in tables if table.question.name == "entropy_control")
        told = ("400", "0.60", "0.36", "0.30", "0.005", "4,000", "–")
        assert found.rows == (("Math", "main", *told), ("Code & <types>", "main", *told))

    def test_a_finding_of_the_control_does_not_count(self, write_database, make_rows):
        rows = make_rows()
        for row in rows["correlations"]:
            if (row["series"], row["domain"]) == ("shuffled", "math"):
                row |= {"difference_p": 0.04, "holm_p": 1.0}
        page = page_of(write_database(rows))
        assert "none both follows accuracy" in page.words
        assert "but also in the control, so it does not count." in page.words
        # In the table: the one significant row, in both of its windows.
        assert page.words.count("In plain words also in the control, so it does not count") == 2

    def test_the_glance_marks_what_missed_its_range(self, write_database, make_rows):
        rows = make_rows()
        rows["memorization_thresholds"][0] |= {"in_range": True, "share_memorized": 0.22}
        page = page_of(write_database(rows))
        assert page.words.count("0.5 range missed") == 3
        assert "0.5 shuffled" in page.words
        assert "is not the wanted 20 to 25 %" in page.words
        everywhere = [row | {"in_range": True} for row in rows["memorization_thresholds"]]
        reached = page_of(write_database(rows | {"memorization_thresholds": everywhere}))
        assert "range missed" not in reached.words.lower()


class TestMissing:
    def test_one_series_only(self, write_database, make_rows):
        page = page_of(write_database(make_rows(series=("main",))))
        assert "no control series that it could be compared with, so it cannot say" in page.words
        assert "because the study has no control series" in page.words
        assert "separation" in page.ids("section")

    def test_no_benchmarks(self, write_database, make_rows):
        rows = drop(make_rows(), "curves", monitor="accuracy")
        page = page_of(write_database(rows | {"correlations": [], "separation": []}))
        assert "No monitor could be held against accuracy" in page.words
        assert "Not available, because no benchmark was scored in this study." in page.words
        assert "because no accuracy was measured that a monitor" in page.words

    def test_no_validation_samples_in_one_domain(self, write_database, make_rows):
        rows = drop(make_rows(), "curves", monitor="validation_loss", domain="math")
        page = page_of(write_database(rows))
        missing = "because the study's domains name no validation samples for this domain."
        assert page.words.count(missing) == 1

    def test_one_checkpoint(self, write_database, make_rows, tmp_path):
        database = write_database(make_rows(steps=(100,)))
        build_report(database, tmp_path)
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert "There is one checkpoint" in page.words
        assert "In no domain of a main series does accuracy end 10 points or more" in page.words
        assert (tmp_path / "figures" / "accuracy.png").is_file()

    def test_only_the_study_and_its_names(self, write_database, make_rows, tmp_path):
        full = make_rows()
        kept = {name: full[name] for name in ("study", "series", "domains")}
        (tmp_path / "figures").mkdir()
        (tmp_path / "figures" / "accuracy.png").write_text("of an earlier report")
        build_report(write_database(kept), tmp_path)
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        for question in FIGURES:
            assert f"Not available, because {question.missing}." in page.words
        assert not list((tmp_path / "figures").iterdir())

    def test_no_study_is_refused(self, write_database, tmp_path):
        with pytest.raises(ValueError, match="holds 0 studies, expected one"):
            build_report(write_database({}), tmp_path)
