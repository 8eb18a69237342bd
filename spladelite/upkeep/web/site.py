"""Write the folder: data files named by their content, the reader's modules, a page, and ``database.json`` last.

Everything that ``database.json`` names is there before it is, so a folder that is being replaced, or whose export was
interrupted, still serves what it served. docs/web.md has the format.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.errors import InvalidInput
from spladelite.index.scoring import K1, WORD, B
from spladelite.index.snapshot import Snapshot
from spladelite.index.words import analyzer
from spladelite.records import WebExport
from spladelite.upkeep.web.columns import MAX_FIELDS, Columns
from spladelite.upkeep.web.contents import Numbering, StoredDocument, number_passages, stored_documents, term_lists
from spladelite.upkeep.web.encoder import WebEncoder
from spladelite.upkeep.web.files import DataFiles, remove, write, zipped
from spladelite.upkeep.web.lists import encode_ascending, encode_list, varints
from spladelite.upkeep.web.page import write_page
from spladelite.upkeep.web.texts import write_texts
from spladelite.upkeep.web.words import Stems, WordLists, distances

FORMAT = 1
CONTENTS = "database.json"


@dataclass(frozen=True, slots=True, eq=False)
class _Boot:
    """What the reader fetches first: a JSON header, and sections of bytes."""

    header: dict[str, Any]
    sections: dict[str, bytes]

    def encode(self) -> bytes:
        """uint32 length, JSON, sections; the JSON's ``sections`` has where each begins after it, and its length."""
        places, start = {}, 0
        for name, content in self.sections.items():
            places[name] = [start, len(content)]
            start += len(content)
        text = json.dumps({**self.header, "sections": places}, ensure_ascii=False).encode()
        return b"".join([len(text).to_bytes(4, "little"), text, *self.sections.values()])


