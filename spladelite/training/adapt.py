"""Tune a database's model to its own documents, without labels, and keep the change only if it helps.

Questions are made of the documents themselves (:mod:`spladelite.training.pseudo`), hard negatives are mined from the
database, and a tenth of the questions is held out. Only if the tuned model ranks their documents better is the database
moved to it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spladelite.errors import InvalidInput
from spladelite.training.config import TrainConfig
from spladelite.training.loop import Trained, train
from spladelite.training.mining import mine
from spladelite.training.pseudo import pseudo_data
from spladelite.training.report import needs

if TYPE_CHECKING:
    from spladelite import SpladeLite

DOCUMENTS = 2000
LEAST_EXAMPLES = 50
GENTLE = TrainConfig(epochs=2, learning_rate=5e-5, lambda_q=3e-4, lambda_d=3e-4, negatives=2)


@dataclass(frozen=True, slots=True)
class Adapted:
    """What an adaptation did.

    Attributes:
        trained: the training run; its folder holds the model whether the database uses it or not.
        kept: whether the database was moved to it.
    """

    trained: Trained
    kept: bool


def adapt(
    db: SpladeLite,
    folder: str | os.PathLike[str],
    config: TrainConfig = GENTLE,
    *,
    documents: int = DOCUMENTS,
    device: str | None = None,
    log: Callable[[str], object] = lambda _: None,
) -> Adapted:
    """Tune the database's model to its documents; re-encode the database if held-out questions rank better.

    Args:
        db: open for writing; its model is a folder or the bundled one.
        folder: where the tuned model is written. It must stay there: the database will refer to it.
        config: settings of the run; gentle ones by default.
        documents: how many are read, chosen at random.
        device: where to compute.
        log: gets a line a step.

    Raises:
        InvalidInput: too few documents that questions can be made of.
        ModelError: the database's model cannot be trained.
    """
    needs(device)  # before minutes of mining
    meta = db._meta
    if not meta.source:
        raise InvalidInput(
            f"the database was built with {meta.model}, given as an object; reencode it with a model folder first"
        )
    ids = np.array(db.sql("SELECT doc_id FROM document"), np.int64).reshape(-1)
    chosen = np.random.default_rng(config.seed).permutation(np.sort(ids))[:documents].tolist()
    rows = db.sql("SELECT text FROM document WHERE doc_id IN (SELECT value FROM json_each(?))", (str(chosen),))
    texts = [row[0] for row in rows]
    data = pseudo_data(texts, seed=config.seed)
    if len(data.examples) < LEAST_EXAMPLES:
        raise InvalidInput(
            f"only {len(data.examples)} questions could be made of {len(texts)} documents; at least {LEAST_EXAMPLES} "
            "are needed to tune a model and to tell whether it helps"
        )
    log(f"{len(data.examples)} questions out of {len(texts)} documents")
    data = replace(data, examples=mine(db, data.examples, count=2 * config.negatives, seed=config.seed))
    target = Path(folder)
    trained = train(
        data, target, config,
        model=None if meta.source == "bundled" else meta.source,
        device=device, source=f"pseudo-questions from {len(texts):,} documents", log=log,
    )  # fmt: skip
    assert trained.start is not None
    assert trained.best is not None
    better = trained.best.ndcg > trained.start.ndcg
    if better:
        db.reencode(target)
    return Adapted(trained, better)
