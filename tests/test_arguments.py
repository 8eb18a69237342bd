"""Whatever is given to a public method, what comes back is a result or an error of ours that names it."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spladelite import InvalidMetadata, SpladeLite, SpladeLiteError

ODD: list[Any] = [
    None, 5, 1.5, True, b"x", "", " ", "\0", "\ud800", [], [5], [None], {}, {"a": 1}, {1, 2}, object(), np.int64(3),
    np.array([1]), float("nan"), 10**400, -1, 1e308, np.float16(1),
]  # fmt: skip

CALLS: dict[str, Callable[[SpladeLite, Any], object]] = {
    "search": lambda db, v: db.search(v),
    **{
        f"search {name}": lambda db, v, name=name: db.search("cat", **{name: v})  # type: ignore[misc]
        for name in ("k", "where", "where_args", "min_score", "encoder", "mode", "weights", "fusion", "rerank")
    },
    "search timeout": lambda db, v: db.search("cat", timeout=v),
    "hybrid weights": lambda db, v: db.search("cat", mode="hybrid", weights={"splade": v, "bm25": 1}),
    "search_many": lambda db, v: db.search_many(v),
    "explain query": lambda db, v: db.explain(v, "c"),
    "explain id": lambda db, v: db.explain("cat", v),
    "expand": lambda db, v: db.expand(v),
    "highlight": lambda db, v: db.highlight(v),
    "highlight before": lambda db, v: db.highlight(db.search("cat")[0], v),
    "get": lambda db, v: db.get(v),
    "contains": lambda db, v: v in db,
    "sql": lambda db, v: db.sql(v),
    "sql args": lambda db, v: db.sql("SELECT 1", v),
    "sql value": lambda db, v: db.sql("SELECT ?", [v]),
    "sql named": lambda db, v: db.sql("SELECT :a", {"a": v}),
    "where_args": lambda db, v: db.search("cat", where="id = ?", where_args=[v]),
    "add id": lambda db, v: db.add(["text"], ids=[v]),
    "add metadata": lambda db, v: db.add(["text"], metadata=[v]),
    "add value": lambda db, v: db.add(["text"], ids="v", metadata=[{"v": v}]),
    "add vector": lambda db, v: db.add(["text"], vectors=[v]),
    "add weight": lambda db, v: db.add(["text"], ids="w", vectors=[{5: v}]),
    "update id": lambda db, v: db.update(v, metadata={}),
    "update text": lambda db, v: db.update("c", text=v),
    "delete": lambda db, v: db.delete(v),
    "create_metadata_index": lambda db, v: db.create_metadata_index(v),
    "backup": lambda db, v: db.backup(v if v != " " else ""),
    "export": lambda db, v: db.export(v if v != " " else ""),
    "export_rows": lambda db, v: db.export_rows(v if v != " " else ""),
    "tail_size": lambda _, v: SpladeLite(":memory:", tail_size=v).close(),
    "min_weight": lambda _, v: SpladeLite(":memory:", min_weight=v).close(),
}


@pytest.fixture(scope="module")
def animals() -> Iterator[SpladeLite]:
    with SpladeLite(":memory:") as database:
        yield database


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore::spladelite.errors.UnfindableText")
def test_odd_arguments(animals: SpladeLite, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    animals.upsert(["the cat sleeps", "a dog barks"], ids=["c", "d"])
    for value in ODD:
        try:
            CALLS[name](animals, value)
        except SpladeLiteError as error:
            assert str(error)  # noqa: PT017 - both are right: a result, or an error of ours
        assert len(animals) >= 0


def test_sql_values_are_compared_as_what_they_are(animals: SpladeLite) -> None:
    animals.upsert("the cat sleeps", ids="c", metadata={"year": 2020})
    sql = "SELECT id FROM document WHERE metadata ->> 'year' = ?"
    for year in (2020, 2020.0, np.int64(2020), np.float32(2020), np.uint16(2020), decimal.Decimal(2020)):
        assert animals.sql(sql, (year,)) == [("c",)], repr(year)
        assert [hit.id for hit in animals.search("cat", where="metadata ->> 'year' = ?", where_args=[year])] == ["c"]
    assert animals.sql("SELECT ?", [datetime.date(2020, 1, 1)]) == [("2020-01-01",)]


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize("value", [nested(201), nested(900), nested(1500), {"x": 2**63}, {"x": [-(2**63) - 1]}])
def test_metadata_that_no_filter_can_read_is_refused(value: dict[str, Any]) -> None:
    with SpladeLite(":memory:", bm25=False) as db:
        db.add("good", ids="good", metadata={"x": 1}, vectors={5: 1.0})
        for write in (
            lambda: db.add("bad", ids="bad", metadata=value, vectors={5: 1.0}),
            lambda: db.upsert("bad", ids="good", metadata=value, vectors={5: 1.0}),
            lambda: db.update("good", metadata=value),
            lambda: db.update("good", metadata=value, merge=True),
        ):
            with pytest.raises(InvalidMetadata):
                write()
        assert [hit.id for hit in db.search({5: 1.0}, where={"x": 1})] == ["good"]


def test_metadata_that_is_taken_can_be_read_everywhere(tmp_path: Path) -> None:
    values = {"deep": nested(200), "low": {"x": -(2**63)}, "high": {"x": 2**63 - 1}, "below": {"x": 2**63 - 2}}
    with SpladeLite(tmp_path / "kb.db") as db:
        db.add(
            ["text"] * len(values), ids=list(values), metadata=list(values.values()), vectors=[{5: 1.0}] * len(values)
        )
        for id in ("low", "high", "below"):
            assert [hit.id for hit in db.search({5: 1.0}, where={"x": values[id]["x"]})] == [id]
        assert [hit.id for hit in db.search({5: 1.0}, where={"a": {"$exists": True}})] == ["deep"]
        assert db.get("deep").metadata == values["deep"]  # type: ignore[union-attr]
        assert len(db.sql("SELECT json_type(metadata) FROM document")) == len(values)
        db.export_rows(tmp_path / "rows.db")
        assert db.check() == []
