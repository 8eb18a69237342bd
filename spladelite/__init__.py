"""Learned sparse search (SPLADE) in one SQLite file.

    from spladelite import SpladeLite

    db = SpladeLite("kb.db")
    db.add(["A car crashed into a tree.", "Bake the bread for an hour."])
    hits = db.search("automobile accident")

The rooms, in the order in which data flows through them:

    database            SpladeLite, the facade: reader (search) and handle (open, look, copy) are its other parts
    validate, records   what goes in, what comes out; errors: what goes wrong
    model, encoders/    text -> sparse vector; models/ holds the bundled one
    chunking, ingest    text -> passages -> stored, batch by batch
    quantize, postings  float weights -> 8-bit impacts -> bytes
    connection, guard   the only place that opens a file; migrations/ is its schema
    documents           the table of documents; passages: their vectors; index: tail, segments, posting rows
    filters             where= -> the documents that may be found
    queries, idf        question -> weighted terms
    snapshot, searcher  one state of the index, and the statement that searches it
    search, kernels     top-k: in NumPy (the oracle), compiled where that is installed
    modes               which indexes answer: SPLADE, or lexical (BM25), dense, and their fusion
    evaluation/         quality on judged queries
    explain, check      why a hit is a hit; whether the file is sound
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spladelite.database import SpladeLite
    from spladelite.encoders.base import Encoder
    from spladelite.errors import (
        Busy,
        CorruptIndex,
        DatabaseError,
        DocumentNotFound,
        IdConflict,
        Interrupted,
        InvalidFilter,
        InvalidInput,
        InvalidMetadata,
        InvalidText,
        InvalidVector,
        ModelError,
        ModelMismatch,
        NotADatabase,
        ReadOnly,
        SpladeLiteError,
        UnsupportedFormat,
        WrongType,
    )
    from spladelite.records import (
        Document,
        Explanation,
        Finding,
        Hit,
        PartMatch,
        Passage,
        Row,
        SparseVectors,
        Stats,
        Term,
        TermMatch,
        Tokens,
        WebExport,
    )

__all__ = [
    "Busy",
    "CorruptIndex",
    "DatabaseError",
    "Document",
    "DocumentNotFound",
    "Encoder",
    "Explanation",
    "Finding",
    "Hit",
    "IdConflict",
    "Interrupted",
    "InvalidFilter",
    "InvalidInput",
    "InvalidMetadata",
    "InvalidText",
    "InvalidVector",
    "ModelError",
    "ModelMismatch",
    "NotADatabase",
    "PartMatch",
    "Passage",
    "ReadOnly",
    "Row",
    "SparseVectors",
    "SpladeLite",
    "SpladeLiteError",
    "Stats",
    "Term",
    "TermMatch",
    "Tokens",
    "UnsupportedFormat",
    "WebExport",
    "WrongType",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: `spladelite --help` and the errors need neither NumPy nor SQLite."""
    if name in __all__:
        for room in ("errors", "records", "encoders.base", "database"):
            module = import_module(f"{__name__}.{room}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
