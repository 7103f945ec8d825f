"""Texts as vectors, for pairing groups by their content."""

from collections.abc import Sequence

import numpy as np

TOKEN_PATTERN = r"\S+"
"""Words are what stands between spaces: symbols such as `+` and single letters count."""


def embed(texts: Sequence[str], embedder: str, model: str) -> np.ndarray:
    """Embed texts.

    Parameters
    ----------
    texts
        At least one.
    embedder
        `tfidf`: words and pairs of words weighted by inverse document frequency over these very
        texts (scikit-learn); needs no model. `sentence-transformers`: a sentence embedding model,
        as arXiv 2506.21551, App. B.1 uses.
    model
        Repository or folder of the sentence-transformers model.

    Returns
    -------
    array of shape (N, E), float32
        Of length 1 (0 for a text without a word).

    Raises
    ------
    ValueError
        If there is no text, the embedder is unknown, its package is not installed, or the model
        cannot be loaded.
    """
    if not texts:
        raise ValueError("found no text to embed, expected at least one")
    if embedder == "tfidf":
        return _tfidf(texts)
    if embedder == "sentence-transformers":
        return _sentences(texts, model)
    raise ValueError(f"embedder is {embedder!r}, expected tfidf or sentence-transformers")


def _tfidf(texts: Sequence[str]) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # Enough dimensions for any corpus whose groups can be separated by their words.
    vectorizer = TfidfVectorizer(
        token_pattern=TOKEN_PATTERN, ngram_range=(1, 2), max_features=20_000, dtype=np.float32
    )
    if not any(text.split() for text in texts):
        raise ValueError("no text holds a word, so there is nothing to embed")
    dense: np.ndarray = vectorizer.fit_transform(texts).toarray()
    return dense


def _sentences(texts: Sequence[str], model: str) -> np.ndarray:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ValueError(
            "the embedder sentence-transformers needs its package: pip install "
            "'grokpath[embeddings]', or set pairing.embedder to tfidf"
        ) from error
    try:
        encoder = SentenceTransformer(
            model,
            device="cpu",  # a card has one user at a time, and this step must not be one
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
    except OSError as error:
        first = str(error).partition("\n")[0]
        raise ValueError(
            f"the sentence-transformers model {model!r} cannot be loaded ({first}); give a folder, "
            "or set pairing.embedder to tfidf"
        ) from error
    vectors: np.ndarray = encoder.encode(
        list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
    )
    return vectors.astype(np.float32)
