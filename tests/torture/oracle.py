"""Random operations on a database, compared after each of them with brute force: same ids, same scores to the bit."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spladelite import SpladeLite
from spladelite.documents.ingest import passage_spans
from torture import Tally
from torture.words import WordModel, random_text, random_vector

MODEL = WordModel()
GROUPS = 4


@dataclass(frozen=True)
class Passage:
    span: tuple[int, int]
    terms: list[int]
    impacts: list[np.float32]
    scale: np.float32


@dataclass(frozen=True)
class Entry:
    text: str
    metadata: dict[str, Any]
    passages: list[Passage]


def passage_of(vector: dict[int, float], span: tuple[int, int]) -> Passage:
    terms = sorted(vector)
    weights = np.array([vector[term] for term in terms], np.float32)
    smallest = np.nextafter(np.float32(0), np.float32(1))
    scale = max(weights.max(initial=0) / np.float32(255), smallest)
    impacts = np.clip(np.rint(weights / scale), 1, 255).astype(np.float32)
    return Passage(span, terms, list(impacts), np.float32(scale))


def entry_of(text: str, metadata: dict[str, Any] | None, vector: dict[int, float] | None) -> Entry:
    if vector is not None:
        return Entry(text, metadata or {}, [passage_of(vector, (0, len(text)))])
    spans = passage_spans(text, MODEL)
    rows = MODEL.encode_documents([text[start:end] for start, end in spans]).dicts()
    kept = [{term: weight for term, weight in row.items() if np.float32(weight) >= np.float32(0.3)} for row in rows]
    return Entry(text, metadata or {}, [passage_of(row, span) for row, span in zip(kept, spans, strict=True)])


def score(passage: Passage, query: dict[int, float]) -> np.float32:
    total = np.float32(0)
    for term, impact in zip(passage.terms, passage.impacts, strict=True):
        if term in query:
            total = np.float32(total + np.float32(np.float32(query[term]) * impact))
    return np.float32(total * passage.scale)


class Oracle:
    """The right answers: documents in the order in which they were stored."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def put(self, id: str, entry: Entry) -> None:
        old = self.entries.get(id)
        if old is not None and old.text == entry.text and same_vectors(old, entry):
            self.entries[id] = entry  # keeps its place
            return
        self.entries.pop(id, None)
        self.entries[id] = entry

    def search(
        self, query: dict[int, float], k: int, min_score: float, group: int | None
    ) -> list[tuple[str, float, tuple[int, int]]]:
        found = []
        for place, (id, entry) in enumerate(self.entries.items()):
            if group is not None and entry.metadata.get("group") != group:
                continue
            scores = [score(passage, query) for passage in entry.passages]
            best = int(np.argmax(scores))
            if scores[best] > 0 and scores[best] >= np.float32(min_score):
                found.append((-float(scores[best]), place, id, entry.passages[best].span))
        return [(id, -negative, span) for negative, _, id, span in sorted(found)[:k]]


def same_vectors(a: Entry, b: Entry) -> bool:
    return [(p.terms, p.impacts, p.scale) for p in a.passages] == [(p.terms, p.impacts, p.scale) for p in b.passages]


