"""An encoder put together from a tokenizer, a side for documents and a side for queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.rows import Limits, Row, without
from spladelite.encoders.tokenizer import TextTokenizer
from spladelite.errors import ModelError, WrongType
from spladelite.records import SparseVectors, Tokens

Windows = Callable[[str], list[NDArray[np.int64]]]


class Side(Protocol):
    """How one side, documents or queries, becomes rows. It decides on batches and threads itself."""

    @property
    def prompt(self) -> str:
        """What the model wants before each text; "" for most."""
        ...

    def rows(self, texts: Sequence[str], windows: Windows) -> list[Row]:
        """One row a text. ``windows(text)`` gives its token ids, framed by special tokens, in parts that fit."""
        ...


@dataclass(frozen=True, slots=True)
class StaticSide:
    """Inference-free: each distinct token of the text has a fixed weight, float32 ``(V,)`` (Geng et al. 2024)."""

    weights: NDArray[np.float32]
    prompt: str = ""

    def rows(self, texts: Sequence[str], windows: Windows) -> list[Row]:
        """See :class:`Side`."""
        return [self._row(windows(text)) for text in texts]

    def _row(self, parts: list[NDArray[np.int64]]) -> Row:
        terms = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)
        terms = terms[self.weights[terms] > 0]
        return terms.astype(np.int32), self.weights[terms]


class RoutedEncoder:
    """An :class:`~spladelite.encoders.base.Encoder` of two sides.

    Args:
        name, fingerprint, window: see the protocol; ``window`` leaves out special tokens.
        tokenizer: of both sides.
        document, query: the sides; may be the same object.
        limits: which terms a row keeps.
        max_active_terms: how many the model's own files let a row have, special ones included; None for all.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        tokenizer: TextTokenizer,
        window: int,
        document: Side,
        query: Side,
        limits: Limits,
        max_active_terms: int | None = None,
    ) -> None:
        self.name = name
        self.fingerprint = limits.sign(fingerprint)
        self.vocabulary = tokenizer.vocabulary
        self.window = window
        self.tokenizer = tokenizer
        self.document = document
        self.query = query
        self.limits = limits
        self._own_limits = Limits(max_active_terms)

    def encode_documents(self, texts: Sequence[str]) -> SparseVectors:
        """One row a text. A text of more than ``window`` tokens is encoded in windows, pooled as its tokens are."""
        return self._encode(texts, self.document)

    def encode_queries(self, texts: Sequence[str]) -> SparseVectors:
        """One row a text. A text of more than ``window`` tokens is encoded in windows, pooled as its tokens are."""
        return self._encode(texts, self.query)

    def tokenize(self, text: str) -> Tokens:
        """The text's own tokens with character offsets."""
        return self.tokenizer.tokenize(text)

    def _encode(self, texts: Sequence[str], side: Side) -> SparseVectors:
        if isinstance(texts, str):
            raise WrongType("a sequence of texts was expected, got one str; pass [text]")
        self.tokenizer.load()
        rows = map(self._own_limits.apply, side.rows(texts, lambda text: self._windows(text, side.prompt)))
        return SparseVectors.from_rows([self.limits.apply(without(row, self.tokenizer.excluded)) for row in rows])

    def _windows(self, text: str, prompt: str) -> list[NDArray[np.int64]]:
        """Framed token ids in parts that fit the model; none for a text without a known token."""
        ids, unknown = self.tokenizer.ids(text), self.tokenizer.unknown_id
        if all(i == unknown for i in ids):
            return []
        frame = self.tokenizer.frame
        if prompt:
            ids = self.tokenizer.ids(prompt + text)
        whole = np.array(ids, np.int64)
        count = -(-len(whole) // self.window)
        edges = [len(whole) * i // count for i in range(count + 1)]
        return [np.concatenate([frame.before, whole[start:end], frame.after]) for start, end in pairwise(edges)]


def check_ids(tokenizer: TextTokenizer, terms: int) -> None:
    """Refuse special tokens that the model does not know, before native code sees them.

    Raises:
        ModelError: the tokenizer's frame has an id outside the model's ``terms`` rows.
    """
    frame = tokenizer.frame
    outside = [i for i in (*frame.before, *frame.after) if not 0 <= i < terms]
    if outside:
        raise ModelError(f"{tokenizer.path}: special token ids {outside} lie outside the model's {terms} terms")
