"""The one protocol between SpladeLite and a model.

A model turns texts into sparse vectors over its vocabulary, for documents and for queries (the two differ in
Efficient-SPLADE and in inference-free models), and it shows its tokenizer, which chunking, highlighting and the idf
query encoder need. Nothing else of a model is known outside this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from spladelite.records import SparseVectors, Tokens


@runtime_checkable
class Encoder(Protocol):
    """What ``SpladeLite(model=...)`` needs of a model.

    ``name`` is what a person calls it, ``fingerprint`` a hex digest over all that decides its output (weights,
    tokenizer, pooling): a database refuses a model of another fingerprint. ``vocabulary[term_id]`` is the term's
    text as the tokenizer writes it (``##ing`` for a BERT continuation). ``window`` is the number of text tokens,
    special tokens not counted, that one passage may have.
    """

    @property
    def name(self) -> str:
        """What a person calls the model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest over everything that decides the output."""
        ...

    @property
    def vocabulary(self) -> Sequence[str]:
        """Terms by term id."""
        ...

    @property
    def window(self) -> int:
        """Text tokens that fit one passage."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> SparseVectors:
        """Document vectors, one row a text, in order. Each text has at most ``window`` tokens."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> SparseVectors:
        """Query vectors, one row a text, in order. A text longer than ``window`` is encoded in windows and pooled."""
        ...

    def tokenize(self, text: str) -> Tokens:
        """The text's own tokens with character offsets: no special tokens, nothing truncated."""
        ...
