"""The page in a real Chromium, without network: charts drawn, nothing spills, nothing complains."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
READY = "document.body.dataset.charts === 'ready'"


@pytest.fixture
def open_report(browser, report: Path):
    """Open the report; asks for anything but the file itself and complaints are collected."""
    pages = []

    def open_page(width: int, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        page = context.new_page()
        pages.append(context)
        page.complaints = []
        page.on(
            "console",
            lambda said: (
                page.complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:", "blob:"))
                else page.complaints.append(request.url)
            ),
        )
        page.goto((report / "report.html").as_uri())
        page.wait_for_function(READY, timeout=60_000)
        return page

    yield open_page
    for context in pages:
        context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_every_chart_is_drawn_and_nothing_spills(open_report, width):
    page = open_report(width)
    charts = page.locator(".chart").count()
    assert charts > 20
    assert page.locator(".chart svg.marks").count() == charts
    assert page.locator(".chart svg.marks .mark-line path").count() >= charts
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    too_wide = page.evaluate(
        "[...document.querySelectorAll('.chart svg.marks')].filter("
        "svg => svg.getBoundingClientRect().right > innerWidth).length"
    )
    assert too_wide == 0
    assert page.complaints == []


def test_dark_pages_get_other_colours(open_report):
    stroke = ".chart svg.marks .mark-line path"
    colours = {
        scheme: open_report(1280, scheme).locator(stroke).first.get_attribute("stroke")
        for scheme in ("light", "dark")
    }
    assert colours == {"light": "#0b62b8", "dark": "#66b2ff"}


def test_the_step_axis_can_be_logarithmic(open_report):
    page = open_report(1280)
    curve = page.locator("#chart-1 .mark-line path").first
    linear = curve.get_attribute("d")
    page.get_by_label("logarithmic").check()
    page.wait_for_function(READY, timeout=60_000)
    assert page.locator("#chart-1 .mark-line path").first.get_attribute("d") != linear
    assert page.complaints == []


def test_the_table_shows_one_series_and_window_at_a_time(open_report):
    page = open_report(1280)
    rows = page.locator("tr.row:visible")
    assert rows.count() == 6
    assert {row.get_attribute("data-window") for row in rows.all()} == {"after_onset"}
    page.locator("select[name=window]").select_option("all")
    page.locator("select[name=series]").select_option("shuffled")
    assert {row.get_attribute("data-window") for row in rows.all()} == {"all"}
    assert {row.get_attribute("data-series") for row in rows.all()} == {"shuffled"}


def test_a_chart_tells_its_values(open_report):
    page = open_report(1280)
    chart = page.locator("#chart-1")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] / 3)
    page.locator("#vg-tooltip-element.visible").wait_for(timeout=5000)
    tooltip = page.locator("#vg-tooltip-element").inner_text()
    assert "400" in tooltip
    assert "main" in tooltip
    assert "93%" in tooltip
    label = chart.locator(".chart-wrapper").get_attribute("aria-label")
    assert "Math. main: 5% at step 0, 93% at step 400" in (label or "")
