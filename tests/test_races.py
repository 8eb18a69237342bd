"""What a call has returned stays, whatever another call reads, encodes and writes meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from spladelite import DocumentNotFound, SpladeLite


class Pausing:
    """Two functions as a model; what is in ``during`` runs while a text is being encoded, once."""

    def __init__(self) -> None:
        self.during: list[Callable[[], object]] = []

    def encode(self, texts: Sequence[str]) -> list[dict[int, float]]:
        while self.during:
            self.during.pop(0)()
        return [{2000 + len(text): 1.0} for text in texts]


@pytest.fixture
def model() -> Pausing:
    return Pausing()


@pytest.fixture(params=["another handle", "the same handle", "memory"])
def handles(path: str, model: Pausing, request: pytest.FixtureRequest) -> Iterator[tuple[SpladeLite, SpladeLite]]:
    place = ":memory:" if request.param == "memory" else path
    with SpladeLite(place, model=(model.encode, model.encode)) as one:
        if request.param != "another handle":
            yield one, one
        else:
            with SpladeLite(path, model=(model.encode, model.encode)) as two:
                yield one, two


def test_update_of_the_text_keeps_what_others_change(handles: tuple[SpladeLite, SpladeLite], model: Pausing) -> None:
    one, two = handles
    one.add("first", ids="x", metadata={"v": 0})
    model.during = [lambda: two.update("x", metadata={"v": 1})]
    one.update("x", text="second")
    assert (one.get("x").text, one.get("x").metadata) == ("second", {"v": 1})  # type: ignore[union-attr]

    model.during = [lambda: two.upsert("between", ids="x", metadata={"v": 2})]
    one.update("x", text="third")
    assert (one.get("x").text, one.get("x").metadata) == ("third", {"v": 2})  # type: ignore[union-attr]

    model.during = [lambda: two.update("x", text="third")]  # the same text as the one being written
    one.update("x", text="fourth", metadata={"v": 3})
    assert (one.get("x").text, one.get("x").metadata) == ("fourth", {"v": 3})  # type: ignore[union-attr]
    assert one.check() == []


def test_update_does_not_bring_a_deleted_document_back(handles: tuple[SpladeLite, SpladeLite], model: Pausing) -> None:
    one, two = handles
    one.add("first", ids="x")
    model.during = [lambda: two.delete("x")]
    with pytest.raises(DocumentNotFound):
        one.update("x", text="second")
    assert "x" not in two
    assert len(one) == 0
    with pytest.raises(DocumentNotFound):
        one.update("x", text="second")


def test_reencode_keeps_what_is_written_meanwhile(handles: tuple[SpladeLite, SpladeLite]) -> None:
    one, two = handles
    one.add(["first", "second"], ids=["a", "b"], metadata=[{"v": 0}, {}])

    def change() -> None:
        two.update("a", metadata={"v": 1})
        two.delete("b")

    other = Pausing()
    other.during = [change]
    one.reencode((other.encode, other.encode))
    assert list(one) == ["a"]
    assert one.get("a").metadata == {"v": 1}  # type: ignore[union-attr]


def test_no_update_is_lost_between_threads(path: str, model: Pausing) -> None:
    with SpladeLite(path, model=(model.encode, model.encode)) as db:
        db.add("text 0", ids="x", metadata={"v": -1})
        done = threading.Event()

        def rewrite() -> None:
            for i in range(30):
                db.update("x", text=f"text {'x' * i}")
            done.set()

        thread = threading.Thread(target=rewrite)
        thread.start()
        count = 0
        while not done.is_set() or not count:
            db.update("x", metadata={"v": count})
            assert db.get("x").metadata == {"v": count}  # type: ignore[union-attr]
            count += 1
        thread.join(60)
        assert db.get("x").text == f"text {'x' * 29}"  # type: ignore[union-attr]
        assert db.check() == []


def test_update_replaces_metadata_and_says_so() -> None:
    with SpladeLite(":memory:") as db:
        db.add("a cat", ids="c", metadata={"a": 1, "b": 2})
        db.update("c", metadata={"a": 3})
        assert db.get("c").metadata == {"a": 3}  # type: ignore[union-attr]
    assert "replaced as a whole" in (SpladeLite.update.__doc__ or "")
