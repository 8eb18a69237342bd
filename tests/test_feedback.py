"""What users found useful: stored, checked, exported, measured on and learned from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from raw_sql import connections_of

from spladelite import (
    CorruptIndex,
    DocumentNotFound,
    Feedback,
    InvalidInput,
    InvalidText,
    ReadOnly,
    SpladeLite,
    WrongType,
)
from spladelite.cli.main import main
from spladelite.evaluation.feedback import judged_by_users, needs_feedback

TEXTS = {
    "car": "A car crashed into a tree.",
    "bread": "Bake the bread for an hour.",
    "train": "Steam engines pulled the trains.",
    "snow": "Snow fell on the mountains all night.",
}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SpladeLite]:
    with SpladeLite(tmp_path / "kb.db") as db:
        db.add(TEXTS.values(), ids=TEXTS.keys())
        yield db


def said(db: SpladeLite) -> list[tuple[str, str, float]]:
    return [(one.query, one.id, one.value) for one in db.read_feedback()]


def test_the_last_word_on_a_query_and_a_document_holds(db: SpladeLite) -> None:
    assert db.read_feedback() == []
    db.feedback("accident", "car")
    db.feedback("loaf", "bread", 3)
    db.feedback(" Accident", "car", value=False)
    db.feedback("accident", "train", 0.5)
    assert said(db) == [("loaf", "bread", 3.0), (" Accident", "car", 0.0), ("accident", "train", 0.5)]
    (first, *_) = db.read_feedback()
    assert isinstance(first, Feedback)
    assert first.at.endswith("+00:00")
    assert db.sql("SELECT count(*) FROM feedback") == [(4,)]


@pytest.mark.parametrize(
    ("query", "id", "value", "error", "message"),
    [
        ("accident", "gone", 1, DocumentNotFound, "gone"),
        ("  ", "car", 1, InvalidText, "query is blank"),
        (7, "car", 1, WrongType, "query is"),
        ("accident", "", 1, InvalidInput, "id is an empty string"),
        ("accident", "car", "good", WrongType, "value is of type str; give a number"),
        ("accident", "car", math.nan, InvalidInput, "value is nan; give a finite number"),
    ],
)
def test_bad_feedback_is_refused(
    db: SpladeLite, query: object, id: str, value: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        db.feedback(query, id, value)  # type: ignore[arg-type]
    assert db.read_feedback() == []


def test_it_stays_in_the_file_and_goes_with_every_copy_but_slim_ones(db: SpladeLite, tmp_path: Path) -> None:
    db.feedback("accident", "car")
    db.feedback("loaf", "bread")
    db.delete("car")
    before = said(db)
    db.export(tmp_path / "whole.db")
    db.export(tmp_path / "slim.db", slim=True)
    db.backup(tmp_path / "backup.db")
    db.reencode()
    assert said(db) == before
    db.close()
    for name, there in (("kb", before), ("whole", before), ("backup", before), ("slim", [])):
        with SpladeLite(tmp_path / f"{name}.db", read_only=True) as copy:
            assert said(copy) == there, name
            assert copy.check() == [], name
            with pytest.raises(ReadOnly):
                copy.feedback("loaf", "bread")


def test_damage_is_found_and_what_is_whole_is_kept(db: SpladeLite) -> None:
    db.feedback("accident", "car")
    db.feedback("loaf", "bread")
    with connections_of(db).write() as connection:
        connection.execute("UPDATE feedback SET value = -1 WHERE feedback_id = 1")
    with pytest.raises(CorruptIndex, match="feedback 1: its content is not"):
        db.read_feedback()
    assert [(found.table, found.row) for found in db.check()] == [("feedback", "1")]
    assert db.search("bread", k=1)[0].id == "bread"
    db.check(repair=True)
    assert said(db) == [("loaf", "bread", 1.0)]
    assert db.check() == []


def test_it_becomes_judged_queries(db: SpladeLite) -> None:
    with pytest.raises(InvalidInput, match="no feedback that calls a document useful"):
        needs_feedback(db)
    db.feedback("accident", "car", 0.2)
    db.feedback("Accident ", "bread", 0)
    db.feedback("loaf", "bread", 2)
    db.feedback("cold", "train", -1)  # nothing useful
    db.feedback("winter", "snow")
    db.delete("snow")
    queries, judgments = judged_by_users(db)
    assert queries == {"1": "accident", "2": "loaf"}
    assert judgments == {"1": {"car": 1, "bread": 0}, "2": {"bread": 2}}


def run(*args: str, status: int = 0) -> Result:
    result = CliRunner(catch_exceptions=False).invoke(main, args)
    assert result.exit_code == status, result.output
    return result


def test_the_command_line(db: SpladeLite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db.close()
    monkeypatch.chdir(tmp_path)
    run("eval", "--database", "kb.db", "--feedback", status=2)
    run("feedback", "kb.db", "accident", "car")
    run("feedback", "kb.db", "accident", "bread", "--value", "0")
    assert "gone" in run("feedback", "kb.db", "accident", "gone", status=1).output
    found = json.loads(run("eval", "--database", "kb.db", "--feedback", "--system", "splade", "--json").stdout)
    assert found["systems"]["splade"]["measures"]["nDCG@10"] == 1.0
    run("eval", "--feedback", status=2)
    run("eval", "--database", "kb.db", "--feedback", "--qrels", "kb.db", "--topics", "kb.db", status=2)
