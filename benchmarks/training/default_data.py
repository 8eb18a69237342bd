"""What a default model is trained on: queries of several domains, each with candidates that BM25 finds.

Everything is drawn with one seed; nothing of what judges in the end is read (see ``default.py``).
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import apsw

from spladelite.evaluation.beir import read_corpus, read_judgments, read_queries

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from stdlib_search import docstrings

SEED = 18
CANDIDATES = 5  # texts a query
LONGEST = 1100  # characters of a text: about the model's window
QUESTIONS_ANSWERED, QUESTIONS_OPEN, DEV_QUESTIONS = 5000, 1500, 250
MEDICAL, MEDICAL_DOCUMENTS, DEV_MEDICAL = 1500, 4000, 200
ABSTRACTS, TITLES = 2500, 700
DOCSTRINGS = 1500
TEXTS = 10_240  # that the teachers read, of about 49,000 that are gathered: more for longer runs
DEV_QUERIES, DEV_TEXTS = 126, 900  # of each collection that chooses
KEYWORDS = 0.25  # share of questions that are asked as keywords

_STOP = frozenset(
    """
    a an and are as at be been by can could did do does for from had has have how i if in into is it its may me my of
    on or s should so than that the their them there these they this those to was we were what when where which who
    whom whose why will with would you your most many much name named called
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Asked:
    """A query and the places of its candidates in the pool of texts; the first ``answers`` of them are labelled."""

    query: str
    texts: tuple[int, ...]
    answers: int
    domain: str

    def split(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The answers and the other texts."""
        return self.texts[: self.answers], self.texts[self.answers :]


@dataclass
class Pool:
    """All texts, the queries to train on, and those that choose: ``{name: [(query, relevant, searched)]}``."""

    texts: list[str]
    train: list[Asked]
    dev: dict[str, dict[str, list[Any]]]

    def place(self, text: str) -> int:
        if text not in self._places:
            self._places[text] = len(self.texts)
            self.texts.append(text)
        return self._places[text]

    def __post_init__(self) -> None:
        self._places = {text: i for i, text in enumerate(self.texts)}

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Pool:
        row = json.loads(path.read_text())
        return cls(row["texts"], [Asked(**one) for one in row["train"]], row["dev"])


class Bm25:
    """FTS5 over some texts: the candidates of a query."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.connection = apsw.Connection(":memory:")
        self.connection.execute("CREATE VIRTUAL TABLE t USING fts5(text, content='', tokenize='porter unicode61')")
        self.connection.executemany("INSERT INTO t(rowid, text) VALUES (?, ?)", enumerate(texts))

    def find(self, query: str, count: int) -> list[str]:
        words = [word for word in re.findall(r"\w+", query.lower()) if word not in _STOP] or re.findall(r"\w+", query)
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in dict.fromkeys(words))
        rows = self.connection.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rank LIMIT ?", (match, count))
        return [self.texts[row[0]] for row in rows]


def keywords(query: str) -> str:
    """A question as people type it into a search box."""
    words = [word for word in re.findall(r"[\w'-]+", query) if word.lower() not in _STOP]
    return " ".join(words) if len(words) >= 2 else query


def gather(data: Path) -> tuple[Pool, Pool]:
    """What is trained on, and what chooses."""
    drawn = random.Random(SEED)
    pool = Pool([], [], {})
    for part in (questions, wikiqa, medquad, scifact, stdlib):
        part(data, pool, drawn)
        print(f"{part.__name__}: {len(pool.train):,} queries, {len(pool.texts):,} texts", flush=True)
    drawn.shuffle(pool.train)
    return to_train(pool), to_choose(pool)


def to_train(pool: Pool) -> Pool:
    """All queries over as many texts as the teachers have time for: those of the first queries."""
    less = Pool([], [], {})
    for one in pool.train:
        if len(less.texts) < TEXTS:
            for i in one.texts:
                less.place(pool.texts[i])
    known = {text: i for i, text in enumerate(less.texts[:TEXTS])}
    del less.texts[TEXTS:]
    for one in pool.train:
        here = [[known[text] for i in some if (text := pool.texts[i]) in known] for some in one.split()]
        less.train.append(replace(one, texts=(*here[0], *here[1]), answers=len(here[0])))
    return less


def to_choose(pool: Pool) -> Pool:
    """Fewer queries of each collection, over fewer texts."""
    drawn, less = random.Random(SEED), Pool([], [], {})
    for name, dev in pool.dev.items():
        relevant = dev["relevant"][:DEV_QUERIES]
        asked = [
            (query, [pool.texts[i] for i in places]) for query, places in zip(dev["queries"], relevant, strict=False)
        ]
        others = drawn.sample(dev["searched"], min(DEV_TEXTS, len(dev["searched"])))
        judge(less, name, asked, (pool.texts[i] for i in others))
    return less


def ask(
    pool: Pool, drawn: random.Random, query: str, answers: Iterable[str], others: Iterable[str], domain: str
) -> None:
    first = [cut(text) for text in dict.fromkeys(answers)][: CANDIDATES - 1]
    rest = [text for text in dict.fromkeys(map(cut, others)) if text and text not in first]
    drawn.shuffle(rest)
    chosen = first + rest[: CANDIDATES - len(first)]
    if len(chosen) < CANDIDATES:
        return
    if domain != "claims" and drawn.random() < KEYWORDS:
        query = keywords(query)
    pool.train.append(Asked(query, tuple(map(pool.place, chosen)), len(first), domain))


def cut(text: str) -> str:
    return text[:LONGEST].strip()


