"""Moving a database to another model, while it is used."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

import spladelite
from spladelite import SparseVectors, SpladeLite
from spladelite.encoders.registry import load_encoder

TEXTS = [f"Sentence {i} is about {topic}." for i in range(8) for topic in ("cars", "bread", "winter", "music", "money")]
IDS = [str(i) for i in range(len(TEXTS))]


class Other:
    """The bundled model with other weights, another window, and so another fingerprint."""

    name, fingerprint, window = "other", "f" * 64, 40

    def __init__(self) -> None:
        self._model = load_encoder()
        self.vocabulary, self.tokenize = self._model.vocabulary, self._model.tokenize
        self.encoded = 0
        self.fail_after = 10**9
        self.between: Callable[[], object] = lambda: None

    def encode_documents(self, texts: Sequence[str]) -> SparseVectors:
        self.encoded += len(texts)
        if self.encoded > self.fail_after:
            raise KeyboardInterrupt
        self.between()
        return self._stronger(self._model.encode_documents(texts))

    def encode_queries(self, texts: Sequence[str]) -> SparseVectors:
        return self._stronger(self._model.encode_queries(texts))

    def _stronger(self, vectors: SparseVectors) -> SparseVectors:
        return SparseVectors(vectors.indptr, vectors.terms, vectors.weights * np.float32(2))


@pytest.fixture
def filled(path: str) -> str:
    with SpladeLite(path, min_weight=0, tail_size=4, segment_size=16) as db:
        db.add(TEXTS, ids=IDS, metadata=[{"n": i} for i in range(len(TEXTS))])
        db.add("Long text. " * 60, ids="long")
        db.create_metadata_index("n")
        db.delete(["3", "7"])
    return path


def test_everything_but_the_weights_stays(filled: str) -> None:
    other = Other()
    with SpladeLite(filled) as db:
        before = db.search("bread", k=25, mode="splade")
        documents = {id: db.get(id) for id in db}
        db.reencode(other)
        after = db.search("bread", k=25, mode="splade")
        assert [hit.id for hit in after] == [hit.id for hit in before]
        assert [hit.score for hit in after] == pytest.approx([4 * hit.score for hit in before], rel=1e-2)
        assert {id: db.get(id) for id in db} == documents
        assert db.stats().model == "other"
        assert db.stats().passages > len(db) + 2  # the smaller window cuts the long text into more
        assert [hit.id for hit in db.search("bread", where={"n": 1})] == ["1"]
        assert db.check() == []
        db.add("A new text about bread.", ids="new")
        assert "new" in [hit.id for hit in db.search("bread", k=50)]
    assert os.listdir(os.path.dirname(filled)) == ["kb.db"]
    with pytest.raises(spladelite.ModelError, match="model="):
        SpladeLite(filled).search("bread")
    with SpladeLite(filled, Other()) as db:
        assert "new" in [hit.id for hit in db.search("bread", k=50)]


def test_an_interrupted_move_goes_on_where_it_stopped(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spladelite.upkeep.reencode.BATCH", 10)
    other = Other()
    other.fail_after = 20
    with SpladeLite(filled) as db:
        before = db.search("bread")
        with pytest.raises(KeyboardInterrupt):
            db.reencode(other)
        assert db.search("bread") == before
        other.fail_after = 10**9
        encoded = other.encoded
        db.reencode(other)
        assert other.encoded - encoded < len(TEXTS) - 10
        assert db.stats().model == "other"
        assert db.check() == []


def test_a_half_built_index_of_another_model_is_begun_anew(filled: str) -> None:
    SpladeLite(f"{filled}.reencode", min_weight=0).close()
    with SpladeLite(filled) as db:
        db.reencode(Other())
        assert db.stats().model == "other"
        db.reencode()
        assert db.stats().model == "splade-tiny"
        assert db.search("bread", k=1)
    with SpladeLite(filled) as db:
        assert db.search("bread", k=1)


def test_others_read_and_write_meanwhile_and_follow(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spladelite.upkeep.reencode.BATCH", 10)
    other = Other()
    with SpladeLite(filled) as db, SpladeLite(filled) as reader:
        before = reader.search("bread", k=50)
        writes: Iterator[Callable[[], object]] = iter(
            [
                lambda: reader.add("Something about bread, written meanwhile.", ids="meanwhile"),
                lambda: reader.update("0", text="No longer about vehicles but about bread."),
                lambda: reader.delete("1"),
            ]
        )

        def between() -> None:
            assert reader.stats().model == "splade-tiny"
            next(writes, lambda: None)()

        other.between = between
        db.reencode(other)
        found = {hit.id for hit in db.search("bread", k=50)}
        assert "meanwhile" in found
        assert "0" in found
        assert "1" not in found
        assert db.check() == []
        with pytest.raises(spladelite.ModelError, match="model="):  # it cannot know an object of another handle
            reader.search("bread")
        db.reencode()
        assert [hit.id for hit in reader.search("bread", k=50) if hit.id in {h.id for h in before}]
        assert reader.stats().model == "splade-tiny"
        reader.add("Written by the handle that followed.", ids="followed")
        assert "followed" in db


def test_in_memory_and_among_threads() -> None:
    with SpladeLite(":memory:", min_weight=0) as db:
        db.add(TEXTS, ids=IDS)
        before = db.search("bread", k=3)
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.extend(hit.id for hit in db.search("bread", k=3)))
        db.reencode(Other())
        thread.start()
        thread.join()
        assert seen == [hit.id for hit in before]
        assert db.stats().model == "other"
        assert db.check() == []
