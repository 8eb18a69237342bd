"""Long text -> overlapping passages, cut where a reader would cut, with character offsets.

A passage has at most ``window`` tokens. A text is first divided into *units*, the runs of tokens between two places
where the tokenizer is known to start afresh: white space, punctuation, CJK characters (BERT's pre-tokenizer splits
exactly there). A span of whole units therefore has the same tokens when it is tokenized again on its own.
The one exception is a single unit longer than the window, which must be cut between its tokens: its pieces get half a
window each, because a fragment that begins inside a word may be tokenized into more pieces than it was in the word.
"""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

from spladelite.errors import InvalidInput
from spladelite.records import Tokens

# Character classes; one bit each, so that a character may be in several.
_WHITE, _NEWLINE, _BREAK, _STOP, _WIDE_STOP, _CLOSER, _LOWER = 1, 2, 4, 8, 16, 32, 64

# How good a cut at a border is.
_INSIDE, _SPACE, _LINE, _SENTENCE, _PARAGRAPH = range(5)

_STOPS = frozenset(".!?…؟।॥")
_WIDE_STOPS = frozenset("。！？｡．")
_CJK_RANGES = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


def chunk(text: str, tokens: Tokens, window: int, overlap: int | None = None) -> list[tuple[int, int]]:
    """Character spans ``(start, end)`` of the passages of ``text``, in order.

    Each span has at most ``window`` of the given tokens, together they cover every token, and each begins and ends with
    a token (so with no white space around it). A cut is made in the last third of the window at the best border
    found there: the end of a paragraph, else of a sentence, else of a line, else of a word. The next span reaches back
    over the cut by at most ``overlap`` tokens, to the best border between half of that and all of it.
    A text that fits, or has no tokens, is the one span ``(0, len(text))``. Time is linear in the text.

    Args:
        text: the text.
        tokens: all tokens of ``text``, T of them, from :meth:`Encoder.tokenize`.
        window: the largest number of tokens of a span, at least 1.
        overlap: tokens shared by neighbours, 0 <= overlap < window; ``window // 8`` by default.

    Raises:
        InvalidInput: ``window`` or ``overlap`` is out of range.
    """
    if window < 1:
        raise InvalidInput(f"window must be at least 1 token, not {window}")
    overlap = window // 8 if overlap is None else overlap
    if not 0 <= overlap < window:
        raise InvalidInput(f"overlap must be at least 0 and less than the window of {window} tokens, not {overlap}")
    if len(tokens) <= window:
        return [(0, len(text))]
    ends = np.maximum.accumulate(tokens.ends)  # several tokens may share one character, or overlap
    first, level, cost = _units(text, tokens.starts, ends, window)
    before = np.concatenate([[0], np.cumsum(cost)])  # (U + 1,) cost of all units before this one
    last = len(cost)
    spans: list[tuple[int, int]] = []
    begin, cut = 0, 0
    while cut < last:
        # The furthest border that fits; the unit at the previous cut always fits, by the choice of `begin` below.
        limit = int(np.searchsorted(before, before[begin] + window, side="right")) - 1
        if limit < last:
            lowest = int(np.searchsorted(before, before[begin] + window - window // 3))
            lowest = min(max(lowest, cut + 1), limit)
            cut = limit - int(np.argmax(level[lowest : limit + 1][::-1]))
        else:
            cut = last
        spans.append((int(tokens.starts[first[begin]]), int(ends[first[cut] - 1])))
        if cut < last:
            earliest = int(np.searchsorted(before, max(before[cut] - overlap, before[cut + 1] - window)))
            latest = int(np.searchsorted(before, before[cut] - overlap // 2))
            earliest = max(earliest, begin + 1)
            latest = min(max(latest, earliest), cut)
            begin = earliest + int(np.argmax(level[earliest : latest + 1]))
    return spans


def _units(
    text: str, starts: NDArray[np.int64], ends: NDArray[np.int64], window: int
) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]:
    """``first`` token (U + 1,) of each unit, ``level`` (U + 1,) of the border before it, ``cost`` (U,) in tokens."""
    level, border = _borders(text, starts, ends)
    first = np.concatenate([[0], np.flatnonzero(border) + 1, [len(starts)]])
    levels = np.concatenate([[_PARAGRAPH], level[border], [_PARAGRAPH]])
    cost = np.diff(first)
    too_long = np.flatnonzero(cost > window)
    if not len(too_long):
        return first, levels, cost
    half = max(1, window // 2)
    more: list[int] = []
    for unit in too_long.tolist():
        piece = int(first[unit])
        for token in range(piece + 1, int(first[unit + 1])):
            # A cut needs a place between two characters; tokens of one character stay together.
            if token - piece >= half and starts[token] >= ends[token - 1]:
                more.append(token)
                piece = token
    everything = np.concatenate([first, np.array(more, np.int64)])
    order = np.argsort(everything, kind="stable")
    levels = np.concatenate([levels, np.full(len(more), _INSIDE)])[order]
    was_long = np.zeros(len(first), bool)
    was_long[too_long] = True
    was_long = np.concatenate([was_long, np.ones(len(more), bool)])[order]
    first = everything[order]
    # A fragment counts as a whole window: it stands alone, and nothing overlaps it.
    return first, levels.astype(np.int8), np.where(was_long[:-1], window, np.diff(first))


def _borders(
    text: str, starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """For each of the T - 1 places between two tokens: how good a cut is there, and whether it is a unit border."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    table = np.zeros(int(codes.max()) + 1, np.uint8)
    for character in set(text):
        table[ord(character)] = _classify(character)
    classes = table[codes]  # (characters,)
    del codes
    ends_before, starts_after = ends[:-1], starts[1:]
    apart = starts_after >= ends_before
    final = classes[ends_before - 1]
    before_final = classes[np.maximum(ends_before - 2, 0)]
    following = classes[np.minimum(starts_after, len(classes) - 1)]
    white = _count(classes, _WHITE, ends_before, starts_after) > 0
    newlines = _count(classes, _NEWLINE, ends_before, starts_after)

    closed = np.where(final & _CLOSER, final | before_final, final)
    # "e.g. this" is no sentence end: the next word would begin with a capital, a digit or a letter without case.
    sentence = (white & (closed & _STOP > 0) & (following & _LOWER == 0)) | (
        (closed & _WIDE_STOP > 0) & (following & (_CLOSER | _WIDE_STOP) == 0)
    )
    level = np.select(
        [newlines > 1, sentence, newlines == 1, white], [_PARAGRAPH, _SENTENCE, _LINE, _SPACE], _INSIDE
    ).astype(np.int8)
    return level, apart & (white | ((final | following) & _BREAK > 0))


def _count(classes: NDArray[np.uint8], bit: int, begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number of characters of a class in each ``[begin, end)``."""
    total = np.zeros(len(classes) + 1, np.int32)
    np.cumsum(classes & bit > 0, out=total[1:])
    return np.asarray(total[end] - total[begin], np.int32)


def _classify(character: str) -> int:
    """The class bits of a character, white space and punctuation as BERT's pre-tokenizer sees them."""
    category = unicodedata.category(character)
    bits = 0
    if character in "\t\n\r" or category[0] == "Z":
        bits |= _WHITE
    if character in "\n\u2028\u2029":
        bits |= _NEWLINE
    code = ord(character)
    ascii_symbol = 33 <= code < 127 and not character.isalnum()
    if ascii_symbol or category[0] == "P" or any(low <= code <= high for low, high in _CJK_RANGES):
        bits |= _BREAK
    if character in _STOPS:
        bits |= _STOP
    if character in _WIDE_STOPS:
        bits |= _WIDE_STOP
    if category in ("Pe", "Pf") or character in "\"'":
        bits |= _CLOSER
    if category == "Ll":
        bits |= _LOWER
    return bits