def export_site(
    connection: apsw.Connection,
    snapshot: Snapshot,
    encoder: WebEncoder,
    target: str,
    advance: Callable[[int], object],
) -> WebExport:
    """Write what this read transaction sees to the folder ``target``.

    Args:
        connection: inside a read transaction.
        snapshot: that state.
        encoder: what of the database's model can be run there.
        target: a new or empty folder, or one that holds an earlier export.
        advance: called with how many more documents are written.

    Raises:
        InvalidInput: the folder holds something else.
    """
    folder = Path(target)
    earlier = _earlier(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = DataFiles(folder)
    boot = _Boot({}, {})
    notes = [encoder.note] if encoder.note else []
    if snapshot.meta.layout.dimension:
        notes.append("dense vectors are not exported: a hybrid is one of SPLADE and BM25 there")
    try:
        numbering = number_passages(snapshot)
        notes += _write_documents(connection, snapshot, numbering, files, boot, advance)
        _write_encoder(encoder, files, boot)
        boot.header["terms"] = [term for (term,) in connection.execute("SELECT term FROM term ORDER BY term_id")]
        files["boot"].append(zipped(boot.encode()))
        contents: dict[str, Any] = {
            "format": FORMAT,
            "writer": "spladelite",
            "documents": boot.header["documents"],
            "passages": boot.header["passages"],
            "model": snapshot.meta.model,
            "fingerprint": snapshot.meta.fingerprint,
            "files": {name: file.close() for name, file in files.items()},
            "notes": notes,
        }
    except BaseException:
        remove(folder, files.written() - _data_files(earlier))
        if not earlier:
            with suppress(OSError):
                folder.rmdir()
        raise
    kept = write_page(folder, contents, earlier)
    write(folder / CONTENTS, json.dumps(contents, indent=1).encode())
    remove(folder, _data_files(earlier) - _data_files(contents))
    written = [size for parts in contents["files"].values() for _, size in parts]
    return WebExport(contents["documents"], contents["passages"], len(written), sum(written), (*notes, *kept))


def _write_documents(
    connection: apsw.Connection,
    snapshot: Snapshot,
    numbering: Numbering,
    files: DataFiles,
    boot: _Boot,
    advance: Callable[[int], object],
) -> list[str]:
    """Texts, metadata and lists; returns notes."""
    layout = snapshot.meta.layout
    columns, stems = Columns(), Stems(layout.language if layout.bm25 else None)
    documents = _seen(stored_documents(connection, numbering), columns, stems, advance)
    blocks, passages = write_texts(files["texts"], documents)
    boot.header.update(documents=len(passages), passages=len(numbering.passage_ids), indexed=numbering.indexed)
    boot.sections["blocks"] = varints(list(chain.from_iterable(blocks)))
    several = len(numbering.passage_ids) > len(passages)
    boot.sections["documents"] = varints(passages) if several else b""
    firsts = np.concatenate([[0], np.cumsum(passages, dtype=np.int64)])
    words = _write_lists(connection, snapshot, numbering, firsts, files, boot)
    unread = np.flatnonzero(np.isin(numbering.passage_ids[firsts[:-1]], snapshot.unread.doc_ids))
    boot.header["unread"], boot.sections["unread"] = len(unread), encode_ascending(unread, len(passages))
    boot.header["words"] = None
    if numbering.lengths is not None:
        boot.header["words"] = {
            "language": layout.language,
            "stopWords": sorted(analyzer(layout.language).stop_words),
            "k1": K1,
            "b": B,
            "averageLength": snapshot.average_length,
        }
        files["lengths"].append(zipped(varints(numbering.lengths[firsts[:-1]])))
        _write_words(words, stems, files, boot)
    boot.header["fields"] = []
    for path, distinct, column in columns.encoded():
        content = zipped(column)
        boot.header["fields"].append([path, distinct, files["fields"].append(content), len(content)])
    boot.header["otherFields"] = len(columns) > MAX_FIELDS
    if len(columns) > MAX_FIELDS:
        return [f"filters work on the {MAX_FIELDS} most frequent of {len(columns)} metadata fields"]
    return []


def _seen(
    documents: Iterator[StoredDocument], columns: Columns, stems: Stems, advance: Callable[[int], object]
) -> Iterator[StoredDocument]:
    """The same documents, noting their metadata and stems."""
    for document in documents:
        columns.add(document.metadata)
        stems.note(document.text)
        yield document
        advance(1)


def _write_lists(
    connection: apsw.Connection,
    snapshot: Snapshot,
    numbering: Numbering,
    firsts: NDArray[np.int64],
    files: DataFiles,
    boot: _Boot,
) -> WordLists:
    """The lists of SPLADE's terms and of frequent words, and the passages' scales; returns all words."""
    vocabulary, passages = snapshot.meta.layout.vocabulary_size, len(numbering.passage_ids)
    counts, dead = np.zeros(vocabulary, np.int64), np.zeros(vocabulary, np.int64)
    words = WordLists(len(firsts) - 1)
    for postings in term_lists(connection, snapshot, numbering):
        content = b""
        if postings.term & WORD:
            if len(postings.passages):
                documents = np.searchsorted(firsts, postings.passages)
                content = words.add(postings.term ^ WORD, documents, postings.impacts)
        else:
            counts[postings.term], dead[postings.term] = len(postings.passages), postings.dead
            if len(postings.passages):
                content = encode_list(postings.passages, passages, postings.impacts.tobytes())
        if content:
            files["lists"].append(content)
    files["scales"].append(zipped(_planes(numbering.scales)))
    boot.sections["counts"] = varints(counts)
    boot.sections["dead"] = varints(dead) if dead.any() else b""
    return words


def _write_words(words: WordLists, stems: Stems, files: DataFiles, boot: _Boot) -> None:
    if stems.found:
        files["stems"].append(zipped(json.dumps(stems.found, ensure_ascii=False).encode()))
    buckets = words.buckets()
    for bucket in buckets:
        files["words"].append(bucket)
    frequent = words.frequent
    boot.sections["buckets"] = varints([len(bucket) for bucket in buckets])
    boot.sections["frequent"] = b"".join(
        varints(numbers)
        for numbers in ([len(frequent.ids)], distances(frequent.ids, 0), frequent.counts, frequent.totals)
    )


def _write_encoder(encoder: WebEncoder, files: DataFiles, boot: _Boot) -> None:
    boot.header.update(tokenizer=encoder.tokenizer, encoder=encoder.settings)
    if encoder.graph:
        files["encoder"].append(zipped(encoder.graph, 6))
    if encoder.rows:
        files["rows"].append(encoder.rows)


def _planes(scales: NDArray[np.float32]) -> bytes:
    """float32 as four planes of bytes, the lowest first: the high bytes are alike, which gzip uses."""
    return np.ascontiguousarray(scales.astype("<f4").view(np.uint8).reshape(-1, 4).T).tobytes()


def _earlier(folder: Path) -> dict[str, Any]:
    """The contents of an earlier export; {} for a folder that is new or empty."""
    if not folder.exists():
        return {}
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is a file; give a folder for the web export")
    path = folder / CONTENTS
    if not path.exists():
        if any(folder.iterdir()):
            raise InvalidInput(f"{folder} has files and is no earlier web export; give a new or an empty folder")
        return {}
    try:
        contents = json.loads(path.read_bytes())
        if contents["writer"] != "spladelite":
            raise ValueError
        _data_files(contents), dict(contents["page"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidInput(f"{path} was not written by an export; give a new or an empty folder") from None
    return dict(contents)


def _data_files(contents: dict[str, Any]) -> set[str]:
    names = {str(name) for parts in contents.get("files", {}).values() for name, _ in parts}
    return {name for name in names if name == os.path.basename(name) and name.endswith(".bin")}
