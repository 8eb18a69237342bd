"""check() sees every kind of damage, names its row, and repair keeps every text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest
from raw_sql import connections_of
from torture import damage
from torture.words import WordModel

from spladelite import SpladeLite
from spladelite.errors import CorruptIndex, ReadOnly

MODEL = WordModel()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kb.db"
    damage.build(path, 3)
    return path


def change(path: Path, sql: str, *args: Any) -> None:
    """Edit a file behind SpladeLite's back, as a disk or another program would."""
    connection = apsw.Connection(str(path))
    connection.execute(sql, args)
    assert connection.changes()
    connection.close()


def answers(path: Path) -> dict[str, Any]:
    questions = {**damage.search_questions(), **damage.other_questions()}
    del questions["idf"]  # counts dead passages too, which repair clears away
    with SpladeLite(path, MODEL, read_only=True) as db:
        return {name: question(db) for name, question in questions.items()}


DAMAGE = {
    "posting bytes": ("UPDATE posting SET postings = zeroblob(length(postings)) WHERE rowid_of", "posting"),
    "posting count": ("UPDATE posting SET count = count + 1 WHERE rowid_of", "posting"),
    "posting lost": ("DELETE FROM posting WHERE rowid_of", "posting"),
    "segment": ("UPDATE segment SET scales = zeroblob(length(scales))", "segment"),
    "segment lost": ("DELETE FROM segment WHERE segment_id = (SELECT min(segment_id) FROM segment)", "segment"),
    "tombstone lost": ("DELETE FROM tombstone", "segment"),
    "tombstone": ("UPDATE tombstone SET deleted = deleted + 1", "segment"),
    "passage vector": ("UPDATE passage SET impacts = zeroblob(length(impacts)) WHERE passage_id % 7 = 0", "passage"),
    "passage span": ("UPDATE passage SET end_char = end_char - 1 WHERE passage_id % 7 = 0", "passage"),
    "passage lost": ("DELETE FROM passage WHERE passage_id = (SELECT max(passage_id) FROM passage)", "document"),
    "size": ("UPDATE meta SET value = '1 1' WHERE key = 'size'", "segment"),
    "words lost": ("DELETE FROM posting WHERE term_id >= 1099511627776", "posting"),
}


@pytest.mark.parametrize("bm25", [True, False])
@pytest.mark.parametrize("lost", ["passage_id >= 1", "passage_id = 5"])
def test_optimize_drops_no_document_whose_passages_cannot_be_read(tmp_path: Path, bm25: bool, lost: str) -> None:
    """A page of their table in another's place: the new segments would be without them."""
    path = tmp_path / "kb.db"
    with SpladeLite(path, MODEL, bm25=bm25, tail_size=4, segment_size=16) as db:
        db.add([f"w{i} w{i + 1}" for i in range(20)])
        before = db.search({6: 1.0}, 20)
    change(path, f"DELETE FROM passage WHERE {lost}")
    with SpladeLite(path, MODEL) as db:
        with pytest.raises(CorruptIndex, match="passages, and there are"):
            db.optimize()
        db.check(repair=True)
        assert db.search({6: 1.0}, 20) == before
        db.optimize()
        assert db.check() == []


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_to_the_index_is_found_and_repaired_without_loss(file: Path, kind: str) -> None:
    before = answers(file)
    sql, table = DAMAGE[kind]
    key = "(segment_id, term_id) IN (SELECT segment_id, term_id FROM posting LIMIT 3)"
    change(file, sql.replace("rowid_of", key))
    with SpladeLite(file, MODEL) as db:
        findings = db.check()
        assert table in {finding.table for finding in findings}, findings
        db.check(repair=True)
        assert db.check() == []
        db.add("something new w1", ids="new")
    assert file.with_name("kb.db.damaged").exists()
    with SpladeLite(file, MODEL) as db:
        db.delete("new")
    after = answers(file)
    if kind.startswith("passage"):  # some vectors were given by the caller: the model's are there instead
        assert after["ids"] == before["ids"]
        assert after["documents"] == before["documents"]
    else:
        assert after == before


def test_a_changed_text_is_kept_and_reported(file: Path) -> None:
    change(file, "UPDATE document SET text = text || ' tampered' WHERE id = 'd5'")
    with SpladeLite(file, MODEL) as db:
        with pytest.raises(CorruptIndex, match="document"):
            db.get("d5")
        findings = db.check(repair=True)
        assert any(finding.table == "document" and "d5" in finding.problem for finding in findings)
        document = db.get("d5")
        assert document is not None
        assert document.text.endswith(" tampered")
        assert db.check() == []


def test_a_damaged_content_hash_costs_no_document(file: Path) -> None:
    change(file, "UPDATE document SET content_hash = x'00' WHERE id = 'd5'")
    with SpladeLite(file, MODEL) as db:
        count = len(db)
        db.check(repair=True)
        assert len(db) == count
        assert db.check() == []


def test_repair_of_a_sound_file_changes_nothing(file: Path) -> None:
    with SpladeLite(file, MODEL) as db:
        assert db.check(repair=True) == []
    assert not file.with_name("kb.db.damaged").exists()


def test_repair_needs_a_file_that_may_be_written(file: Path) -> None:
    change(file, "DELETE FROM tombstone")
    with SpladeLite(file, MODEL, read_only=True) as db, pytest.raises(ReadOnly):
        db.check(repair=True)


def test_an_open_handle_of_another_process_follows_a_repair(file: Path) -> None:
    change(file, "UPDATE posting SET count = count + 1")
    with SpladeLite(file, MODEL) as other, SpladeLite(file, MODEL) as db:
        db.check(repair=True)
        assert other.check() == []
        assert other.search({1: 1.0, 2: 1.0}) == db.search({1: 1.0, 2: 1.0})


def test_repair_in_memory() -> None:
    with SpladeLite(":memory:", MODEL, tail_size=2) as db:
        db.add(["w1 w2", "w2 w3", "w3 w4"], ids=["a", "b", "c"])
        hits = db.search("w2")
        with connections_of(db).write() as connection:
            connection.execute("UPDATE posting SET count = 77")
        assert db.check(repair=True)
        assert db.check() == []
        assert db.search("w2") == hits


def test_a_check_neither_waits_for_a_writer_nor_holds_one_up(file: Path) -> None:
    with SpladeLite(file, MODEL) as db, SpladeLite(file, MODEL) as other:
        with connections_of(other).write() as connection:
            connection.execute("UPDATE meta SET value = value WHERE key = 'size'")
            assert db.check() == []
        with connections_of(db).read() as reading:
            reading.execute("SELECT count(*) FROM document").fetchall()
            other.add("w9", ids="meanwhile")
            assert db.check() == []  # of the state that this transaction sees
