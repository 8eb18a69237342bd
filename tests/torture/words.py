"""A model of 64 words that needs no weights: what a text becomes is plain arithmetic, so an oracle can repeat it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import numpy as np

from spladelite.records import SparseVectors, Tokens

WORDS = 64
WINDOW = 6


class WordModel:
    """Terms ``w0`` to ``w63``. A text has each word it contains, and expands it to the word's neighbour."""

    name = "words"
    fingerprint = "0" * 32
    vocabulary = tuple(f"w{i}" for i in range(WORDS))
    window = WINDOW

    def tokenize(self, text: str) -> Tokens:
        found = [match for match in re.finditer(r"\bw(\d+)\b", text) if int(match[1]) < WORDS]
        return Tokens(
            np.array([int(match[1]) for match in found], np.int32),
            np.array([match.start() for match in found], np.int64),
            np.array([match.end() for match in found], np.int64),
        )

    def encode_documents(self, texts: Sequence[str]) -> SparseVectors:
        rows = []
        for text in texts:
            weights: dict[int, float] = {}
            for position, term in enumerate(self.tokenize(text).term_ids.tolist()):
                weights[term] = max(weights.get(term, 0.0), 1.0 + 0.37 * ((term * 7 + position) % 5))
                weights.setdefault((term + 1) % WORDS, 0.31 + 0.05 * (term % 4))
            terms = sorted(weights)
            rows.append((np.array(terms, np.int32), np.array([weights[term] for term in terms], np.float32)))
        return SparseVectors.from_rows(rows)

    encode_queries = encode_documents


def random_text(source: random.Random, words: int) -> str:
    """So many words, now and then the end of a sentence."""
    return " ".join(f"w{source.randrange(WORDS)}" + ("." if source.random() < 0.2 else "") for _ in range(words))


def random_vector(source: random.Random, most: int = 12) -> dict[int, float]:
    """A sparse vector in which equal weights, and so ties, are frequent."""
    terms = source.sample(range(WORDS), source.randint(1, most))
    if source.random() < 0.5:
        return {term: float(source.randint(1, 3)) for term in terms}
    return {term: source.uniform(0.01, 4.0) for term in terms}
