"""From texts to stored passages: chunk, encode, quantise, write, batch by batch.

The model runs outside the transaction, the write inside one short one. What a batch needs is looked up before encoding,
so that a document that is there already is not encoded again, and once more inside the transaction, since another
process may have written in between.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress, islice

import apsw
import numpy as np

from spladelite.arguments import NewDocument, Vector
from spladelite.documents.chunking import chunk
from spladelite.documents.table import EncodedDocuments, OnConflict, Plan, insert, look_up, plan, remove, set_metadata
from spladelite.encoders.base import Encoder
from spladelite.errors import InvalidText, InvalidVector, UnfindableText, UnreadText
from spladelite.file.connection import Connections
from spladelite.file_models import FileModels
from spladelite.index.passages import Layout
from spladelite.index.postings import MAX_SEGMENT
from spladelite.index.quantize import drop_small_weights, quantize, stack
from spladelite.index.segments import maintain
from spladelite.index.settings import Meta, read_meta
from spladelite.index.words import DEFAULT_LANGUAGE, analyzer
from spladelite.records import Added, SparseVectors

# A batch is one transaction: what Ctrl-C or a power cut can take back. With vectors given it takes about a second.
BATCH_ENCODED = 512
BATCH_GIVEN = 16_384
BATCH_CHARACTERS = 8_000_000

ENCODED_AT_ONCE = 2048  # passages whose vectors are held as floats
SLICE_CHARACTERS = 1 << 18  # of a text that are tokenized together: a token takes some 100 bytes

Advance = Callable[[int, int], object]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Where documents go.

    Attributes:
        connections: of the database.
        models: of the file; they follow the file when it moves to another model.
        on_conflict: what happens where an id exists with other content.
    """

    connections: Connections
    models: FileModels
    on_conflict: OnConflict


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A batch, the file's record and what was to be done when it was looked up, and the vectors that this needs."""

    batch: Sequence[NewDocument]
    meta: Meta
    plan: Plan
    encoded: EncodedDocuments


def ingest(target: Target, documents: Iterable[NewDocument], advance: Advance) -> Added:
    """Store documents in batches, each of them one transaction; returns the ids in order.

    While one batch is written, on a thread of its own, the next one is encoded. ``advance`` gets the documents of each
    batch that is stored, and the passages of each step of encoding.
    """
    added = Added()
    told = Unfound()

    def write(prepared: Prepared) -> Prepared:
        return _write(target, prepared)

    def done(prepared: Prepared) -> None:
        added.extend(document.id for document in prepared.batch)
        added.new += prepared.plan.new
        added.replaced += prepared.plan.replaced
        added.unchanged += prepared.plan.unchanged
        told.see(prepared.encoded)
        advance(len(prepared.batch), 0)

    with ThreadPoolExecutor(1, "spladelite-write") as pool:  # a single batch never starts its thread
        ready: Prepared | None = None
        writing: Future[Prepared] | None = None
        try:
            for batch in batches(documents):
                if ready is not None:
                    writing = pool.submit(write, ready)
                    if not {document.id for document in batch}.isdisjoint(d.id for d in ready.batch):
                        writing.exception()  # what this batch is compared with has to be there first
                    ready = None
                prepared = _prepare(target, batch, advance)
                if writing is not None:
                    written, writing = writing, None
                    done(written.result())
                ready = prepared
        finally:  # also after Ctrl-C or a document that cannot be stored: earlier batches are complete
            if writing is not None:
                done(writing.result())
            if ready is not None:
                done(write(ready))
    told.warn(target.models, stacklevel=6)
    return added


class Unfound:
    """The documents of one call that searches do not find, or not well."""

    def __init__(self) -> None:
        self._without: list[str] = []
        self._unread: list[str] = []

    def see(self, encoded: EncodedDocuments) -> None:
        """Look at a batch that was stored."""
        lost = without_terms(encoded)
        self._without += lost
        self._unread += [
            document.id for document in compress(encoded.documents, encoded.unread) if document.id not in lost
        ]

    def warn(self, models: FileModels, stacklevel: int) -> None:
        """Tell the caller of ``add`` at the end of the call; of texts that the model cannot read once a handle."""
        without = self._without
        if without:
            some = f"{len(without)} documents have" if len(without) > 1 else "one document has"
            warnings.warn(
                f"{some} no term that the model knows and no words, such as {without[0]!r}: no search finds what has"
                " none",
                UnfindableText,
                stacklevel=stacklevel,
            )
        if self._unread and not models.told:
            models.told = True
            warnings.warn(_unread_message(self._unread, models.meta), UnreadText, stacklevel=stacklevel)


