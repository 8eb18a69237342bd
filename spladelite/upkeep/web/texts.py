"""The texts of a web export: blocks of passages, each a gzipped JSON list.

::

    block := [[document, id, metadata, first, [[start, end, text], ...]], ...]

``document`` counts from 0, ``first`` is the number of its first passage here among its passages, ``start`` and ``end``
say where the passage stands in the document, in UTF-16 units. ``text`` begins at ``start``, a document's first one at
0, and reaches to where the next one begins, if that is after ``end``: together they are the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from spladelite.upkeep.web.contents import StoredDocument
from spladelite.upkeep.web.files import DataFile, zipped

BLOCK_PASSAGES = 16
BLOCK_BYTES = 32_768


def write_texts(file: DataFile, documents: Iterator[StoredDocument]) -> tuple[list[tuple[int, int]], list[int]]:
    """Write blocks of passages' texts; gives (passages, bytes) of each, and how many passages each document has."""
    blocks: list[tuple[int, int]] = []
    per_document: list[int] = []
    # [[number of the document, id, metadata, number of its first passage here, [[start, end, text from start], ...]]]
    block: list[list[Any]] = []
    passages = size = 0

    def finish() -> None:
        nonlocal block, passages, size
        if block:
            content = zipped(json.dumps(block, ensure_ascii=False, separators=(",", ":")).encode())
            file.append(content)
            blocks.append((passages, len(content)))
            block, passages, size = [], 0, 0

    for number, document in enumerate(documents):
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
