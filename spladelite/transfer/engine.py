"""What an engine does for :class:`~spladelite.transfer.remote.Remote`: keep rows, add up products, and no more.

Encoding, chunking, quantisation, checks, conflicts and the order of hits are decided on this side. An engine stores

- *documents* under a *number*, an int64 that is never reused; ties go to the lower number, so that it stands for the
  order in which documents were stored. A moved document keeps the number that it had.
- *passages* as ``(number, ordinal)``: ordinals 0, 1, 2, … inside a document, with the quantised vector of each. The
  first one also has what is the document's: how many words it has, and whether the model cannot read it.
- *postings*, one a term and passage, and, where the engine has BM25, one a word and document: at the document's first
  passage, with the frequency as impact and the document's length as scale.

A write becomes visible as a whole or not at all, as far as the engine's page in ``docs/scale.md`` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from spladelite.documents.table import EncodedDocuments, Stored
from spladelite.transfer.conditions import Condition

Query = Sequence[tuple[int, float]]  # term ids strictly ascending, weights above 0


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Documents with their numbers, int64 ``(n,)`` ascending, and their passages."""

    numbers: NDArray[np.int64]
    encoded: EncodedDocuments

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The document's place in the batch for each passage, int64 ``(P,)``."""
        return np.repeat(np.arange(len(self)), [len(spans) for spans in self.encoded.spans])

    @property
    def ordinals(self) -> NDArray[np.int64]:
        """Each passage's place in its document, int64 ``(P,)``."""
        counts = [len(spans) for spans in self.encoded.spans]
        return np.concatenate([np.empty(0, np.int64), *map(np.arange, counts)])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many words each passage's document has, at its first passage; else, and without words, 0; ``(P,)``."""
        lengths = np.zeros(len(self.rows), np.int64)
        if self.encoded.words is not None:
            lengths[self.ordinals == 0] = self.encoded.words.lengths
        return lengths

    @property
    def unread(self) -> list[bool]:
        """For each passage whether it is the first of a document that the model cannot read."""
        flags = np.zeros(len(self), bool)
        flags[: len(self.encoded.unread)] = self.encoded.unread
        found: list[bool] = (flags[self.rows] & (self.ordinals == 0)).tolist()
        return found

    def postings(self) -> Postings:
        """Of the passages' terms and the documents' words, by term."""
        vectors, words = self.encoded.vectors, self.encoded.words
        sizes = np.diff(vectors.indptr)
        columns = [
            (
                vectors.terms.astype(np.int64),
                np.repeat(self.numbers[self.rows], sizes),
                np.repeat(self.ordinals, sizes),
                vectors.impacts,
                np.repeat(vectors.scales, sizes),
            )
        ]
        if words is not None:
            sizes = np.diff(words.indptr)
            firsts = np.zeros(len(words.terms), np.int64)
            lengths = words.lengths.astype(np.float32)
            columns.append(
                (words.terms, np.repeat(self.numbers, sizes), firsts, words.frequencies, np.repeat(lengths, sizes))
            )
        every = [np.concatenate(parts) for parts in zip(*columns, strict=True)]
        order = np.argsort(every[0], kind="stable")
        return Postings(*(column[order] for column in every))


class Postings(NamedTuple):
    """Rows of posting tables as columns, by term.

    Attributes:
        terms: int64, vocabulary entries and words (:data:`~spladelite.index.scoring.WORD`).
        numbers, ordinals: int64, of the passage.
        impacts: uint8; of words the frequency.
        scales: float32; of words the document's length.
    """

    terms: NDArray[np.int64]
    numbers: NDArray[np.int64]
    ordinals: NDArray[np.int64]
    impacts: NDArray[np.uint8]
    scales: NDArray[np.float32]


class Ask(NamedTuple):
    """What :meth:`Engine.rank` is asked for one query and one kind of terms.

    A passage's score is ``scale · Σ weight · impact`` over the query's terms; with ``norm`` that of BM25, ``Σ weight ·
    tf / (tf + a + c · length)``.

    Attributes:
        terms: the query's, one at least; all of the vocabulary, or all words.
        k: how many documents.
        min_score: documents that score less are left out.
        norm: ``(a, c)`` of :func:`~spladelite.index.scoring.bm25_norm`; None for SPLADE.
        among: only these documents, which the engine has just found; None for all.
        readable: leave out documents that the model cannot read.
    """

    terms: Query
    k: int
    min_score: float = 0.0
    norm: tuple[float, float] | None = None
    among: Sequence[int] | None = None
    readable: bool = False


class Frequencies(NamedTuple):
    """What scores depend on beside a document's own postings, of all that is alive.

    Attributes:
        counts: in how many passages each of some terms is, or each of some words in how many documents.
        passages, documents: how many there are.
        words: how many all documents have.
        unread: whether there are documents that the model cannot read.
    """

    counts: list[int]
    passages: int
    documents: int
    words: int
    unread: bool


