"""An MCP server over a database: tools for agents, with typed schemas, by the official SDK. docs/integrations/mcp.md"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from spladelite import Hit, SpladeLite, SpladeLiteError, __version__
from spladelite.integrations.opening import missing

try:
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError as error:
    raise ImportError(missing("mcp", "mcp")) from error

R = TypeVar("R")

_INSTRUCTIONS = """
A local search index of documents. Use `search` with a question in plain words: it finds passages by meaning and by
words, best first. `get` gives whole documents by id. `where` filters by metadata, for example {"year": {"$gte": 2020}};
operators are $eq $ne $gt $gte $lt $lte $in $nin $exists $empty $contains $icontains $any $all $and $or $not, and the
fields $id and $text are the document's own.
"""


@dataclass(frozen=True)
class FoundPassage:
    """A passage that was found: where it is in its document, in characters, and the document's metadata."""

    id: str
    score: float
    relevance: float
    passage: str
    start: int
    end: int
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The passages, best first."""

    hits: list[FoundPassage]


@dataclass(frozen=True)
class WholeDocument:
    """A document; ``text`` and ``metadata`` are null where there is none with this id."""

    id: str
    text: str | None
    metadata: dict[str, Any] | None


@dataclass(frozen=True)
class Documents:
    """The documents, in the order of the ids."""

    documents: list[WholeDocument]


@dataclass(frozen=True)
class Stored:
    """Ids of the documents, and which of them are new or were replaced."""

    ids: list[str]
    new: list[str]
    replaced: list[str]


@dataclass(frozen=True)
class Reason:
    """A term: its weights in query and document, their product, and whether the model added it."""

    term: str
    query_weight: float
    document_weight: float
    contribution: float
    expansion: bool


@dataclass(frozen=True)
class Reasons:
    """Why a document has its score: the contributions of terms, and of the indexes that were asked."""

    id: str
    score: float
    terms: list[Reason]
    parts: dict[str, float]


def server(db: SpladeLite, *, read_only: bool = False) -> MCPServer[Any]:
    """An MCP server with the tools ``search``, ``get``, ``explain``, ``stats`` and, unless ``read_only``, ``add``."""
    made: MCPServer[Any] = MCPServer("spladelite", instructions=_INSTRUCTIONS.strip(), version=__version__)

    @made.tool()
    async def search(
        query: str, k: int = 10, where: dict[str, Any] | None = None, offset: int = 0, diversity: float = 0.0
    ) -> Found:
        """Find the passages that answer a question, best first.

        `offset` gives later pages; `diversity` (0 to 1) avoids passages that say the same.
        """
        hits = await _call(lambda: db.search(query, k, where, offset=offset, diversity=diversity))
        return Found([_passage(hit) for hit in hits])

    @made.tool()
    async def get(ids: list[str]) -> Documents:
        """Read whole documents by their ids."""
        found = await _call(lambda: db.get(ids))
        return Documents(
            [
                WholeDocument(id, one.text if one else None, one.metadata if one else None)
                for id, one in zip(ids, found, strict=True)
            ]
        )

    @made.tool()
    async def explain(query: str, id: str) -> Reasons:
        """Say why a document has its score for a question, term by term, strongest first."""
        found = await _call(lambda: db.explain(query, id))
        terms = [
            Reason(one.term, one.query_weight, one.document_weight, one.contribution, one.expansion)
            for one in found.terms
        ]
        return Reasons(found.id, found.score, terms, {part.part: part.contribution for part in found.parts})

    @made.tool()
    async def stats() -> dict[str, Any]:
        """Say how many documents and passages there are, by which model, and how large the file is."""
        return asdict(await _call(db.stats))

    if not read_only:

        @made.tool()
        async def add(
            texts: list[str], ids: list[str | None] | None = None, metadata: list[dict[str, Any]] | None = None
        ) -> Stored:
            """Store texts; one whose id exists is replaced, one without an id gets a hash of its content."""
            added = await _call(lambda: db.upsert(texts, ids, metadata, progress=False))
            return Stored(list(added), added.new, added.replaced)

    return made


async def _call(function: Callable[[], R]) -> R:
    """Run on a thread; an error that says what is wrong becomes the tool's answer."""
    try:
        return await asyncio.to_thread(function)
    except SpladeLiteError as error:
        raise ToolError(str(error)) from error


def _passage(hit: Hit) -> FoundPassage:
    return FoundPassage(hit.id, hit.score, hit.relevance, hit.passage.text, hit.start, hit.end, hit.metadata)
