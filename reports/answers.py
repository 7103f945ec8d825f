"""Which tables a report has; each is one SQL query whose rows are written as they stand."""

from reports.tables import Column, TableQuestion

_DOMAIN = Column("domain", "Domain")
_SERIES = Column("series", "Series")
_MONITOR = Column("title", "Monitor")

TABLES: tuple[TableQuestion, ...] = (
    TableQuestion(
        name="epsilon_scan",
        section="memorization",
        title="Memorization under other thresholds",
        caption="Share memorized before the last checkpoint, number of groups and median step "
        "under other loss thresholds ε and distances δ to the final loss; the first row of each is "
        "the study's own.",
        sql="""select domain, series, epsilon, delta, share_memorized, num_groups, median_step
from epsilon_scan join series using (series) join domains using (domain)
order by domains.position, series.position, epsilon, delta desc""",
        columns=(
            _DOMAIN,
            _SERIES,
            Column("epsilon", "ε", "2"),
            Column("delta", "δ", "2"),
            Column("share_memorized", "Memorized", "share"),
            Column("num_groups", "Groups", "whole"),
            Column("median_step", "Median step", "whole"),
        ),
        missing="no loss of training samples was measured",
        paper="App. E.3",
        folded=True,
    ),
    TableQuestion(
        name="contamination",
        section="memorization",
        title="Benchmark documents that look like training data",
        caption="The documents that look most like training data under the last checkpoint "
        "(Min-K%++, arXiv 2404.02936) are marked; unless the study says otherwise they do not "
        "count in accuracy and groups. Where the scored text is one answer, right answers score "
        "high, so that leaving them out selects on being right.",
        sql="""select c.domain, c.series, c.benchmark, count(*) as documents,
  count(*) filter (marked) as marked, count(*) filter (removed) as removed,
  any_value(s.value) as every, any_value(k.value_unmarked) as unmarked
from contamination c
join series using (series) join domains on domains.domain = c.domain
left join (select * from benchmark_scores qualify step = max(step) over (partition by series)) s
  on (s.series, s.benchmark) = (c.series, c.benchmark)
left join (select * from clean_scores qualify step = max(step) over (partition by series)) k
  on (k.series, k.benchmark) = (c.series, c.benchmark)
group by c.domain, c.series, c.benchmark, domains.position, series.position
order by domains.position, series.position, c.benchmark""",
        columns=(
            _DOMAIN,
            _SERIES,
            Column("benchmark", "Benchmark"),
            Column("documents", "Documents", "whole"),
            Column("marked", "Marked", "whole"),
            Column("removed", "Left out", "whole"),
            Column("every", "Last score, all", "share"),
            Column("unmarked", "Last score, without the marked", "share"),
        ),
        missing="no benchmark was scored",
        paper="App. B.1",
    ),
    TableQuestion(
        name="removed_documents",
        section="memorization",
        title="The documents themselves",
        caption="Every marked document of a main series, with its score.",
        sql="""select c.domain, c.series, c.benchmark, c.document_id, c.score, d.target
from contamination c join series using (series)
left join (select * from benchmark_documents qualify step = max(step) over (partition by series)) d
  on (d.series, d.benchmark, d.document_id) = (c.series, c.benchmark, c.document_id)
where marked and role = 'main' order by c.domain, c.series, c.benchmark, c.score desc""",
        columns=(
            _DOMAIN,
            _SERIES,
            Column("benchmark", "Benchmark"),
            Column("document_id", "Document", "whole"),
            Column("score", "Min-K%++", "2"),
            Column("target", "Answer"),
        ),
        missing="none was marked",
        folded=True,
    ),
    TableQuestion(
        name="pairing",
        section="groups",
        title="Pairs of groups and their delay",
        caption="Training group, the benchmark group matched to it, and how many optimizer steps "
        "later its documents are generalized. A negative delay means that documents were answered "
        "before the samples counted as memorized. Groups of the last checkpoint are trivially so: "
        "nothing comes after it. Left out are domains whose accuracy does not rise by 10 points, "
        "and those whose memorized samples are known hardly better than held-out ones.",
        sql="""select p.domain, p.series, memorization_step, generalization_step, delay, similarity,
  num_samples, num_documents
from pairing p join series using (series) join domains using (domain)
join memorization_evidence using (series, domain)
where role <> 'control' and delay is not null and delay_means_something
order by domains.position, series.position, memorization_step""",
        columns=(
            _DOMAIN,
            _SERIES,
            Column("memorization_step", "Memorized at", "whole"),
            Column("generalization_step", "Generalized at", "whole"),
            Column("delay", "Delay", "whole"),
            Column("similarity", "Likeness", "2"),
            Column("num_samples", "Samples", "whole"),
            Column("num_documents", "Documents", "whole"),
        ),
        missing="no training group could be paired with a benchmark group where samples are "
        "memorized and accuracy rises",
        paper="Figure 2; App. B.1",
        folded=True,
    ),
    TableQuestion(
        name="entropy_control",
        section="controls",
        title="Pathway distance against routing entropy at the last checkpoint",
        caption="Correlations over pairs of samples, pathways cut at τ = 0.8; r² is the share of "
        "the distance's variance that goes with entropy. Pairs share samples, so they are no "
        "independent points: p is that of a Mantel test, which shuffles the entropies over "
        "samples (199 times, so it is at least 0.005), uncorrected. The paper reports a Pearson "
        "correlation of 0.24 over 141,530 pairs.",
        sql="""select e.domain, e.series, step, pearson, pearson * pearson as r2, spearman, p,
  num_pairs, note
from entropy_control e join series using (series) join domains using (domain)
qualify step = max(step) over (partition by e.series, e.domain)
order by domains.position, series.position""",
        columns=(
            _DOMAIN,
            _SERIES,
            Column("step", "Step", "whole"),
            Column("pearson", "Pearson", "2"),
            Column("r2", "r²", "2"),
            Column("spearman", "Spearman", "2"),
            Column("p", "p", "p"),
            Column("num_pairs", "Pairs", "whole"),
            Column("note", "Note"),
        ),
        missing="no pairs could be correlated",
        paper="App. E.5",
        folded=True,
    ),
    TableQuestion(
        name="linear_fits",
        section="correlations",
        title="Straight lines of accuracy on the paper's monitors",
        caption="Slope, share of variance explained and mean squared error of the fits; all "
        "checkpoints. Beside Pearson the range it takes when one checkpoint is left out.",
        sql="""select c.domain, c.series, m.title, c.num_checkpoints, c.pearson, c.pearson_loo_low,
  c.pearson_loo_high, c.linear_slope, c.linear_r2, c.linear_mse
from correlations c join monitors m using (monitor) join series using (series)
join domains using (domain)
where "window" = 'all' and family = 'paper' and role <> 'control'
order by domains.position, series.position, m.title""",
        columns=(
            _DOMAIN,
            _SERIES,
            _MONITOR,
            Column("num_checkpoints", "n", "whole"),
            Column("pearson", "Pearson", "2"),
            Column("pearson_loo_low", "Least", "2"),
            Column("pearson_loo_high", "Largest", "2"),
            Column("linear_slope", "Slope", "3"),
            Column("linear_r2", "R²", "2"),
            Column("linear_mse", "MSE", "4"),
        ),
        missing="no accuracy was measured",
        paper="Figure 7",
        folded=True,
    ),
    TableQuestion(
        name="leaderboard",
        section="leaderboard",
        title="The leaderboard",
        caption="“Signs” counts the cases in which the detrended test finds the measure moving "
        "with accuracy, against it, and at no lag that stands out; “p ≤ 0.05” how many are "
        "significant one by one, where chance alone gives at most one in twenty. “Own above "
        "siblings” is how much larger the test's z is with a training's own accuracy than with "
        "that of other trainings of its recipe; its corrected p reassigns them, and needs several "
        "trainings of a recipe. “Differs” counts the cases in which the change differs from that "
        "in the control by more than three standard errors, and how many go the other way; “gap” "
        "is the median of that difference in standard errors; its corrected p flips whole "
        "trainings and so holds their spread, which takes eleven for some forty measures. A pass "
        "needs both parts, with one sign.",
        sql="""select position, title, l.family, num_cases,
  num_positive || ' / ' || num_negative || ' / ' || (num_tested - num_positive - num_negative)
    as signs, num_significant, matched_excess, matched_p, holm_p,
  num_separating || ' of ' || num_with_control as apart, num_separating_otherwise,
  case separating_direction when 1 then 'rises' when -1 then 'falls' end as moves, control_holm_p,
  case l.expected_direction when 1 then 'rises' when -1 then 'falls' else 'none' end as claimed,
  median_graded, passes, note
from leaderboard l join monitors using (monitor) order by position""",
        columns=(
            Column("title", "Measure"),
            Column("signs", "Signs + / − / none"),
            Column("num_significant", "p ≤ 0.05", "whole"),
            Column("matched_excess", "Own above siblings", "2"),
            Column("holm_p", "Its corrected p", "p"),
            Column("apart", "Differs from control"),
            Column("num_separating_otherwise", "Other way", "whole"),
            Column("median_graded", "Gap", "2"),
            Column("control_holm_p", "Corrected p of the gap", "p"),
            Column("moves", "Against control"),
            Column("claimed", "Claimed"),
            Column("passes", "Passes", "truth"),
            Column("note", "Why not"),
        ),
        missing="no monitor was judged",
    ),
    TableQuestion(
        name="sensitivity",
        section="sensitivity",
        title="Pathway distance, consistency and loss under other settings",
        caption="Correlation with accuracy after its onset, main series; the study's own setting "
        "is "
        "marked. p is that of the detrended test, uncorrected.",
        sql="""select s.domain, s.setting, s.value, coalesce(m.title, s.monitor) as title,
  s.num_checkpoints, s.pearson, s.spearman, s.difference_p, s.is_default, s.note
from sensitivity s join series using (series) join domains using (domain)
left join monitors m using (monitor)
where "window" = 'after_onset' and role = 'main'
order by domains.position, series.position, s.setting, s.value, title""",
        columns=(
            _DOMAIN,
            Column("setting", "Setting"),
            Column("value", "Value"),
            _MONITOR,
            Column("num_checkpoints", "n", "whole"),
            Column("pearson", "Pearson", "2"),
            Column("spearman", "Spearman", "2"),
            Column("difference_p", "p", "p"),
            Column("is_default", "Own", "truth"),
            Column("note", "Note"),
        ),
        missing="the study leaves the other settings out",
        paper="App. E.2; App. E.3; Figure 9",
    ),
    TableQuestion(
        name="variants",
        section="variants",
        title="Monitors across recipes and seeds",
        caption="Pearson correlation with accuracy after its onset: median over series and "
        "domains, "
        "the share with the sign that the measure's source claims (or, without a claim, with the "
        "more frequent sign), and in how many the detrended test speaks before correction.",
        sql="""select m.title, s.variant, count(distinct c.series) as series_count,
  count(*) as cases, median(pearson) as middle, min(pearson) as least, max(pearson) as largest,
  case when any_value(m.expected_direction) <> 0
    then avg((sign(pearson) = m.expected_direction)::int)
    else greatest(avg((pearson > 0)::int), avg((pearson < 0)::int)) end as agreeing,
  count(*) filter (difference_p <= 0.05) as spoke
from correlations c join series s using (series) join monitors m using (monitor)
where s.role <> 'control' and "window" = 'after_onset' and pearson is not null
  and m.family in ('paper', 'candidate')
group by m.title, s.variant order by m.title, s.variant""",
        columns=(
            _MONITOR,
            Column("variant", "Recipe"),
            Column("series_count", "Series", "whole"),
            Column("cases", "Cases", "whole"),
            Column("middle", "Median Pearson", "2"),
            Column("least", "Least", "2"),
            Column("largest", "Largest", "2"),
            Column("agreeing", "Of one sign", "share"),
            Column("spoke", "Detrended p ≤ 0.05", "whole"),
        ),
        missing="no accuracy was measured",
        paper="App. E.6",
        folded=True,
    ),
    TableQuestion(
        name="lead_lag",
        section="online",
        title="Calls and how early they came",
        caption="When the training loss was called flat, when each measure was called to have "
        "turned after that, and when accuracy had made half of its rise. A call could be early "
        "only where the loss was flat before that. Lead is how many steps the call came before "
        "half of the rise; a call where accuracy did not rise is a false alarm. The first row of a "
        "series and domain calls as soon as the loss is flat: what the others are compared with.",
        sql="""select l.domain, l.series, m.title, flat_step, call_step, accuracy_step, could_lead,
  lead, false_alarm, l.note
from lead_lag l join monitors m using (monitor) join series using (series)
join domains using (domain)
where m.family in ('paper', 'candidate') or monitor = 'loss_flat'
order by domains.position, series.position, monitor = 'loss_flat' desc, m.family desc, m.title""",
        columns=(
            _DOMAIN,
            _SERIES,
            _MONITOR,
            Column("flat_step", "Loss flat", "whole"),
            Column("call_step", "Called", "whole"),
            Column("accuracy_step", "Half of the rise", "whole"),
            Column("could_lead", "Could lead", "truth"),
            Column("lead", "Lead", "whole"),
            Column("false_alarm", "False alarm", "truth"),
            Column("note", "Note"),
        ),
        missing="no training loss was measured",
        folded=True,
    ),
    TableQuestion(
        name="online_summary",
        section="online",
        title="Calls of each measure",
        caption="Over all series and domains: in how many accuracy rose (by the leaderboard's "
        "rule), in how many of these the loss was flat before accuracy had made half of its rise, "
        "so that a call could be early at all, and how often each measure then called before and "
        "after half of the rise; the median lead is over these, too. Last, how often it called "
        "where accuracy did not rise. The first row calls as soon as the loss is flat, so it is "
        "always early where one can be and cannot stay quiet: a measure is worth something if it "
        "is early nearly as often with fewer false calls. A measure without a claimed direction "
        "may turn either way, so on white noise it calls in about one run of ten, the others in "
        "one of twenty; on noise that wanders, several times as often.",
        sql="""select m.title, count(*) filter (accuracy_step is not null) as risen,
  count(*) filter (could_lead) as possible,
  count(*) filter (could_lead and lead > 0) as before,
  count(*) filter (could_lead and lead <= 0) as after,
  median(lead) filter (could_lead) as lead,
  count(*) filter (accuracy_step is null and false_alarm is not null) as quiet,
  count(*) filter (false_alarm) as false_alarms
from lead_lag join monitors m using (monitor) group by m.title, m.family, monitor
order by monitor = 'loss_flat' desc,
  count(*) filter (could_lead and lead > 0) / greatest(1, count(*) filter (could_lead))
  - count(*) filter (false_alarm)
    / greatest(1, count(*) filter (accuracy_step is null and false_alarm is not null)) desc,
  m.title""",
        columns=(
            Column("title", "Measure"),
            Column("risen", "Accuracy rose", "whole"),
            Column("possible", "Could lead", "whole"),
            Column("before", "Called before", "whole"),
            Column("after", "Called after", "whole"),
            Column("lead", "Median lead, steps", "whole"),
            Column("quiet", "It did not", "whole"),
            Column("false_alarms", "Called all the same", "whole"),
        ),
        missing="no training loss was measured",
    ),
    TableQuestion(
        name="frozen_router",
        section="frozen_router",
        title="What goes with what over the routers",
        caption="Correlations over independent routers, so a plain permutation test is honest "
        "here. "
        "Same scale: all routers equally sharp. Varied: from nearly uniform to sharp. “Normalized” "
        "sets each router's kernel to a mean diagonal of 1 before the effective dimension is "
        "taken; without, one factor serves all routers. The paper does not say which it used.",
        sql="""select replace(variant, '_', ' ') as variant, replace(x, '_', ' ') as x,
  replace(y, '_', ' ') as y, num_routers, pearson, pearson_low, pearson_high, spearman, p
from frozen_router_correlations""",
        columns=(
            Column("variant", "Routers"),
            Column("x", "This"),
            Column("y", "against this"),
            Column("num_routers", "n", "whole"),
            Column("pearson", "Pearson", "2"),
            Column("pearson_low", "95 %, from", "2"),
            Column("pearson_high", "to", "2"),
            Column("spearman", "Spearman", "2"),
            Column("p", "p", "p"),
        ),
        missing="the study leaves the experiment out",
        paper="Figure 8",
    ),
    TableQuestion(
        name="router_dynamics",
        section="dynamics",
        title="How fast and how steadily the weights settle",
        caption="Change of each kind's norm between checkpoints over its mean norm; convergence "
        "speed is its drop from the early to the late half; stability is 1 over its standard "
        "deviation. Per log step, each change is first divided by the difference of log(1 + step): "
        "where checkpoints are unevenly spaced, the raw forms mostly repeat the spacing. The paper "
        "prints 0.151 / 5.63 (router), 0.063 / 7.32 (expert) and 0.083 / 6.01 (attention) for "
        "change and stability, from evenly spaced checkpoints; they compare with the raw forms of "
        "such.",
        sql="""select series, kind, mean_change, mean_change_per_log_step, convergence_speed,
  convergence_speed_per_log_step, stability, stability_per_log_step, note
from router_dynamics join series using (series) order by position, kind""",
        columns=(
            _SERIES,
            Column("kind", "Weights"),
            Column("mean_change", "Change", "3"),
            Column("mean_change_per_log_step", "Change per log step", "3"),
            Column("convergence_speed", "Convergence speed", "3"),
            Column("convergence_speed_per_log_step", "Speed per log step", "3"),
            Column("stability", "Stability", "2"),
            Column("stability_per_log_step", "Stability per log step", "2"),
            Column("note", "Note"),
        ),
        missing="no weight file was read",
        paper="App. D",
    ),
    TableQuestion(
        name="field",
        section="field",
        title="All measures of the field at the last checkpoint",
        caption="Mean of layers, main series, beside what the same measure gives without the "
        "structure that it asks for.",
        sql="""select r.domain, m.title, r.value, r.baseline, r.baseline_kind, r.num_tokens, r.note
from routing_measures r join monitors m on m.monitor = r.measure
join series using (series) left join domains using (domain)
where layer is null and role = 'main' and m.family = 'field'
qualify step = max(step) over (partition by series)
order by coalesce(domains.position, 99), m.title""",
        columns=(
            _DOMAIN,
            Column("title", "Measure"),
            Column("value", "Value", "3"),
            Column("baseline", "Beside it", "3"),
            Column("baseline_kind", "What that is"),
            Column("num_tokens", "Tokens or samples", "whole"),
            Column("note", "Note"),
        ),
        missing="no routing of single tokens was measured",
        folded=True,
    ),
    TableQuestion(
        name="untrained",
        section="nulls",
        title="The untrained model beside the trained one",
        caption="Every monitor at the first checkpoint (where it is step 0, the initialization: a "
        "model that knows nothing) and at the last, main series.",
        sql="""select c.domain, m.title, arg_min(value, step) as first,
  arg_max(value, step) as last,
  min(step) as first_step
from curves c join monitors m using (monitor) join series using (series)
join domains using (domain)
where role = 'main' and value is not null
group by c.domain, c.series, m.title, domains.position, series.position
order by domains.position, series.position, m.title""",
        columns=(
            _DOMAIN,
            _MONITOR,
            Column("first_step", "First step", "whole"),
            Column("first", "First", "3"),
            Column("last", "Last", "3"),
        ),
        missing="nothing was measured",
        folded=True,
    ),
)
