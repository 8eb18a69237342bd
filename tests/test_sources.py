"""Reading documents from real files, folders and SQLite tables."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelite.documents.files import find_files
from spladelite.documents.sources import Columns, Source, json_object, read_file, read_stdin, read_table
from spladelite.errors import InvalidInput

DEFAULT = Columns()


def read(
    *paths: Path | str, format: str | None = None, columns: Columns = DEFAULT, encoding: str | None = None
) -> list[tuple[object, ...]]:
    files, _ = find_files(map(str, paths), format)
    return [fields(source) for file in files for source in read_file(file, columns, encoding)]


def fields(source: Source) -> tuple[object, ...]:
    return source.id, source.text, source.metadata


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_folder_is_read_in_order_without_hidden_and_foreign_files(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "B")
    write(tmp_path / "a" / "deep" / "Read.MD", "# M")
    write(tmp_path / "a" / "rows.jsonl", '{"text": "J"}\n\n{"_id": 7, "text": "K", "year": 2020}')
    write(tmp_path / "c.csv", "text,n\nC,1\n")
    for hidden in (".x.txt", ".git/y.txt", "picture.png", "a/.z/q.md"):
        write(tmp_path / hidden, "no")
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    assert read(tmp_path) == [
        ("b.txt", "B", None),
        (None, "C", {"n": 1}),
        (None, "J", None),
        ("7", "K", {"year": 2020}),
        ("a/deep/Read.MD", "# M", None),
    ]
    assert read(tmp_path / "a" / "deep" / "Read.MD") == [("Read.MD", "# M", None)]


def test_a_folder_without_documents_and_a_file_of_unknown_name_are_refused(tmp_path: Path) -> None:
    assert find_files([str(tmp_path)]) == ([], {})
    with pytest.raises(InvalidInput, match=r"x\.log: .*--format"):
        read(write(tmp_path / "x.log", "a\nb"))
    assert read(tmp_path / "x.log", format="lines") == [("x.log:1", "a", None), ("x.log:2", "b", None)]
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing.txt")


def test_beir_lines_and_free_lines(tmp_path: Path) -> None:
    rows = [
        {"_id": "d1", "title": "Title", "text": "body", "metadata": {"url": "u"}},
        {"_id": "d2", "title": "", "text": "body", "metadata": {}},
        {"id": 3, "text": "t", "tags": ["x"], "metadata": {"a": 1}, "b": None},
        {"text": "no id"},
        {"id": "e", "text": None},
    ]
    path = write(tmp_path / "corpus.jsonl", b"\xef\xbb\xbf" + "\r\n".join(map(json.dumps, rows)).encode())
    assert read(path) == [
        ("d1", "Title body", {"url": "u"}),
        ("d2", "body", None),
        ("3", "t", {"tags": ["x"], "b": None, "a": 1}),
        (None, "no id", None),
        ("e", "", None),
    ]
    chosen = write(tmp_path / "c.jsonl", '{"key": "k", "body": "B", "text": "other", "id": 5}')
    assert read(chosen, columns=Columns("body", "key")) == [("k", "B", {"text": "other", "id": 5})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "a JSON object"),
        ('{"text": NaN}', "NaN is not JSON"),
        ('{"body": "x"}', "no 'text' among body"),
        ('{"text": 5}', "'text' is 5, not a text"),
        ('{"text": "x", "title": ["t"]}', "'title'"),
        ('{"text": "x", "id": ""}', "'id' is \"\""),
        ('{"text": "x", "_id": true}', "'_id' is true"),
        ('{"text": "x", "id": 1.5}', "'id' is 1.5"),
        ('{"text": "\\ud800"}', "lone surrogate"),
        ('{"text": "x", "y": "\\ud800"}', "lone surrogate"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_wrong_lines_are_named_by_file_and_number(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "x.jsonl", '{"text": "fine"}\n\n' + line)
    with pytest.raises(InvalidInput, match=rf"x\.jsonl:3: .*{message}"):
        read(path)


def test_csv(tmp_path: Path) -> None:
    long = "x" * 200_000
    rows = f'id,title,text,year,zip,price\n007,T,"two\nlines, ""quoted""",2020,0123,1.5\n\n8,,{long},{2**63},,1e999\n'
    path = write(tmp_path / "x.csv", "\ufeff" + rows)
    assert read(path) == [
        ("007", 'T two\nlines, "quoted"', {"year": "2020", "zip": "0123", "price": "1.5"}),
        ("8", long, {"year": str(2**63), "zip": "", "price": "1e999"}),
    ]
    path = write(tmp_path / "y.csv", "zip,title,n\n0123,T,1\n")
    assert read(path, columns=Columns("title", "zip")) == [("0123", "T", {"n": 1})]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2.5", "-3"], [1, 2.5, -3]),
        (["1.10", "1.1"], ["1.10", "1.1"]),
        (["00601", "10001"], ["00601", "10001"]),
        (["1E5", "12e3"], ["1E5", "12e3"]),
        (["1.0", "1"], [1.0, 1]),
        (["7", ""], [7, None]),
        (["7", "x"], ["7", "x"]),
        (["", ""], ["", ""]),
        (["9" * 19, "1"], ["9" * 19, "1"]),
        (["0.1000000000000000055", "1"], ["0.1000000000000000055", "1"]),
        (["-0", "1"], ["-0", "1"]),
        (["+1", "1"], ["+1", "1"]),
        (["true", "false"], ["true", "false"]),
        (["\u0663", "1"], ["\u0663", "1"]),
    ],
)
def test_a_csv_column_has_one_type(tmp_path: Path, values: list[str], expected: list[object]) -> None:
    path = write(tmp_path / "x.csv", "text,v\n" + "".join(f"t,{value}\n" for value in values))
    found = [metadata["v"] for _, _, metadata in read(path)]  # type: ignore[index]
    assert [(type(value), value) for value in found] == [(type(value), value) for value in expected]


