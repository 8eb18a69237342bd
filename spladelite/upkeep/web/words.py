"""Words on the web. A query names them by 46 bits of a hash, so nobody fetches a dictionary.

Lists of frequent words lie in the file of lists, after SPLADE's, and boot knows where. All others stand together with
their lists in buckets by the first bits of the hash: one fetch gives a word's count and list, or that there is none.

::

    bucket := varint words, id × words, count × words, total × words, list × words, crc32
    id     := varint, the distance to the id before it (at first, to the bucket's lowest)
    count  := varint, documents that have the word     total := varint, the sum of its frequencies
    list   := ascending, unary                         numbers of documents, frequencies
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spladelite.index.words import Analyzer
from spladelite.upkeep.web.lists import encode_ascending, encode_unary, varints, with_checksum

HASH_BITS = 46
FREQUENT = 128
"""Documents from which on a word's list is fetched by itself: it has some 200 bytes."""
BUCKET_BYTES = 8192


@dataclass(frozen=True, slots=True, eq=False)
class _Words:
    """Words in ascending order of their ids, with counts, totals and encoded lists."""

    ids: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    totals: list[int] = field(default_factory=list)
    lists: list[bytes] = field(default_factory=list)


class WordLists:
    """Collects the words of all documents, ids ascending.

    Args:
        documents: how many there are.
    """

    def __init__(self, documents: int) -> None:
        self._documents = documents
        self._rare = _Words()
        self.frequent = _Words()

    def add(self, id: int, documents: NDArray[np.int64], frequencies: NDArray[np.uint8]) -> bytes:
        """The next word: numbers of documents, ascending, and how often each has it.

        Returns:
            What is to be written to the file of lists: b"" for a word that goes into a bucket.
        """
        frequent = len(documents) >= FREQUENT
        content = encode_ascending(documents, self._documents) + encode_unary(frequencies)
        words = self.frequent if frequent else self._rare
        words.ids.append(id)
        words.counts.append(len(documents))
        words.totals.append(int(frequencies.sum(dtype=np.int64)))
        words.lists.append(b"" if frequent else content)
        return with_checksum(content) if frequent else b""

    def buckets(self) -> list[bytes]:
        """The buckets, a power of two of them, so many that each has about ``BUCKET_BYTES``."""
        words = self._rare
        size = sum(map(len, words.lists)) + 8 * len(words.lists)
        bits = max(0, round(np.log2(max(size, 1) / BUCKET_BYTES)))
        width = 1 << (HASH_BITS - bits)
        edges = np.searchsorted(np.array(words.ids, np.int64), np.arange((1 << bits) + 1, dtype=np.int64) * width)
        made = []
        for bucket, (start, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
            part = slice(start, end)
            ids = distances(words.ids[part], bucket * width)
            numbers = varints([end - start]) + varints(ids) + varints(words.counts[part]) + varints(words.totals[part])
            made.append(with_checksum(numbers + b"".join(words.lists[part])))
        return made


def distances(numbers: Sequence[int], start: int) -> NDArray[np.int64]:
    """How far each of ascending numbers is from the one before it, the first one from ``start``."""
    return np.diff(np.array([start, *numbers], np.int64)).astype(np.int64)


class Stems(Analyzer):
    """Notes the stems of other languages than English, whose stemmers the web does not have.

    Attributes:
        found: by language, "" for the file's own, stems by word, where the two differ.
    """

    def __init__(self, language: str | None) -> None:
        super().__init__(language)
        self.found: dict[str, dict[str, str]] = {}

    def note(self, text: str) -> None:
        """Look at the words of a text."""
        if self.language is not None and not (self.language == "english" and text.isascii()):
            self.count([text])

    def stem(self, word: str, language: str | None = None) -> str:
        """As that of any analyzer, and noted."""
        stem = super().stem(word, language)
        if stem != word and (language, self.language) != (None, "english"):
            self.found.setdefault(language or "", {})[word] = stem
        return stem
