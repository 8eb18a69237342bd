"""Dense vectors in the same file: int8 in blocks, searched exhaustively with NumPy.

One row of ``dense_block`` holds up to 256 passages, in ascending order::

    passage_ids   n x int64 little-endian     doc_ids   n x int64     scales   n x float32     vectors   n x D x int8

A stored vector is ``scale * int8``, ``scale = max |x| / 127``, and a score is its inner product with the float32 query,
so a search is exact over what is stored. No vectors are kept in memory between searches. benchmarks/README.md says why
blocks: a search of a million vectors takes a quarter of the time of sqlite-vec's, and the install stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from zlib import crc32

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.errors import CorruptIndex, InvalidVector, ModelMismatch
from spladelite.file.sqlite import fetch

BLOCK = 256
_TILE = 1024  # rows that are widened to float32 and multiplied together: they stay in the L2 cache
_NO_VECTORS = np.empty((0, 0), np.int8)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """n stored vectors of D dimensions.

    Attributes:
        passage_ids: int64 ``(n,)``, strictly ascending.
        doc_ids: int64 ``(n,)``, never falling.
        scales: float32 ``(n,)``.
        vectors: int8 ``(n, D)``.
    """

    passage_ids: NDArray[np.int64]
    doc_ids: NDArray[np.int64]
    scales: NDArray[np.float32]
    vectors: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.passage_ids)

    def rows(self, chosen: slice | NDArray[np.bool_]) -> Block:
        """Some of the vectors."""
        return Block(self.passage_ids[chosen], self.doc_ids[chosen], self.scales[chosen], self.vectors[chosen])

    @staticmethod
    def concatenate(blocks: Sequence[Block]) -> Block:
        """All vectors of at least one block."""
        return Block(
            np.concatenate([block.passage_ids for block in blocks]),
            np.concatenate([block.doc_ids for block in blocks]),
            np.concatenate([block.scales for block in blocks]),
            np.concatenate([block.vectors for block in blocks]),
        )


def quantize(passage_ids: NDArray[np.int64], doc_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> Block:
    """Round float vectors ``(n, D)`` to 8 bits; the largest component of each keeps its value."""
    largest = np.abs(vectors).max(axis=1, initial=0)
    scales = (largest / 127).astype(np.float32)
    divisor = np.where(scales > 0, scales, 1)[:, None]
    return Block(passage_ids, doc_ids, scales, np.clip(np.rint(vectors / divisor), -127, 127).astype(np.int8))


def insert(connection: apsw.Connection, new: Block) -> None:
    """Store vectors whose passage ids are above all that are stored: the last block is filled up first."""
    if not len(new):
        return
    ((last,),) = fetch(connection, "SELECT max(block_id) FROM dense_block")
    if last is not None:
        block = read_block(connection, last, new.vectors.shape[1])
        if len(block) < BLOCK:
            new = Block.concatenate([block, new])
            connection.execute("DELETE FROM dense_block WHERE block_id = ?", (last,))
    connection.executemany(
        "INSERT INTO dense_block (block_id, passage_ids, doc_ids, scales, vectors, checksum) VALUES (?, ?, ?, ?, ?, ?)",
        (_row(new.rows(slice(start, start + BLOCK))) for start in range(0, len(new), BLOCK)),
    )


def delete(connection: apsw.Connection, passage_ids: NDArray[np.int64], dimension: int) -> None:
    """Take passages out; ids that are not there are passed over."""
    wanted = np.sort(passage_ids)
    if not len(wanted):
        return
    first = _block_of(connection, int(wanted[0]))
    for (block_id,) in fetch(
        connection,
        "SELECT block_id FROM dense_block WHERE block_id BETWEEN ? AND ?",
        (int(wanted[0]) if first is None else first, int(wanted[-1])),
    ):
        block = read_block(connection, block_id, dimension)
        kept = ~np.isin(block.passage_ids, wanted)
        if kept.all():
            continue
        connection.execute("DELETE FROM dense_block WHERE block_id = ?", (block_id,))
        if kept.any():
            connection.execute(
                "INSERT INTO dense_block (block_id, passage_ids, doc_ids, scales, vectors, checksum)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                _row(block.rows(kept)),
            )


def search(
    connection: apsw.Connection,
    query: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.int64] | None = None,
    verified: set[int] | None = None,
    also: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The k documents whose best passage has the largest inner product with the query.

    Args:
        connection: inside a transaction.
        query: float32 ``(D,)``.
        k: at least 1.
        allowed: the doc_ids that may be found; None allows all.
        verified: the blocks whose checksums need no second look, which this search adds to. The caller starts a new
            set when the file has changed.
        also: doc_ids that are scored in any case, after the best.

    Returns:
        doc_ids int64, the best passage_ids int64 and scores float32, each ``(m,)``, m <= k without ``also``: score
        descending, then doc_id ascending. Scores may be negative.
    """
    blocks: list[Block] = []
    products: list[NDArray[np.float32]] = []
    tile = np.empty((_TILE, len(query)), np.float32)
    filled = 0
    for row in connection.execute(f"SELECT {_COLUMNS} FROM dense_block ORDER BY block_id"):
        block = _block(row, len(query), verified)
        if filled + len(block) > _TILE:
            products.append(tile[:filled] @ query)
            filled = 0
        tile[filled : filled + len(block)] = block.vectors
        filled += len(block)
        blocks.append(replace(block, vectors=_NO_VECTORS))
    if not blocks:
        empty = np.empty(0, np.int64)
        return empty, empty, np.empty(0, np.float32)
    found = Block.concatenate(blocks)
    scores = np.concatenate([*products, tile[:filled] @ query]) * found.scales
    kept = slice(None) if allowed is None else np.isin(found.doc_ids, allowed)
    best = best_documents(found.doc_ids[kept], found.passage_ids[kept], scores[kept], k)
    if also is None:
        return best
    others = np.isin(found.doc_ids, np.setdiff1d(also, best[0]))
    rest = best_documents(found.doc_ids[others], found.passage_ids[others], scores[others], len(found))
    return (
        np.concatenate((best[0], rest[0])),
        np.concatenate((best[1], rest[1])),
        np.concatenate((best[2], rest[2])),
    )


