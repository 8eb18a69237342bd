"""The file under the facade: opening, sharing, copies, exports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from five_texts import IDS, TEXTS, Counting
from raw_sql import connections_of

import spladelite
from spladelite import SpladeLite


def test_reopening_needs_no_arguments(path: str) -> None:
    with SpladeLite(path, min_weight=0.1) as db:
        db.add(TEXTS, ids=IDS)
        before = db.search("automobile")
    with SpladeLite(path) as db:
        assert db.stats().min_weight == 0.1
        assert db.search("automobile") == before
    with pytest.raises(spladelite.InvalidInput, match=r"min_weight=0.1"):
        SpladeLite(path, min_weight=0.2)


def test_another_model_is_refused(path: str) -> None:
    with SpladeLite(path) as db:
        db.add(TEXTS)
    other = Counting()
    other.fingerprint, other.name = "0" * 64, "other-model"
    with pytest.raises(spladelite.ModelMismatch, match=r"splade-tiny.*other-model"):
        SpladeLite(path, other)


def test_a_closed_database_is_one_plain_file(path: str) -> None:
    with SpladeLite(path) as db:
        db.add(TEXTS)
        assert os.path.exists(path + "-wal")
    assert os.listdir(os.path.dirname(path)) == ["kb.db"]
    assert Path(path).read_bytes()[18] == 1  # not a WAL file
    db.close()
    with pytest.raises(spladelite.DatabaseError, match="closed"):
        db.search("car")


def test_read_only_never_writes(path: str) -> None:
    with pytest.raises(spladelite.NotADatabase, match="does not exist"):
        SpladeLite(path, read_only=True)
    with SpladeLite(path) as db:
        db.add(TEXTS, ids=IDS)
    before = Path(path).read_bytes()
    with SpladeLite(path, read_only=True) as db:
        assert db.search("automobile")[0].id == "car"
        for write in (
            lambda: db.add("x y"),
            lambda: db.delete("car"),
            lambda: db.update("car", metadata={}),
            db.optimize,
        ):
            with pytest.raises(spladelite.ReadOnly, match="read-only"):
                write()
    assert Path(path).read_bytes() == before


def test_what_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(spladelite.NotADatabase, match="directory"):
        SpladeLite(tmp_path)
    with pytest.raises(spladelite.NotADatabase, match="folder"):
        SpladeLite(tmp_path / "missing" / "kb.db")
    text = tmp_path / "notes.txt"
    text.write_text("These are my notes. " * 100)
    with pytest.raises(spladelite.NotADatabase, match="not a SQLite database"):
        SpladeLite(text)
    assert text.read_text().startswith("These are my notes.")
    foreign = tmp_path / "foreign.db"
    with apsw.Connection(str(foreign)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = foreign.read_bytes()
    with pytest.raises(spladelite.NotADatabase, match="not one of SpladeLite's"):
        SpladeLite(foreign)
    assert foreign.read_bytes() == before
    for wrong in (3, None, b"kb.db", ""):
        with pytest.raises(spladelite.WrongType, match="path"):
            SpladeLite(wrong)  # type: ignore[arg-type]
    with pytest.raises(spladelite.WrongType, match="model"):
        SpladeLite(tmp_path / "kb.db", model=5)
    assert not (tmp_path / "kb.db").exists()


def test_a_newer_format_is_refused(path: str) -> None:
    SpladeLite(path).close()
    connection = apsw.Connection(path)
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(spladelite.UnsupportedFormat, match=r"format 99.*update"):
        SpladeLite(path)


def test_another_process_reads_while_this_one_writes(path: str) -> None:
    script = (
        "import sys; from spladelite import SpladeLite\n"
        "with SpladeLite(sys.argv[1], read_only=True) as db:\n"
        "    print(len(db), [h.id for h in db.search('automobile', k=1)])\n"
    )
    with SpladeLite(path) as db:
        db.add(TEXTS, ids=IDS)
        with connections_of(db).write() as connection:  # a write transaction stays open meanwhile
            connection.execute("DELETE FROM document")
            seen = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
            assert seen.stdout == "5 ['car']\n"
            connection.execute("ROLLBACK")
            connection.execute("BEGIN")
        assert len(db) == 5


def test_terms_are_readable_in_any_sqlite_shell(small: SpladeLite, path: str) -> None:
    small.add(TEXTS, ids=IDS)
    expected = {(t.term, round(t.weight, 1)) for t in small.expand(TEXTS[1])}
    small.close()
    import sqlite3

    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT term, weight FROM document_term WHERE id = 'bread' ORDER BY weight DESC"
    ).fetchall()
    assert rows[0][0] in ("bread", "bake", "hour")
    assert {(term, round(weight, 1)) for term, weight in rows} & expected
    assert len(rows) == len(expected)
    found = connection.execute("SELECT id FROM term_document WHERE term = 'bread' ORDER BY weight DESC").fetchall()
    assert found[0] == ("bread",)
    connection.close()


def test_backup_and_export(filled: SpladeLite, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    filled.backup(tmp_path / "copy.db", progress=lambda done, total: seen.append((done, total)))
    filled.export(tmp_path / "ship.db")
    assert seen[-1][0] == seen[-1][1] > 0
    for name in ("copy.db", "ship.db"):
        with SpladeLite(tmp_path / name, read_only=True) as copy:
            assert copy.search("automobile") == filled.search("automobile")
            assert copy.check() == []
    with pytest.raises(spladelite.InvalidInput, match="itself"):
        filled.backup(filled.path)
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "kb.db", "kb.db-shm", "kb.db-wal", "ship.db"]


def test_memory_database_among_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with SpladeLite(":memory:") as db:
        db.add(TEXTS, ids=IDS)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: db.search("automobile", k=1)[0].id, range(40)))
        assert found == ["car"] * 40


def test_sqlite_out_of_memory_is_an_error_of_ours(path: str) -> None:
    """A damaged record may claim gigabytes: found by damaging 50,000 files under a memory limit."""
    from spladelite.file.sqlite import translated

    with pytest.raises(spladelite.DatabaseError, match="memory"), translated(path):
        raise apsw.NoMemError


def test_importing_is_light() -> None:
    script = (
        "import sys, spladelite\n"
        "heavy = set('torch transformers onnxruntime tokenizers sqlite3 tqdm click'.split()) & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_slim_export_is_searched_and_explained_but_not_changed(small: SpladeLite, tmp_path: Path) -> None:
    long = " ".join(f"Sentence number {i} is about the weather in spring." for i in range(150))
    small.add([*TEXTS, long], ids=[*IDS, "long"])
    small.delete("stock")
    small.export(tmp_path / "slim.db", slim=True)
    with SpladeLite(tmp_path / "slim.db") as slim:
        assert slim.check() == []
        assert slim.sql("SELECT count(terms), count(impacts) FROM passage") == [(0, 0)]
        for query in ("automobile accident", "bread", "spring weather"):
            assert slim.search(query) == small.search(query)
            assert slim.explain(query, slim.search(query)[0].id) == small.explain(query, small.search(query)[0].id)
            assert slim.sql("SELECT score FROM splade(?)", [query]) == small.sql("SELECT score FROM splade(?)", [query])
        assert slim.sql("SELECT splade_score(doc_id, 'spring') FROM document") == small.sql(
            "SELECT splade_score(doc_id, 'spring') FROM document"
        )
        with pytest.raises(spladelite.ReadOnly, match="slim"):
            slim.add("new text")
        with pytest.raises(spladelite.ReadOnly, match="slim"):
            slim.delete("car")
        with pytest.raises(spladelite.InvalidInput, match="slim"):
            slim.export_rows(tmp_path / "rows.db")
