"""From texts to stored passages: chunk, encode, quantise, write, batch by batch.

The model runs outside the transaction, the write inside one short one. What a batch needs is looked up before encoding,
so that a document that is there already is not encoded again, and once more inside the transaction, since another
process may have written in between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import apsw

from spladelite.arguments import NewDocument
from spladelite.documents.chunking import chunk
from spladelite.documents.table import EncodedDocuments, Plan, insert, plan, remove, set_metadata
from spladelite.encoders.base import Encoder
from spladelite.errors import InvalidText
from spladelite.file.connection import Connections
from spladelite.file_models import FileModels
from spladelite.index.passages import Layout
from spladelite.index.postings import MAX_SEGMENT
from spladelite.index.quantize import drop_small_weights, quantize
from spladelite.index.segments import maintain
from spladelite.index.settings import Meta, read_meta
from spladelite.index.words import analyzer
from spladelite.records import SparseVectors

# A batch is one transaction: what Ctrl-C or a power cut can take back. With vectors given it takes about a second.
BATCH_ENCODED = 512
BATCH_GIVEN = 16_384
BATCH_CHARACTERS = 8_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where documents go.

    Attributes:
        connections: of the database.
        models: of the file; they follow the file when it moves to another model.
        replace: whether an id that exists with other content is replaced, or an error.
    """

    connections: Connections
    models: FileModels
    replace: bool


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A batch, the file's record and what was to be done when it was looked up, and the vectors that this needs."""

    batch: Sequence[NewDocument]
    meta: Meta
    plan: Plan
    encoded: EncodedDocuments


def ingest(target: Target, documents: Iterable[NewDocument], advance: Callable[[int, int], object]) -> list[str]:
    """Store documents in batches, each of them one transaction; returns the ids in order.

    While one batch is written, on a thread of its own, the next one is encoded. ``advance`` gets the documents and
    the newly encoded passages of each batch that is stored.
    """
    ids: list[str] = []

    def write(prepared: Prepared) -> Prepared:
        _write(target, prepared)
        return prepared

    def done(prepared: Prepared) -> None:
        ids.extend(document.id for document in prepared.batch)
        advance(len(prepared.batch), len(prepared.encoded.vectors))

    with ThreadPoolExecutor(1, "spladelite-write") as pool:  # a single batch never starts its thread
        ready: Prepared | None = None
        writing: Future[Prepared] | None = None
        try:
            for batch in _batches(documents):
                if ready is not None:
                    writing = pool.submit(write, ready)
                    if not {document.id for document in batch}.isdisjoint(d.id for d in ready.batch):
                        writing.exception()  # what this batch is compared with has to be there first
                    ready = None
                prepared = _prepare(target, batch)
                if writing is not None:
                    written, writing = writing, None
                    done(written.result())
                ready = prepared
        finally:  # also after Ctrl-C or a document that cannot be stored: earlier batches are complete
            if writing is not None:
                done(writing.result())
            if ready is not None:
                done(write(ready))
    return ids


def _prepare(target: Target, batch: Sequence[NewDocument]) -> Prepared:
    with target.connections.read() as connection:
        meta = read_meta(connection)
        before = plan(connection, batch, target.replace)
    target.models.follow(meta)
    return Prepared(batch, meta, before, encode_documents(before.insert, target.models))


def _write(target: Target, prepared: Prepared) -> None:
    while prepared.plan.insert or prepared.plan.metadata:
        with target.connections.write() as connection:
            meta = read_meta(connection)
            now = plan(connection, prepared.batch, target.replace)
            encoded = {document.id for document in prepared.plan.insert}
            if meta == prepared.meta and all(document.id in encoded for document in now.insert):
                _apply(connection, meta.layout, now, prepared.encoded)
                return
        # While the batch was being encoded, another process changed one of its documents, or the model: look again.
        prepared = _prepare(target, prepared.batch)


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


def encode_documents(documents: Sequence[NewDocument], models: FileModels) -> EncodedDocuments:
    """Chunk, encode and quantise; a model is only loaded if a document brings no vector.

    The file's ``min_weight`` applies to the model's vectors; a vector that the caller gave is kept whole.
    """
    encoded = _encode_sparse(documents, models.sparse.load, models.meta.min_weight)
    layout = models.meta.layout
    if layout.bm25:
        words = analyzer(layout.language).count([document.text for document in documents])
        encoded = dataclasses.replace(encoded, words=words)
    if not models.meta.dense or not documents:
        return encoded
    passages = [
        document.text[start:end]
        for document, spans in zip(documents, encoded.spans, strict=True)
        for start, end in spans
    ]
    return dataclasses.replace(encoded, dense=models.dense.documents(passages))


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
            spans[i] = passage_spans(document.text, encoder)
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


def passage_spans(text: str, encoder: Encoder) -> list[tuple[int, int]]:
    """A text's passages as character spans, each within the encoder's window."""
    if len(text) <= encoder.window and text.isascii():  # no token is shorter than a character
        return [(0, len(text))]
    spans = chunk(text, encoder.tokenize(text), encoder.window)
    if len(spans) > MAX_SEGMENT:
        raise InvalidText(
            f"the text beginning {text[:40]!r} has {len(spans)} passages; a document may have {MAX_SEGMENT}: split it"
        )
    return spans if len(spans) > 1 else [(0, len(text))]
