"""Every kind of text, id, metadata and vector: stored and returned equal, or refused by an error of ours."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from spladelite import SpladeLite
from spladelite.errors import SpladeLiteError
from torture import Tally
from torture.words import WORDS, WordModel

PIECES = (
    "\0",
    "\ud800",
    "\udfff",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family, in one emoji
    "שלום עולם",
    "مرحبا",
    "\u202e",  # from right to left from here on
    "\ufeff",
    "\uffff",
    "\U0010ffff",
    "e\u0301",
    "汉字 ",
    "'; DROP TABLE document; --",
    '"\\\n\r\t\x1b[31m',
    "w1 w2",
    " ",
    "",
)
WEIGHTS = (
    math.nan, math.inf, -math.inf, -1.0, 0.0, -0.0, 5e-324, 1e-45, 1e-38, 1e38, 1e300, 1, 10**400, True, None, "1", 2.5,
    np.float32(1.5), np.float64(0.1), np.int64(3),
)  # fmt: skip
TERMS = (-1, 0, 1, WORDS - 1, WORDS, 1 << 31, 1 << 63, 1 << 64, 1.0, True, None, "1", np.int32(5), np.uint64(6))
COUNTS: tuple[Any, ...] = (0, -1, 1, 10, 1 << 31, 1 << 63, 1 << 64, 1.0, None, "1", True, np.int64(3))


def text(source: random.Random) -> Any:
    roll = source.random()
    if roll < 0.02:
        return source.choice((None, b"bytes", 7, 1.5, ["list"], {}))
    if roll < 0.03:
        return source.choice(PIECES) * (1_000_000 // 8)
    if roll < 0.4:
        return "".join(source.choice(PIECES) for _ in range(source.randint(0, 6)))
    return "".join(chr(source.randrange(sys.maxunicode + 1)) for _ in range(source.randint(0, 30)))


def vector(source: random.Random) -> Any:
    pairs = [(source.choice(TERMS), source.choice(WEIGHTS)) for _ in range(source.randint(0, 3))]
    pairs += [(source.randrange(WORDS), source.uniform(0.1, 4)) for _ in range(source.randint(0, 3))]
    roll = source.random()
    if roll < 0.2:
        return [term for term, _ in pairs], [weight for _, weight in pairs]
    if roll < 0.3:
        return source.choice((None, 7, "text", [1.0], (1,), ([1], [1.0, 2.0]), ([1, 1], [1.0, 2.0])))
    return dict(pairs)


def store(db: SpladeLite, source: random.Random) -> str:
    given, id, metadata = text(source), text(source), {"note": text(source)}
    try:
        (stored,) = db.upsert([given], ids=[id], metadata=[metadata], vectors=[{1: 1.0}])
    except SpladeLiteError:
        return "text refused"
    document = db.get(stored)
    assert document is not None
    assert (document.text, document.metadata) == (given, metadata)
    assert document.id == (stored if id is None else id)  # None: the database makes one
    assert stored in db
    return "text stored"


def rank(db: SpladeLite, source: random.Random) -> str:
    given = vector(source)
    try:
        db.upsert(["vector"], ids=["vector"], vectors=[given])
    except SpladeLiteError:
        return "vector refused"
    terms = dict(zip(*given, strict=True)) if isinstance(given, tuple) else given
    hits = db.search({int(term): 1.0 for term in terms}, 1000)
    found = {hit.id: hit.score for hit in hits}
    assert ("vector" in found) == bool(terms)
    if terms:
        expected = sum(float(weight) for weight in terms.values())
        largest = max(float(weight) for weight in terms.values())
        assert abs(found["vector"] - expected) <= len(terms) * largest / 200 + 1e-40  # float32 ends there
    return "vector stored"


def ask(db: SpladeLite, source: random.Random) -> str:
    query, k = source.choice((text, vector))(source), source.choice(COUNTS)
    least: Any = source.choice((None, 0, 1e9, math.nan, math.inf, "1", -5))
    try:
        hits = db.search(query, k, min_score=least)
    except SpladeLiteError:
        return "query refused"
    assert all(math.isfinite(hit.score) and hit.score > 0 for hit in hits)
    return "query answered"


def run(folder: Path, cases: int, seed: int) -> Tally:
    """So many cases, a third each of documents, vectors and queries."""
    tally = Tally()
    source = random.Random(seed)
    with SpladeLite(folder / "kb.db", WordModel(), tail_size=16, segment_size=256, durability="fast") as db:
        for number in range(cases):
            try:
                tally.note((store, rank, ask)[number % 3](db, source))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
                tally.failures.append(f"seed {seed}, case {number}: {error!r:.300}")
            tally.tried += 1
            if len(db) > 200:
                db.delete([id for _, id in zip(range(150), db, strict=False)])
        tally.failures += [str(finding) for finding in db.check()]
    return tally
