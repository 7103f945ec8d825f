"""The report's parts in the order in which they are read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One part: its anchor, heading, opening words, and the file of what is special to it.

    Its figures and tables are those of :mod:`reports.questions` and :mod:`reports.answers` that
    name it.
    """

    name: str
    title: str
    intro: str = ""
    page: str = ""
    tables_first: bool = False


SECTIONS = (
    Section("shows", "What this study shows", page="shows.html"),
    Section("paper", "The paper, figure by figure", page="paper.html"),
    Section("training", "Loss and accuracy"),
    Section(
        "memorization",
        "Memorization and accuracy",
        "A sample counts as memorized from the first checkpoint on at which its loss is low and "
        "stays so to the end, near its final value. The threshold is chosen per domain and series "
        "so that the share that passes before the last checkpoint comes into a wanted range, "
        "where one does it.",
        "memorization.html",
    ),
    Section(
        "groups",
        "Groups and their pairing",
        "Samples memorized at the same step form a training group, documents generalized at the "
        "same step a benchmark group. Groups are paired one to one by the likeness of their texts; "
        "the delay of a pair is how much later its documents are generalized.",
    ),
    Section(
        "pathways",
        "Pathways",
        "A sample's pathway is the list of experts that take most of its routing weight, layer by "
        "layer.",
    ),
    Section("layers", "Pathways by layer"),
    Section(
        "controls",
        "Controls of the pathway distance",
        "If the distance told of generalization, it should fall inside a domain and not between "
        "domains, and it should not merely repeat how uncertain the router is.",
    ),
    Section("correlations", "Monitors against accuracy", page="correlations.html"),
    Section("separation", "Main against control", page="separation.html"),
    Section(
        "leaderboard",
        "Which monitor deserves trust",
        "Every measure under one rule: does it follow accuracy in detrended tests where something "
        "generalizes, and stay where nothing does? Trainings that share a recipe and differ by "
        "their seed count each.",
        tables_first=True,
    ),
    Section(
        "sensitivity",
        "How much the answer depends on the settings",
        "The same relation to accuracy under other thresholds, units, normalisations, samples of "
        "pairs, definitions of memorization and sets of documents.",
    ),
    Section(
        "variants",
        "Other recipes, shapes and seeds",
        "A relation that is more than a coincidence of one training survives a change of seed and "
        "recipe. Each variant is a training of its own.",
    ),
    Section(
        "online",
        "What one would have known at the time",
        "Each call below uses the checkpoints up to its step and nothing later: no final loss, no "
        "benchmark. No call comes before the training loss looks flat; where accuracy has made "
        "half of its rise by then, no measure could have been early.",
    ),
    Section(
        "bound",
        "Effective dimension and bound",
        "The excess-risk bound of the paper with its constants set to 1, for the gating kernel "
        "(experts count as equal) and the tangent kernel (experts as they are).",
    ),
    Section(
        "frozen_router",
        "The experiment with frozen routers",
        "One-layer mixtures of ReLU experts whose random routers never learn: does a router that "
        "spreads its samples over more pathways have a larger effective dimension?",
    ),
    Section("dynamics", "Router dynamics", "Norms of the weights, straight from the files."),
    Section(
        "field",
        "Routing measures of the field",
        "Published measures of expert routing on the same tokens, each beside what it would give "
        "without the structure that it asks for.",
    ),
    Section(
        "nulls",
        "What the monitors say where there is nothing",
        "The same measures on pathways whose experts are drawn at random, with the load of the "
        "layers or evenly, and on a model that was not trained.",
    ),
    Section("provenance", "Where the numbers come from", page="provenance.html"),
)
