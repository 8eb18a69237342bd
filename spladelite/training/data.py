"""What a model is trained on: the examples of a file or a BEIR folder, and queries that are held out of them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spladelite.arguments import check_unicode
from spladelite.errors import InvalidInput, NotADatabase, WrongType
from spladelite.evaluation import beir
from spladelite.evaluation.feedback import judged_by_users, needs_feedback
from spladelite.evaluation.trec import Qrels
from spladelite.training.examples import Example, kind_of, read_examples

if TYPE_CHECKING:
    from spladelite.database import SpladeLite

__all__ = ["Example", "TrainingData", "Validation", "as_collection", "hold_out", "read_examples", "read_training_data"]

# A measure that is taken after each epoch must not take longer than the epoch: encoding is what costs.
VALIDATION_QUERIES = (20, 200)
VALIDATION_DOCUMENTS = 1000
VALIDATION_SHARE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Judged queries that are not trained on.

    Attributes:
        queries: ``{id: text}``, each with a relevant document in ``corpus``.
        corpus: ``{id: text}``, what is searched.
        qrels: ``{query id: {document id: grade}}``.
        without_own: no query is to find the document with its own id, as in a BEIR folder.
    """

    queries: dict[str, str]
    corpus: dict[str, str]
    qrels: Qrels
    without_own: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Everything that a training run reads.

    Attributes:
        examples: what is trained on.
        corpus: the distinct documents to mine negatives from: of a BEIR folder its corpus, of a file its documents.
        validation: judged queries that are not among the examples; None where there are too few.
        notes: what was left out or held out, in words; each with its count.
    """

    examples: tuple[Example, ...]
    corpus: tuple[str, ...]
    validation: Validation | None
    notes: tuple[str, ...] = ()


def read_training_data(
    source: str | os.PathLike[str],
    *,
    validation: str | os.PathLike[str] | float | None = None,
    seed: int = 0,
) -> TrainingData:
    """Examples and validation queries of a file, a BEIR folder with ``qrels/train.tsv``, or a database's feedback.

    In a BEIR folder, and in a database, each pair of a query and a document judged above 0 is an example; the documents
    that are judged 0 for the query are its negatives.

    Args:
        source: a .jsonl or .tsv file (also .gz), a BEIR folder, or a SpladeLite database, which is only read.
        validation: where the validation queries come from. A path: a BEIR folder's dev split, or a file of examples. A
            number: this share of the training queries, chosen at random, at most 200. None: the source's dev split if
            there is one, else a tenth of its queries, at least 20 and at most 200, but never more than half of them.
            0: there are none. All training examples of a validation query are left out.
        seed: of all random choices.

    Raises:
        InvalidInput: nothing to train on, or a file that is not what it should be; names the line.
        WrongType: ``validation`` is none of these.
    """
    if not isinstance(validation, str | os.PathLike | int | float | None) or isinstance(validation, bool):
        raise WrongType(f"validation is of type {type(validation).__name__}; give a path, a share of the queries, None")
    if isinstance(validation, int | float) and not 0 <= validation < 1:
        raise InvalidInput(f"validation is {validation}; a share of the queries is at least 0 and less than 1")
    folder = Path(source)
    notes: list[str] = []
    if folder.is_dir():
        train = _read_split(folder, "train")
        examples = _examples_of(train, os.fspath(source), notes)
    elif kind_of(source) is None:
        train = _read_database(source)
        examples = _examples_of(train, os.fspath(source), notes)
    else:
        examples = list(read_examples(source))
        train = as_collection(examples)
    if validation is None and (folder / "qrels" / "dev.tsv").is_file():
        validation = folder
    held: Validation | None = None
    if isinstance(validation, str | os.PathLike):
        held = limited(_read_validation(validation, folder, train), seed)
    elif validation != 0:
        held = _choose(train, validation, seed)
    if held is not None:
        kept = _without(examples, held)
        if validation is None or isinstance(validation, float):
            notes.append(
                f"{len(held.queries)} of {len(_answerable(train))} queries held out for validation, {len(kept)} of "
                f"{len(examples)} examples left to train on"
            )
        elif len(kept) < len(examples):
            notes.append(f"{len(examples) - len(kept)} examples left out, whose queries are validation queries")
        examples = kept
    if not examples:
        raise InvalidInput(f"{os.fspath(source)}: nothing is left to train on once the validation queries are out")
    corpus = tuple(dict.fromkeys(text for text in train.corpus.values() if text))
    return TrainingData(tuple(examples), corpus, held, tuple(notes))


def as_collection(examples: Sequence[Example], corpus: Sequence[str] = ()) -> Validation:
    """Examples as judged queries: equal texts are one, positives are graded 1, negatives 0; ``corpus`` comes on top.

    Ids are numbers in the order of first occurrence.
    """
    queries: dict[str, str] = {}
    documents: dict[str, str] = {}
    qrels: Qrels = {}
    for example in examples:
        grades = qrels.setdefault(queries.setdefault(example.query, str(len(queries))), {})
        for text in example.negatives:
            grades.setdefault(documents.setdefault(text, str(len(documents))), 0)
        grades[documents.setdefault(example.positive, str(len(documents)))] = 1
    for text in corpus:
        documents.setdefault(text, str(len(documents)))
    return Validation({id: text for text, id in queries.items()}, {id: text for text, id in documents.items()}, qrels)


# --- databases -------------------------------------------------------------------------------------------------------


def _read_database(path: str | os.PathLike[str]) -> Validation:
    """All documents, and what users found useful among them."""
    from spladelite.database import SpladeLite

    try:
        db = SpladeLite(path, read_only=True)
    except NotADatabase as error:
        raise InvalidInput(
            f"{error}; training files are named .jsonl or .tsv, also with .gz, and a folder is a BEIR folder"
        ) from error
    with db:
        queries, judgments = needs_feedback(db)
        return Validation(queries, dict(db.sql("SELECT id, text FROM document ORDER BY doc_id")), judgments)


def feedback_examples(db: SpladeLite) -> tuple[Example, ...]:
    """An example for each document that users found useful for a query, with those that they did not; maybe none."""
    queries, judgments = judged_by_users(db)
    ids = {id for grades in judgments.values() for id in grades}
    corpus = {id: document.text for id in ids if (document := db.get(id)) is not None}
    return tuple(_examples_of(Validation(queries, corpus, judgments), db.path, [])) if queries else ()


# --- BEIR folders ----------------------------------------------------------------------------------------------------


def _read_split(folder: Path, split: str) -> Validation:
    queries, corpus = beir.read_queries(folder), dict(beir.read_corpus(folder))
    found = Validation(queries, corpus, beir.read_judgments(folder, split), without_own=True)
    for kind, texts in (("query", found.queries), ("document", found.corpus)):
        for id, text in texts.items():
            check_unicode(text, f"{folder}: {kind} {id!r}")
    return found


def _examples_of(train: Validation, place: str, notes: list[str]) -> list[Example]:
    """An example for each relevant document that is there. Published folders judge some that are missing or empty."""
    examples: list[Example] = []
    missing = 0
    for id, grades in train.qrels.items():
        query = train.queries.get(id, "").strip()
        texts = {document: train.corpus.get(document, "") for document in grades}
        positives = [texts[document] for document, grade in grades.items() if grade > 0]
        known = [text for text in positives if text and query]
        missing += len(positives) - len(known)
        distinct = dict.fromkeys(text for document, text in texts.items() if text and grades[document] <= 0)
        negatives = tuple(text for text in distinct if text not in known)
        examples += [Example(query, text, negatives) for text in dict.fromkeys(known)]
    if missing:
        notes.append(f"{missing} judgments left out, whose query or document is missing or empty")
    if not examples:
        raise InvalidInput(f"{place}: qrels/train.tsv judges no document above 0 that the folder has; nothing to train")
    return examples


def _read_validation(path: str | os.PathLike[str], source: Path, train: Validation) -> Validation:
    if not Path(path).is_dir():
        return as_collection(read_examples(path), tuple(text for text in train.corpus.values() if text))
    same = source.is_dir() and source.samefile(path)
    found = replace(train, qrels=beir.read_judgments(path, "dev")) if same else _read_split(Path(path), "dev")
    if not _answerable(found):
        raise InvalidInput(f"{os.fspath(path)}: qrels/dev.tsv judges no document above 0 that the folder has")
    return found


# --- holding out -----------------------------------------------------------------------------------------------------


def hold_out(
    examples: Sequence[Example], corpus: Sequence[str] = (), *, share: float | None = None, seed: int = 0
) -> tuple[tuple[Example, ...], Validation | None]:
    """Examples without a share of their queries, and these as validation queries over a sample of the documents.

    Args:
        examples: any.
        corpus: documents that are searched beside those of the examples.
        share: of the queries; None: a tenth, at least 20 and at most 200, but never more than half.
        seed: of the choice.

    Returns:
        What is left, and None in place of the validation if there are fewer than two queries.
    """
    held = _choose(as_collection(examples, corpus), share, seed)
    if held is None:
        return tuple(examples), None
    return tuple(_without(examples, held)), held


def _without(examples: Sequence[Example], held: Validation) -> list[Example]:
    asked = {_key(query) for query in held.queries.values()}
    return [example for example in examples if _key(example.query) not in asked]


def held_out_count(count: int) -> int:
    """How many of so many queries are held out: a tenth, at least 20 and at most 200, but never more than half."""
    least, most = VALIDATION_QUERIES
    return min(max(round(VALIDATION_SHARE * count), least), most, count // 2)


def _choose(judged: Validation, share: float | None, seed: int) -> Validation | None:
    """Some of the queries that have a relevant document; None where there is only one such query."""
    alike: dict[str, list[str]] = {}  # queries that are spelled alike go together
    for id in _answerable(judged):
        alike.setdefault(_key(judged.queries[id]), []).append(id)
    groups = list(alike.values())
    total = len(groups)
    count = held_out_count(total) if share is None else min(math.ceil(share * total), total - 1)
    if count < 1:
        return None
    picked = np.random.default_rng(seed).permutation(total)[:count]
    ids = [id for i in sorted(picked.tolist()) for id in groups[i]]
    return limited(replace(judged, qrels={id: judged.qrels[id] for id in ids}), seed)


def limited(judged: Validation, seed: int) -> Validation:
    """At most 200 answerable queries over their judged documents, filled up at random to 1,000 documents.

    The figures are therefore higher than on the whole corpus; they are for comparing epochs with each other.
    """
    random = np.random.default_rng(seed)
    ids = _answerable(judged)
    ids = [ids[i] for i in sorted(random.permutation(len(ids))[: VALIDATION_QUERIES[1]].tolist())]
    qrels = {id: {d: grade for d, grade in judged.qrels[id].items() if judged.corpus.get(d)} for id in ids}
    documents = {d: judged.corpus[d] for grades in qrels.values() for d in grades}
    answers = [judged.corpus[d] for grades in qrels.values() for d, grade in grades.items() if grade > 0]
    others = [id for id, text in judged.corpus.items() if text and id not in documents]
    for i in random.permutation(len(others)).tolist():
        if len(documents) >= VALIDATION_DOCUMENTS:
            break
        text = judged.corpus[others[i]]
        if not any(holds(text, answer) for answer in answers):  # else it answers as well, and nobody has judged it
            documents[others[i]] = text
    return Validation({id: judged.queries[id] for id in ids}, documents, qrels, judged.without_own)


def holds(text: str, answer: str) -> bool:
    """Whether a document is the answer or a whole of which it is a part; short answers stand in documents by chance."""
    return answer == text or (len(answer) >= 40 and answer in text)


def _answerable(judged: Validation) -> list[str]:
    """The queries with a text and a relevant document."""
    return [
        id
        for id, grades in judged.qrels.items()
        if judged.queries.get(id, "").strip() and any(g > 0 and judged.corpus.get(d) for d, g in grades.items())
    ]


def _key(query: str) -> str:
    """What two spellings of a query share."""
    return " ".join(query.casefold().split())
