"""The generated corpus of the nano model: four domains, each with a rule that can be learned.

Every sample is four prompt words and one answer word. A model can memorize the trained samples one
by one, or find the rule and answer the held-out ones too; the domains differ in how hard that is.

| domain | sample | rule |
|---|---|---|
| math | `a + b =` c | c = (a + b) mod modulus |
| code | `v_i op_k v_j ->` type | hidden variable types; random table (operator, type, type) |
| commonsense | `rel_r of ent_e is` value | hidden entity classes; random table (class, relation) |
| chemistry | `cat_i with an_j gives` ratio | hidden valences; the reduced formula ratio |

One seed drives tables, splits, shuffled answers and choices; each domain draws from a generator of
its own, so a change to one domain leaves the others as they are.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from studies.nano_model import CorpusSpec

SPECIAL_TOKENS = ("<pad>", "<eos>", "<unk>")
NUM_CHOICES = 4
TRAIN, VALIDATION, BENCHMARK = "train", "validation", "benchmark"
SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("domain", pa.string()),
        ("split", pa.string()),
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("shuffled_answer", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("choice_index", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Corpus:
    """Samples of all domains, and every word they use."""

    samples: pa.Table
    """One row per sample, ordered by `sample_id`. Columns: sample_id (int64, unique over all
    domains), domain, split (train, validation or benchmark), prompt (4 words), answer (1 word),
    shuffled_answer (train: the domain's training answers in another order; else the answer),
    choices (benchmark: 4 different answers; else empty), choice_index (position of the answer in
    choices; -1 where there are none)."""
    vocabulary: tuple[str, ...]
    """Special tokens (`<pad>`, `<eos>`, `<unk>`), then the words; the position is the token id."""


@dataclass(frozen=True)
class _Rule:
    """A domain's complete grid of samples, and which of them must share a side of the split."""

    prompts: list[str]
    answers: list[str]
    words: list[str]
    strata: list[list[tuple[int, ...]]]  # the training share is drawn inside each stratum


def _math(spec: CorpusSpec, rng: np.random.Generator) -> _Rule:
    p = spec.modulus
    # (a, b) and (b, a) stay together, or a model that knows that sums commute knows the answer.
    # Drawing doubles and pairs apart gives the exact share: 721 of 961 for the defaults.
    doubles = [(a * p + a,) for a in range(p)]
    mirrored = [(a * p + b, b * p + a) for a in range(p) for b in range(a + 1, p)]
    return _Rule(
        prompts=[f"{a} + {b} =" for a in range(p) for b in range(p)],
        answers=[str((a + b) % p) for a in range(p) for b in range(p)],
        words=[*(str(a) for a in range(p)), "+", "="],
        strata=[list(doubles), list(mirrored)],
    )


def _code(spec: CorpusSpec, rng: np.random.Generator) -> _Rule:
    num = spec.num_variables
    types = _hidden_classes(num, spec.num_variable_types, rng)
    shape = (spec.num_operators, spec.num_variable_types, spec.num_variable_types)
    table = rng.integers(spec.num_result_types, size=shape)
    grid = [(k, i, j) for k in range(spec.num_operators) for i in range(num) for j in range(num)]
    return _Rule(
        prompts=[f"v_{i} op_{k} v_{j} ->" for k, i, j in grid],
        answers=[f"type_{table[k, types[i], types[j]]}" for k, i, j in grid],
        words=[
            *(f"v_{i}" for i in range(num)),
            *(f"op_{k}" for k in range(spec.num_operators)),
            "->",
            *(f"type_{t}" for t in range(spec.num_result_types)),
        ],
        strata=[_each_alone(grid)],
    )


def _commonsense(spec: CorpusSpec, rng: np.random.Generator) -> _Rule:
    classes = _hidden_classes(spec.num_entities, spec.num_entity_classes, rng)
    table = rng.integers(spec.num_values, size=(spec.num_entity_classes, spec.num_relations))
    grid = [(r, e) for r in range(spec.num_relations) for e in range(spec.num_entities)]
    return _Rule(
        prompts=[f"rel_{r} of ent_{e} is" for r, e in grid],
        answers=[f"val_{table[classes[e], r]}" for r, e in grid],
        words=[
            *(f"rel_{r}" for r in range(spec.num_relations)),
            "of",
            *(f"ent_{e}" for e in range(spec.num_entities)),
            "is",
            *(f"val_{v}" for v in range(spec.num_values)),
        ],
        strata=[_each_alone(grid)],
    )


def _chemistry(spec: CorpusSpec, rng: np.random.Generator) -> _Rule:
    num, top = spec.num_ions, spec.max_valence
    cations = _hidden_classes(num, top, rng) + 1
    anions = _hidden_classes(num, top, rng) + 1
    grid = [(i, j) for i in range(num) for j in range(num)]
    ratios = {_formula(c, a) for c in range(1, top + 1) for a in range(1, top + 1)}
    return _Rule(
        prompts=[f"cat_{i} with an_{j} gives" for i, j in grid],
        answers=[_formula(int(cations[i]), int(anions[j])) for i, j in grid],
        words=[
            *(f"cat_{i}" for i in range(num)),
            "with",
            *(f"an_{j}" for j in range(num)),
            "gives",
            *sorted(ratios),
        ],
        strata=[_each_alone(grid)],
    )


# A domain's place in this dictionary is its generator's seed: append, never reorder.
_RULES: dict[str, tuple[Callable[[CorpusSpec, np.random.Generator], _Rule], str]] = {
    "math": (_math, "math_train_share"),
    "code": (_code, "code_train_share"),
    "commonsense": (_commonsense, "commonsense_train_share"),
    "chemistry": (_chemistry, "chemistry_train_share"),
}
DOMAINS = tuple(_RULES)


def build_corpus(spec: CorpusSpec) -> Corpus:
    """Generate the corpus; equal specs give equal corpora.

    Of the defaults' samples, math trains 721 and holds out 240, code 400 and 1200, commonsense
    288 and 432, chemistry 141 and 643; `validation_share` of the held-out ones are for the
    validation loss, the rest are the benchmark.

    Raises
    ------
    ValueError
        When a split of a domain would be empty, or a domain has too few answers for a choice.

    Examples
    --------
    >>> corpus = build_corpus(CorpusSpec())
    >>> corpus.samples.num_rows, len(corpus.vocabulary)
    (4065, 234)
    """
    columns: dict[str, list] = {field.name: [] for field in SCHEMA}
    vocabulary = list(SPECIAL_TOKENS)
    for index, (domain, (make_rule, share_field)) in enumerate(_RULES.items()):
        rng = np.random.default_rng([spec.seed, index])
        rule = make_rule(spec, rng)
        splits = _split(rule, getattr(spec, share_field), spec.validation_share, rng)
        _check_splits(domain, share_field, splits)
        choices, choice_index = _choices(domain, rule, splits, rng)
        num, first = len(rule.prompts), len(columns["sample_id"])
        columns["sample_id"] += range(first, first + num)
        columns["domain"] += [domain] * num
        columns["split"] += splits
        columns["prompt"] += rule.prompts
        columns["answer"] += rule.answers
        columns["shuffled_answer"] += _shuffled_answers(rule.answers, splits, rng)
        columns["choices"] += choices
        columns["choice_index"] += choice_index
        vocabulary += rule.words
    assert len(set(vocabulary)) == len(vocabulary)
    return Corpus(pa.table(columns, schema=SCHEMA), tuple(vocabulary))


def save_corpus(corpus: Corpus, out: Path) -> None:
    """Write `samples.parquet` (zstd) and `vocabulary.json` into a folder, created when missing."""
    out.mkdir(parents=True, exist_ok=True)
    pq.write_table(corpus.samples, out / "samples.parquet", compression="zstd")
    text = json.dumps(list(corpus.vocabulary), ensure_ascii=False, indent=0)
    (out / "vocabulary.json").write_text(text + "\n", encoding="utf-8")


def load_corpus(path: Path) -> Corpus:
    """Read what :func:`save_corpus` wrote; ValueError when the folder does not hold a corpus."""
    for name in ("samples.parquet", "vocabulary.json"):
        if not (path / name).is_file():
            raise ValueError(f"{path} is not a saved corpus: {name} is missing")
    samples = pq.read_table(path / "samples.parquet", schema=SCHEMA)
    return Corpus(samples, tuple(json.loads((path / "vocabulary.json").read_text("utf-8"))))


def _hidden_classes(num: int, num_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Class of each of `num` things, all classes as evenly filled as possible."""
    return rng.permutation(np.arange(num) % num_classes)


def _formula(cation_valence: int, anion_valence: int) -> str:
    """Cations to anions in the smallest neutral formula: valences 2 and 3 give `3:2`."""
    divisor = math.gcd(cation_valence, anion_valence)
    return f"{anion_valence // divisor}:{cation_valence // divisor}"


def _each_alone(grid: list) -> list[tuple[int, ...]]:
    return [(row,) for row in range(len(grid))]


def _split(
    rule: _Rule, train_share: float, validation_share: float, rng: np.random.Generator
) -> list[str]:
    splits = np.full(len(rule.prompts), BENCHMARK, dtype=object)
    for stratum in rule.strata:
        order = rng.permutation(len(stratum))
        for unit in order[: round(train_share * len(stratum))]:
            splits[list(stratum[unit])] = TRAIN
    held_out = rng.permutation(np.flatnonzero(splits == BENCHMARK))
    splits[held_out[: round(validation_share * len(held_out))]] = VALIDATION
    return splits.tolist()


def _check_splits(domain: str, share_field: str, splits: list[str]) -> None:
    for split in (TRAIN, VALIDATION, BENCHMARK):
        if split not in splits:
            raise ValueError(
                f"domain {domain!r} has no {split} sample among its {len(splits)}; change "
                f"{share_field} or validation_share so that every split gets one"
            )


def _shuffled_answers(answers: list[str], splits: list[str], rng: np.random.Generator) -> list[str]:
    shuffled = np.array(answers, dtype=object)
    train = np.flatnonzero(np.array(splits) == TRAIN)
    shuffled[train] = shuffled[rng.permutation(train)]
    return shuffled.tolist()


def _choices(
    domain: str, rule: _Rule, splits: list[str], rng: np.random.Generator
) -> tuple[list[list[str]], list[int]]:
    pool = sorted(set(rule.answers))
    if len(pool) < NUM_CHOICES:
        raise ValueError(
            f"domain {domain!r} has {len(pool)} different answers ({', '.join(pool)}), but a "
            f"{NUM_CHOICES}-way choice needs {NUM_CHOICES}; enlarge the domain"
        )
    choices: list[list[str]] = []
    choice_index: list[int] = []
    for answer, split in zip(rule.answers, splits, strict=True):
        if split != BENCHMARK:
            choices.append([])
            choice_index.append(-1)
            continue
        wrong = [word for word in pool if word != answer]
        options = [str(word) for word in rng.choice(wrong, NUM_CHOICES - 1, replace=False)]
        choice_index.append(int(rng.integers(NUM_CHOICES)))
        options.insert(choice_index[-1], answer)
        choices.append(options)
    return choices, choice_index
