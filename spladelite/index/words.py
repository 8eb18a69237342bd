"""Words as BM25 knows them: from a text in any language to term ids and their frequencies.

A text is divided into *chunks*: runs of letters, digits and marks, with single connectors (``. @ _ + : / # -``) inside.
A chunk gives

- the words between its connectors: case-folded, without accents, stemmed (Snowball). A word in a script that is not
  that of the file's language is stemmed by the most spoken language of its script (Arabic, Russian, Hindi, …);
- where a script has no spaces (Chinese, Japanese, Thai, …), and for Korean, overlapping pairs of characters instead of
  words; documents also have each Chinese character alone, for queries of one character;
- ``camelCase`` by part and whole, and the chunk as a whole if it has a connector and a digit, ``.``, ``_`` or ``@``:
  ``v1.2.3``, ``snake_case``, an e-mail address.

A word's term id is ``WORD``, a bit that no entry of a model's vocabulary has, and 46 bits of a hash: no dictionary has
to be read, kept, or protected from damage. Two of a million words share an id with a probability of 0.7 %.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from itertools import chain, pairwise
from struct import pack
from typing import NamedTuple

import numpy as np
import Stemmer
from numpy.typing import NDArray

from spladelite.errors import InvalidInput, WrongType
from spladelite.index.scoring import WORD
from spladelite.index.stop_words import STOP_WORDS

DEFAULT_LANGUAGE = "english"
MAX_QUERY_WORDS = 1024  # distinct ones, the first
MAX_FREQUENCY = 255  # a posting's byte

_LONGEST = 64  # characters: longer words are not stemmed, longer chunks have no whole
_KNOWN = 1 << 18  # pieces whose term ids are remembered
_KNOWN_OF_QUERIES = 1 << 14
_SLICE = 1 << 20  # characters that are divided at once

_ROWS = 1 << 16  # texts that are counted at once

_CONNECTORS = "._@+:/#-"
_EDGES = b".@+:/#-"  # of these a chunk neither begins nor ends with one
_BETWEEN = bytes(  # other ASCII than letters, digits and connectors becomes white space, for bytes.translate
    byte if byte > 127 or chr(byte).isalnum() or chr(byte) in _CONNECTORS else ord(" ") for byte in range(256)
)
_PARTS = re.compile(f"[^{_CONNECTORS}]+")
_IDENTIFIER = re.compile(r"[._@]|\d")
_CAMEL = re.compile("[a-z][A-Z]|[A-Z]{2}[a-z]{2}")
_CAMEL_PARTS = re.compile("[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_ASCII_CHUNK = re.compile(r"\w+(?:[.@+:/#-]\w+)*", re.ASCII)

# Scripts that are written without spaces between words, and Korean, whose particles are written to the words.
_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = (
    f"\u0e01-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17d3\u3031-\u3035\u3041-\u3096\u3099\u309a\u309d-\u309f"
    f"\u30a1-\u30fa\u30fc-\u30ff\u3105-\u318e\u31a0-\u31ff\uac00-\ud7a3{_HAN}"
)
_RUNS = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_IS_HAN = re.compile(f"[{_HAN}]")

# Accents of Latin and Greek, points of Arabic and Hebrew, joiners and other signs that change no letter.
_ACCENTS = re.compile(
    "[\u00ad\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u200b-\u200f\ufe00-\ufe0f]"
)
_CYRILLIC = re.compile("[\u0400-\u052f]")
_LATIN = re.compile("[a-z\u00df-\u024f]")

# For each script the languages that are written in it; the first one's stemmer serves a file of another script.
_SCRIPTS = (
    (re.compile("[\u0600-\u06ff]"), ("arabic", "persian")),
    (_CYRILLIC, ("russian", "serbian")),
    (re.compile("[\u0370-\u03ff]"), ("greek",)),
    (re.compile("[\u0900-\u097f]"), ("hindi", "nepali")),
    (re.compile("[\u0b80-\u0bff]"), ("tamil",)),
    (re.compile("[\u0530-\u058f]"), ("armenian",)),
    (re.compile("[\u0590-\u05ff]"), ("yiddish",)),
)
_NOT_LATIN = frozenset(chain.from_iterable(languages for _, languages in _SCRIPTS))


class QueryWord(NamedTuple):
    """A word of a query: its term id, and how it is written there."""

    term_id: int
    word: str


@dataclass(frozen=True, slots=True, eq=False)
class WordCounts:
    """The words of N texts in CSR layout.

    Attributes:
        indptr: int64 ``(N + 1,)``.
        terms: int64 ``(nnz,)``, strictly ascending inside a row.
        frequencies: uint8 ``(nnz,)``: how often the text has the word, at most 255.
        lengths: int64 ``(N,)``: how many words the text has, each time counted.
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.int64]
    frequencies: NDArray[np.uint8]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    def equals(self, other: WordCounts) -> bool:
        """Whether both have the same words of the same texts."""
        return all(
            np.array_equal(mine, its)
            for mine, its in (
                (self.indptr, other.indptr),
                (self.terms, other.terms),
                (self.frequencies, other.frequencies),
                (self.lengths, other.lengths),
            )
        )

    @staticmethod
    def concatenate(parts: Sequence[WordCounts]) -> WordCounts:
        """All texts of several."""
        lengths = [np.diff(part.indptr) for part in parts]
        return WordCounts(
            np.concatenate([[0], *lengths]).cumsum(dtype=np.int64),
            np.concatenate([np.empty(0, np.int64), *(part.terms for part in parts)]),
            np.concatenate([np.empty(0, np.uint8), *(part.frequencies for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)]),
        )

    def take(self, rows: NDArray[np.intp]) -> WordCounts:
        """The given texts, in the given order."""
        counts = np.diff(self.indptr)[rows]
        indptr = np.concatenate(([0], np.cumsum(counts)))
        entries = np.repeat(self.indptr[:-1][rows] - indptr[:-1], counts) + np.arange(indptr[-1])
        return WordCounts(indptr, self.terms[entries], self.frequencies[entries], self.lengths[rows])


