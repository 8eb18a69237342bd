"""Documents that the model cannot read: their ids in the table ``unread``.

How many there are, and the sum of their ids, stands in ``meta`` too, so that a search notices a row that has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import apsw
import numpy as np
from numpy.typing import NDArray

from spladelite.errors import CorruptIndex
from spladelite.file.sqlite import fetch, int_array

_MODULUS = 1 << 62
_DELETE = "DELETE FROM unread WHERE doc_id IN (SELECT value FROM carray(?)) RETURNING doc_id"


@dataclass(frozen=True, slots=True, eq=False)
class Unread:
    """Documents that the model cannot read, as one state of the file has them.

    Attributes:
        doc_ids: int64 ``(n,)``, ascending.
        recorded: what ``meta`` says of them.
    """

    doc_ids: NDArray[np.int64]
    recorded: tuple[int, int]

    def __contains__(self, doc_id: int) -> bool:
        place = int(np.searchsorted(self.doc_ids, doc_id))
        return place < len(self.doc_ids) and int(self.doc_ids[place]) == doc_id


NONE = Unread(np.empty(0, np.int64), (0, 0))


def add_unread(connection: apsw.Connection, doc_ids: Sequence[int]) -> None:
    """Mark new documents."""
    if doc_ids:
        connection.executemany("INSERT INTO unread VALUES (?)", ((doc_id,) for doc_id in doc_ids))
        _record(connection, len(doc_ids), sum(doc_ids))


def remove_unread(connection: apsw.Connection, doc_ids: Sequence[int]) -> None:
    """Forget documents, those that are not marked too."""
    gone = [doc_id for (doc_id,) in fetch(connection, _DELETE, (int_array(doc_ids),))]
    if gone:
        _record(connection, -len(gone), -sum(gone))


def read_unread(connection: apsw.Connection, known: Unread = NONE) -> Unread:
    """The marked documents. Of those that are ``known``, if none was removed since, nothing is read.

    Raises:
        CorruptIndex: they are not those that were marked.
    """
    recorded = _recorded(connection)
    if recorded == known.recorded:
        return known
    for before in (known, NONE):
        rows = fetch(
            connection,
            "SELECT doc_id FROM unread WHERE doc_id > ? ORDER BY doc_id",
            (int(before.doc_ids.max(initial=0)),),
        )
        more = [doc_id for (doc_id,) in rows]
        if (len(before.doc_ids) + len(more), (before.recorded[1] + sum(more)) % _MODULUS) == recorded:
            return Unread(np.concatenate((before.doc_ids, np.array(more, np.int64))), recorded)
    raise CorruptIndex("table unread does not hold the documents that it should; run check(repair=True)")


def _recorded(connection: apsw.Connection) -> tuple[int, int]:
    value = connection.execute("SELECT value FROM meta WHERE key = 'unread'").get
    try:
        count, total = map(int, value.split(" "))
    except (AttributeError, ValueError):
        raise CorruptIndex(f"table meta: unread is {value!r}; run check(repair=True)") from None
    return count, total


def _record(connection: apsw.Connection, count: int, total: int) -> None:
    before = _recorded(connection)
    connection.execute(
        "UPDATE meta SET value = ? WHERE key = 'unread'", (f"{before[0] + count} {(before[1] + total) % _MODULUS}",)
    )
