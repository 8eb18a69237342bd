"""Documents in and out of the facade, with the bundled model and real files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from five_texts import IDS, METADATA, TEXTS, Counting

import spladelite
from spladelite import SpladeLite


def test_ids_default_to_the_content_and_adding_twice_is_a_no_op(db: SpladeLite) -> None:
    first = db.add(TEXTS)
    assert db.add(TEXTS) == first
    assert db.add(TEXTS[0]) == [first[0]]
    assert len(db) == len(set(first)) == 5
    assert list(db) == first


def test_the_same_content_is_not_encoded_again(path: str) -> None:
    counted = Counting()
    with SpladeLite(path, counted) as db:
        db.add(TEXTS, ids=IDS)
        assert counted.encoded == 5
        db.add(TEXTS, ids=IDS)
        db.upsert(TEXTS, ids=IDS, metadata=METADATA)
        assert counted.encoded == 5
        assert db.get("car") == spladelite.Document("car", TEXTS[0], METADATA[0])
        db.upsert(["Another text."], ids=["car"])
        assert counted.encoded == 6
        assert db.get("car") == spladelite.Document("car", "Another text.", {})


def test_conflicting_ids_raise_and_store_nothing(filled: SpladeLite) -> None:
    with pytest.raises(spladelite.IdConflict, match=r"'car'.*upsert"):
        filled.add(["new one", "other text"], ids=["new", "car"])
    with pytest.raises(spladelite.IdConflict, match=r"'x'.*twice"):
        filled.add(["one", "two"], ids=["x", "x"])
    with pytest.raises(spladelite.IdConflict, match=r"'car'.*metadata"):
        filled.add([TEXTS[0]], ids=["car"], metadata=[{"year": 1}])
    assert len(filled) == 5
    assert filled.add(["one", "one"], ids=["x", "x"]) == ["x", "x"]
    assert filled.add([TEXTS[0]], ids=["car"]) == ["car"]
    assert filled.get("car").metadata == METADATA[0]  # type: ignore[union-attr]


def test_update_text_metadata_or_both(filled: SpladeLite) -> None:
    filled.update("bread", text="The spacecraft landed on Mars.")
    assert filled.search("space mission", k=1)[0].id == "bread"
    assert filled.get("bread").metadata == METADATA[1]  # type: ignore[union-attr]
    filled.update("bread", metadata={"year": 1})
    assert filled.get("bread") == spladelite.Document("bread", "The spacecraft landed on Mars.", {"year": 1})
    filled.update("bread", text="Bread again.", metadata={})
    assert filled.get("bread") == spladelite.Document("bread", "Bread again.", {})
    assert filled.check() == []
    with pytest.raises(spladelite.DocumentNotFound, match="nobody"):
        filled.update("nobody", text="x y z")
    with pytest.raises(spladelite.InvalidInput, match="changes nothing"):
        filled.update("bread")


def test_delete_by_id_and_by_filter(filled: SpladeLite) -> None:
    assert filled.delete(["car", "unknown", "car"]) == 1
    assert "car" not in filled
    assert all(hit.id != "car" for hit in filled.search("automobile accident"))
    assert filled.delete(where={"tags.kind": "news"}) == 2
    assert list(filled) == ["bread", "cat"]
    assert filled.delete(where="json_extract(metadata, '$.year') > ?", where_args=[2002]) == 1
    assert filled.delete("bread") == 1
    assert len(filled) == 0
    assert filled.search("bread") == []
    assert filled.check() == []
    with pytest.raises(spladelite.InvalidInput, match="one of them"):
        filled.delete()


def test_a_long_document_becomes_passages_and_is_found_by_its_end(db: SpladeLite) -> None:
    filler = "The committee met again and talked about the minutes of the last meeting. " * 120
    ending = "Penguins huddle together to survive the Antarctic winter."
    db.add([filler + ending, "A short text about committees."], ids=["long", "short"])
    hit = db.search("penguins in the cold", k=1)[0]
    assert hit.id == "long"
    assert ending in hit.passage.text
    assert hit.text[hit.passage.start : hit.passage.end] == hit.passage.text
    assert db.stats().passages > 4
    assert [h.id for h in db.search("committee meeting", k=10)].count("long") == 1
    assert db.delete("long") == 1
    assert db.stats().passages == 1


@pytest.mark.parametrize("given", [repr, iter], ids=["list", "generator"])
@pytest.mark.parametrize(
    ("texts", "more", "error", "says"),
    [
        (["fine", ""], {}, spladelite.InvalidText, r"texts\[1\] is empty"),
        (["fine", " \n"], {}, spladelite.InvalidText, r"texts\[1\] is blank"),
        (["fine", None], {}, TypeError, r"texts\[1\] is None"),
        (["fine", b"bytes"], {}, TypeError, r"texts\[1\] is of type bytes"),
        (["fine", "\ud800"], {}, spladelite.InvalidText, "surrogate"),
        (["fine", "good"], {"ids": ["one"]}, spladelite.InvalidInput, "ids"),
        (["fine", "good"], {"ids": ["1", "2", "3"]}, spladelite.InvalidInput, "ids has"),
        (["fine", "good"], {"ids": ["1", 2]}, TypeError, r"ids\[1\].*'2'"),
        (["fine", "good"], {"ids": ["1", ""]}, spladelite.InvalidInput, r"ids\[1\]"),
        (["fine", "good"], {"metadata": [{}]}, spladelite.InvalidInput, "metadata"),
        (["fine", "good"], {"metadata": [{}, 3]}, TypeError, r"metadata\[1\]"),
        (["fine", "good"], {"metadata": [{}, {"a": {1, 2}}]}, spladelite.InvalidMetadata, r"metadata\[1\]"),
        (["fine", "good"], {"metadata": [{}, {1: 2}]}, spladelite.InvalidMetadata, "str keys"),
        (["fine", "good"], {"metadata": [{}, {"a": math.nan}]}, spladelite.InvalidMetadata, r"metadata\[1\]"),
        (["fine", "good"], {"vectors": [{1: 1.0}]}, spladelite.InvalidInput, "vectors"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: math.nan}]}, spladelite.InvalidVector, "NaN"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: math.inf}]}, spladelite.InvalidVector, r"vectors\[1\]"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: -1.0}]}, spladelite.InvalidVector, "above 0"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: 0.0}]}, spladelite.InvalidVector, "above 0"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {30522: 1.0}]}, spladelite.InvalidVector, "30522"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {-1: 1.0}]}, spladelite.InvalidVector, "-1"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1.5: 1.0}]}, spladelite.InvalidVector, "int"),
        (["fine", "good"], {"vectors": [{1: 1.0}, {1: "x"}]}, spladelite.InvalidVector, "float"),
    ],
)
def test_bad_documents_are_named_and_nothing_is_stored(
    db: SpladeLite, given: object, texts: list[object], more: dict[str, object], error: type[Exception], says: str
) -> None:
    db.add(["kept"], ids=["kept"])
    with pytest.raises(error, match=says) as caught:
        db.add(iter(texts) if given is iter else texts, **more)  # type: ignore[arg-type]
    assert isinstance(caught.value, spladelite.SpladeLiteError)
    assert list(db) == ["kept"]
    assert db.check() == []


@pytest.mark.parametrize("texts", [3, None, b"bytes", {"a": "b"}])
def test_texts_of_a_wrong_type(db: SpladeLite, texts: object) -> None:
    with pytest.raises(spladelite.WrongType, match="texts"):
        db.add(texts)  # type: ignore[arg-type]


def test_progress_is_called_and_ctrl_c_leaves_what_was_committed(path: str) -> None:
    seen: list[tuple[int, int | None]] = []

    def texts() -> Iterator[str]:
        for i in range(1100):
            if i == 1050:
                raise KeyboardInterrupt
            yield f"text number {i}"

    with SpladeLite(path) as db:
        with pytest.raises(KeyboardInterrupt):
            db.add(texts(), progress=lambda done, total: seen.append((done, total)))
        assert len(db) == 1024
        assert seen == [(512, None), (1024, None)]
        assert db.check() == []
        assert len(db.search("number")) == 10


def test_optimize_drops_the_dead(small: SpladeLite) -> None:
    small.add(
        [f"text {i}" for i in range(50)], ids=[str(i) for i in range(50)], vectors=[{i % 7: 1.0 + i} for i in range(50)]
    )
    assert small.stats().segments > 1
    small.delete([str(i) for i in range(0, 50, 3)])
    before = small.search(dict.fromkeys(range(7), 1.0), k=50)
    small.optimize()
    assert small.search(dict.fromkeys(range(7), 1.0), k=50) == before
    stats = small.stats()
    assert (stats.dead, stats.tail, stats.documents) == (0, 0, 33)
    assert stats.segments == 3  # 33 passages, 16 a segment
    assert small.check() == []


def test_metadata_of_another_type_is_other_metadata(db: SpladeLite) -> None:
    db.add("text", ids="a", metadata={"flag": 1, "other": 2})
    db.add("text", ids="a", metadata={"other": 2, "flag": 1})
    with pytest.raises(spladelite.IdConflict, match="other metadata"):
        db.add("text", ids="a", metadata={"flag": True, "other": 2})
    db.upsert("text", ids="a", metadata={"flag": True, "other": 2})
    assert [hit.id for hit in db.search("text", where={"flag": True})] == ["a"]
    with pytest.raises(spladelite.IdConflict, match="twice"):
        db.add(["b", "b"], ids=["b", "b"], metadata=[{"x": 0}, {"x": False}])


def test_an_id_with_a_nul_is_refused_by_name(db: SpladeLite) -> None:
    for call in (lambda: db.add("text", ids="a\0b"), lambda: db.get("a\0b"), lambda: db.delete("a\0b")):
        with pytest.raises(spladelite.InvalidInput, match="NUL"):
            call()
    assert "a\0b" not in db
    assert len(db) == 0


def test_progress_of_another_type_is_refused(db: SpladeLite) -> None:
    progress: Any = 5
    with pytest.raises(spladelite.WrongType, match="progress is 5"):
        db.add("text", progress=progress)
    assert len(db) == 0


def test_one_batch_is_encoded_while_another_is_written(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spladelite.documents.ingest.BATCH_ENCODED", 4)
    with SpladeLite(path) as db:
        ids = db.add((f"text number {i}" for i in range(30)), ids=(str(i) for i in range(30)))
        assert ids == list(db) == [str(i) for i in range(30)]
        # An id again in the very next batch: compared with what the batch before stores.
        db.upsert([f"other {i}" for i in range(8)], ids=["a", "b", "c", "d", "d", "c", "e", "f"])
        assert db.get("d") == spladelite.Document("d", "other 4", {})
        with pytest.raises(spladelite.IdConflict, match="'x'"):
            db.add([f"more {i}" for i in range(8)], ids=["u", "v", "w", "x", "x", "y", "z", "q"])
        assert "w" in db
        assert "y" not in db
        with pytest.raises(spladelite.InvalidText):
            db.add(iter(["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", ""]), ids=(f"p{i}" for i in range(10)))
        assert [f"p{i}" in db for i in range(10)] == [True] * 8 + [False] * 2
        assert db.check() == []
