"""Posting lists kept in memory between searches, for all threads of one handle.

Segments are immutable and their ids are never reused, so a list cached by (segment, term) never goes stale.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CACHE_BYTES = 224 << 20  # with it, searching a million passages takes less than 300 MB in all
ENTRY_BYTES = 150  # what a cached list takes besides its postings: key, bytes object, entry


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Posting lists by term, for each term one a segment, in the order of ``segment_ids``; least recently used first.

    ``whole`` has all lists of a term; in ``parts``, left from before the segments changed, those not known are None.
    """

    segment_ids: tuple[int, ...]
    whole: OrderedDict[int, tuple[bytes, ...]]
    parts: OrderedDict[int, tuple[bytes | None, ...]]

    def get(self, term: int) -> tuple[bytes | None, ...]:
        """A term's lists, as far as they are known."""
        return self.whole.get(term) or self.parts.get(term) or (None,) * len(self.segment_ids)


class PostingCache:
    """Posting lists of sealed segments, those that were used last. Safe among threads.

    A search only notes which terms it asked for; they are moved to their places when room is needed.
    """

    def __init__(self, budget: int = CACHE_BYTES) -> None:
        self._held = Held((), OrderedDict(), OrderedDict())
        self._asked: deque[Sequence[int]] = deque(maxlen=1024)
        self._size = 0
        self._lock = threading.Lock()
        self._budget = budget

    def held(self, segment_ids: tuple[int, ...], terms: Sequence[int]) -> Held:
        """What is known of these segments; ``terms`` are about to be used."""
        self._asked.append(terms)
        held = self._held
        if held.segment_ids == segment_ids:
            return held
        with self._lock:
            held = self._held
            place = {segment_id: i for i, segment_id in enumerate(held.segment_ids)}
            places = [place.get(segment_id) for segment_id in segment_ids]
            parts: OrderedDict[int, tuple[bytes | None, ...]] = OrderedDict()
            for term, lists in (*held.parts.items(), *held.whole.items()):
                if any(known := tuple(None if i is None else lists[i] for i in places)):
                    parts[term] = known
            self._size = sum(map(_cost, parts.values()))
            self._held = Held(segment_ids, OrderedDict(), parts)
            return self._held

    def put(self, held: Held, term: int, lists: tuple[bytes, ...]) -> None:
        """Hold a term's lists; an empty one says that the segment has none."""
        cost = _cost(lists)
        with self._lock:
            if held is not self._held or term in held.whole or cost > self._budget:
                return
            self._size += cost - _cost(held.parts.pop(term, ()))
            if self._size > self._budget:
                self._make_room(held)
            held.whole[term] = lists

    def _make_room(self, held: Held) -> None:
        while self._asked:
            for term in self._asked.popleft():
                if term in held.whole:
                    held.whole.move_to_end(term)
        while self._size > self._budget:
            _, lists = (held.parts or held.whole).popitem(last=False)
            self._size -= _cost(lists)


def _cost(lists: Iterable[bytes | None]) -> int:
    return sum(len(postings or b"") + ENTRY_BYTES for postings in lists)
