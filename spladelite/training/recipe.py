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
from typing import Any

from spladelite.encoders.base import Encoder
from spladelite.encoders.registry import load_encoder
from spladelite.errors import InvalidInput
from spladelite.training.batches import check_examples
from spladelite.training.config import Setup, TrainConfig
from spladelite.training.data import Example, TrainingData
from spladelite.training.loop import Trained, train
from spladelite.training.mining import mine
from spladelite.training.report import needs
from spladelite.training.start import find_start
from spladelite.training.state import check_folder, finished, identify
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
    setup: Setup | None = None,
    *,
    teacher: Teacher | None = None,
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
        setup: the model to start from, and where it is trained; the bundled model if left out.
        teacher: scores the examples where they have no scores, for ``config.kl`` or ``config.margin_mse`` to distil;
            its scores are kept in ``folder.scores``.

    Raises:
        InvalidInput: as ``train``; also a teacher that no loss uses, nothing to mine for a second round, and a round's
            folder that something else was written to. Nothing is mined before all of it is checked.
        ModelError, TrainingError: as ``train``.
    """
    config, recipe, setup = config or TrainConfig(), recipe or Recipe(), setup or Setup()
    needs(setup.device)
    if teacher is not None:
        check_teacher(config)
    count = _count(data, recipe)
    check_examples(data.examples, config, mined=count, scored=teacher is not None)
    rounds = _rounds(data, Path(folder), config, recipe, setup, count, teacher)
    current = setup
    for number, (goal, origin, done) in enumerate(rounds, 1):
        if done:
            log(f"round {number}: {goal} is complete")
        else:
            examples = data.examples
            if count:
                log(f"round {number}: mining {count} negatives a query with {recipe.mine_with}")
                encoder = load_encoder(current.model, device=current.device, pooling=current.pooling)
                examples = mined(data, count, recipe.mine_with, encoder, config.seed)
            if teacher is not None:
                scores = Path(folder)
                with cached(teacher, scores.with_name(scores.name + ".scores")) as remembering:
                    examples = with_scores(examples, remembering)
            known = replace(data, examples=examples)
            trained = train(known, goal, config, current, source=source, origin=origin, log=log)
        current = replace(setup, model=goal, pooling=None)  # the folder of a round says its pooling
    return trained


def _rounds(
    data: TrainingData,
    target: Path,
    config: TrainConfig,
    recipe: Recipe,
    setup: Setup,
    count: int,
    teacher: Teacher | None,
) -> list[tuple[Path, dict[str, Any], bool]]:
    """Each round's folder, what its examples come from, and whether it is finished.

    Raises:
        InvalidInput: something else was written to one of the folders.
    """
    goals = [target.with_name(f"{target.name}-round{number}") for number in range(1, recipe.rounds)] + [target]
    whole = identify(data, find_start(setup.model, setup.pooling).fingerprint, config, {})
    shared = {key: whole[key] for key in ("config", "corpus", "validation")}  # by rounds the model and negatives differ
    rounds = []
    for number, goal in enumerate(goals, 1):
        origin = {
            "round": number,
            "first": whole["model"],
            "given": whole["data"],
            "mine": count,
            "mine_with": recipe.mine_with if count else "",
            "teacher": teacher.name if teacher else "",
            "teacher_fingerprint": teacher.fingerprint if teacher else "",
            "precision": setup.precision,
        }
        done = goal != target and finished(goal, shared | {"origin": origin}) is not None
        if not done:
            check_folder(goal, shared | {"origin": origin})
        rounds.append((goal, origin, done))
    return rounds


def check_teacher(config: TrainConfig) -> None:
    """Check that a loss uses a teacher.

    Raises:
        InvalidInput: none does.
    """
    if not config.distils:
        raise InvalidInput("a teacher was given, but kl and margin_mse are 0; set --kl 1 or --margin-mse 0.05")


def _count(data: TrainingData, recipe: Recipe) -> int:
    """How many negatives a query are mined."""
    scored = any(example.scores is not None for example in data.examples)
    count = recipe.mine if recipe.mine is not None else 0 if scored else NEGATIVES
    if count and scored:
        raise InvalidInput("the examples have scores, which mined negatives would lack; set mine to 0, or leave it out")
    if count and not data.corpus:
        raise InvalidInput("there are no documents to mine negatives from; set mine to 0")
    if not count and recipe.rounds > 1:
        raise InvalidInput(
            f"rounds is {recipe.rounds}, but nothing is mined for examples with scores, so each round would be the "
            "same; set rounds to 1, or leave the scores out and give a teacher"
        )
    return count


def mined(data: TrainingData, count: int, mode: str, model: Encoder, seed: int) -> tuple[Example, ...]:
    """The examples with ``count`` hard negatives each, out of a temporary database of the corpus."""
    from spladelite.database import SpladeLite

    with tempfile.TemporaryDirectory() as scratch, SpladeLite(Path(scratch) / "corpus.db", model=model) as db:
        db.add(data.corpus)
        return mine(db, data.examples, count=count, mode=mode, seed=seed)
