"""The sentences say what the rows say, whichever way a study turned out."""

import pytest

from reports import words
from reports.charts import ramp_colour, step_ticks
from reports.evidence import AGAINST, CANNOT_TELL, FIGURES
from reports.figures import Names
from reports.headline import headline
from reports.prose import findings
from tests.reports.invented_evidence import compared, evidence, monitor, row_of


def told(correlations, separation=None, **options):
    return findings(evidence(correlations, separation, **options))[0]


def test_mixed_results_are_told_as_they_are():
    finding = told(
        [row_of(), row_of("code", rho=0.6)],
        [compared(), compared("code", AGAINST)],
    )
    assert told([row_of()], [compared(), compared("code", FIGURES)]).separates == (
        "Differs in 1 of 2 domains: Math. It moves further in the control in Code."
    )
    assert finding.follows == (
        "Yes in 1 of 2 domains: Math (ρ\u00a0−0.70, p\u00a0=\u00a00.010). It moves with accuracy "
        "against the expected direction in Code (ρ\u00a00.60, p\u00a0=\u00a00.010)."
    )
    assert finding.separates == (
        "Differs in 1 of 2 domains: Math. It moves against the expected direction in Code."
    )


@pytest.mark.parametrize(
    ("lag", "expected"),
    [(2, ", leads by about\u00a02"), (-1, ", lags by about\u00a01"), (0, ""), (None, "")],
)
def test_a_lead_is_told_with_the_correlation(lag, expected):
    assert f"Math (ρ\u00a0−0.70{expected}, p" in told([row_of(lag=lag)]).follows


def test_other_window_and_flat_domains_do_not_count():
    assert told([row_of(window="all")]).follows.startswith("Accuracy rises nowhere")
    assert told([row_of()], risen=set()).follows.startswith("Accuracy rises nowhere")


def test_abstaining_is_not_a_no():
    finding = told(
        [row_of(p=None, holm=None), row_of("code", p=0.4, holm=1.0)],
        [compared(verdict=CANNOT_TELL)],
    )
    assert finding.follows == (
        "Not in the one domain that could be tested. The test abstains in Math."
    )
    assert finding.separates.startswith("Not known in the 1 domain")


def test_a_control_that_does_the_same_takes_the_yes_away():
    rows = [row_of(), row_of(series="shuffled", p=0.03, holm=1.0)]
    assert told(rows).follows == (
        "Not in the one domain compared. It moves with accuracy in Math (ρ\u00a0−0.70, "
        "p\u00a0=\u00a00.010), but also in the control, so it does not count."
    )
    text = headline(evidence(rows, [compared()]))
    assert "none both follows accuracy" in text
    assert "Also in the control, so not counted: 1 finding." in text


def test_a_correlation_against_the_claim_is_told_with_its_numbers():
    """A run in which the distance rises with accuracy was told as 'in none of 3 domains'."""
    numbers = {"pearson": 0.94, "pearson_low": 0.8, "pearson_high": 0.98}
    rows = [row_of(p=0.5, holm=1.0) | numbers, row_of("code", p=0.5, holm=1.0) | numbers]
    assert told(rows).follows == (
        "In none of 2 domains. The claimed correlation is negative, the measured one is not: Math "
        "(r\u00a00.94) and Code (r\u00a00.94)."
    )
    unsure = [row | {"pearson_low": -0.1} for row in rows]
    assert told(unsure).follows == "In none of 2 domains."


def test_a_measure_without_a_claim_follows_nothing():
    unclaimed = [monitor(direction=0)]
    rows = [row_of(rho=0.7), row_of("code", rho=-0.6)]
    assert told(rows, monitors=unclaimed).follows == (
        "Makes no claim. Moves with accuracy (+) in Math (ρ\u00a00.70, p\u00a0=\u00a00.010). "
        "Moves with accuracy (−) in Code (ρ\u00a0−0.60, p\u00a0=\u00a00.010)."
    )
    quiet = told([row_of(p=0.5, holm=1.0)], monitors=unclaimed).follows
    assert quiet == "Makes no claim. No relation that counts is shown."
    text = headline(evidence(rows, [compared()], monitors=unclaimed))
    assert text.endswith("None of the measures held against it claims a direction.")
    both = [monitor(), monitor("entropy", 0)]
    rows = [row_of(p=0.5, holm=1.0), row_of(name="entropy")]
    text = headline(evidence(rows, [compared(name="entropy")], monitors=both))
    assert "Of 2 measures tested, 1 shown here with a claimed direction: none both follows" in text
    assert text.endswith("differs from the control in the same domain.")


