from collections import Counter

import numpy as np
import pytest

from models.nano.corpus import DOMAINS, SPECIAL_TOKENS, build_corpus, load_corpus, save_corpus
from models.nano.model import build_tokenizer
from studies.nano_model import CorpusSpec


@pytest.fixture(scope="module")
def corpus():
    return build_corpus(CorpusSpec())


@pytest.fixture(scope="module")
def rows(corpus):
    return corpus.samples.to_pylist()


def test_counts_of_the_default_recipe(rows):
    trained = Counter(row["domain"] for row in rows if row["split"] == "train")
    held_out = Counter(row["domain"] for row in rows if row["split"] != "train")
    assert trained == {"math": 721, "code": 400, "commonsense": 288, "chemistry": 141}
    assert held_out == {"math": 240, "code": 1200, "commonsense": 432, "chemistry": 643}
    validation = Counter(row["domain"] for row in rows if row["split"] == "validation")
    assert validation == {"math": 60, "code": 300, "commonsense": 108, "chemistry": 161}


def test_sample_ids_are_unique_and_survive_another_split(rows):
    assert [row["sample_id"] for row in rows] == list(range(len(rows)))
    other = build_corpus(CorpusSpec(math_train_share=0.5, code_train_share=0.5)).samples.to_pylist()
    assert [(row["sample_id"], row["prompt"]) for row in rows] == [
        (row["sample_id"], row["prompt"]) for row in other
    ]


def test_math_is_modular_addition_and_mirrored_pairs_share_a_side(rows):
    side = {}
    for row in rows:
        if row["domain"] == "math":
            a, plus, b, equals = row["prompt"].split()
            assert (plus, equals) == ("+", "=")
            assert int(row["answer"]) == (int(a) + int(b)) % 31
            side[int(a), int(b)] = row["split"] == "train"
    assert len(side) == 31 * 31
    assert all(side[a, b] == side[b, a] for a, b in side)


@pytest.mark.parametrize(
    ("domain", "position"),
    [("code", 0), ("code", 2), ("commonsense", 2), ("chemistry", 0), ("chemistry", 2)],
)
def test_six_hidden_classes_explain_the_answers(rows, domain, position):
    # Things of one hidden class answer alike everywhere, so their rows of answers coincide.
    behaviour: dict[str, dict[tuple, str]] = {}
    for row in rows:
        if row["domain"] == domain:
            words = row["prompt"].split()
            subject = words.pop(position)
            behaviour.setdefault(subject, {})[tuple(words)] = row["answer"]
    patterns = {tuple(sorted(answers.items())) for answers in behaviour.values()}
    assert 2 <= len(patterns) <= 6 < len(behaviour)


def test_chemistry_ratio_is_reduced(rows):
    for row in rows:
        if row["domain"] == "chemistry":
            cations, anions = map(int, row["answer"].split(":"))
            assert np.gcd(cations, anions) == 1
            assert max(cations, anions) <= 6


@pytest.mark.parametrize("domain", DOMAINS)
def test_shuffled_answers_are_a_permutation_of_the_trained_ones(rows, domain):
    trained = [row for row in rows if row["domain"] == domain and row["split"] == "train"]
    answers = [row["answer"] for row in trained]
    shuffled = [row["shuffled_answer"] for row in trained]
    assert Counter(answers) == Counter(shuffled)
    agreeing = sum(a == s for a, s in zip(answers, shuffled, strict=True))
    assert agreeing < 0.5 * len(answers)
    held_out = [row for row in rows if row["domain"] == domain and row["split"] != "train"]
    assert all(row["answer"] == row["shuffled_answer"] for row in held_out)


def test_choices_stand_on_benchmark_rows_only(rows):
    positions = Counter()
    for row in rows:
        if row["split"] == "benchmark":
            assert len(set(row["choices"])) == 4
            assert row["choices"][row["choice_index"]] == row["answer"]
            positions[row["choice_index"]] += 1
        else:
            assert row["choices"] == []
            assert row["choice_index"] == -1
    # No position may give the answer away.
    assert max(positions.values()) < 0.3 * sum(positions.values())


def test_vocabulary_holds_every_word(corpus, rows):
    assert corpus.vocabulary[:3] == SPECIAL_TOKENS
    assert len(corpus.vocabulary) == 234
    words = {word for row in rows for word in f"{row['prompt']} {row['answer']}".split()}
    assert words <= set(corpus.vocabulary)
    assert all(len(row["prompt"].split()) == 4 for row in rows)


def test_seed_decides(corpus):
    assert build_corpus(CorpusSpec()).samples.equals(corpus.samples)
    other = build_corpus(CorpusSpec(seed=1))
    assert other.vocabulary == corpus.vocabulary
    assert not other.samples.equals(corpus.samples)


def test_a_change_to_one_domain_leaves_the_others(rows):
    other = build_corpus(CorpusSpec(modulus=13)).samples.to_pylist()

    def of_code(samples):
        return [
            {key: value for key, value in row.items() if key != "sample_id"}
            for row in samples
            if row["domain"] == "code"
        ]

    assert of_code(other) == of_code(rows)


def test_round_trip(corpus, tmp_path):
    save_corpus(corpus, tmp_path / "corpus")
    loaded = load_corpus(tmp_path / "corpus")
    assert loaded.samples.equals(corpus.samples)
    assert loaded.vocabulary == corpus.vocabulary
    (tmp_path / "corpus" / "vocabulary.json").unlink()
    with pytest.raises(ValueError, match=r"not a saved corpus: vocabulary\.json is missing"):
        load_corpus(tmp_path / "corpus")


def test_empty_split_is_refused():
    with pytest.raises(ValueError, match=r"'math' has no validation sample among its 961; change"):
        build_corpus(CorpusSpec(math_train_share=1.0))


def test_too_few_answers_are_refused():
    with pytest.raises(ValueError, match=r"'chemistry' has 3 different answers \(1:1, 1:2, 2:1\)"):
        build_corpus(CorpusSpec().model_copy(update={"max_valence": 2}))  # past its own check


def test_tokenizer_is_one_token_per_word(corpus):
    words = build_tokenizer(corpus.vocabulary)
    assert words.encode("3 + 4 =") == [
        corpus.vocabulary.index(word) for word in ("3", "+", "4", "=")
    ]
    assert words.encode(" 7") == [corpus.vocabulary.index("7")]
    assert words.encode("3 + 4 = 7") == [*words.encode("3 + 4 ="), *words.encode(" 7")]
    assert words.encode("nonsense") == [words.unk_token_id]
    assert words.decode(words.encode("v_3 op_1 v_0 ->")) == "v_3 op_1 v_0 ->"
    assert (words.pad_token_id, words.eos_token_id, words.unk_token_id) == (0, 1, 2)
    assert len(words) == len(corpus.vocabulary)


def test_tokenizer_survives_saving(corpus, tmp_path):
    from transformers import AutoTokenizer

    build_tokenizer(corpus.vocabulary).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded.encode("cat_3 with an_5 gives 1:2") == build_tokenizer(corpus.vocabulary).encode(
        "cat_3 with an_5 gives 1:2"
    )
    assert loaded.eos_token == "<eos>"


def test_tokenizer_refuses_other_vocabularies():
    with pytest.raises(ValueError, match="begins with"):
        build_tokenizer(["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="names a more than once"):
        build_tokenizer([*SPECIAL_TOKENS, "a", "a"])
