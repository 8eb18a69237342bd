"""From examples to the batches of an epoch. All that is drawn depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from spladelite.errors import InvalidInput
from spladelite.training.config import TrainConfig
from spladelite.training.data import Example


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B queries with their candidates: D documents, of which each query's own are at most 1 + N.

    Attributes:
        queries: their texts, B.   documents: their texts, D.
        groups: int64 ``(B, 1 + N)``, the columns of each query's positive and negatives; -1 where it has fewer.
        barred: bool ``(B, D)``, documents that must not count as a query's negatives: its other positives.
        teacher: float32 ``(B, 1 + N)``, NaN where there is no score.
    """

    queries: list[str]
    documents: list[str]
    groups: NDArray[np.int64]
    barred: NDArray[np.bool_]
    teacher: NDArray[np.float32]


def positives_of(examples: Sequence[Example]) -> dict[str, set[str]]:
    """All texts that answer a query, by the query's text."""
    positives: dict[str, set[str]] = {}
    for example in examples:
        positives.setdefault(example.query, set()).add(example.positive)
    return positives


def epoch_batches(
    examples: Sequence[Example], positives: dict[str, set[str]], config: TrainConfig, epoch: int
) -> list[Batch]:
    """The batches of one epoch, in order; the last may be smaller, or up to half as large again."""
    random = np.random.default_rng([config.seed, epoch])
    order = random.permutation(len(examples))
    drawn = [_draw(examples[i], config.negatives, random) for i in order]
    ends = [i * config.batch_size for i in range(1, batch_count(len(drawn), config.batch_size))] + [len(drawn)]
    return [_collate(drawn[i:j], positives, config.negatives) for i, j in pairwise([0, *ends])]


def batch_count(examples: int, size: int) -> int:
    """How many batches an epoch has: at most half a batch that is left over goes into the one before it.

    A step's weight does not depend on its size, and a query alone in its batch has no in-batch negatives.
    """
    whole, rest = divmod(examples, size)
    return whole if whole and 2 * rest <= size else whole + 1


def check_examples(examples: Sequence[Example], config: TrainConfig, *, mined: int = 0, scored: bool = False) -> None:
    """Check that every loss gets what it needs.

    Args:
        examples: all of them.
        config: the settings.
        mined: how many negatives each is still to get.
        scored: whether those without scores are still to get them.

    Raises:
        InvalidInput: there are no examples, no negatives to tell a positive from, or no scores to distil.
    """
    if not examples:
        raise InvalidInput("there are no examples to train on")
    alone = 0 if mined else sum(not example.negatives for example in examples)
    if config.distils:
        unscored = 0 if scored else sum(example.scores is None for example in examples)
        if unscored or alone or not config.negatives:
            raise InvalidInput(
                f"margin_mse and kl need a teacher's scores and negatives: of {len(examples)} examples {unscored} have "
                f"no scores and {alone} no negatives, and negatives={config.negatives} of each are used; mine "
                "negatives and have a teacher score them"
            )
    elif config.batch_size == 1 and (alone or not config.negatives):
        raise InvalidInput("batch_size=1 leaves a query without negatives; raise it, or give negatives")
    elif alone == len(examples) or not config.negatives:
        answers = {example.positive for example in examples}
        if all(answers == own for own in positives_of(examples).values()):
            raise InvalidInput(
                f"there is nothing to tell a positive from: {len(examples)} examples without negatives, of which each "
                "query has all positives; give negatives, or mine them"
            )


def _draw(example: Example, count: int, random: np.random.Generator) -> Example:
    """The example with at most ``count`` of its negatives."""
    if len(example.negatives) <= count:
        return example
    kept = np.sort(random.permutation(len(example.negatives))[:count]).tolist()
    scores = example.scores
    return Example(
        example.query,
        example.positive,
        tuple(example.negatives[i] for i in kept),
        None if scores is None else (scores[0], *(scores[1 + i] for i in kept)),
    )


def _collate(examples: list[Example], positives: dict[str, set[str]], negatives: int) -> Batch:
    documents: list[str] = []
    groups = np.full((len(examples), 1 + negatives), -1, np.int64)
    teacher = np.full(groups.shape, np.nan, np.float32)
    for row, example in enumerate(examples):
        own = (example.positive, *example.negatives)
        groups[row, : len(own)] = np.arange(len(documents), len(documents) + len(own))
        documents += own
        if example.scores is not None:
            teacher[row, : len(own)] = example.scores
    barred = np.array([[text in positives[example.query] for text in documents] for example in examples])
    barred[np.arange(len(examples)), groups[:, 0]] = False
    return Batch([example.query for example in examples], documents, groups, barred, teacher)
