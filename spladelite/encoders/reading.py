"""Whether a model can read a text: whether its vocabulary has the text's words, or parts of them.

Words that it has not become the token for the unknown, or are cut into single characters or bytes. A model that was
trained on other languages gives a vector for such a text too, of terms that say nothing of it.
"""

from __future__ import annotations

import string
import unicodedata

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.base import Encoder

LOOKED_AT = 1024  # characters of a long text
STRETCHES = 4  # in which they are taken

_UNKNOWN = frozenset(["[UNK]", "<unk>"])
_NO_LETTER = bytes(i for i in range(128) if chr(i) not in string.ascii_letters + string.digits)
_LATIN = "the water under every house is where most people would look first"
# A Chinese character is a word or a whole part of one, so to be a token of its own says nothing. A vocabulary that is
# made for Chinese or Japanese has all of these, which are everyday words in both; others have a few hundred at most.
_HAN = "雪 雷 茶 糖 碗 棉 袋 帽 鼻 眉 唇 肩 腰 膝 骨 皮 泥 沙 秋 冬"

_OUTSIDE, _DIGIT, _LETTER, _HAN_LETTER = range(4)  # what a character is


class Reader:
    """Tells which texts an encoder can read.

    Attributes:
        unknown: ids of the token for what the vocabulary lacks.
        han: whether it is a vocabulary for Chinese or Japanese.
        latin: whether it knows English words or their parts.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._tokenize = encoder.tokenize
        self.unknown = [i for i, term in enumerate(encoder.vocabulary) if term in _UNKNOWN]
        self.han = True
        self.han = self.share(_HAN) > 0.8
        self.latin = self.share(_LATIN) > 0.5

    def reads(self, text: str) -> bool:
        """Whether at least half of a text's letters and digits are in tokens that mean something.

        Of a long text, a few stretches are looked at.
        """
        if len(text) > LOOKED_AT:
            step, size = len(text) // STRETCHES, LOOKED_AT // STRETCHES
            text = " ".join(text[i * step : i * step + size] for i in range(STRETCHES))
        if self.latin:  # then there is no need to divide most texts into tokens
            of_ascii = text.encode("ascii", "ignore")
            if len(of_ascii.translate(None, _NO_LETTER)) >= len(text) - len(of_ascii):
                return True
        return self.share(text) >= 0.5

    def share(self, text: str) -> float:
        """The share of a text's letters and digits that the vocabulary has, as parts of tokens; 1 if there are none."""
        tokens = self._tokenize(text)
        starts, ends = tokens.starts, tokens.ends
        kinds = {character: _kind(character) for character in set(text)}
        kind = np.array([*map(kinds.__getitem__, text), _OUTSIDE], np.uint8)
        in_word = kind > _OUTSIDE
        joins = in_word & (kind != _HAN_LETTER) if self.han else in_word
        counts = np.concatenate(([0], np.cumsum(in_word)))
        same = starts[1:] == starts[:-1]
        part_of_character = np.append(same, False) | np.append(False, same)
        # One letter, with others on a side of it; the place before the first is the last, which is no letter's.
        cut = (counts[ends] - counts[starts] < 2) & (joins[starts - 1] | joins[ends])
        of_han = kind[starts] == _HAN_LETTER
        cut = cut & ~of_han if self.han else cut | of_han
        lost = cut | part_of_character | np.isin(tokens.term_ids, self.unknown)
        total = int(np.count_nonzero(in_word & _covered(starts, ends, len(kind))))
        missing = int(np.count_nonzero(in_word & (kind != _DIGIT) & _covered(starts[lost], ends[lost], len(kind))))
        return 1 - missing / total if total else 1.0


def _kind(character: str) -> int:
    if character.isascii():
        return _DIGIT if character.isdigit() else _LETTER if character.isalpha() else _OUTSIDE
    if unicodedata.category(character)[0] not in "LMN":
        return _OUTSIDE
    return _HAN_LETTER if unicodedata.name(character, "").startswith("CJK") else _LETTER


def _covered(starts: NDArray[np.int64], ends: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """Which of ``length`` characters are in one of the spans."""
    edges = np.zeros(length + 1, np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, ends, -1)
    return np.cumsum(edges[:-1]) > 0
