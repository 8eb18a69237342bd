"""Hard negatives: what a search finds for a training query and nobody called relevant.

Much of what is found and not called relevant is relevant all the same. Following "TopK-PercPos" of Moreira et al. 2024
("NV-Retriever: Improving text embedding models with effective hard-negative mining"), what scores nearly as high as the
positive is left out; the rest is drawn from a deep list, not taken from its top.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from spladelite.arguments import check_count
from spladelite.errors import InvalidInput
from spladelite.progress import Progress, ticking
from spladelite.records import Hit
from spladelite.training.data import Example, holds

if TYPE_CHECKING:
    from spladelite.database import SpladeLite

_BATCH = 128  # queries; each hit brings its document's whole text


def mine(
    db: SpladeLite,
    examples: Sequence[Example],
    *,
    count: int,
    mode: str = "splade",
    depth: int = 30,
    margin: float = 0.95,
    seed: int = 0,
    progress: Progress = None,
) -> tuple[Example, ...]:
    """The examples with ``count`` more negatives each, found in a database.

    Never a negative: a text that answers the same query in any of the examples, and a document that holds such a text.
    A negative is a whole document, as positives are: were it the passage that was found, the model would learn to tell
    the middle of a text from its beginning (see benchmarks/training). An example whose positive is not
    among the hits is not filtered by ``margin``: the model fails at its query, and every hit would go.

    Args:
        db: what is searched; it should hold the positives.
        examples: without scores, which would not cover the new negatives: mine first, then let a teacher score.
        count: negatives to add, at least 1. Where the hits do not suffice, other documents at random make up for it;
            fewer are added only if the database has no more.
        mode: "splade", "bm25", "hybrid" or "dense", as for a search.
        depth: how many hits to choose from; twice ``count`` where that is more.
        margin: a hit that scores above ``margin`` times the positive's score is taken for a false negative, and is not
            drawn at random either; ``math.inf`` keeps all.
        seed: of the choice.
        progress: as for ``db.add``.

    Returns:
        The examples in order; their own negatives come first.

    Raises:
        InvalidInput: an empty database, an argument out of range, or examples with scores.
    """
    depth = max(check_count(depth, "depth"), 2 * check_count(count, "count"))
    if not margin > 0:
        raise InvalidInput(f"margin is {margin}; it must be above 0, such as 0.95, or math.inf to keep all hits")
    for position, example in enumerate(examples):
        if example.scores is not None:
            raise InvalidInput(f"examples[{position}] has scores, and mined negatives have none; mine before scoring")
    if not len(db):
        raise InvalidInput("the database is empty; add the documents to mine from")
    random = np.random.default_rng(seed)
    of_query: dict[str, list[int]] = {}
    for position, example in enumerate(examples):
        of_query.setdefault(example.query, []).append(position)
    others = _random_documents(db, random)
    mined = list(examples)
    queries = list(of_query)
    with ticking(progress, queries, "Mining") as advance:
        for start in range(0, len(queries), _BATCH):
            batch = queries[start : start + _BATCH]
            for query, hits in zip(batch, db.search_many(batch, k=depth, mode=mode), strict=True):
                positives = {examples[i].positive.strip() for i in of_query[query]}
                holders = [_holds(hit, positives) for hit in hits]
                for i in of_query[query]:
                    example = examples[i]
                    limit = _limit(hits, example.positive.strip(), margin)
                    barred = positives | {query.strip()} | {hit.text.strip() for hit in hits if hit.score > limit}
                    found = [
                        text
                        for hit, holder in zip(hits, holders, strict=True)
                        if not holder and (text := hit.text.strip()) and text not in barred
                    ]
                    mined[i] = _extended(example, positives, barred, found, others, count, random)
            advance(len(batch))
    return tuple(mined)


def _holds(hit: Hit, positives: set[str]) -> bool:
    return any(holds(hit.text.strip(), positive) for positive in positives)


def _limit(hits: Sequence[Hit], positive: str, margin: float) -> float:
    """The highest score of a hit that is not yet held to be relevant."""
    own = [hit.score for hit in hits if holds(hit.text.strip(), positive)]
    return margin * max(own) if own else math.inf


def _extended(
    example: Example,
    positives: set[str],
    barred: set[str],
    found: Sequence[str],
    others: Iterator[str],
    count: int,
    random: np.random.Generator,
) -> Example:
    taken = barred | set(example.negatives)
    left = [text for text in dict.fromkeys(found) if text not in taken]
    drawn = [left[i] for i in random.permutation(len(left))[:count].tolist()]
    taken.update(drawn)
    misses = 0
    while len(drawn) < count and misses < 100:  # as many in a row: there is nothing else
        text = next(others)
        if text in taken or any(holds(text, positive) for positive in positives):
            misses += 1
            continue
        drawn.append(text)
        taken.add(text)
        misses = 0
    return replace(example, negatives=(*example.negatives, *drawn))


def _random_documents(db: SpladeLite, random: np.random.Generator) -> Iterator[str]:
    """Texts drawn at random, with replacement, for ever."""
    ids = np.array([row[0] for row in db.sql("SELECT doc_id FROM document")], np.int64)
    while True:
        drawn = random.choice(ids, min(len(ids), 64)).tolist()
        rows = db.sql("SELECT text FROM json_each(?) JOIN document ON doc_id = value", (str(drawn),))
        yield from (text for row in rows if (text := row[0].strip()))
