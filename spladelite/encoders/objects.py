"""Encoders out of what a program already holds: a pair of functions, or a sentence-transformers ``SparseEncoder``."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spladelite.encoders.routed import RoutedEncoder, Windows
from spladelite.encoders.rows import EMPTY_ROW, Limits, Row
from spladelite.encoders.tokenizer import TextTokenizer
from spladelite.errors import InvalidVector, ModelError, WrongType
from spladelite.records import SparseVectors

Vectors = SparseVectors | Sequence[Mapping[int, float]] | Any
Encode = Callable[[list[str]], Vectors]


class FunctionSide:
    """One side given by a function from texts to vectors; see :func:`from_functions`."""

    prompt = ""

    def __init__(self, encode: Encode, terms: int) -> None:
        self._encode = encode
        self._terms = terms

    def rows(self, texts: Sequence[str], windows: Windows) -> list[Row]:
        """See :class:`~spladelite.encoders.routed.Side`. The function sees only texts that have a known token."""
        known = [i for i, text in enumerate(texts) if windows(text)]
        rows = [EMPTY_ROW] * len(texts)
        if known:
            found = as_rows(self._encode([texts[i] for i in known]), self._terms)
            if len(found) != len(known):
                raise InvalidVector(f"the encoder returned {len(found)} vectors for {len(known)} texts")
            for i, row in zip(known, found, strict=True):
                rows[i] = row
        return rows


def from_functions(
    encode_documents: Encode,
    encode_queries: Encode,
    *,
    tokenizer: TextTokenizer,
    name: str,
    fingerprint: str | None = None,
    window: int = 254,
    limits: Limits | None = None,
) -> RoutedEncoder:
    """An encoder of two functions.

    Each takes a list of texts and returns one vector a text: :class:`~spladelite.records.SparseVectors`, a list of
    ``{term_id: weight}``, a SciPy sparse matrix, or a dense or torch array ``(N, V)``.

    Args:
        encode_documents, encode_queries: the functions.
        tokenizer: of the vocabulary that the term ids refer to.
        name: what a database remembers; change it when the functions change.
        fingerprint: hex digest; by default one of ``name``, ``window`` and the vocabulary.
        window: tokens that the functions read at once.
        limits: which terms a row keeps.
    """
    content = "\n".join([name, str(window), *tokenizer.vocabulary])
    fingerprint = fingerprint or hashlib.sha256(content.encode()).hexdigest()
    terms = len(tokenizer.vocabulary)
    document = FunctionSide(encode_documents, terms)
    query = FunctionSide(encode_queries, terms)
    return RoutedEncoder(name, fingerprint, tokenizer, window, document, query, limits or Limits())


def is_sparse_encoder(model: object) -> bool:
    """Whether it is a sentence-transformers ``SparseEncoder``, told without importing that package."""
    return any(
        kind.__name__ == "SparseEncoder" and kind.__module__.startswith("sentence_transformers")
        for kind in type(model).__mro__
    )


def from_sparse_encoder(model: Any, limits: Limits) -> RoutedEncoder:
    """A sentence-transformers ``SparseEncoder``, encoding as it does itself.

    Raises:
        ModelError: it has no fast tokenizer.
    """
    from spladelite.encoders.torch import read_positions, text_tokens

    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("the SparseEncoder has no fast tokenizer; load it from a folder with tokenizer.json")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        # Encoding leaves the last call's truncation and padding behind in the tokenizer.
        definition = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("truncation", "padding")}
        path.write_text(json.dumps(definition, sort_keys=True), encoding="utf-8")
        terms = model.encode_document(["a"], convert_to_tensor=True, show_progress_bar=False).shape[-1]
        tokenizer = TextTokenizer(path, terms)
        tokenizer.load()
        digest = hashlib.sha256(path.read_bytes())
    for key, weight in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(weight.detach().cpu().float().numpy().tobytes())
    digest.update(str(model).encode())
    told = [getattr(model, name, None) for name in ("prompts", "default_prompt_name", "max_active_dims")]
    digest.update(repr(told).encode())
    special = len(tokenizer.frame.before) + len(tokenizer.frame.after)
    places = [longest for longest in (model.max_seq_length, read_positions(model)) if longest is not None]

    def encoding(method: Callable[..., Any]) -> Encode:
        return lambda texts: method(texts, convert_to_tensor=True, show_progress_bar=False)

    return from_functions(
        encoding(model.encode_document),
        encoding(model.encode_query),
        tokenizer=tokenizer,
        name=str(getattr(model.model_card_data, "model_name", None) or "SparseEncoder"),
        fingerprint=digest.hexdigest(),
        window=text_tokens(512 - special, [longest - special for longest in places], "the SparseEncoder"),
        limits=limits,
    )


def as_rows(vectors: Vectors, terms: int) -> list[Row]:
    """Rows of any of the forms that :func:`from_functions` names. Zeros are dropped.

    Raises:
        InvalidVector: a weight is negative, NaN or infinite, or a term id is outside ``0..terms - 1``.
        TypeError: none of these forms.
    """
    if hasattr(vectors, "detach"):  # torch
        vectors = vectors.detach().cpu().to_dense().float().numpy()
    rows: list[tuple[Any, Any]]
    if isinstance(vectors, SparseVectors):
        rows = list(vectors)
    elif hasattr(vectors, "tocsr"):  # SciPy
        matrix = vectors.tocsr()
        matrix.sum_duplicates()
        edges = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
        rows = [(matrix.indices[a:b], matrix.data[a:b]) for a, b in edges]
    elif isinstance(vectors, np.ndarray) and vectors.ndim == 2:
        rows = [(np.flatnonzero(row), row[row != 0]) for row in vectors]
    elif isinstance(vectors, Sequence) and all(isinstance(row, Mapping) for row in vectors):
        rows = [
            (np.array(sorted(row), np.int64), np.array([row[term] for term in sorted(row)], np.float64))
            for row in vectors
        ]
    else:
        raise WrongType(
            "an encoder must return SparseVectors, a list of {term_id: weight}, a SciPy matrix or an array (N, V), "
            f"got {type(vectors).__name__}"
        )
    return [_checked(i, row, terms) for i, row in enumerate(rows)]


def _checked(i: int, row: tuple[Any, Any], terms: int) -> Row:
    ids, weights = row
    if len(ids) and (ids.min() < 0 or ids.max() >= terms):
        raise InvalidVector(f"vector {i}: term ids must lie in 0..{terms - 1}, got {ids.min()} to {ids.max()}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InvalidVector(f"vector {i}: weights must be finite and not negative")
    keep = weights > 0
    return ids[keep].astype(np.int32), weights[keep].astype(np.float32)