def test_a_csv_column_has_the_type_that_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "text,zip,n,f\nt,7,007,1\n")
    columns = Columns(kinds={"zip": "text", "n": "int", "f": "float"})
    assert [metadata for _, _, metadata in read(path, columns=columns)] == [{"zip": "7", "n": 7, "f": 1.0}]
    for kinds, message in (({"zip": "int", "text": "int"}, "no int"), ({"missing": "int"}, "no column 'missing'")):
        with pytest.raises(InvalidInput, match=message):
            read(path, columns=Columns(kinds=kinds))


def test_csv_from_a_pipe_is_read_twice_too(monkeypatch: pytest.MonkeyPatch) -> None:
    end, start = os.pipe()
    with os.fdopen(start, "wb") as writer:
        writer.write(b"text,v\nt,1.10\nu,2\n")
    with os.fdopen(end, "rb") as reader:
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": reader}))
        assert [source.metadata for source in read_stdin("csv")] == [{"v": "1.10"}, {"v": "2"}]


def test_a_name_that_is_no_utf8_does_not_stop_the_others(tmp_path: Path) -> None:
    for name in (b"x\xff.txt", b"y.txt", "ä.txt".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("hello")
    assert [id for id, _, _ in read(tmp_path)] == [r"x\xff.txt", "y.txt", "ä.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,n\na\n", r":2: the row has 1 values, the header 2"),
        ("text,text\na,b\n", r":1: the header names a column twice"),
        ("body\na\n", r":2: no 'text' among body"),
        ('text\n"a', r":2: not CSV"),
        ('text\n"a"b\n', r":2: not CSV"),
    ],
)
def test_wrong_csv_is_named_by_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=rf"x\.csv{message}"):
        read(write(tmp_path / "x.csv", content))


