"""The immutable records that cross room borders.

Shapes are given as ``(N,)``: N documents or passages, T tokens, V vocabulary entries, nnz non-zero weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from spladelite import notebook

T = TypeVar("T")

_HEADING = re.compile(r"^#{1,6}[ \t]+(\S.*)$", re.MULTILINE)
_WITH_HEADINGS = (".md", ".markdown", ".html", ".htm", ".xhtml", ".docx", ".epub", ".ipynb")


@dataclass(frozen=True, slots=True, eq=False)
class SparseVectors:
    """N sparse vectors in CSR layout: row i is ``terms[indptr[i]:indptr[i+1]]`` with the weights beside it.

    Attributes:
        indptr: int64 ``(N + 1,)``, starts at 0, never falls.
        terms: int32 ``(nnz,)``, term ids, strictly ascending inside a row.
        weights: float32 ``(nnz,)``, finite and greater than 0.
    """

    indptr: NDArray[np.int64]
    terms: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __iter__(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        return (self.row(i) for i in range(len(self)))

    def row(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Term ids and weights of row ``i``: two views of equal length."""
        start, end = self.indptr[i], self.indptr[i + 1]
        return self.terms[start:end], self.weights[start:end]

    def dicts(self) -> list[dict[int, float]]:
        """Each row as ``{term_id: weight}``."""
        return [dict(zip(terms.tolist(), weights.tolist(), strict=True)) for terms, weights in self]

    @staticmethod
    def from_rows(rows: Sequence[tuple[NDArray[np.int32], NDArray[np.float32]]]) -> SparseVectors:
        """Stack ``(terms, weights)`` rows. Each row's terms must be strictly ascending."""
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(terms) for terms, _ in rows], out=indptr[1:])
        if not rows:
            return SparseVectors(indptr, np.empty(0, np.int32), np.empty(0, np.float32))
        return SparseVectors(
            indptr,
            np.concatenate([terms for terms, _ in rows]).astype(np.int32, copy=False),
            np.concatenate([weights for _, weights in rows]).astype(np.float32, copy=False),
        )

    @staticmethod
    def from_dicts(rows: Sequence[Mapping[int, float]]) -> SparseVectors:
        """Build from ``{term_id: weight}`` rows that are known to be valid."""
        return SparseVectors.from_rows(
            [
                (np.array(sorted(row), np.int32), np.array([row[term] for term in sorted(row)], np.float32))
                for row in rows
            ]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A text's tokens, in order, without special tokens.

    Attributes:
        term_ids: int32 ``(T,)``, the vocabulary entry of each token.
        starts: int64 ``(T,)``, character offset of the token's first character in the text.
        ends: int64 ``(T,)``, character offset after its last character.
    """

    term_ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.term_ids)


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document: ``metadata`` is a JSON object (``{}`` where none was given)."""

    id: str
    text: str
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document's text: ``text == document.text[start:end]``, offsets in characters."""

    text: str
    start: int
    end: int


class Added(list[str]):
    """The ids of the documents that a call was given, in order, and what became of each.

    Attributes:
        new: ids that were not there before.
        replaced: ids whose text, vector or metadata has changed.
        unchanged: ids that were there already and were left as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.new: list[str] = []
        self.replaced: list[str] = []
        self.unchanged: list[str] = []


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that could not be used, or not whole: where it is, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FilesReport:
    """What became of files; paths inside of the folder that was given.

    Attributes:
        ids: all documents of the files, those that were there already included.
        new, changed: files whose documents were stored.
        renamed: (old path, new path): their documents have another id now, and were not encoded again.
        deleted: files that are gone, whose documents were deleted.
        unchanged: how many files are as they were.
        blank: how many documents have no text, and are left out.
        problems: files that could not be used, with the reason.
        unread: how many files of kinds that are not read, by suffix.
    """

    ids: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    deleted: tuple[str, ...] = ()
    unchanged: int = 0
    blank: int = 0
    problems: tuple[FileProblem, ...] = ()
    unread: dict[str, int] = field(default_factory=dict)


class Hit(NamedTuple):
    """One found document. A named tuple: making a thousand of them takes a quarter of a dataclass's time.

    Attributes:
        id: the document's id.
        score: higher is better. In the mode ``"splade"`` the inner product of the query's weights with the document's
            stored weights, in ``"bm25"`` that formula's, in a hybrid the weighted sum of the parts.
        text: the document's whole text.
        metadata: its metadata.
        start, end: where in ``text`` the passage is that scored best; the document's score is its score.
        query: weights by term id of what :meth:`SpladeLite.highlight` marks: the query's terms and words.
        relevance: the score on a scale from 0 to 1, in the same order. SPLADE: ``score / (score + |q|²)``, so 0.5 for a
            passage that scores as much as the query would against itself. BM25: ``score / (score + 2 n)`` for n words.
            Dense: ``(1 + s / (1 + |s|)) / 2``. A hybrid's share of the best score that its weights allow. After
            ``rerank``: the logistic function of the score.
    """

    id: str
    score: float
    text: str
    metadata: dict[str, Any]
    start: int
    end: int
    query: Mapping[int, float]
    relevance: float = 0.0

    @property
    def passage(self) -> Passage:
        """The passage that scored best."""
        return Passage(self.text[self.start : self.end], self.start, self.end)

    @property
    def place(self) -> str:
        """Where in its document the passage is: ``page 3`` or ``pages 3–4``, else the heading above it.

        Pages and slides are divided by form feeds. Headings are lines of Markdown, which the texts of HTML and Word
        files have too. Empty where there is neither, or with ``text=False``.
        """
        if "\f" in self.text:
            first = self.text.count("\f", 0, self.start) + 1
            last = first + self.text.count("\f", self.start, self.end)
            return f"page {first}" if first == last else f"pages {first}–{last}"
        file = self.metadata.get("file")
        path = str(file.get("path")) if isinstance(file, dict) else ""
        if not path.lower().removesuffix(".gz").endswith(_WITH_HEADINGS):
            return ""  # in source code, the same lines are comments
        line_end = self.text.find("\n", self.start)
        above = list(_HEADING.finditer(self.text, 0, len(self.text) if line_end < 0 else line_end))
        return above[-1][1].strip()[:80] if above else ""

    def __repr__(self) -> str:
        return (
            f"Hit(id={self.id!r}, score={self.score!r}, text={self.text!r}, metadata={self.metadata!r}, "
            f"start={self.start}, end={self.end})"
        )

    def _repr_html_(self) -> str:
        notes = [f"{self.score:.3f}", self.place, str(self.metadata) if self.metadata else ""]
        return notebook.card(self.id, self.relevance, notes, self.passage.text)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a user said of a document that a query found.

    Attributes:
        query: as it was asked.
        id: the document's, which may be gone.
        value: above 0: useful, the more the better; 0 or below: not.
        at: when, in UTC, as ISO 8601 writes it.
    """

    query: str
    id: str
    value: float
    at: str


@dataclass(frozen=True, slots=True)
class Term:
    """One entry of a sparse vector, readable: ``expansion`` says that the text itself does not contain the term."""

    term: str
    weight: float
    expansion: bool
    term_id: int


class Listed(list[T]):
    """A list whose records a notebook shows below each other."""

    def _repr_html_(self) -> str | None:
        if not self:
            return None
        terms = [(one.term, one.weight, "expansion" if one.expansion else "") for one in self if isinstance(one, Term)]
        return notebook.bars(terms) if terms else "".join(one._repr_html_() for one in self if isinstance(one, Hit))


@dataclass(frozen=True, slots=True)
class TermMatch:
    """What one term adds to a score: ``contribution = query_weight · document_weight``.

    Attributes:
        term: as the vocabulary writes it.
        query_weight: the term's weight in the query.
        document_weight: its weight in the passage, as stored (8 bits).
        contribution: their product.
        query_expansion: the query's text does not contain the term: the model added it.
        document_expansion: the passage's text does not contain it.
        term_id: its number in the vocabulary.
    """

    term: str
    query_weight: float
    document_weight: float
    contribution: float
    query_expansion: bool
    document_expansion: bool
    term_id: int

    @property
    def expansion(self) -> bool:
        """Whether the match is not a literal one: the model added the term on either side."""
        return self.query_expansion or self.document_expansion


@dataclass(frozen=True, slots=True)
class PartMatch:
    """What one index of the file adds to a score.

    Attributes:
        part: ``"splade"``, ``"bm25"`` or ``"dense"``.
        score: the part's own score of the document; 0 if they have nothing in common, NaN without a dense vector.
        contribution: what that adds to the document's score after fusion.
        words: of BM25: what each matching word adds to its score.
    """

    part: str
    score: float
    contribution: float
    words: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a document has its score.

    Attributes:
        id: the document's id.
        score: the sum of the contributions of ``terms``; in another mode than ``"splade"``, of ``parts``.
        passage: the passage that the terms are those of.
        terms: the matching terms, strongest first; empty where SPLADE was not asked.
        parts: each index that was asked; empty in the mode ``"splade"``.
        unread: ``"query"`` and ``"document"``, where the model cannot read most of it. Then SPLADE adds nothing to a
            hybrid, unless the caller has given weights.
    """

    id: str
    score: float
    passage: Passage
    terms: tuple[TermMatch, ...]
    parts: tuple[PartMatch, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """A sentence about what the model cannot read; empty where it reads both."""
        return f"The model cannot read most of the {' and of the '.join(self.unread)}." if self.unread else ""

    def __str__(self) -> str:
        lines = [f"{self.id}: score {self.score:.4f}"]
        if self.note:
            lines.append(f"  {self.note}")
        for part in self.parts:
            words = ", ".join(f"{word} {score:.3f}" for word, score in part.words.items())
            lines.append(f"  {part.part:<8} {part.score:8.4f} adds {part.contribution:.4f}  {words}".rstrip())
        for match in self.terms:
            marks = [
                name for name, on in (("query", match.query_expansion), ("document", match.document_expansion)) if on
            ]
            note = f"  expansion of the {' and the '.join(marks)}" if marks else ""
            lines.append(
                f"  {match.term:<16} {match.query_weight:6.3f} · {match.document_weight:6.3f}"
                f" = {match.contribution:7.4f}{note}"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [(part.part, part.contribution, ", ".join(part.words)) for part in self.parts]
        terms = [
            (match.term, match.contribution, "expansion" if match.expansion else "in both texts")
            for match in self.terms
        ]
        shown = [notebook.bars(rows) for rows in (parts, terms) if rows]
        return notebook.heading(f"{self.id}: {self.score:.3f}") + "".join(shown)


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of a database; sizes in bytes.

    Attributes:
        documents, passages: how many are stored.
        postings: (passage, term) pairs in sealed segments, dead ones included.
        segments: sealed segments.
        tail: passages that are not sealed yet.
        dead: passages in sealed segments that are deleted but not vacuumed.
        word_postings: (document, word) pairs in sealed segments, dead ones included.
        unread: documents most of whose text the model cannot read: only BM25 finds them well.
        language: of the words of BM25; None without stems, or without BM25.
        active_terms: stored terms a passage, on average.
        model, fingerprint, vocabulary_size, window, min_weight: what the file was built with.
        format: version of the file format.
        kernel: ``"compiled"`` or ``"numpy"``.
        file_size: pages of the database in all, free ones included.
        sizes: bytes by part: ``text``, ``vectors``, ``postings``, …
        unfindable: documents without a term that the model knows, which ``mode="splade"`` never finds; None for a slim
            export, which cannot tell.
    """

    documents: int
    passages: int
    postings: int
    segments: int
    tail: int
    dead: int
    word_postings: int
    unread: int
    language: str | None
    active_terms: float
    model: str
    fingerprint: str
    vocabulary_size: int
    window: int
    min_weight: float
    format: int
    kernel: str
    file_size: int
    sizes: dict[str, int]
    unfindable: int | None = 0

    def _repr_html_(self) -> str:
        figures = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "sizes"}
        sizes = [(part, size / 1e6, "MB") for part, size in self.sizes.items()]
        return notebook.fields(figures) + notebook.bars(sizes)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that ``check()`` found wrong: ``table`` and ``row`` name the place, ``problem`` says what."""

    table: str
    row: str
    problem: str


@dataclass(frozen=True, slots=True)
class WebExport:
    """What ``export_web()`` has written.

    Attributes:
        documents, passages: how many.
        files, bytes: the data files, without the page.
        notes: what the folder cannot do, and what of the page was left as it is.
    """

    documents: int
    passages: int
    files: int
    bytes: int
    notes: tuple[str, ...]


class Row(tuple[Any, ...]):
    """A row of ``db.sql()``: a tuple whose values also go by column name, ``row["id"]``; ``dict(row)`` works."""

    _names: tuple[str, ...]

    def __new__(cls, values: tuple[Any, ...], names: tuple[str, ...]) -> Row:
        """``values`` with their column names."""
        row = super().__new__(cls, values)
        row._names = names
        return row

    def keys(self) -> tuple[str, ...]:
        """The column names."""
        return self._names

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._names.index(key) if isinstance(key, str) else key)