class _Known(dict[bytes, bytes]):
    """Pieces of texts in UTF-8, and the term ids that they give a document, int64.

    A piece is what stands between two bytes of ``_BETWEEN``: no chunk, or one, or some where characters beyond ASCII
    divide them.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        super().__init__()
        self._analyzer = analyzer

    def __missing__(self, piece: bytes) -> bytes:
        same = piece.strip(_EDGES)
        if same.isascii() and (same.istitle() or same.isupper()):  # no camelCase
            same = same.lower()
        if same != piece:
            ids = self[same]
        elif piece.isalpha() and piece.islower():  # by far the most
            ids = pack("q", term_id(self._analyzer.stem(piece.decode())))
        else:
            words = self._analyzer.words(piece.decode())
            ids = array("q", map(term_id, words)).tobytes()
        if len(piece) <= _LONGEST:
            if len(self) >= _KNOWN:
                self.clear()
            self[piece] = ids
        return ids


class _Asked(dict[str, tuple[tuple[QueryWord, bool], ...]]):
    """Chunks, the words that they give a query, and which of these are stop words."""

    def __init__(self, analyzer: Analyzer) -> None:
        super().__init__()
        self._analyzer = analyzer

    def __missing__(self, chunk: str) -> tuple[tuple[QueryWord, bool], ...]:
        words = tuple(self._analyzer.query_words(chunk))
        if len(chunk) <= _LONGEST:
            if len(self) >= _KNOWN_OF_QUERIES:
                self.clear()
            self[chunk] = words
        return words


class Analyzer:
    """Divides texts of one language. Safe among threads.

    Attributes:
        language: one of :func:`languages`, or None for no stems and no stop words.
    """

    def __init__(self, language: str | None) -> None:
        self.language = language
        self.stop_words = frozenset(map(_fold, STOP_WORDS.get(language or "", "").split()))
        self._stemmers: dict[str, Stemmer.Stemmer] = {}
        self._lock = threading.Lock()  # a stemmer is for one thread at a time
        self._known = _Known(self)
        self._asked = _Asked(self)

    def count(self, texts: Sequence[str]) -> WordCounts:
        """The words of documents."""
        if len(texts) > _ROWS:
            parts = [self.count(texts[i : i + _ROWS]) for i in range(0, len(texts), _ROWS)]
            return WordCounts.concatenate(parts)
        found = [self._ids(text) for text in texts]
        lengths = np.array([len(ids) for ids in found], np.int64) // 8
        # A row and a word's 46 bits are one number, to be sorted by both.
        keys = np.frombuffer(b"".join(found), np.int64) - WORD
        keys += np.repeat(np.arange(len(texts)) * WORD, lengths)
        keys.sort()
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        counts = np.diff(starts, append=len(keys))
        keys = keys[starts]
        indptr = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.bincount(keys // WORD, minlength=len(texts)), out=indptr[1:])
        return WordCounts(indptr, keys % WORD | WORD, np.minimum(counts, MAX_FREQUENCY).astype(np.uint8), lengths)

    def _ids(self, text: str) -> bytes:
        find = self._known.__getitem__
        return b"".join(
            b"".join(map(find, text[start:end].encode().translate(_BETWEEN).split())) for start, end in _slices(text)
        )

    def query(self, text: str) -> list[QueryWord]:
        """The query's distinct words in order, without stop words where there are others, at most 1024."""
        found: dict[int, QueryWord] = {}
        stops: dict[int, QueryWord] = {}
        for match in _chunks(text).finditer(text):
            for word, is_stop in self._asked[match[0]]:
                (stops if is_stop else found).setdefault(word.term_id, word)
            if len(found) >= MAX_QUERY_WORDS:
                break
        return list((found or stops).values())[:MAX_QUERY_WORDS]

    def query_words(self, chunk: str) -> Iterator[tuple[QueryWord, bool]]:
        """The words that a chunk gives a query, and whether each is a stop word."""
        for start, end, word in self._places(chunk, in_query=True):
            part = chunk[start:end].lower()
            yield QueryWord(term_id(word), part), self.is_stop_word(part)

    def is_stop_word(self, word: str) -> bool:
        """Whether it is a stop word of the language, in any case and with any accents."""
        return _fold(word) in self.stop_words

    def places(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Each word of a text: where it starts and ends, and its term id. Words may overlap."""
        for match in _chunks(text).finditer(text):
            for start, end, word in self._places(match[0], in_query=False):
                yield match.start() + start, match.start() + end, term_id(word)

    def words(self, text: str) -> Iterator[str]:
        """The words of a document as they are hashed, each as often as it is there."""
        for match in _chunks(text).finditer(text):
            yield from self.words_of(match[0], in_query=False)

    def words_of(self, chunk: str, in_query: bool) -> list[str]:
        """The words of a chunk as they are hashed."""
        return [word for _, _, word in self._places(chunk, in_query)]

    def _places(self, chunk: str, in_query: bool) -> Iterator[tuple[int, int, str]]:
        parts = list(_PARTS.finditer(chunk))
        if len(parts) > 1 and len(chunk) <= _LONGEST and _IDENTIFIER.search(chunk):
            yield 0, len(chunk), _fold(chunk)
        for part in parts:
            text, start = part[0], part.start()
            if text.isascii():
                if _CAMEL.search(text) and len(text) <= _LONGEST:
                    for piece in _CAMEL_PARTS.finditer(text):
                        yield start + piece.start(), start + piece.end(), self.stem(piece[0].lower())
                yield start, part.end(), self.stem(text.lower())
            else:
                yield from self._foreign(text, start, in_query)

    def _foreign(self, text: str, start: int, in_query: bool) -> Iterator[tuple[int, int, str]]:
        """The words of what is not ASCII."""
        composed = _compose(text)
        if not _IS_UNSPACED.search(composed):
            yield start, start + len(text), self._stem_any(composed)
            return
        for begin, end, word in self._unspaced(composed, in_query):
            if len(composed) == len(text):
                yield start + begin, start + end, word
            else:  # characters were put together or taken apart: the places are not known
                yield start, start + len(text), word

    def _unspaced(self, text: str, in_query: bool) -> Iterator[tuple[int, int, str]]:
        for run in _RUNS.finditer(text):
            begin, end, characters = run.start(), run.end(), run[0]
            if not _IS_UNSPACED.match(characters):
                yield begin, end, self._stem_any(characters)
                continue
            if len(characters) == 1:
                yield begin, end, characters
                continue
            for i, pair in enumerate(pairwise(characters), begin):
                yield i, i + 2, "".join(pair)
            if not in_query:
                for i, character in enumerate(characters, begin):
                    if _IS_HAN.match(character):
                        yield i, i + 1, character

    def _stem_any(self, text: str) -> str:
        """The stem of a folded word in any script."""
        language = self.language
        for script, languages in _SCRIPTS:
            if script.search(text):
                if script is not _CYRILLIC:
                    text = _fold(text)
                return self.stem(text, language if language in languages else languages[0])
        if language == "english" or language in _NOT_LATIN or not _LATIN.search(text):
            return self.stem(_fold(text))
        return _fold(self.stem(text))  # the accents of a language tell its stemmer something

    def stem(self, word: str, language: str | None = None) -> str:
        """The stem of a folded word, by the file's language where no other is given."""
        if self.language is None or len(word) > _LONGEST:
            return word
        language = language or (self.language if self.language not in _NOT_LATIN else DEFAULT_LANGUAGE)
        with self._lock:
            stemmer = self._stemmers.get(language)
            if stemmer is None:
                stemmer = self._stemmers[language] = Stemmer.Stemmer(
                    language, 0
                )  # what it would remember is remembered here
            return str(stemmer.stemWord(word))


@cache
def analyzer(language: str | None) -> Analyzer:
    """The analyzer of a language, with what it remembers; one a process."""
    return Analyzer(language)


def languages() -> tuple[str, ...]:
    """The languages that have stems."""
    return tuple(sorted(set(Stemmer.algorithms()) - {"porter", "dutch_porter"}))


def check_language(language: object) -> str | None:
    """A caller's ``language=``: the name of one, or None.

    Raises:
        InvalidInput, WrongType: what was given, and which languages there are.
    """
    if language is None:
        return None
    if not isinstance(language, str):
        raise WrongType(f"language is of type {type(language).__name__}; give a name such as 'english', or None")
    if language not in languages():
        raise InvalidInput(
            f"language is {language!r}; give one of {', '.join(languages())}, or None for words as they are written"
        )
    return language


def term_id(word: str) -> int:
    """The term id of a stemmed word."""
    return WORD | int.from_bytes(blake2b(word.encode(), digest_size=6).digest()) >> 2


def _compose(text: str) -> str:
    """One form for characters that mean the same; lower case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", text).casefold())


def _fold(text: str) -> str:
    """Lower case, without accents."""
    if text.isascii():
        return text.lower()
    text = _compose(text)
    if _CYRILLIC.search(text):
        return text
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


def _chunks(text: str) -> re.Pattern[str]:
    return _ASCII_CHUNK if text.isascii() else _any_chunk()


@cache
def _any_chunk() -> re.Pattern[str]:
    """Letters, digits and the marks that are written on them: ``\\w`` has no marks."""
    marks = [code for code in range(0x300, 0x1E950) if unicodedata.category(chr(code)).startswith("M")]
    starts = [code for code, before in zip(marks, [0, *marks], strict=False) if code != before + 1]
    ends = [code for code, after in zip(marks, [*marks[1:], 0], strict=True) if code + 1 != after]
    class_ = r"[\w\u200c\u200d" + "".join(f"{chr(a)}-{chr(b)}" for a, b in zip(starts, ends, strict=True)) + "]"
    return re.compile(f"{class_}+(?:[.@+:/#-]{class_}+)*")


def _slices(text: str) -> Iterator[tuple[int, int]]:
    """A long text in slices that end at white space: what is made of one is small."""
    start = 0
    while len(text) - start > _SLICE:
        space = _SPACE.search(text, start + _SLICE)
        end = space.start() if space else len(text)
        yield start, end
        start = end
    yield start, len(text)


_SPACE = re.compile(r"\s")
