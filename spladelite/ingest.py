"""From texts to stored passages: chunk, encode, quantise, write, batch by batch.

The model runs outside the transaction, the write inside one short one. What a batch needs is looked up before encoding,
so that a document that is there already is not encoded again, and once more inside the transaction, since another
process may have written in between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.chunking import chunk
from spladelite.connection import Connections
from spladelite.documents import EncodedDocuments, Plan, insert, plan, remove, set_metadata
from spladelite.encoders.base import Encoder
from spladelite.errors import InvalidText
from spladelite.index import Layout, maintain
from spladelite.meta import Meta, read_meta
from spladelite.postings import MAX_SEGMENT
from spladelite.quantize import drop_small_weights, quantize
from spladelite.records import SparseVectors
from spladelite.validate import NewDocument

# A batch is one transaction: what Ctrl-C or a power cut can take back. With vectors given it takes about a second.
BATCH_ENCODED = 512
BATCH_GIVEN = 16_384
BATCH_CHARACTERS = 8_000_000


def ingest(
    connections: Connections,
    follow: Callable[[Meta], bool],
    encode: Callable[[Sequence[NewDocument]], EncodedDocuments],
    documents: Iterable[NewDocument],
    *,
    replace: bool,
    advance: Callable[[int], object],
) -> list[str]:
    """Store documents in batches, each of them one transaction; returns the ids in order.

    ``follow`` says whether the file, whose record it gets, still has the model that ``encode`` used.
    """
    ids: list[str] = []
    for batch in _batches(documents):
        _store(connections, follow, encode, batch, replace)
        ids.extend(document.id for document in batch)
        advance(len(batch))
    return ids


def _store(
    connections: Connections,
    follow: Callable[[Meta], bool],
    encode: Callable[[Sequence[NewDocument]], EncodedDocuments],
    batch: Sequence[NewDocument],
    replace: bool,
) -> None:
    while True:
        with connections.read() as connection:
            before = plan(connection, batch, replace)
        encoded = encode(before.insert)
        if not (before.insert or before.metadata):
            return
        with connections.write() as connection:
            meta = read_meta(connection)
            now = plan(connection, batch, replace)
            if follow(meta) and {document.id for document in now.insert} <= {document.id for document in before.insert}:
                _apply(connection, meta.layout, now, encoded)
                return
        # While the batch was being encoded, another process changed one of its documents, or the model: look again.


def _apply(connection: apsw.Connection, layout: Layout, now: Plan, encoded: EncodedDocuments) -> None:
    remove(connection, layout, [(old.doc_id, old.passages) for old in now.remove])
    for old, document in now.metadata:
        set_metadata(connection, old, document.metadata or "{}")
    if now.insert:
        insert(connection, layout, encoded.only({document.id for document in now.insert}))
        maintain(connection, layout)


def _batches(documents: Iterable[NewDocument]) -> Iterator[list[NewDocument]]:
    batch: list[NewDocument] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        limit = BATCH_ENCODED if document.vector is None else BATCH_GIVEN
        if len(batch) >= limit or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def encode_documents(
    documents: Sequence[NewDocument],
    load: Callable[[], Encoder],
    min_weight: float,
    encode_dense: Callable[[Sequence[str]], NDArray[np.float32]] | None = None,
) -> EncodedDocuments:
    """Chunk and encode; ``load`` is only called if a document brings no vector.

    ``min_weight`` applies to the model's vectors; a vector that the caller gave is kept whole.
    ``encode_dense`` gives the passages' dense vectors, in a file that has them.
    """
    encoded = _encode_sparse(documents, load, min_weight)
    if encode_dense is None or not documents:
        return encoded
    passages = [
        document.text[start:end]
        for document, spans in zip(documents, encoded.spans, strict=True)
        for start, end in spans
    ]
    return dataclasses.replace(encoded, dense=encode_dense(passages))


def _encode_sparse(
    documents: Sequence[NewDocument], load: Callable[[], Encoder], min_weight: float
) -> EncodedDocuments:
    to_encode = [document for document in documents if document.vector is None]
    spans: list[list[tuple[int, int]]] = [[(0, len(document.text))] for document in documents]
    rows = [document.vector for document in documents if document.vector is not None]
    if not to_encode:
        return EncodedDocuments(documents, spans, quantize(SparseVectors.from_rows(rows)))
    encoder = load()
    for i, document in enumerate(documents):
        if document.vector is None:
            spans[i] = split(document.text, encoder)
    passages = [
        document.text[start:end]
        for document, parts in zip(documents, spans, strict=True)
        if document.vector is None
        for start, end in parts
    ]
    encoded = iter(drop_small_weights(encoder.encode_documents(passages), min_weight))
    rows = [
        row
        for document, parts in zip(documents, spans, strict=True)
        for row in ([next(encoded) for _ in parts] if document.vector is None else [document.vector])
    ]
    return EncodedDocuments(documents, spans, quantize(SparseVectors.from_rows(rows)))


def split(text: str, encoder: Encoder) -> list[tuple[int, int]]:
    """A text's passages as character spans, each within the encoder's window."""
    if len(text) <= encoder.window and text.isascii():  # no token is shorter than a character
        return [(0, len(text))]
    spans = chunk(text, encoder.tokenize(text), encoder.window)
    if len(spans) > MAX_SEGMENT:
        raise InvalidText(
            f"the text beginning {text[:40]!r} has {len(spans)} passages; a document may have {MAX_SEGMENT}: split it"
        )
    return spans if len(spans) > 1 else [(0, len(text))]