def judge(pool: Pool, name: str, asked: Sequence[tuple[str, Iterable[str]]], searched: Iterable[str]) -> None:
    """Queries that choose: each with its relevant texts, all of them over the same texts."""
    queries = [query for query, _ in asked]
    relevant = [sorted({pool.place(cut(text)) for text in texts}) for _, texts in asked]
    places = sorted({pool.place(cut(text)) for text in searched if cut(text)}.union(*relevant))
    pool.dev[name] = {"queries": list(queries), "relevant": list(relevant), "searched": list(places)}


def questions(data: Path, pool: Pool, drawn: random.Random) -> None:
    with gzip.open(data / "questions" / "questions.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    corpus = dict(read_corpus(data / "questions"))
    drawn.shuffle(rows)
    answered = [row for row in rows if row["positives"]]
    chosen = answered[:QUESTIONS_ANSWERED] + [row for row in rows if not row["positives"]][:QUESTIONS_OPEN]
    for row in chosen:
        query = row["query"].strip('" ')
        positives = [corpus[key] for key in row["positives"][:2]]
        ask(pool, drawn, query, positives, (corpus[key] for key in row["candidates"]), "questions")
    held = answered[QUESTIONS_ANSWERED:][:DEV_QUESTIONS]
    asked = [(row["query"].strip('" '), [corpus[key] for key in row["positives"]]) for row in held]
    judge(pool, "questions", asked, (corpus[key] for row in held for key in row["candidates"]))


def wikiqa(data: Path, pool: Pool, drawn: random.Random) -> None:
    corpus, texts = dict(read_corpus(data / "wikiqa")), read_queries(data / "wikiqa")
    finder = Bm25(list(corpus.values()))
    for query, grades in read_judgments(data / "wikiqa", "train").items():
        answers = [corpus[key] for key, grade in grades.items() if grade > 0]
        others = [corpus[key] for key, grade in grades.items() if grade <= 0]
        ask(pool, drawn, texts[query], answers, [*others, *finder.find(texts[query], 8)], "wikiqa")
    judgments = read_judgments(data / "wikiqa", "dev")
    asked = [
        (texts[query], [corpus[key] for key, grade in grades.items() if grade > 0])
        for query, grades in judgments.items()
        if any(grade > 0 for grade in grades.values())
    ]
    judge(pool, "wikiqa", asked, (corpus[key] for grades in judgments.values() for key in grades))


def medquad(data: Path, pool: Pool, drawn: random.Random) -> None:
    corpus, texts = dict(read_corpus(data / "medquad")), read_queries(data / "medquad")
    asked = [
        (texts[query], [corpus[key] for key, grade in grades.items() if grade > 0][:1])
        for query, grades in read_judgments(data / "medquad", "test").items()
    ]
    drawn.shuffle(asked)
    others = list(corpus.values())
    drawn.shuffle(others)
    documents = [text for _, answers in asked[:MEDICAL] for text in answers]
    documents += others[: MEDICAL_DOCUMENTS - len(documents)]
    finder = Bm25(list(dict.fromkeys(map(cut, documents))))
    for query, answers in asked[:MEDICAL]:
        ask(pool, drawn, query, answers, finder.find(query, 15), "medicine")
    held = asked[MEDICAL : MEDICAL + DEV_MEDICAL]
    judge(pool, "medquad", held, others[-800:])


def scifact(data: Path, pool: Pool, drawn: random.Random) -> None:
    """Half of the training claims, and titles with their abstracts; the other half of the claims chooses."""
    corpus, texts = dict(read_corpus(data / "scifact")), read_queries(data / "scifact")
    claims = [
        (texts[query], [corpus[key] for key, grade in grades.items() if grade > 0])
        for query, grades in read_judgments(data / "scifact", "train").items()
    ]
    drawn.shuffle(claims)
    half = len(claims) // 2
    others = list(corpus.values())
    drawn.shuffle(others)
    abstracts = list(dict.fromkeys(cut(text) for _, answers in claims for text in answers))
    abstracts += [cut(text) for text in others[: ABSTRACTS - len(abstracts)]]
    finder = Bm25(abstracts)
    for query, answers in claims[half:]:
        ask(pool, drawn, query, answers, finder.find(query, 15), "claims")
    for text in drawn.sample(abstracts, TITLES):
        sentences = re.split(r"(?<=[.!?])\s+", text)
        query = sentences[0] if drawn.random() < 0.5 else drawn.choice(sentences)
        rest = text.replace(query, "", 1).strip()
        if len(query.split()) >= 4 and len(rest.split()) >= 20:
            ask(pool, drawn, query, [rest], [hit for hit in finder.find(query, 12) if hit != text], "claims")
    judge(pool, "scifact", claims[:half], abstracts)


def stdlib(_data: Path, pool: Pool, drawn: random.Random) -> None:
    """The standard library's docstrings: the first line asks for what follows, or for the docstring itself."""
    found = [(name, text) for name, text in docstrings() if len(text.split()) >= 4]
    texts = [cut(f"{name.rpartition('.')[2].replace('_', ' ')}: {text}") for name, text in found]
    finder = Bm25(texts)
    asked = []
    for text in dict.fromkeys(texts):
        name, _, doc = text.partition(": ")
        line, _, rest = doc.partition("\n")
        line = line.strip().rstrip(".")
        if not 3 <= len(line.split()) <= 15 or "(" in line:
            continue
        answer = f"{name}: {rest.strip()}" if len(rest.split()) >= 12 else text
        asked.append((line[0].lower() + line[1:], answer, text))
    drawn.shuffle(asked)
    for query, answer, text in asked[:DOCSTRINGS]:
        ask(pool, drawn, query, [answer], [hit for hit in finder.find(query, 15) if hit != text], "docstrings")
    held = [(query, [answer]) for query, answer, text in asked[DOCSTRINGS:] if answer != text][:150]
    judge(pool, "stdlib", held, drawn.sample(texts, 700))
