"""Whether two collections answer alike: queries drawn from the documents, ids and scores compared."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from spladelite.arguments import check_count
from spladelite.database import SpladeLite
from spladelite.errors import InvalidInput, ModelMismatch
from spladelite.index.settings import Meta
from spladelite.progress import Progress, ticking
from spladelite.records import Hit
from spladelite.search.exact import search_many
from spladelite.search.query_weights import QueryInput, check_queries
from spladelite.search.request import check_request
from spladelite.transfer.connect import connect
from spladelite.transfer.remote import Remote

AT_ONCE = 50
EXAMPLES = 10
WORDS = (3, 14)  # of a query


@dataclass(frozen=True, slots=True)
class Verification:
    """What a comparison found.

    Attributes:
        mode: in which both were asked.
        queries: how many were asked, k hits each.
        documents: how many each side has.
        differing: lists whose ids differ, in any place.
        contents: hits whose text, metadata or passage differ.
        worst: the largest relative difference of a score from the first side's, there in float64.
        examples: of lists that differ: the query, and the ids on either side.
    """

    mode: str
    queries: int
    documents: tuple[int, int]
    differing: int
    contents: int
    worst: float
    examples: list[tuple[str, list[str], list[str]]]

    @property
    def equal(self) -> bool:
        """Whether nothing but scores, by rounding, differs."""
        return self.differing == 0 and self.contents == 0 and self.documents[0] == self.documents[1]


def verify(
    one: str | os.PathLike[str],
    other: str | os.PathLike[str],
    queries: int = 1000,
    k: int = 10,
    seed: int = 0,
    model: object = None,
    mode: str | None = None,
    progress: Progress = None,
) -> Verification:
    """Ask two collections the same questions, pieces of their documents.

    A file's hits are added up once more in float64, and ordered by that, before they are compared
    (:mod:`spladelite.search.exact`).

    Args:
        one, other: paths or URLs.
        queries: how many.
        k: hits of each.
        seed: of the choice of queries.
        model: as for :func:`~spladelite.transfer.connect.connect`.
        mode: ``"hybrid"``, ``"bm25"`` or ``"splade"``; None for what ``search`` does where both can do it: the hybrid,
            or SPLADE alone if one of them has no BM25, or has dense vectors.
        progress: as for :func:`~spladelite.transfer.move.move`.

    Raises:
        ModelMismatch: they have different models.
        InvalidInput: there is nothing to draw queries from; one of them has no BM25, and ``mode`` needs it.
        Unsupported: the same of an engine.
    """
    wanted, count = check_count(queries, "queries"), check_count(k)
    with connect(one, model, read_only=True) as first, connect(other, model, read_only=True) as second:
        if _meta(first).fingerprint != _meta(second).fingerprint:
            raise ModelMismatch(f"{one} and {other} were built with different models; nothing can be compared")
        chosen = mode if mode is not None else common_mode(first, second)
        asked = draw(first, wanted, seed)
        found = Verification(chosen, 0, (len(first), len(second)), 0, 0, 0.0, [])
        with ticking(progress, range(len(asked)), "comparing") as advance:
            for start in range(0, len(asked), AT_ONCE):
                texts = asked[start : start + AT_ONCE]
                found = compare(found, texts, exact(first, texts, count, chosen), exact(second, texts, count, chosen))
                advance(len(texts))
        return found


def compare(
    before: Verification, texts: Sequence[str], expected: Sequence[Sequence[Hit]], found: Sequence[Sequence[Hit]]
) -> Verification:
    """``before``, and what comes of some more lists."""
    differing, contents, worst, examples = before.differing, before.contents, before.worst, list(before.examples)
    for text, ours, theirs in zip(texts, expected, found, strict=True):
        ids, other_ids = [hit.id for hit in ours], [hit.id for hit in theirs]
        if ids != other_ids:
            differing += 1
            examples += [(text, ids, other_ids)] if len(examples) < EXAMPLES else []
        by_id = {hit.id: hit for hit in ours}
        for hit in theirs:
            if (same := by_id.get(hit.id)) is not None:
                contents += hit[2:6] != same[2:6]
                worst = max(worst, abs(hit.score - same.score) / same.score)
    queries = before.queries + len(texts)
    return replace(before, queries=queries, differing=differing, contents=contents, worst=worst, examples=examples)


def common_mode(one: SpladeLite | Remote, other: SpladeLite | Remote) -> str:
    """What ``search`` does without a mode where both collections can do it."""
    metas = [_meta(one), _meta(other)]
    every = all(meta.layout.bm25 for meta in metas) and not any(meta.dense for meta in metas)
    return "hybrid" if every else "splade"


def draw(database: SpladeLite | Remote, count: int, seed: int = 0) -> list[str]:
    """Pieces of documents, spread over the whole collection, a few words each."""
    ids = list(database)
    if not ids:
        raise InvalidInput("there are no documents to draw queries from")
    rng = random.Random(seed)  # noqa: S311 - the same queries every time
    queries: list[str] = []
    for _ in range(20 * count):
        document = database.get(rng.choice(ids))
        words = re.findall(r"\S+", document.text) if document is not None else []
        if words:
            begin = rng.randrange(len(words))
            queries.append(" ".join(words[begin : begin + rng.randint(*WORDS)]))
        if len(queries) == count:
            break
    return queries


def exact(
    database: SpladeLite | Remote, queries: Sequence[QueryInput], k: int, mode: str | None, **arguments: Any
) -> list[list[Hit]]:
    """The k best hits with float64 scores; ``arguments`` are those of ``search_many``."""
    if isinstance(database, Remote):
        return database.search_many(queries, k, mode=mode, **arguments)
    request = check_request(k=k, mode=mode, **arguments)
    return search_many(database._session.index, request, check_queries(queries))


def _meta(database: SpladeLite | Remote) -> Meta:
    return database.meta if isinstance(database, Remote) else database._session.meta
