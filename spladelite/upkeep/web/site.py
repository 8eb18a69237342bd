"""Write the folder: data files named by their content, the reader's modules, a page, and ``database.json`` last.

Everything that ``database.json`` names is there before it is, so a folder that is being replaced, or whose export was
interrupted, still serves what it served. docs/web.md has the format.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import apsw
import numpy as np

from spladelite.errors import InvalidInput
from spladelite.index.snapshot import Snapshot
from spladelite.records import WebExport
from spladelite.upkeep.web.columns import MAX_FIELDS, Columns
from spladelite.upkeep.web.contents import StoredDocument, number_passages, stored_documents, term_lists
from spladelite.upkeep.web.encoder import WebEncoder
from spladelite.upkeep.web.lists import encode_list, varints

FORMAT = 1
CONTENTS = "database.json"
PART_BYTES = 20_000_000
"""Where a file is split: GitHub refuses files from 100 MB, Cloudflare Pages from 25 MB, jsDelivr from 20 MB."""
BLOCK_PASSAGES = 16
BLOCK_BYTES = 32_768
PAGE = ("index.html", "page.js", "page.css", "worker.js")


@dataclass(slots=True)
class _File:
    """One logical file, written as parts of at most ``limit`` bytes; ``append`` gives where the bytes begin."""

    folder: Path
    name: str
    limit: int
    size: int = 0
    parts: list[list[Any]] = field(default_factory=list)
    _pending: bytearray = field(default_factory=bytearray)

    def append(self, content: bytes) -> int:
        start = self.size
        self.size += len(content)
        self._pending += content
        while len(self._pending) > self.limit:
            self._flush(self.limit)
        return start

    def close(self) -> list[list[Any]]:
        if self._pending or not self.parts:
            self._flush(len(self._pending))
        return self.parts

    def _flush(self, count: int) -> None:
        content = bytes(self._pending[:count])
        del self._pending[:count]
        name = f"{self.name}-{hashlib.sha256(content).hexdigest()[:16]}.bin"
        _write(self.folder / name, content)
        self.parts.append([name, len(content)])


def export_site(
    connection: apsw.Connection,
    snapshot: Snapshot,
    encoder: WebEncoder,
    target: str,
    advance: Callable[[int], object],
    part_bytes: int = PART_BYTES,
) -> WebExport:
    """Write what this read transaction sees to the folder ``target``.

    Args:
        connection: inside a read transaction.
        snapshot: that state.
        encoder: what of the database's model can be run there.
        target: a new or empty folder, or one that holds an earlier export.
        advance: called with how many more documents are written.
        part_bytes: where files are split.

    Raises:
        InvalidInput: the folder holds something else.
    """
    meta = snapshot.meta
    folder = Path(target)
    earlier = _earlier(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, _File] = {}

    def file(name: str) -> _File:
        return files.setdefault(name, _File(folder, name, part_bytes))

    try:
        notes = [encoder.note] if encoder.note else []
        numbering = number_passages(snapshot)
        passages = len(numbering.passage_ids)
        vocabulary = meta.layout.vocabulary_size
        counts, dead = np.zeros(vocabulary, np.int64), np.zeros(vocabulary, np.int64)
        for postings in term_lists(connection, snapshot, numbering):
            counts[postings.term], dead[postings.term] = len(postings.passages), postings.dead
            if len(postings.passages):
                file("lists").append(encode_list(postings.passages, passages, postings.impacts.tobytes()))
        file("scales").append(_zipped(_planes(numbering.scales)))
        columns = Columns()
        blocks, per_document = _write_texts(file("texts"), stored_documents(connection, numbering), columns, advance)
        fields = []
        for path, distinct, column in columns.encoded():
            zipped = _zipped(column)
            fields.append([path, distinct, file("fields").append(zipped), len(zipped)])
        if len(columns) > MAX_FIELDS:
            notes.append(f"filters work on the {MAX_FIELDS} most frequent of {len(columns)} metadata fields")
        if encoder.graph:
            file("encoder").append(_zipped(encoder.graph, 6))
        if encoder.rows:
            file("rows").append(encoder.rows)
        header = {
            "passages": passages,
            "indexed": numbering.indexed,
            "documents": len(per_document),
            "terms": [term for (term,) in connection.execute("SELECT term FROM term ORDER BY term_id")],
            "tokenizer": encoder.tokenizer,
            "encoder": encoder.settings,
            "fields": fields,
            "otherFields": len(columns) > MAX_FIELDS,
        }
        sections = {
            "counts": varints(counts),
            "dead": varints(dead) if dead.any() else b"",
            "blocks": varints(list(chain.from_iterable(blocks))),
            "documents": varints(per_document) if passages > len(per_document) else b"",
        }
        file("boot").append(_zipped(_container(header, sections)))
        contents: dict[str, Any] = {
            "format": FORMAT,
            "writer": "spladelite",
            "documents": len(per_document),
            "passages": passages,
            "model": meta.model,
            "fingerprint": meta.fingerprint,
            "files": {name: entry.close() for name, entry in files.items()},
            "notes": notes,
        }
    except BaseException:
        _remove(folder, {name for entry in files.values() for name, _ in entry.parts} - _data_files(earlier))
        raise
    notes += _write_page(folder, contents, earlier)
    _write(folder / CONTENTS, json.dumps(contents, indent=1).encode())
    _remove(folder, _data_files(earlier) - _data_files(contents))
    written = [size for parts in contents["files"].values() for _, size in parts]
    return WebExport(len(per_document), passages, len(written), sum(written), tuple(notes))


def _write_texts(
    file: _File, documents: Iterator[StoredDocument], columns: Columns, advance: Callable[[int], object]
) -> tuple[list[tuple[int, int]], list[int]]:
    """Write blocks of passages' texts; gives (passages, bytes) of each, and how many passages each document has."""
    blocks: list[tuple[int, int]] = []
    per_document: list[int] = []
    # [[number of the document, id, metadata, number of its first passage here, [[start, end, text from start], ...]]]
    block: list[list[Any]] = []
    passages = size = 0

    def finish() -> None:
        nonlocal block, passages, size
        if block:
            content = _zipped(json.dumps(block, ensure_ascii=False, separators=(",", ":")).encode())
            file.append(content)
            blocks.append((passages, len(content)))
            block, passages, size = [], 0, 0

    for number, document in enumerate(documents):
        columns.add(document.metadata)
        per_document.append(len(document.spans))
        pieces = _pieces(document)
        for first, piece in enumerate(pieces):
            if passages == BLOCK_PASSAGES or size >= BLOCK_BYTES:
                finish()
            if not block or block[-1][0] != number:
                block.append([number, document.id, document.metadata, first, []])
            block[-1][4].append(piece)
            passages += 1
            size += len(piece[2])
        advance(1)
    finish()
    return blocks, per_document


