"""What a file's users found useful, as judged queries: to measure on, and to learn from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spladelite.errors import InvalidInput
from spladelite.evaluation.trec import Qrels

if TYPE_CHECKING:
    from spladelite.database import SpladeLite


def judged_by_users(db: SpladeLite) -> tuple[dict[str, str], Qrels]:
    """The queries ``{number: text}`` that feedback was given for, and ``{number: {document id: grade}}``.

    A grade is the value rounded up to a whole number, 0 for what was not useful. Documents that are gone are left out,
    and queries without a useful document; nothing may be left.

    Raises:
        CorruptIndex: a row has changed since it was written.
    """
    numbers: dict[str, str] = {}
    queries: dict[str, str] = {}
    judged: Qrels = {}
    for given in db.read_feedback():
        if given.id in db:
            number = numbers.setdefault(" ".join(given.query.casefold().split()), str(len(numbers) + 1))
            queries.setdefault(number, given.query)
            judged.setdefault(number, {})[given.id] = max(0, math.ceil(given.value))
    useful = {number: grades for number, grades in judged.items() if any(grades.values())}
    return {number: queries[number] for number in useful}, useful


def needs_feedback(db: SpladeLite) -> tuple[dict[str, str], Qrels]:
    """:func:`judged_by_users`, where there is some.

    Raises:
        InvalidInput: nothing is left.
        CorruptIndex: a row has changed since it was written.
    """
    queries, judgments = judged_by_users(db)
    if not queries:
        raise InvalidInput(
            f"{db.path} has no feedback that calls a document useful which is still there; give some with "
            "db.feedback(query, id), or `spladelite feedback`"
        )
    return queries, judgments