def _unread_message(ids: Sequence[str], meta: Meta) -> str:
    layout = meta.layout
    some = f"{len(ids)} documents" if len(ids) > 1 else "one document"
    message = f"the model {meta.model} cannot read most of the text of {some}, such as {ids[0]!r}: "
    if not layout.bm25:
        message += "no search finds them well, for this file has no words either; use a new file with bm25=True, or "
    else:
        message += "they are found by their words alone; use "
    message += "a model that knows their language: reencode(model)"
    if layout.bm25 and layout.language == DEFAULT_LANGUAGE:
        message += f". And this file has the stems of {layout.language}: reencode(language=...) gives it others"
    return message


def without_terms(encoded: EncodedDocuments) -> list[str]:
    """Ids of the documents that no index finds: all their vectors are empty, and they have no words."""
    if encoded.dense is not None:
        return []
    filled = np.diff(encoded.vectors.indptr) > 0
    edges = np.cumsum([0, *(len(spans) for spans in encoded.spans)])
    words = np.zeros(len(encoded.documents)) if encoded.words is None else encoded.words.lengths
    return [
        document.id
        for document, start, end, count in zip(encoded.documents, edges[:-1], edges[1:], words, strict=True)
        if not count and not filled[start:end].any()
    ]


def _prepare(target: Target, batch: Sequence[NewDocument], advance: Advance = lambda *_: None) -> Prepared:
    with target.connections.read() as connection:
        meta = read_meta(connection)
        before = plan(connection, batch, target.on_conflict)
    target.models.follow(meta)
    for document in before.insert:  # checked against the model that the file had when the call began
        if document.vector is not None and document.vector[0].max(initial=0) >= meta.layout.vocabulary_size:
            raise InvalidVector(
                f"the vector of {document.id!r} has term ids outside the vocabulary of {meta.model}, "
                f"{meta.layout.vocabulary_size} terms, to which the database has moved"
            )
    return Prepared(batch, meta, before, encode_documents(before.insert, target.models, advance))


def _write(target: Target, prepared: Prepared) -> Prepared:
    """Store a prepared batch; returns what was done."""
    while prepared.plan.insert or prepared.plan.metadata:
        with target.connections.write() as connection:
            meta = read_meta(connection)
            now = plan(connection, prepared.batch, target.on_conflict)
            encoded = {document.id for document in prepared.plan.insert}
            if meta == prepared.meta and all(document.id in encoded for document in now.insert):
                _apply(connection, meta.layout, now, prepared.encoded)
                return dataclasses.replace(prepared, plan=now)
        # While the batch was being encoded, another process changed one of its documents, or the model: look again.
        prepared = _prepare(target, prepared.batch)
    return prepared


def change_text(target: Target, document: NewDocument, change: Callable[[str], str] | None) -> bool:
    """Give a stored document another text, and the metadata that ``change`` makes of its own; False if it is not there.

    What is changed, or stays, is what the document has when the new text is written: while that was being encoded,
    others may have changed the document's metadata, or have deleted it.
    """
    while True:
        with target.connections.read() as connection:
            meta = read_meta(connection)
            stored = look_up(connection, [document.id]).get(document.id)
        if stored is None:
            return False
        target.models.follow(meta)
        encoded = None
        if stored.content_hash != document.content_hash:
            encoded = encode_documents([document], target.models)
        with target.connections.write() as connection:
            if read_meta(connection) != meta:
                continue  # another process moved the file to another model
            stored = look_up(connection, [document.id]).get(document.id)
            if stored is None:
                return False
            metadata = stored.metadata if change is None else change(stored.metadata)
            if stored.content_hash == document.content_hash:
                set_metadata(connection, stored, metadata)
                return True
            if encoded is None:
                continue  # another text was given meanwhile, so ours has to be encoded after all
            remove(connection, meta.layout, [(stored.doc_id, stored.passages)])
            changed = [dataclasses.replace(document, metadata=metadata)]
            insert(connection, meta.layout, dataclasses.replace(encoded, documents=changed))
            maintain(connection, meta.layout)
            return True


def _apply(connection: apsw.Connection, layout: Layout, now: Plan, encoded: EncodedDocuments) -> None:
    remove(connection, layout, [(old.doc_id, old.passages) for old in now.remove])
    for old, document in now.metadata:
        set_metadata(connection, old, document.metadata or "{}")
    if now.insert:
        insert(connection, layout, encoded.only({document.id for document in now.insert}))
        maintain(connection, layout)


