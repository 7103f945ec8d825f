import numpy as np
import pytest

from models.embedding import embed


def test_texts_with_the_same_words_are_alike_and_symbols_count():
    texts = ["a1 + b2 =", "a1 + b2 =", "v3 op2 v4 ->", "a1 + c9 ="]
    vectors = embed(texts, "tfidf", "")
    cosines = vectors @ vectors.T
    assert np.diag(cosines) == pytest.approx(np.ones(4))
    assert cosines[0, 1] == pytest.approx(1)
    assert cosines[0, 2] == 0
    assert 0 < cosines[0, 3] < 1


@pytest.mark.parametrize(
    ("texts", "embedder", "said"),
    [
        ([], "tfidf", "found no text"),
        (["", " "], "tfidf", "no text holds a word"),
        (["a"], "bert", "embedder is 'bert'"),
    ],
)
def test_what_cannot_be_embedded_is_refused(texts, embedder, said):
    with pytest.raises(ValueError, match=said):
        embed(texts, embedder, "")


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory):
    """A tiny random sentence-transformers model, of the real classes."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "+", "="]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(words), intermediate_size=8, **shape)).save_pretrained(
        folder
    )
    words_of = Transformer(str(folder))
    model = SentenceTransformer(modules=[words_of, Pooling(8)])
    out = tmp_path_factory.mktemp("sentences")
    model.save(str(out))
    return out


def test_a_sentence_model_is_used_as_it_is(sentence_model):
    vectors = embed(["a + b =", "c", "a + b ="], "sentence-transformers", str(sentence_model))
    assert vectors.shape == (3, 8)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-5)


def test_a_model_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="cannot be loaded"):
        embed(["a"], "sentence-transformers", str(tmp_path / "nothing"))
