from itertools import combinations

import numpy as np
import pytest

from metrics.variants import variant_rows
from tests.metrics import reference

WEIGHTS = reference.random_routing(3, num_samples=8, num_layers=3, num_experts=12)


def rows_of(**how):
    return variant_rows("math", WEIGHTS, (0.5, 0.7), **{"max_pairs": 1000, "seed": 4, **how})


def value(rows, **which):
    (row,) = [row for row in rows if which.items() <= row.items()]
    return row["value"]


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("unit", ["character", "expert"])
def test_every_variant_against_its_definition(threshold, unit):
    paths = [reference.pathway_string(sample, threshold) for sample in WEIGHTS]
    if unit == "expert":  # one symbol per expert and place, none for the separators
        paths = [
            [
                (layer, expert)
                for layer, weights in enumerate(sample)
                for expert in reference.selected_experts(weights, threshold)
            ]
            for sample in WEIGHTS
        ]
    pairs = list(combinations(paths, 2))
    distances = [reference.levenshtein(a, b) for a, b in pairs]
    longer = [max(len(a), len(b)) for a, b in pairs]
    which = {"threshold": threshold, "unit": unit, "pair_seed": 4}
    found = value(rows_of(), **which, normalized=False)
    assert found == pytest.approx(np.mean(distances))
    share = value(rows_of(), **which, normalized=True)
    assert share == pytest.approx(np.mean(np.divide(distances, longer)))


def test_all_pairs_do_not_depend_on_the_seed_and_drawn_ones_do():
    plain = {"threshold": 0.7, "unit": "character", "normalized": False}
    assert value(rows_of(), **plain, pair_seed=4) == value(rows_of(), **plain, pair_seed=5)
    few = rows_of(max_pairs=9)
    assert {row["num_pairs"] for row in few} == {9}
    assert value(few, **plain, pair_seed=4) != value(few, **plain, pair_seed=5)
    assert few == rows_of(max_pairs=9)


def test_one_row_for_every_setting():
    keys = ("threshold", "unit", "normalized", "pair_seed")
    found = {tuple(row[key] for key in keys) for row in rows_of()}
    assert len(found) == len(rows_of()) == 2 * 2 * 2 * 2