@pytest.mark.parametrize(
    ("name", "content", "byte"),
    [
        ("x.txt", b"abc\xff", 3),
        ("x.md", b"\xef\xbb\xbfabc\xff", 6),
        ("x.jsonl", b'\xef\xbb\xbf{"text": "a"}\n{"text": "\xc3("}', 27),
        ("x.csv", b"text\nok\n\xe4\n", 8),
    ],
)
def test_what_is_not_utf8_is_named_by_file_and_byte(tmp_path: Path, name: str, content: bytes, byte: int) -> None:
    assert content[byte] >= 0x80
    with pytest.raises(InvalidInput, match=rf"{name}: byte {byte} \(0x{content[byte]:02x}\) is not UTF-8"):
        read(write(tmp_path / name, content))


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        (None, [(None, '{"text": "a"}', None), (None, '{"text": "b"}', None)]),
        ("text", [(None, '{"text": "a"}\n \n{"text": "b"}', None)]),
        ("jsonl", [(None, "a", None), (None, "b", None)]),
    ],
)
def test_standard_input(monkeypatch: pytest.MonkeyPatch, format: str | None, expected: list[object]) -> None:
    stdin = SimpleNamespace(buffer=io.BytesIO(b'{"text": "a"}\n \n{"text": "b"}'))
    monkeypatch.setattr("sys.stdin", stdin)
    assert [fields(source) for source in read_stdin(format or "lines")] == expected


def test_files_are_read_as_they_are_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"text": "a"}\n' * 3 + "{")
    sources = read_file(find_files([str(path)])[0][0])
    assert [next(sources).text for _ in range(3)] == ["a"] * 3
    with pytest.raises(InvalidInput, match=":4"):
        next(sources)


# A value that JSON can hold is read back as it was.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_json_objects_are_read_as_written(value: dict[str, object]) -> None:
    assert json_object(json.dumps(value, ensure_ascii=False), "here") == value


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other ?#%.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            CREATE TABLE article (slug TEXT PRIMARY KEY, title TEXT, body TEXT, year INTEGER, image BLOB);
            INSERT INTO article VALUES ('a', 'Bread', 'Bake it.', 1999, x'00ff'), ('b', NULL, 'Eat it.', NULL, NULL);
            CREATE TABLE note (text TEXT); INSERT INTO note VALUES ('n1'), (NULL);
            CREATE TABLE pair (a INTEGER, b INTEGER, text TEXT, PRIMARY KEY (a, b));
            INSERT INTO pair VALUES (1, 2, 'p');
            CREATE TABLE number (text); INSERT INTO number VALUES ('fine'), (5);
            CREATE VIEW recent AS SELECT slug AS id, body AS text FROM article WHERE year > 1990;
        """)
    return path


def test_rows_of_a_table_and_a_view(other: Path) -> None:
    def rows(table: str, columns: Columns = DEFAULT) -> list[tuple[object, ...]]:
        return [fields(source) for source in read_table(str(other), table, columns)]

    assert rows("article", Columns("body")) == [
        ("a", "Bread Bake it.", {"year": 1999}),
        ("b", "Eat it.", {"year": None, "image": None}),
    ]
    assert rows("article", Columns("body", "year"))[0] == ("1999", "Bread Bake it.", {"slug": "a"})
    assert rows("note") == [(None, "n1", None), (None, "", None)]
    assert rows("pair") == [(None, "p", {"a": 1, "b": 2})]
    assert rows("recent") == [("a", "Bake it.", None)]


def test_wrong_tables_are_refused_with_what_there_is(other: Path, tmp_path: Path) -> None:
    for table, columns, message in [
        ("nowhere", Columns(), "has no table 'nowhere'; it has article, note, pair, number, recent"),
        ("article", Columns(), "no column 'text'; choose --text-column and --id-column from slug, title"),
        ("note", Columns(id="key"), "no column 'key'"),
        ("number", Columns(), "number row 2: 'text' is 5, not a text"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            list(read_table(str(other), table, columns))
    with pytest.raises(InvalidInput, match="cannot be read as a SQLite database"):
        list(read_table(str(write(tmp_path / "x.db", "no database" * 100)), "t"))
    with pytest.raises(FileNotFoundError):
        list(read_table(str(tmp_path / "missing.db"), "t"))
    assert not (tmp_path / "missing.db").exists()
