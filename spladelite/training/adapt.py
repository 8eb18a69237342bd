"""Tune a database's model to its own documents, without labels, and keep the change only if it helps.

Questions are made of the documents themselves (:mod:`spladelite.training.pseudo`), a tenth of the documents is held out
(at least 20, but never more than half), and hard negatives are mined from the database. Made questions are not what
people ask, and a model that is trained on them alone forgets the rest. So the model's own scores before the training
are distilled beside them, and the weights go 0.4 of the way to the trained ones only (``TrainConfig.blend``). The
database is moved to the tuned model only if it ranks the held-out documents better, and general questions
(:mod:`spladelite.training.probe`) about as well as before. What users found useful (``db.feedback``) is learned and
held out like made questions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spladelite.arguments import check_count
from spladelite.encoders.registry import load_encoder
from spladelite.encoders.routed import RoutedEncoder, StaticSide
from spladelite.errors import InvalidInput, ModelMismatch
from spladelite.training.config import Setup, TrainConfig
from spladelite.training.data import Validation, feedback_examples, hold_out
from spladelite.training.loop import Trained, train
from spladelite.training.measure import Measures, measure
from spladelite.training.mining import mine
from spladelite.training.probe import general_questions
from spladelite.training.pseudo import pseudo_data
from spladelite.training.report import needs
from spladelite.training.state import TRAINING, check_folder, finished
from spladelite.training.teachers import sparse, with_scores

if TYPE_CHECKING:
    from spladelite.database import SpladeLite

DOCUMENTS = 2000
LEAST_EXAMPLES = 50
MOST_FORGOTTEN = 0.01  # nDCG@10 on general questions
GENTLE = TrainConfig(
    contrastive=0.2, kl=1, epochs=2, learning_rate=5e-5, lambda_q=3e-4, lambda_d=3e-4, negatives=3, blend=0.4
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Adapted:
    """What an adaptation did.

    Attributes:
        before: measures of the database's model on the held-out questions, searched with the database's ``min_weight``.
        after: the same of the tuned model's export, which the database would use.
        general_before, general_after: the same on the questions that come with the package.
        trained: the training run; its folder holds the model whether the database uses it or not. Its own measures are
            those of the weights in training, not of the export.
    """

    before: Measures
    after: Measures
    general_before: Measures
    general_after: Measures
    trained: Trained

    @property
    def kept(self) -> bool:
        """Whether the database was moved to it: held-out questions gained, and general ones were not forgotten."""
        return self.after.ndcg > self.before.ndcg and not self.forgot

    @property
    def forgot(self) -> bool:
        """Whether general questions lost more than 0.01 nDCG@10."""
        return self.general_after.ndcg < self.general_before.ndcg - MOST_FORGOTTEN


def adapt(
    db: SpladeLite,
    folder: str | os.PathLike[str],
    config: TrainConfig = GENTLE,
    *,
    documents: int = DOCUMENTS,
    device: str | None = None,
    log: Callable[[str], object] = lambda _: None,
) -> Adapted:
    """Tune the database's model to its documents; re-encode the database if that helps and nothing is forgotten.

    What is compared is the model that the database has with the int8 export that it would get, each encoding questions
    and documents itself (``mode="splade"``, ``encoder="model"``), on the same held-out questions. The same call goes on
    with what was interrupted, also with the comparison and the re-encoding.

    Args:
        db: open for writing; its model is a folder or the bundled one.
        folder: where the tuned model is written: new or empty, or where the same adaptation was interrupted. It must
            stay there: the database will refer to it.
        config: settings of the run; gentle ones by default. A model with static query weights is trained with
            ``queries="static"`` whatever they say.
        documents: how many are read, chosen at random; at least 1.
        device: where to compute.
        log: gets a line a step.

    Raises:
        InvalidInput: too few documents that questions can be made of, or ``folder`` is in use.
        ModelError: the database's model cannot be loaded or trained.
    """
    needs(device)  # before minutes of mining
    documents = check_count(documents, "documents")
    meta = db._session.meta
    if not meta.source:
        raise InvalidInput(
            f"the database was built with {meta.model}, given as an object; reencode it with a model folder first"
        )
    target = Path(folder)
    if os.path.abspath(target) == meta.source:
        raise InvalidInput(f"the database already uses {target}; name a new folder to tune its model further")
    encoder = db._session.models.sparse.load()
    if isinstance(encoder, RoutedEncoder) and isinstance(encoder.query, StaticSide):
        config = replace(config, queries="static")
    ids = np.array(db.sql("SELECT doc_id FROM document"), np.int64).reshape(-1)
    chosen = np.random.default_rng(config.seed).permutation(np.sort(ids))[:documents].tolist()
    rows = db.sql("SELECT text FROM document WHERE doc_id IN (SELECT value FROM json_each(?))", (str(chosen),))
    texts = [row[0] for row in rows]
    labelled, judged = hold_out(feedback_examples(db), seed=config.seed)
    identity = hashlib.sha256(repr((meta.fingerprint, config, texts, labelled)).encode()).hexdigest()
    count = 2 * config.negatives
    origin = {"adaptation": identity, "mine": count, "mine_with": "splade"}
    facts = finished(target, {"origin": origin})
    data = pseudo_data(texts, seed=config.seed)
    assert data.validation is not None
    held = data.validation if judged is None else together(data.validation, judged)
    data = replace(data, examples=(*data.examples, *labelled), validation=held)
    if facts is not None:
        trained = _trained(target, facts)
    else:
        check_folder(target, {"origin": origin})
        if len(data.examples) < LEAST_EXAMPLES:
            raise InvalidInput(
                f"only {len(data.examples)} questions could be made of {len(texts)} documents; at least "
                f"{LEAST_EXAMPLES} are needed to tune a model and to tell whether it helps"
            )
        log(f"{len(data.examples)} questions, {len(labelled)} of them from feedback; {'; '.join(data.notes)}")
        mined = mine(db, data.examples, count=count, seed=config.seed)
        if config.distils:
            log(f"{encoder.name} scores its own hits, so that little of what it knows is forgotten")
            mined = with_scores(tuple(example for example in mined if example.negatives), sparse(encoder))
        data = replace(data, examples=mined)
        trained = train(
            data, target, config,
            Setup(model=None if meta.source == "bundled" else meta.source, device=device),
            source=f"pseudo-questions from {len(texts):,} documents", origin=origin, log=log,
        )  # fmt: skip
    before = measure(encoder, held, min_weight=meta.min_weight)
    log(f"the database's model: {before}")
    tuned = load_encoder(target)
    after = measure(tuned, held, min_weight=meta.min_weight)
    log(f"the tuned model: {after}")
    now = db.stats()
    if now.fingerprint != meta.fingerprint:
        raise ModelMismatch(
            f"the database has moved to {now.model} since this call began, and {meta.model} is what {target} was "
            "compared with; call adapt again"
        )
    general = general_questions()
    general_before, general_after = (measure(model, general) for model in (encoder, tuned))
    log(f"general questions: nDCG@10 {general_before.ndcg:.4f}, by the tuned model {general_after.ndcg:.4f}")
    done = Adapted(before, after, general_before, general_after, trained)
    if done.kept:
        db.reencode(target)
    return done


def together(first: Validation, second: Validation) -> Validation:
    """All queries of both over all documents of both; equal texts are one document."""
    ids = {text: id for id, text in first.corpus.items()}
    place = {id: ids.setdefault(text, f"user {id}") for id, text in second.corpus.items()}
    qrels = {f"user {q}": {place[id]: grade for id, grade in grades.items()} for q, grades in second.qrels.items()}
    return Validation(
        first.queries | {f"user {q}": text for q, text in second.queries.items()},
        {id: text for text, id in ids.items()},
        first.qrels | qrels,
    )


def _trained(target: Path, facts: Mapping[str, Any]) -> Trained:
    """What an earlier call trained; ``facts`` are out of its ``training.json``."""
    try:
        start, best = Measures(**facts["before"]), Measures(**facts["after"])
        return Trained(target, start, best, facts["epoch"], facts["steps"], 0.0)
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"{target / TRAINING}: damaged: {error!r}; name a new folder") from error
