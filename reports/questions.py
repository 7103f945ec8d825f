"""Which figures a report has, in the order of the page; :mod:`reports.further` has the others."""

from reports.further import FURTHER
from reports.question import Question, curve, scoped


def _of_groups(metric: str) -> str:
    """Query of a measure of the five largest groups of each domain, from their memorization on."""
    return f"""with largest as (
  select series, domain, group_step, max(num_samples) as size from pathway_metrics
  where scope = 'group' group by series, domain, group_step
  qualify row_number() over (partition by series, domain order by size desc, group_step) <= 5
)
select domain, series, group_step, step, value
from pathway_metrics join largest using (series, domain, group_step)
where scope = 'group' and metric = '{metric}' and value is not null
  and step >= group_step order by all"""


_PAPER: tuple[Question, ...] = (
    Question(
        name="accuracy",
        section="training",
        title="Accuracy on the benchmark",
        caption="Share of benchmark questions answered correctly; they are held-out according to "
        "the study.",
        sql=curve("accuracy"),
        missing="no benchmark was scored in this study",
        format=".0%",
        domain=(0.0, 1.0),
    ),
    Question(
        name="training_loss",
        section="training",
        title="Training loss",
        caption="Mean loss of the probe set, which is training data, in nats per counted token. "
        "Where it is flat it cannot tell what still changes.",
        sql=curve("training_loss"),
        missing="no loss of training samples was measured",
        zero=True,
        paper="Figure 1",
    ),
    Question(
        name="validation_loss",
        section="training",
        title="Validation loss",
        caption="Mean loss of samples that are held-out according to the study, in nats per "
        "counted token.",
        sql=curve("validation_loss"),
        missing="the study's domains name no validation samples",
        zero=True,
    ),
    Question(
        name="memorized_vs_accuracy",
        section="memorization",
        title="Memorized samples and accuracy",
        caption="Share of probe samples memorized so far, beside the accuracy at the same step. "
        "Where memorizing comes first, the gap is the delay until generalizing. The last "
        "checkpoint counts every sample with a low loss, as it is compared with itself.",
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
        paper="Figure 1",
    ),
    Question(
        name="pathway_distance",
        section="pathways",
        title="Pathway distance",
        caption="Mean edit distance between the pathways of two samples, in characters. It falls "
        "when samples become alike, and also when pathways merely become shorter.",
        sql=curve("pathway_distance"),
        missing="no pathways were measured",
        paper="Figure 4",
    ),
    Question(
        name="pathway_distance_normalized",
        section="pathways",
        title="Pathway distance, length-normalised",
        caption="The same, each distance divided by the length of the longer pathway: 0 is "
        "identical. It depends less on the length of pathways, but is not free of it; 1 is "
        "practically out of reach, because separators match.",
        sql=curve("pathway_distance_normalized"),
        missing="no length-normalised distance was measured",
    ),
    Question(
        name="pathway_consistency_median",
        section="pathways",
        title="Pathway consistency (median)",
        caption="How smoothly a sample's routing passes from layer to layer; higher is smoother. "
        "The median is shown because the ratio explodes for single samples. Points are left out "
        "where more than 10 % of samples are ill-conditioned: the ratio's denominator is near or "
        "below zero. Each chart has its own scale.",
        sql=curve("pathway_consistency_median"),
        missing="no pathway consistency was measured (it needs two MoE layers)",
        shared=False,
        paper="Figure 6",
    ),
    Question(
        name="layer_distance",
        section="layers",
        title="Pathway distance by layer",
        caption="Mean edit distance within one MoE layer, in experts. Layer 0 is the first.",
        sql=scoped("layer", "pathway_distance_expert", "layer"),
        missing="no distances of single layers were measured",
        panels=("domain", "layer"),
        paper="Figure 5",
    ),
    Question(
        name="layer_cosine",
        section="layers",
        title="Likeness of neighbouring layers",
        caption="Mean cosine between the routing embeddings of a layer and the next, the "
        "ingredient of pathway consistency; 1 is the same direction.",
        sql=scoped("layer_pair", "cosine", "layer as layer_pair"),
        missing="no pairs of layers were measured (it needs two MoE layers)",
        panels=("domain", "layer_pair"),
    ),
    Question(
        name="effective_dimension",
        section="bound",
        title="Effective dimension",
        caption="How many directions the routing of the samples spreads over, "
        "Tr(H (H + λI)⁻¹) of the gating kernel; from 0 to the smaller of samples and layers × "
        "experts. It grows with the number of samples, so domains are not to be compared.",
        sql="""select domain, series, step, effective_dimension as value from bound
where kernel = 'gating' order by all""",
        missing="no bound terms were computed",
    ),
    Question(
        name="bound_terms",
        section="bound",
        title="Terms of the bound",
        caption="Bias, variance and noise of the excess-risk bound with its constants C₁ = C₂ = 1. "
        "The bias fits the one-hot answer, centred; where samples have no single answer token it "
        "is not available, nor is the total. Each chart has its own scale.",
        sql="""select domain, series, quantity, step, value from bound
unpivot (value for quantity in (bias, variance, noise)) where kernel = 'gating' order by all""",
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
        caption="A group is all probe samples memorized at the same step; the five largest of "
        "each domain and series are drawn, from their memorization on. Colour runs from early to "
        "late memorization.",
        sql=_of_groups("pathway_distance"),
        missing="no group of samples memorized at the same step is large enough to be measured",
        panels=("domain", "series"),
        line="group_step",
    ),
    Question(
        name="group_consistency",
        section="groups",
        title="Pathway consistency of memorized groups",
        caption="The same groups: median consistency, from each group's memorization on.",
        sql=_of_groups("pathway_consistency_median"),
        missing="no group of samples memorized at the same step is large enough to be measured",
        panels=("domain", "series"),
        line="group_step",
        paper="Figure 6",
    ),
)

QUESTIONS: tuple[Question, ...] = (*_PAPER, *FURTHER)
