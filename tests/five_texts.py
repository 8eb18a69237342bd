"""Five texts about different things, for the tests of the facade."""

from __future__ import annotations

import spladelite

TEXTS = [
    "A car crashed into a tree and the driver was hurt.",
    "Bake the bread for an hour and let it cool.",
    "The stock market fell sharply on Monday.",
    "The cat sleeps on the warm windowsill.",
    "Photosynthesis turns sunlight into sugar in green leaves.",
]
IDS = ["car", "bread", "stock", "cat", "plant"]
METADATA = [{"year": 2000 + i, "tags": {"kind": "news" if i % 2 == 0 else "home"}} for i in range(5)]


class Counting:
    """The bundled model, counting what it encodes."""

    def __init__(self) -> None:
        from spladelite.encoders.registry import load_encoder

        self._model = load_encoder()
        self.name, self.fingerprint = self._model.name, self._model.fingerprint
        self.vocabulary, self.window = self._model.vocabulary, self._model.window
        self.tokenize = self._model.tokenize
        self.encode_queries = self._model.encode_queries
        self.encoded = 0

    def encode_documents(self, texts: list[str]) -> spladelite.SparseVectors:
        self.encoded += len(texts)
        return self._model.encode_documents(texts)
