"""Learned sparse search (SPLADE) in one SQLite file.

    from spladelite import SpladeLite

    db = SpladeLite("kb.db")
    db.add(["A car crashed into a tree.", "Bake the bread for an hour."])
    hits = db.search("automobile accident")

The floor plan, from the roof down; a module imports from floors below its own (ARCHITECTURE.md walks through it):

    cli/             the command line
    transfer/        the same collection in a distributed engine: connect, move, verify
    training/        fine-tuning, distillation, adaptation to a database
    evaluation/      quality on judged queries
    database         SpladeLite: every public method
    upkeep/          check, repair, re-encoding, exports, figures
    session          one open file: connections, models, what is kept between calls
    search/          a request, query weights, ranking, fusion, explanation
    documents/       texts in and out: files, passages, the table, filters
    arguments        what callers give, checked;  file_models: a file's encoders
    index/           bytes, rows, scores: postings, segments, snapshots, kernels
    file/            SQLite and the disk
    encoders/        text -> sparse vector; models/ holds the bundled one
    records, errors  what comes out, and what goes wrong
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if sys.maxsize < 2**32:
    raise ImportError("SpladeLite needs a 64-bit Python; this one has 32 bits")

if TYPE_CHECKING:
    from spladelite.database import SpladeLite
    from spladelite.documents.table import OnConflict
    from spladelite.encoders.base import Encoder
    from spladelite.encoders.dense import DenseEncoder
    from spladelite.encoders.registry import load_encoder
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
        ServerError,
        SpladeLiteError,
        TrainingError,
        UnfindableText,
        Unfinished,
        UnreadText,
        Unsupported,
        UnsupportedFormat,
        WrongType,
    )
    from spladelite.file.connection import Durability
    from spladelite.progress import Progress
    from spladelite.records import (
        Added,
        Document,
        Explanation,
        Feedback,
        FileProblem,
        FilesReport,
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
    from spladelite.search.query_weights import QueryInput
    from spladelite.search.request import Rerank, Where, WhereArgs
    from spladelite.transfer.connect import connect

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "Added",
    "Busy",
    "CorruptIndex",
    "DatabaseError",
    "DenseEncoder",
    "Document",
    "DocumentNotFound",
    "Durability",
    "Encoder",
    "Explanation",
    "Feedback",
    "FileProblem",
    "FilesReport",
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
    "OnConflict",
    "PartMatch",
    "Passage",
    "Progress",
    "QueryInput",
    "ReadOnly",
    "Rerank",
    "Row",
    "ServerError",
    "SparseVectors",
    "SpladeLite",
    "SpladeLiteError",
    "Stats",
    "Term",
    "TermMatch",
    "Tokens",
    "TrainingError",
    "UnfindableText",
    "Unfinished",
    "UnreadText",
    "Unsupported",
    "UnsupportedFormat",
    "WebExport",
    "Where",
    "WhereArgs",
    "WrongType",
    "connect",
    "load_encoder",
]

_ROOMS = (
    "errors",
    "records",
    "progress",
    "encoders.base",
    "encoders.dense",
    "encoders.registry",
    "file.connection",
    "documents.table",
    "search.request",
    "search.query_weights",
    "database",
    "transfer.connect",
)


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: `spladelite --help` and the errors need neither NumPy nor SQLite."""
    if name in __all__:
        for room in _ROOMS:
            module = import_module(f"{__name__}.{room}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