def _pieces(document: StoredDocument) -> list[tuple[int, int, str]]:
    """``(start, end, text)`` of each passage: its text, and what stands between it and the next one.

    The first text begins where the document does, the last ends there: together they are the document.
    """
    spans = document.spans
    if len(spans) == 1:
        return [(*spans[0], document.text)]
    coded = document.text.encode("utf-16-le")
    length = len(coded) // 2
    starts = [0, *(start for start, _ in spans[1:]), length]
    return [
        (start, end, coded[2 * starts[i] : 2 * max(end, starts[i + 1])].decode("utf-16-le"))
        for i, (start, end) in enumerate(spans)
    ]


def _planes(scales: Any) -> bytes:
    """float32 as four planes of bytes, the lowest first: the high bytes are alike, which gzip uses."""
    return np.ascontiguousarray(scales.astype("<f4").view(np.uint8).reshape(-1, 4).T).tobytes()


def _container(header: dict[str, Any], sections: dict[str, bytes]) -> bytes:
    """uint32 length, JSON, sections; the JSON's ``sections`` has where each begins after it, and its length."""
    places, start = {}, 0
    for name, content in sections.items():
        places[name] = [start, len(content)]
        start += len(content)
    text = json.dumps({**header, "sections": places}, ensure_ascii=False).encode()
    return b"".join([len(text).to_bytes(4, "little"), text, *sections.values()])


def _zipped(content: bytes, level: int = 9) -> bytes:
    return gzip.compress(content, level, mtime=0)  # no time: the same content has the same name


def _write_page(folder: Path, contents: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    """Copy the reader and the page. What the user has changed since the last export stays; gives notes of that."""
    notes = []
    contents["page"] = {}
    known: dict[str, str] = earlier.get("page", {})
    package = resources.files("spladelite.web")
    sources = {f"spladelite/{entry.name}": entry for entry in package.joinpath("src").iterdir()}
    sources = {name: entry for name, entry in sources.items() if name.endswith(".js")}
    sources |= {name: package.joinpath("page").joinpath(name) for name in PAGE}
    for name, source in sorted(sources.items()):
        content = source.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        found = hashlib.sha256(path.read_bytes()).hexdigest() if name in PAGE and path.exists() else digest
        if found not in (digest, known.get(name)):
            notes.append(f"{name} was changed since it was exported and stays as it is")
            contents["page"][name] = known.get(name, digest)
            continue
        _write(path, content)
        contents["page"][name] = digest
    return notes


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


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _remove(folder: Path, names: set[str]) -> None:
    for name in names:
        with suppress(OSError):
            (folder / name).unlink()
