"""Reading Chroma folders: of its format, written here, and one that Chroma has written, where it is installed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from spladelite import InvalidInput, SpladeLite
from spladelite.cli.main import main
from spladelite.integrations.chroma import FILE, read_chroma

TEXT = "The engine does not start."
EARLY = """
CREATE TABLE collections (id TEXT PRIMARY KEY, name TEXT);
CREATE TABLE segments (id TEXT PRIMARY KEY, scope TEXT, collection TEXT);
CREATE TABLE embeddings (id INTEGER PRIMARY KEY, segment_id TEXT, embedding_id TEXT);
CREATE TABLE embedding_metadata (id INTEGER, key TEXT, string_value TEXT, int_value INTEGER, float_value REAL);
"""
TODAY = (
    EARLY
    + """
ALTER TABLE embedding_metadata ADD COLUMN bool_value INTEGER;
CREATE TABLE embedding_metadata_array (
    id INTEGER, key TEXT, string_value TEXT, int_value INTEGER, float_value REAL, bool_value INTEGER
);
"""
)


def chroma(
    folder: Path, records: Sequence[tuple[str, str | None, dict[str, Any]]], schema: str = TODAY, name: str = "notes"
) -> Path:
    """A folder with a collection of (id, text, metadata), or one more of them."""
    folder.mkdir(exist_ok=True)
    new = not (folder / FILE).exists()
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        if new:
            connection.executescript(schema)
        connection.execute("INSERT INTO collections VALUES (?, ?)", (f"c-{name}", name))
        for scope in ("VECTOR", "METADATA"):
            connection.execute("INSERT INTO segments VALUES (?, ?, ?)", (f"{scope}-{name}", scope, f"c-{name}"))
        for id, text, metadata in records:
            row = connection.execute(
                "INSERT INTO embeddings (segment_id, embedding_id) VALUES (?, ?)", (f"METADATA-{name}", id)
            )
            for key, value in {**metadata, **({} if text is None else {"chroma:document": text})}.items():
                for one in value if isinstance(value, list) else [value]:
                    table = "embedding_metadata_array" if isinstance(value, list) else "embedding_metadata"
                    column = {str: "string_value", bool: "bool_value", int: "int_value", float: "float_value"}[
                        type(one)
                    ]
                    connection.execute(
                        f"INSERT INTO {table} (id, key, {column}) VALUES (?, ?, ?)", (row.lastrowid, key, one)
                    )
    return folder


def run(*args: object, status: int = 0) -> Result:
    result = CliRunner(catch_exceptions=False).invoke(main, ["import", "chroma", *map(str, args)])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    metadata = {"year": 2021, "score": 1.5, "yes": True, "no": False, "tags": ["a", "b"], "ns": [1, 2]}
    return chroma(tmp_path / "chroma", [("a", TEXT, metadata), ("b", "Bread bakes.", {}), ("image", None, {"n": 1})])


def test_a_folder_becomes_a_database(folder: Path, path: str) -> None:
    before = (folder / FILE).read_bytes()
    assert "2 read (1 without text left out)" in run(folder, path).stdout
    with SpladeLite(path) as db:
        assert db.search("engine trouble", k=1)[0].id == "a"
        assert db.get("a").metadata == {  # type: ignore[union-attr]
            "year": 2021, "score": 1.5, "yes": True, "no": False, "tags": ["a", "b"], "ns": [1, 2],
        }  # fmt: skip
        assert db.get("b").metadata == {}  # type: ignore[union-attr]
    again = json.loads(run(folder / FILE, path, "--json").stdout)
    assert (again["ids"], again["blank"], again["before"], again["documents"]) == (["a", "b"], 1, 2, 2)
    assert (folder / FILE).read_bytes() == before


def test_a_file_of_an_early_version(tmp_path: Path) -> None:
    folder = chroma(tmp_path / "old", [("a", TEXT, {"year": 2021})], EARLY)
    ((source),) = read_chroma(str(folder))
    assert (source.id, source.text, source.metadata) == ("a", TEXT, {"year": 2021})


def test_one_of_several_collections(folder: Path, path: str) -> None:
    chroma(folder, [("a", "Another text.", {})], name="other")
    message = run(folder, path, status=2).stderr
    assert "choose by --collection, by name or id: 'notes' with 3 records, 'other' with 1 records" in message
    assert not Path(path).exists()
    for name in ("other", "c-other"):
        ((source),) = read_chroma(str(folder), name)
        assert source.text == "Another text."
    run(folder, path, "--collection", "notes")
    assert "exists already, with another text" in run(folder, path, "--collection", "other", status=2).stderr
    run(folder, path, "--collection", "other", "--replace", "-q")
    with SpladeLite(path) as db:
        assert db.get("a").text == "Another text."  # type: ignore[union-attr]


def test_what_is_no_chroma_folder(folder: Path, tmp_path: Path, path: str) -> None:
    assert "No such file" in run(tmp_path / "nowhere", path, status=3).stderr
    (tmp_path / "text").write_text("no database, but long enough to be told from an empty file" * 9)
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        connection.execute("CREATE TABLE x (y)")
    for wrong in ("text", "empty.db"):
        assert "cannot be read as Chroma's SQLite file" in run(tmp_path / wrong, path, status=2).stderr
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        connection.execute("UPDATE embeddings SET embedding_id = x'ff'")
    with pytest.raises(InvalidInput, match="the id or text of record 1 is no text"):
        list(read_chroma(str(folder)))
    assert "no text in" in run(chroma(tmp_path / "none", [("a", None, {})]), path, status=2).stderr
    assert not Path(path).exists()


def test_a_folder_that_chroma_has_written(tmp_path: Path) -> None:
    chromadb = pytest.importorskip("chromadb")
    client = chromadb.PersistentClient(str(tmp_path / "real"))
    notes = client.create_collection("notes", embedding_function=None)
    vectors = [[1.0, 2.0]] * 3
    notes.add(
        ids=["a", "b", "c"], documents=[TEXT, "Bread.", "Gone."], embeddings=vectors,
        metadatas=[{"year": 2021, "yes": True}, {"tags": ["x", "y"]}, {"n": 1}],
    )  # fmt: skip
    notes.update(ids=["b"], documents=["Bread bakes."], embeddings=vectors[:1])
    notes.delete(ids=["c"])
    assert [(one.id, one.text, one.metadata) for one in read_chroma(str(tmp_path / "real"))] == [
        ("a", TEXT, {"year": 2021, "yes": True}),
        ("b", "Bread bakes.", {"tags": ["x", "y"]}),
    ]
