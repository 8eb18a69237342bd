"""Passages in their table: the vectors that are the ground truth of the index.

A vector is two blobs, ``scale`` beside them::

    terms   := numbers          the term ids, as in ``index/ascending.py``, blocks = ceil(vocabulary size / 256)
    impacts := uint8 × count    1 to 255, in the order of the terms; weight = impact · scale

Every row carries a CRC-32 over its key and its content: page-level damage, or rows swapped for one another, are found
before they can give a wrong answer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.errors import CorruptIndex
from spladelite.index import ascending
from spladelite.index.postings import MAX_SEGMENT
from spladelite.index.quantize import LARGEST_WEIGHT, QuantizedVectors

TAIL_SIZE = 1024


@dataclass(frozen=True, slots=True)
class Layout:
    """What decides the shape of the index; tests use small numbers so that everything happens in 20 passages.

    Attributes:
        vocabulary_size: term ids are below it.
        tail_size: passages that the tail may have before it is sealed.
        segment_size: passages that a segment may have.
        bm25: whether documents are also indexed for BM25.
        language: of the words that BM25 knows; None for words as they are written.
        dimension: of the dense vector that each passage also has; 0 for none.
    """

    vocabulary_size: int
    tail_size: int = TAIL_SIZE
    segment_size: int = MAX_SEGMENT
    bm25: bool = False
    language: str | None = None
    dimension: int = 0

    @property
    def blocks(self) -> int:
        """How many blocks of 256 the vocabulary has."""
        return ascending.blocks_of(self.vocabulary_size)


@dataclass(frozen=True, slots=True, eq=False)
class PassageVectors:
    """Consecutive stored passages: ``doc_ids`` and ``passage_ids`` int64 ``(n,)``, ascending, and their vectors."""

    passage_ids: NDArray[np.int64]
    doc_ids: NDArray[np.int64]
    vectors: QuantizedVectors

    def __len__(self) -> int:
        return len(self.passage_ids)


def matches(checksum: int, function: Callable[..., int], *row: object) -> bool:
    """Whether a row has its checksum; a column of a type that the schema does not allow is damage too."""
    try:
        return function(*row) == checksum
    except (TypeError, ValueError, AttributeError, struct.error):
        return False


def next_passage_id(connection: apsw.Connection) -> int:
    """The id that the next passage gets. Ids are never reused."""
    return next_id(connection, "passage")


def next_id(connection: apsw.Connection, table: str) -> int:
    """The id after the highest that the table has ever had."""
    last: int | None = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).get
    return (last or 0) + 1


def append(
    connection: apsw.Connection,
    layout: Layout,
    passage_ids: Sequence[int],
    doc_ids: Sequence[int],
    spans: Sequence[tuple[int, int]],
    vectors: QuantizedVectors,
) -> None:
    """Store passages with their vectors. They are searchable at once, as part of the tail."""
    terms = ascending.encode(vectors.terms, vectors.indptr, layout.blocks)
    impacts = vectors.impacts.tobytes()
    bounds = vectors.indptr.tolist()
    connection.executemany(
        "INSERT INTO passage (passage_id, doc_id, start_char, end_char, scale, terms, impacts, checksum)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (*key, row_terms, row_impacts, passage_checksum(*key, row_terms, row_impacts))
            for key, row_terms, row_impacts in zip(
                (
                    (passage_id, doc_id, start, end, scale)
                    for passage_id, doc_id, (start, end), scale in zip(
                        passage_ids, doc_ids, spans, vectors.scales.tolist(), strict=True
                    )
                ),
                terms,
                (impacts[a:b] for a, b in pairwise(bounds)),
                strict=True,
            )
        ),
    )


def passage_checksum(
    passage_id: int, doc_id: int, start: int, end: int, scale: float, terms: bytes, impacts: bytes
) -> int:
    """CRC-32 of a passage row."""
    return crc32(impacts, crc32(terms, crc32(struct.pack("<4qd", passage_id, doc_id, start, end, scale))))


def check_passage(row: tuple[int, int, int, int, float, bytes, bytes, int]) -> None:
    """:class:`CorruptIndex` if a passage row (of a slim export with empty blobs) does not have its checksum."""
    if not matches(row[-1], passage_checksum, *row[:-1]):
        raise CorruptIndex(f"passage {row[0]}: its checksum does not match; run check(repair=True)")


def read_passages(connection: apsw.Connection, layout: Layout, first: int, last: int) -> PassageVectors:
    """The stored vectors of the passages with ``first <= passage_id <= last``; checked, :class:`CorruptIndex`."""
    passage_ids, doc_ids, scales, terms, impacts = [], [], [], [], []
    blocks = layout.blocks
    for row in connection.execute(
        "SELECT passage_id, doc_id, start_char, end_char, scale, terms, impacts, checksum FROM passage"
        " WHERE passage_id BETWEEN ? AND ? ORDER BY passage_id",
        (first, last),
    ):
        passage_id, doc_id, _, _, scale, row_terms, row_impacts, checksum = row
        if row_terms is None or row_impacts is None:
            raise CorruptIndex(f"passage {passage_id} has no stored vector")
        if not matches(checksum, passage_checksum, *row[:-1]):
            raise CorruptIndex(f"passage {passage_id}: its checksum does not match; run check(repair=True)")
        count = len(row_impacts)
        if count > layout.vocabulary_size or len(row_terms) != count + ascending.upper_length(count, blocks):
            raise _not_valid(passage_id)
        passage_ids.append(passage_id)
        doc_ids.append(doc_id)
        scales.append(scale)
        terms.append(row_terms)
        impacts.append(row_impacts)
    indptr = np.zeros(len(passage_ids) + 1, np.int64)
    np.cumsum([len(row) for row in impacts], out=indptr[1:])
    try:
        term_ids = ascending.decode(terms, indptr, blocks)
    except ascending.Misfit as error:
        raise _not_valid(passage_ids[error.row]) from error
    vectors = QuantizedVectors(
        indptr, term_ids, np.frombuffer(b"".join(impacts), np.uint8), np.array(scales, np.float32)
    )
    _check_vectors(passage_ids, vectors, layout)
    return PassageVectors(np.array(passage_ids, np.int64), np.array(doc_ids, np.int64), vectors)


def _check_vectors(passage_ids: Sequence[int], vectors: QuantizedVectors, layout: Layout) -> None:
    """What a checksum cannot know: a stranger's file may be consistent nonsense."""
    rows = np.repeat(np.arange(len(vectors)), np.diff(vectors.indptr))
    unordered = np.zeros(len(rows), bool)
    unordered[1:] = (vectors.terms[1:] <= vectors.terms[:-1]) & (rows[1:] == rows[:-1])
    wrong = rows[(vectors.terms >= layout.vocabulary_size) | (vectors.impacts == 0) | unordered]
    scales_wrong = np.flatnonzero(~((vectors.scales > 0) & (vectors.scales <= LARGEST_WEIGHT)))
    for row in (*wrong[:1], *scales_wrong[:1]):
        raise _not_valid(passage_ids[row])


def _not_valid(passage_id: int) -> CorruptIndex:
    return CorruptIndex(f"passage {passage_id}: its stored vector is not a valid one; run check(repair=True)")