def best_documents(
    doc_ids: NDArray[np.int64], passage_ids: NDArray[np.int64], scores: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """From scored passages, in order of their ids, to the k best documents with their best passage."""
    if not len(doc_ids):
        return doc_ids, passage_ids, scores
    starts = np.flatnonzero(np.concatenate(([True], doc_ids[1:] != doc_ids[:-1])))
    best = np.maximum.reduceat(scores, starts)
    chosen = np.arange(len(starts))
    if k < len(best):  # everything that ties with the k-th stays, so that ties are broken by id
        chosen = np.flatnonzero(best >= np.partition(best, len(best) - k)[len(best) - k])
    chosen = chosen[np.lexsort((chosen, -best[chosen]))][:k]
    ends = np.append(starts[1:], len(scores))
    passages = [starts[i] + int(np.argmax(scores[starts[i] : ends[i]])) for i in chosen]
    return doc_ids[starts[chosen]], passage_ids[passages], best[chosen]


def problems(connection: apsw.Connection, dimension: int) -> list[tuple[int, str]]:
    """``(block_id, problem)`` for each damaged block, and for passages without a vector or the other way round."""
    found: list[tuple[int, str]] = []
    stored: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for (block_id,) in fetch(connection, "SELECT block_id FROM dense_block ORDER BY block_id"):
        try:
            stored.append(read_block(connection, block_id, dimension).passage_ids)
        except CorruptIndex as error:
            found.append((block_id, str(error)))
    if not found:
        passages = np.array([row[0] for row in fetch(connection, "SELECT passage_id FROM passage")], np.int64)
        wrong = np.setxor1d(passages, np.concatenate(stored))
        found += [(passage_id, "is a passage or a vector without the other") for passage_id in wrong.tolist()]
    return found


def read_vectors(connection: apsw.Connection, passage_ids: NDArray[np.int64], dimension: int) -> NDArray[np.float32]:
    """The stored vectors of some passages, float32 ``(len, D)``; NaN rows for those that have none."""
    result = np.full((len(passage_ids), dimension), np.nan, np.float32)
    for i, passage_id in enumerate(passage_ids.tolist()):
        block_id = _block_of(connection, passage_id)
        if block_id is None:
            continue
        block = read_block(connection, block_id, dimension)
        row = int(np.searchsorted(block.passage_ids, passage_id))
        if row < len(block) and block.passage_ids[row] == passage_id:
            result[i] = block.vectors[row] * block.scales[row]
    return result


def read_block(connection: apsw.Connection, block_id: int, dimension: int) -> Block:
    """One row of ``dense_block``, verified.

    Raises:
        CorruptIndex: its checksum or its lengths do not match.
    """
    row = connection.execute(f"SELECT {_COLUMNS} FROM dense_block WHERE block_id = ?", (block_id,)).get
    return _block(row, dimension)


def check_vectors(vectors: object, count: int, dimension: int | None, what: str) -> NDArray[np.float32]:
    """What an encoder returned, as float32 ``(count, D)``.

    Raises:
        InvalidVector: another shape, or a component that is not finite.
        ModelMismatch: another dimension than the file's.
    """
    try:
        array = np.asarray(vectors, np.float32)
    except (TypeError, ValueError) as error:
        raise InvalidVector(f"{what} must return an array of numbers with one row a text: {error}") from error
    if array.ndim != 2 or len(array) != count or array.shape[1] == 0:
        raise InvalidVector(f"{what} returned an array of shape {array.shape} for {count} texts; expected ({count}, D)")
    if dimension is not None and array.shape[1] != dimension:
        raise ModelMismatch(
            f"{what} returned vectors of {array.shape[1]} dimensions, but the file holds vectors of {dimension}; "
            f"use the model that the file was built with, or add the texts to a new file"
        )
    if not np.isfinite(array).all():
        bad = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise InvalidVector(f"{what} returned NaN or infinity for text {bad}")
    return array


def _block_of(connection: apsw.Connection, passage_id: int) -> int | None:
    """The only block in which a passage can be."""
    ((block_id,),) = fetch(connection, "SELECT max(block_id) FROM dense_block WHERE block_id <= ?", (passage_id,))
    return cast("int | None", block_id)


_COLUMNS = "block_id, passage_ids, doc_ids, scales, vectors, checksum"


def _row(block: Block) -> tuple[int, bytes, bytes, bytes, bytes, int]:
    parts = (
        block.passage_ids.astype("<i8").tobytes(),
        block.doc_ids.astype("<i8").tobytes(),
        block.scales.astype("<f4").tobytes(),
        block.vectors.tobytes(),
    )
    block_id = int(block.passage_ids[0])
    return (block_id, *parts, _checksum(block_id, parts))


def _block(row: Any, dimension: int, verified: set[int] | None = None) -> Block:
    block_id, *parts, checksum = row
    passage_ids, doc_ids, scales, vectors = parts
    n = len(scales) // 4
    fits = 0 < n <= BLOCK and [len(part) for part in parts] == [8 * n, 8 * n, 4 * n, n * dimension]
    known = verified is not None and block_id in verified
    if not fits or (not known and _checksum(block_id, parts) != checksum):
        raise CorruptIndex(f"dense_block {block_id}: its checksum or lengths do not match; run check(repair=True)")
    if verified is not None:
        verified.add(block_id)
    return Block(
        np.frombuffer(passage_ids, "<i8"),
        np.frombuffer(doc_ids, "<i8"),
        np.frombuffer(scales, "<f4"),
        np.frombuffer(vectors, np.int8).reshape(n, dimension),
    )


def _checksum(block_id: int, parts: Sequence[bytes]) -> int:
    value = crc32(block_id.to_bytes(8, "little", signed=True))
    for part in parts:
        value = crc32(part, value)
    return value