def batches(documents: Iterable[NewDocument]) -> Iterator[list[NewDocument]]:
    """Documents in the amounts that are stored at once."""
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
    documents: Sequence[NewDocument], models: FileModels, advance: Advance = lambda *_: None
) -> EncodedDocuments:
    """Chunk, encode and quantise; a model is only loaded if a document brings no vector of its kind.

    The file's ``min_weight`` applies to the model's vectors; a vector that the caller gave is kept whole.
    """
    encoded = _encode_sparse(documents, models.sparse.load, models.meta.min_weight, advance)
    unread = [document.vector is None and not models.sparse.reads(document.text) for document in documents]
    encoded = dataclasses.replace(encoded, unread=unread)
    layout = models.meta.layout
    if layout.bm25:
        words = analyzer(layout.language).count([document.text for document in documents])
        encoded = dataclasses.replace(encoded, words=words)
    if not models.meta.dense or not documents:
        return encoded
    passages = [
        document.text[start:end]
        for document, spans in zip(documents, encoded.spans, strict=True)
        if document.dense is None
        for start, end in spans
    ]
    made = [models.dense.documents(passages[i : i + ENCODED_AT_ONCE]) for i in _steps(passages)]
    rows = iter(np.concatenate(made)) if made else iter(())
    dense = [
        next(rows) if document.dense is None else document.dense  # a caller's is that of every passage
        for document, spans in zip(documents, encoded.spans, strict=True)
        for _ in spans
    ]
    return dataclasses.replace(encoded, dense=np.stack(dense))


def _encode_sparse(
    documents: Sequence[NewDocument], load: Callable[[], Encoder], min_weight: float, advance: Advance
) -> EncodedDocuments:
    given = [document.vector is not None for document in documents]
    encoder = None if all(given) else load()
    spans = [
        [(0, len(document.text))] if encoder is None or vector else passage_spans(document.text, encoder)
        for document, vector in zip(documents, given, strict=True)
    ]
    passages = [
        document.text[start:end]
        for document, parts, vector in zip(documents, spans, given, strict=True)
        if not vector
        for start, end in parts
    ]

    def encoded() -> Iterator[Vector]:
        assert encoder is not None
        for i in _steps(passages):
            some = passages[i : i + ENCODED_AT_ONCE]
            yield from drop_small_weights(encoder.encode_documents(some), min_weight)
            advance(0, len(some))

    made = encoded()
    rows = (
        row
        for document, parts in zip(documents, spans, strict=True)
        for row in ([document.vector] if document.vector is not None else islice(made, len(parts)))
    )
    blocks = [quantize(SparseVectors.from_rows([]))]
    while block := list(islice(rows, ENCODED_AT_ONCE)):  # floats of one block at a time
        blocks.append(quantize(SparseVectors.from_rows(block)))
    return EncodedDocuments(documents, spans, stack(blocks))


def _steps(passages: Sequence[str]) -> range:
    return range(0, len(passages), ENCODED_AT_ONCE)


def passage_spans(text: str, encoder: Encoder) -> list[tuple[int, int]]:
    """A text's passages as character spans, each within the encoder's window.

    A long text is divided in slices first, so that the memory for its tokens is bounded.

    Raises:
        InvalidText: there are more than a document may have.
    """
    if len(text) <= encoder.window and text.isascii():  # no token is shorter than a character
        return [(0, len(text))]
    spans: list[tuple[int, int]] = []
    for begin, end in _slices(text):
        part = text[begin:end]
        if part.strip():
            spans += [(begin + a, begin + b) for a, b in chunk(part, encoder.tokenize(part), encoder.window)]
        if len(spans) > MAX_SEGMENT:
            raise InvalidText(
                f"the text beginning {text[:40]!r} has more than {MAX_SEGMENT} passages, {end:,} of its {len(text):,} "
                "characters; a document may not have more: split it"
            )
    return spans if len(spans) > 1 else [(0, len(text))]


def _slices(text: str) -> Iterator[tuple[int, int]]:
    """Stretches of about equal length, each ending with a paragraph, else a line, else a word, where there is one."""
    count = -(-len(text) // SLICE_CHARACTERS)
    begin = 0
    for i in range(1, count):
        edge = len(text) * i // count
        ends = (text.rfind(mark, edge - SLICE_CHARACTERS // 4, edge) for mark in ("\n\n", "\n", " "))
        end = next((place + 1 for place in ends if place >= 0), edge)
        yield begin, end
        begin = end
    yield begin, len(text)