@pytest.mark.parametrize(
    ("correlations", "separation", "expected"),
    [
        ([], [], "No monitor could be held against accuracy"),
        ([row_of()], [], "The study has no control series"),
        (
            [row_of()],
            [compared()],
            "Of 1 measure tested, 1 shown here with a claimed direction: following accuracy",
        ),
        ([row_of()], [compared()], "in these two runs: distance (Math)."),
        ([row_of()], [compared("code")], "Only following: distance (Math)."),
        (
            [row_of(p=0.5, holm=1.0)],
            [compared()],
            "Only differing from the control: distance (Math).",
        ),
    ],
)
def test_headline_follows_the_rows(correlations, separation, expected):
    assert expected in headline(evidence(correlations, separation))


def test_headline_says_when_the_test_abstains_everywhere():
    rows = [row_of(rho=None, p=None, holm=None, num_checkpoints=7)]
    text = headline(evidence(rows, [compared()]))
    assert "With at most 7 checkpoints after the onset the detrended test abstains" in text
    assert "none both" not in text
    some = headline(evidence([*rows, row_of("code")], [compared()]))
    assert "abstains for every monitor" not in some


def test_headline_says_when_there_is_nothing_to_follow():
    text = headline(evidence([row_of()], [compared()], risen=set()))
    assert "10 points or more above where it began and above the control, so" in text
    alone = Names(domains={"math": "Math"}, series={"main": "main"}, roles={"main": "main"})
    assert "began, so" in headline(evidence([row_of()], risen=set(), names=alone))


@pytest.mark.parametrize("num_domains", [4, 9])
def test_headline_stays_short_with_many_findings(num_domains):
    domains = {f"d{n}": f"Domain {n} (a long title)" for n in range(num_domains)}
    names = Names(domains, {"main": "main"}, {"main": "main", "shuffled": "control"})
    claimed, unclaimed = [f"claimed {n}" for n in range(12)], [f"other {n}" for n in range(4)]
    monitors = [monitor(n) for n in claimed] + [monitor(n, 0) for n in unclaimed]
    following = [row_of(d, name=n) for n in claimed[:6] for d in domains]
    following += [row_of("d0", name=n, p=0.5, holm=1.0) for n in claimed[6:]]
    following.append(row_of("d1", name="claimed 9"))
    echoes = [row_of("d1", name="claimed 9", series="shuffled")]
    apart = [compared(d, name=n) for n in claimed[6:] + unclaimed for d in domains]
    apart = [row for row in apart if (row["monitor"], row["domain"]) != ("claimed 9", "d1")]
    risen = {("main", domain) for domain in domains}
    text = headline(
        evidence(following + echoes, apart, monitors=monitors, risen=risen, names=names)
    )
    assert f"Accuracy rises in all {num_domains} domains. Of 12 measures tested, 12 shown" in text
    each = "6 monitors in each of 4 domains" if num_domains == 4 else "6 monitors in all 9 domains"
    assert f"Only following: {each}." in text
    few = "6 monitors in each of 3 domains, 5 in Domain 1 (a long title)"
    assert (
        few if num_domains == 4 else "Only differing from the control: 6 monitors in all 9 domains"
    ) in text
    assert "not counted: 1 finding." in text
    assert len(text.split()) <= 75


def test_numbers_are_written_well():
    assert [words.minus(x) for x in (-0.456, -0.001, 3.0)] == ["−0.46", "0.00", "3.00"]
    assert [words.p_short(p) for p in (0.0001, 0.0312, 0.41)] == ["< 0.001", "0.031", "0.41"]
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.ticked("a `b` <i>") == "a <code>b</code> &lt;i&gt;"
    assert words.correlation_tint(-2.0) == ("neg", 1.0)


def test_axis_ticks_and_ramp():
    assert step_ticks([0, 25, 100, 2400]) == [0, 50, 100, 200, 500, 1000, 2000]
    assert step_ticks([0]) == [0]
    assert ramp_colour(0.0) == "#4f6bd0"
    assert ramp_colour(1.0) == "#cf5a2e"