class Session:
    """One database, its oracle, and what may be done to both."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.path = folder / "kb.db"
        self.tail_size = self.random.choice((1, 3, 4, 8))
        self.segment_size = self.random.choice((4, 8, 16, 64))
        self.db = self.open()
        self.other: SpladeLite | None = None
        self.oracle = Oracle()
        self.moves = 0
        self.counter = 0

    def open(self) -> SpladeLite:
        return SpladeLite(self.path, MODEL, tail_size=self.tail_size, segment_size=self.segment_size)

    @property
    def handle(self) -> SpladeLite:
        if self.other is not None and self.random.random() < 0.4:
            return self.other
        return self.db

    def some_ids(self, most: int) -> list[str]:
        ids = list(self.oracle.entries)
        return self.random.sample(ids, min(len(ids), self.random.randint(1, most)))

    def fresh(self, count: int) -> tuple[list[str], list[str], list[dict[str, Any]]]:
        texts, metadata = [], []
        for _ in range(count):
            self.counter += 1
            texts.append(f"{self.counter}. {random_text(self.random, self.random.choice((1, 3, 5, 9, 20)))}")
            metadata.append({"group": self.random.randrange(GROUPS), "n": self.counter})
        return [f"d{self.counter - count + i + 1}" for i in range(count)], texts, metadata

    def store(self, method: str, ids: list[str]) -> None:
        _, texts, metadata = self.fresh(len(ids))
        vectors = [random_vector(self.random) for _ in ids] if self.random.random() < 0.5 else None
        getattr(self.handle, method)(texts, ids=ids, metadata=metadata, vectors=vectors)
        for i, id in enumerate(ids):
            self.oracle.put(id, entry_of(texts[i], metadata[i], vectors[i] if vectors else None))

    def add(self) -> None:
        ids = self.fresh(self.random.choice((1, 1, 2, 5, 30)))[0]
        self.store("add", ids)

    def upsert(self) -> None:
        self.store("upsert", sorted({*self.some_ids(4), *self.fresh(self.random.randint(0, 2))[0], "always"}))

    def update_text(self) -> None:
        for id in self.some_ids(1):
            _, [text], _ = self.fresh(1)
            vector = random_vector(self.random) if self.random.random() < 0.5 else None
            self.handle.update(id, text, vector=vector)
            self.oracle.put(id, entry_of(text, self.oracle.entries[id].metadata, vector))

    def update_metadata(self) -> None:
        for id in self.some_ids(1):
            old = self.oracle.entries[id]
            metadata = {"group": self.random.randrange(GROUPS)}
            self.handle.update(id, metadata=metadata)
            self.oracle.entries[id] = Entry(old.text, metadata, old.passages)

    def delete(self) -> None:
        ids = self.some_ids(self.random.choice((1, 3, 20)))
        assert self.handle.delete([*ids, "never there"]) == len(ids)
        for id in ids:
            del self.oracle.entries[id]

    def delete_where(self) -> None:
        group = self.random.randrange(GROUPS)
        ids = [id for id, entry in self.oracle.entries.items() if entry.metadata.get("group") == group]
        assert self.handle.delete(where={"group": group}) == len(ids)
        for id in ids:
            del self.oracle.entries[id]

    def optimize(self) -> None:
        self.handle.optimize()

    def reopen(self) -> None:
        self.db.close()
        self.db = self.open()

    def second_handle(self) -> None:
        if self.other is None:
            self.other = self.open()
        else:
            self.other.close()
            self.other = None

    def crash(self) -> None:
        """Go on with what a killed process would have left: the files as they are now, log included."""
        self.moves += 1
        folder = self.folder / f"crash{self.moves}"
        folder.mkdir()
        # Another process copies: closing a plain handle here would drop this process's locks.
        for name in ("kb.db-wal", "kb.db"):
            if (self.path.parent / name).exists():
                subprocess.run(["cp", str(self.path.parent / name), str(folder / name)], check=True)
        self.close()
        self.path = folder / "kb.db"
        self.db = self.open()

    def rollback(self) -> None:
        """A batch that fails in the middle leaves nothing behind."""
        ids, texts, metadata = self.fresh(3)
        taken = self.some_ids(1)
        if taken:
            try:
                self.handle.add([*texts, "other"], ids=[*ids, taken[0]], metadata=[*metadata, {}])
            except ValueError:
                return
            raise AssertionError("an id conflict was not noticed")

    def close(self) -> None:
        for handle in (self.db, self.other):
            if handle is not None:
                handle.close()
        self.other = None

    def compare(self) -> None:
        handle = self.handle
        assert list(handle) == list(self.oracle.entries), "ids, or their order"
        query = random_vector(self.random, self.random.choice((1, 4, 30)))
        k = self.random.choice((1, 3, 10, 1000))
        group = self.random.choice((None, None, self.random.randrange(GROUPS)))
        min_score = self.random.choice((0.0, 0.0, 2.5))
        hits = handle.search(query, k, where=None if group is None else {"group": group}, min_score=min_score)
        found = [(hit.id, hit.score, (hit.passage.start, hit.passage.end)) for hit in hits]
        expected = self.oracle.search(query, k, min_score, group)
        assert found == expected, f"search {query} k={k} group={group}: {found[:5]} instead of {expected[:5]}"
        for hit in hits[:3]:
            entry = self.oracle.entries[hit.id]
            assert (hit.text, hit.metadata) == (entry.text, entry.metadata), f"content of {hit.id}"

    OPERATIONS = (
        *("add",) * 6,
        *("upsert",) * 4,
        *("update_text",) * 2,
        *("delete",) * 3,
        *("reopen", "second_handle", "crash", "optimize", "delete_where", "update_metadata", "rollback"),
    )


def run(folder: Path, operations: int, seed: int) -> Tally:
    """So many operations on databases with random sizes; a new one every 100."""
    tally = Tally()
    session: Session | None = None
    for number in range(operations):
        if number % 100 == 0:
            if session is not None:
                session.close()
            place = folder / str(number)
            os.makedirs(place)
            session = Session(place, seed + number)
        assert session is not None
        operation = session.random.choice(Session.OPERATIONS)
        try:
            getattr(session, operation)()
            session.compare()
            if number % 20 == 19:
                findings = session.handle.check()
                assert not findings, f"check(): {findings[:3]}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            tally.failures.append(f"seed {seed}, operation {number} ({operation}): {error!r}")
            return tally
        tally.tried += 1
        tally.note(operation)
    if session is not None:
        session.close()
    return tally
