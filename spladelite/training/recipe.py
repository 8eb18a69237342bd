"""Fine-tuning as a whole: read the data, mine negatives, have teachers score, train; several rounds of it.

A second round mines with the model of the first, as SPLADE++ does with its self-distillation rounds (Formal et al.
2022): its negatives are those that the model itself gets wrong.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from spladelite.encoders.folder import NAME
from spladelite.errors import InvalidInput
from spladelite.training.config import TrainConfig
from spladelite.training.data import Example, TrainingData
from spladelite.training.loop import Trained, train
from spladelite.training.mining import mine
from spladelite.training.report import needs
from spladelite.training.teachers import Teacher, cached, with_scores

NEGATIVES = 16


@dataclass(frozen=True, slots=True)
class Recipe:
    """What happens before and between the training runs.

    Attributes:
        mine: hard negatives a query to mine from the corpus; 0 to use only those that are given. None is 16, or 0 for
            examples that come with scores, since mined negatives have none.
        mine_with: "splade", "bm25" or "hybrid".
        rounds: training runs; each mines with the model of the one before.

    Raises:
        InvalidInput: a value out of its range.
    """

    mine: int | None = None
    mine_with: str = "splade"
    rounds: int = 1

    def __post_init__(self) -> None:
        if self.mine is not None and self.mine < 0:
            raise InvalidInput(f"mine is {self.mine}; expected a number of negatives, or 0 for none")
        if self.mine_with not in ("splade", "bm25", "hybrid"):
            raise InvalidInput(f"mine_with is {self.mine_with!r}; expected splade, bm25 or hybrid")
        if self.rounds < 1 or (self.rounds > 1 and self.mine == 0):
            raise InvalidInput(f"rounds is {self.rounds}; expected at least 1, and mine above 0 for more than one")


def fine_tune(
    data: TrainingData,
    folder: str | os.PathLike[str],
    config: TrainConfig | None = None,
    recipe: Recipe | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    teacher: Teacher | None = None,
    pooling: str | None = None,
    precision: str = "int8",
    device: str | None = None,
    source: str = "",
    log: Callable[[str], object] = lambda _: None,
) -> Trained:
    """Mine, score and train; the last round's model is in ``folder``, the earlier ones' in ``folder-round1``, ...

    The same call goes on with an interrupted run. See :func:`~spladelite.training.loop.train` for the other arguments.

    Args:
        data: examples and the corpus to mine from.
        folder: of the result.
        config: of each round.
        recipe: what to mine.
        model: to start from; None for the bundled model.
        teacher: scores the examples where they have no scores; its scores are kept in ``folder.scores``.

    Raises:
        InvalidInput, ModelError, TrainingError: as ``train``.
    """
    config, recipe = config or TrainConfig(), recipe or Recipe()
    needs(device)  # before minutes of mining
    target = Path(folder)
    current: str | os.PathLike[str] | None = model
    for number in range(1, recipe.rounds + 1):
        last = number == recipe.rounds
        goal = target if last else target.with_name(f"{target.name}-round{number}")
        if not last and (goal / NAME).exists():
            log(f"round {number}: {goal} is complete")
        else:
            examples = data.examples
            count = NEGATIVES if recipe.mine is None else recipe.mine
            if recipe.mine is None and any(example.scores is not None for example in examples):
                count = 0
            if count:
                log(f"round {number}: mining {count} negatives a query with {recipe.mine_with}")
                examples = mined(data, count, recipe.mine_with, current, config.seed)
            if teacher is not None:
                with cached(teacher, target.with_name(target.name + ".scores")) as remembering:
                    examples = with_scores(examples, remembering)
            trained = train(
                replace(data, examples=examples), goal, config, model=current,
                pooling=pooling if current == model else None,
                precision=precision, device=device, source=source, log=log,
            )  # fmt: skip
        current = goal
    return trained


def mined(
    data: TrainingData, count: int, mode: str, model: str | os.PathLike[str] | None, seed: int
) -> tuple[Example, ...]:
    """The examples with ``count`` hard negatives each, out of a temporary database of the corpus."""
    from spladelite import SpladeLite

    if not data.corpus:
        raise InvalidInput("there are no documents to mine negatives from; set mine to 0")
    with tempfile.TemporaryDirectory() as scratch, SpladeLite(Path(scratch) / "corpus.db", model=model) as db:
        db.add(data.corpus)
        return mine(db, data.examples, count=count, mode=mode, seed=seed)