class Ranked(NamedTuple):
    """A document found: its number, and the place and score of its best passage."""

    number: int
    ordinal: int
    score: float


class Row(NamedTuple):
    """A document as it is listed; ``text`` is empty where it was not asked for."""

    number: int
    id: str
    text: str
    metadata: str
    passages: int


class Figures(NamedTuple):
    """Sizes: passages, postings of terms and of words (None where the engine does not tell), bytes on disk by part."""

    passages: int
    postings: int | None
    word_postings: int | None
    sizes: dict[str, int]


class Changed(Exception):
    """Another writer changed one of the documents between the look-up and the write."""


class Engine(Protocol):
    """One collection in one engine. Every method raises ``ServerError`` where the server is the reason."""

    server: str
    """How errors name the server: host, port, collection; never the password."""
    can_count_terms: bool
    """Whether :meth:`frequencies` works: without, there is no idf and no BM25."""

    def meta(self) -> dict[str, str]:
        """What the collection knows of itself; empty where there is no collection yet."""
        ...

    def create(self, meta: Mapping[str, str]) -> None:
        """Make the collection."""
        ...

    def set_meta(self, changes: Mapping[str, str]) -> None:
        """Record what has changed."""
        ...

    def look_up(self, ids: Sequence[str]) -> dict[str, Stored]:
        """The stored documents among ``ids``; ``Stored.doc_id`` is the number."""
        ...

    def highest(self) -> int:
        """No number above it was ever used."""
        ...

    def numbers(self, count: int) -> int:
        """The first of ``count`` numbers that nobody has and that follow all others."""
        ...

    def write(self, batch: Batch, replaced: Sequence[Stored]) -> None:
        """Store documents and take those that they replace away.

        Raises:
            Changed: a document has come or gone since it was looked up.
        """
        ...

    def set_metadata(self, changes: Sequence[tuple[Stored, str, str]]) -> None:
        """Replace the metadata of documents, given with their ids and the new metadata."""
        ...

    def remove(self, documents: Sequence[Stored]) -> None:
        """Delete documents."""
        ...

    def rank(self, asked: Sequence[Ask], condition: Condition | None, timeout: float | None) -> list[list[Ranked]]:
        """The best documents of each query: score descending, then number. A score of 0 is no hit."""
        ...

    def one_state(self) -> AbstractContextManager[object]:
        """Whatever is read inside sees one state, where the engine has such a thing."""
        ...

    def read(self, numbers: Sequence[int], text: bool = True) -> dict[int, Row]:
        """Documents by number."""
        ...

    def spans(self, passages: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
        """Where passages, given as (number, ordinal), are in their documents' texts."""
        ...

    def page(
        self, after: int, limit: int, condition: Condition | None = None, offset: int = 0, text: bool = True
    ) -> list[Row]:
        """The next documents with a number above ``after``, in order."""
        ...

    def batch(self, after: int, limit: int) -> Batch:
        """The next documents with their passages."""
        ...

    def one(self, stored: Stored) -> Batch:
        """One document with its passages."""
        ...

    def matching(self, condition: Condition) -> list[Stored]:
        """The documents that match."""
        ...

    def count(self, condition: Condition | None = None) -> int:
        """How many documents match."""
        ...

    def frequencies(self, terms: Sequence[int]) -> Frequencies:
        """How common terms and words are."""
        ...

    def figures(self) -> Figures:
        """How much there is."""
        ...

    def recover(self) -> None:
        """Before a move goes on: take away what a writer that was killed has left behind."""
        ...

    def settle(self) -> None:
        """After a move: what the engine needs in order to search well."""
        ...

    def optimize(self) -> None:
        """Give back what deleted documents still take."""
        ...

    def close(self) -> None:
        """Close the connection; idempotent."""
        ...


class FixedPoint(NamedTuple):
    """A query in integers: weight = ``weights[i] · 2 ** -shift``."""

    terms: list[int]
    weights: list[int]
    shift: int


def fixed_point(ask: Ask) -> FixedPoint:
    """A query's weights as integers, for engines that add up in parallel and in any order.

    The sum of integers has no order: two passages with the same vector get the same score on every shard, so that ties
    stay ties. A float32 weight keeps all of its 24 bits unless it is less than the largest by a factor of 2^24 or
    more; sums stay below 2^63. What weights are multiplied with is below 2^8, and of BM25 below 1: there each product
    is rounded to an integer.
    """
    query = ask.terms
    largest = max(weight for _, weight in query)
    bits = 62 - (8 if ask.norm is None else 0) - math.ceil(math.log2(len(query) + 1))
    shift = bits - math.frexp(largest)[1]
    return FixedPoint(
        [term for term, _ in query], [round(math.ldexp(float(weight), shift)) for _, weight in query], shift
    )
