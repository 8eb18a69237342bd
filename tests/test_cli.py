"""The command line: as click runs it, and as a real child process."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from spladelite import SpladeLite, errors
from spladelite.cli.main import exit_status, main
from spladelite.cli.tables import excerpt, snippet

COMMAND = [sys.executable, "-c", "from spladelite.cli.main import main; main(prog_name='spladelite')"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    Path("notes/crash.txt").write_text("A car crashed into a tree.")
    Path("notes/bread.md").write_text("Bake the bread for an hour.")
    Path("notes/old.txt").write_text("Steam engines pulled the trains.")
    Path("notes/blank.txt").write_text(" \n")
    rows: list[dict[str, Any]] = [
        {"id": "f1", "text": "The engine does not start when it is cold.", "year": 2021, "lang": "en"},
        {"id": "f2", "text": "Carburettors were cleaned by hand.", "year": 1999, "lang": "en"},
    ]
    Path("faq.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("app.log").write_text("ERROR disk full\n\nERROR no route to host\n")
    Path("app/assets").mkdir(parents=True)
    Path("backup").mkdir()
    with closing(sqlite3.connect("shop.db")) as shop:
        shop.executescript(
            "CREATE TABLE product (sku TEXT PRIMARY KEY, description TEXT, price REAL);"
            "INSERT INTO product VALUES ('p1', 'A warm woollen hat', 19.5), ('p2', 'A straw hat', 9)"
        )
    return tmp_path


def run(*args: str, status: int = 0, input: str | None = None) -> Result:
    result = CliRunner(catch_exceptions=False).invoke(main, args, input=input)
    assert result.exit_code == status, result.output
    return result


def run_json(*args: str, status: int = 0, input: str | None = None) -> Any:
    return json.loads(run(*args, "--json", status=status, input=input).stdout)


def fails(status: int, message: str, *args: str) -> None:
    result = run(*args, status=status)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert re.match(f"Error: .*{message}", result.stderr), result.stderr


@pytest.fixture
def notes() -> None:
    run("add", "kb.db", "notes", "faq.jsonl")


# -- every command -------------------------------------------------------------------------------------------------


def test_a_session_in_tables() -> None:
    assert (
        run("add", "kb.db", "notes").stdout == "3 read (1 blank left out); kb.db has 3 documents, 3 more than before\n"
    )
    assert (
        run("add", "kb.db", "notes").stdout == "3 read (1 blank left out); kb.db has 3 documents, 0 more than before\n"
    )
    lines = run("search", "kb.db", "automobile accident").stdout.splitlines()
    assert lines[0].split() == ["score", "id", "passage"]
    assert re.fullmatch(r"1  \d+\.\d{3}  crash.txt  A car crashed into a tree\.", lines[1])
    explained = run("explain", "kb.db", "automobile accident", "crash.txt").stdout.splitlines()
    assert explained[0].split() == ["part", "score", "adds", "words"]
    assert explained[3].split() == ["score", lines[1].split()[1]]
    assert explained[5].split() == ["term", "query", "document", "product", "expansion", "of"]
    assert any(re.match(r"car +\d\.\d+ +\d\.\d+ +\d\.\d+  query", line) for line in explained)
    assert run("expand", "kb.db", "car", "--side", "query", "-n", "1").stdout.splitlines()[1].split()[0] == "car"
    assert run("get", "kb.db", "crash.txt").stdout.splitlines()[-1] == "text      A car crashed into a tree."
    assert "documents           3\n" in run("stats", "kb.db").stdout
    assert run("check", "kb.db").stdout == "no problem found\n"
    assert run("optimize", "kb.db").stdout.startswith("kb.db: ")
    assert run("create-index", "kb.db", "year").stdout == "filters on year use an index now\n"
    assert run("backup", "kb.db", "b.db").stdout.startswith("b.db: ")
    assert run("export", "kb.db", "e.db").stdout.startswith("e.db: ")
    rows = run("sql", "kb.db", "SELECT id FROM document WHERE doc_id = ?", "--arg", "1").stdout.splitlines()
    assert rows == ["id", "bread.md"]
    assert run("delete", "kb.db", "crash.txt", "old.txt").stdout == "2 deleted\n"
    for copy in ("b.db", "e.db"):
        assert run_json("search", copy, "automobile accident")[0]["id"] == "crash.txt"


@pytest.mark.usefixtures("notes")
def test_every_command_speaks_json() -> None:
    added = run_json("add", "kb.db", "notes")
    assert added["ids"] == ["bread.md", "crash.txt", "old.txt"]
    assert (added["blank"], added["before"], added["documents"], added["unchanged"]) == (1, 5, 5, 3)
    (hit,) = run_json("search", "kb.db", "engine", "--where", '{"year": {"$gte": 2020}}')
    assert hit["id"] == "f1"
    assert hit["metadata"] == {"year": 2021, "lang": "en"}
    text = hit["passage"]["text"]
    assert hit["passage"] == {"text": text, "start": 0, "end": len(text)}
    explained = run_json("explain", "kb.db", "engine", "f1")
    assert sum(part["contribution"] for part in explained["parts"]) == pytest.approx(hit["score"], abs=1e-4)
    splade = explained["parts"][0]["score"]
    assert sum(term["contribution"] for term in explained["terms"]) == pytest.approx(splade, abs=1e-4)
    assert {"term", "query_weight", "document_weight", "expansion"} <= explained["terms"][0].keys()
    assert run_json("expand", "kb.db", "bread")[0]["term"] == "bread"
    assert run_json("get", "kb.db", "f2")[0]["metadata"]["year"] == 1999
    assert run_json("stats", "kb.db")["documents"] == 5
    assert run_json("check", "kb.db") == []
    assert run_json("optimize", "kb.db")["path"] == "kb.db"
    assert run_json("create-index", "kb.db", "year") == {"field": "year"}
    assert run_json("backup", "kb.db", "b.db")["bytes"] == Path("b.db").stat().st_size
    assert run_json("export", "kb.db", "e.db")["bytes"] == Path("e.db").stat().st_size
    assert run_json("sql", "kb.db", "SELECT id, 1.5 AS x, x'ff' AS y FROM document WHERE id = 'f1'") == [
        {"id": "f1", "x": 1.5, "y": "ff"}
    ]
    assert run_json("delete", "kb.db", "--where", "metadata ->> 'year' < ?", "--arg", "2000") == {"deleted": 1}


@pytest.mark.usefixtures("notes")
def test_other_modes_of_search() -> None:
    (hit,) = run_json("search", "kb.db", "start", "--mode", "bm25")
    assert hit["id"] == "f1"
    hybrid = run_json("search", "kb.db", "engine start", "--mode", "hybrid")
    assert hybrid[0]["id"] == "f1"
    explained = run_json("explain", "kb.db", "engine start", "f1", "--mode", "hybrid")
    assert [part["part"] for part in explained["parts"]] == ["splade", "bm25"]
    assert sum(part["contribution"] for part in explained["parts"]) == pytest.approx(hybrid[0]["score"], abs=1e-4)
    lines = run("explain", "kb.db", "engine start", "f1", "--mode", "hybrid").stdout.splitlines()
    assert lines[0].split() == ["part", "score", "adds", "words"]
    assert run_json("search", "kb.db", "engine", "--encoder", "idf")[0]["id"] in ("f1", "old.txt")
    fails(2, "mode is 'magic'", "search", "kb.db", "engine", "--mode", "magic")
    fails(2, "no dense vectors", "search", "kb.db", "engine", "--mode", "dense")


@pytest.mark.usefixtures("notes")
def test_reencode() -> None:
    before = run_json("search", "kb.db", "engine")
    assert run_json("reencode", "kb.db") == {"model": "splade-tiny", "documents": 5}
    assert run_json("search", "kb.db", "engine") == before
    fails(3, "nowhere", "reencode", "kb.db", "--model", "nowhere")


@pytest.mark.usefixtures("notes")
def test_the_kinds_of_export() -> None:
    run("export", "kb.db", "slim.db", "--slim")
    assert run_json("search", "slim.db", "bread")[0]["id"] == "bread.md"
    fails(3, "slim export", "delete", "slim.db", "bread.md")
    run("export", "kb.db", "rows.db", "--rows")
    with closing(sqlite3.connect("rows.db")) as rows:
        assert rows.execute("SELECT count(*) FROM document").fetchone() == (5,)
    fails(3, "not one of SpladeLite's", "search", "rows.db", "bread")


@pytest.mark.usefixtures("notes")
def test_nothing_found_is_status_1() -> None:
    assert run_json("search", "kb.db", "engine", "--where", '{"lang": "de"}', status=1) == []
    assert run("search", "kb.db", "engine", "--min-score", "1e6", status=1).stdout == ""
    assert run_json("get", "kb.db", "nowhere", "f1", status=1)[0]["id"] == "f1"
    fails(1, "'nowhere'", "explain", "kb.db", "engine", "nowhere")
    assert run_json("delete", "kb.db", "nowhere", status=1) == {"deleted": 0}
    assert run_json("sql", "kb.db", "SELECT id FROM document WHERE 0", status=1) == []


@pytest.mark.usefixtures("notes")
def test_check_finds_damage() -> None:
    with closing(sqlite3.connect("kb.db")) as connection:
        connection.execute("UPDATE document SET text = 'A car crashed into a treE.' WHERE id = 'crash.txt'")
        connection.commit()
    finding, of_words = run_json("check", "kb.db", status=1)
    assert (finding["table"], of_words["table"]) == ("document", "document_words")
    assert "document" in run("check", "kb.db", status=1).stdout
    assert finding in run_json("check", "kb.db", "--repair", status=1)
    assert run("check", "kb.db").stdout == "no problem found\n"
    assert run_json("get", "kb.db", "crash.txt")[0]["text"] == "A car crashed into a treE."
    assert Path("kb.db.damaged").exists()


@pytest.mark.usefixtures("notes")
def test_a_missing_passage_is_named_as_damage() -> None:
    run("optimize", "kb.db")
    with closing(sqlite3.connect("kb.db")) as connection:
        connection.execute("DELETE FROM passage WHERE doc_id = (SELECT doc_id FROM document WHERE id = 'crash.txt')")
        connection.commit()
    # A search does not need the row of a document's only passage.
    assert run_json("search", "kb.db", "car crash")[0]["id"] == "crash.txt"
    assert "passage" in run("check", "kb.db", status=1).stdout


@pytest.mark.usefixtures("notes")
def test_input_that_cannot_be_used_is_status_2() -> None:
    for where in ('{"year": {"$about": 1}}', "1; DROP TABLE document", "checksum > 0"):
        fails(2, "", "search", "kb.db", "engine", "--where", where)
    fails(2, "k is 0", "search", "kb.db", "engine", "-k", "0")
    fails(2, "no document in -", "add", "new.db", "-")
    fails(2, r"notes/blank\.txt \(1 blank\)", "add", "new.db", "notes/blank.txt")
    fails(2, "database itself", "add", "kb.db", "kb.db", "--table", "document")
    fails(2, "has no table 'x'; it has product", "add", "new.db", "shop.db", "--table", "x")
    assert not Path("new.db").exists()  # nothing was read, so nothing is created
    Path("faq.jsonl").write_text('{"id": "f1", "text": "other"}\n')
    fails(2, "f1", "add", "kb.db", "faq.jsonl")
    assert run_json("add", "kb.db", "faq.jsonl", "--replace")["ids"] == ["f1"]
    assert run_json("get", "kb.db", "f1")[0]["text"] == "other"
    Path("faq.jsonl").write_text('{"id": "f1", "text": "third"}\nnothing\n')
    fails(2, r"faq\.jsonl:2: not JSON", "add", "kb.db", "faq.jsonl", "--replace")


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    "args",
    [
        ("add", "kb.db"),
        ("add", "kb.db", "notes", "shop.db", "--table", "product"),
        ("add", "kb.db", "shop.db", "--table", "product", "--format", "csv"),
        ("delete", "kb.db"),
        ("delete", "kb.db", "f1", "--where", "1"),
        ("get", "kb.db"),
        ("search", "kb.db", "engine", "--where", "{"),
        ("search", "kb.db", "engine", "--where", "{}", "--arg", "1"),
        ("search", "kb.db", "engine", "-k", "many"),
        ("export", "kb.db", "e.db", "--slim", "--rows"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_status_2(args: Sequence[str]) -> None:
    result = run(*args, status=2)
    assert "Usage:" in result.stderr
    assert "Try 'main " in result.stderr


@pytest.mark.usefixtures("notes")
def test_files_that_cannot_be_read_or_written_are_status_3() -> None:
    Path("text.db").write_text("This is not a database. " * 100)
    for command in (["search", "engine"], ["stats"], ["delete", "x"], ["optimize"], ["check"]):
        fails(3, "missing.db does not exist", command[0], "missing.db", *command[1:])
        fails(3, "text.db is not a SQLite database", command[0], "text.db", *command[1:])
    fails(3, "notes is a directory", "stats", "notes")
    fails(3, "missing.txt: No such file", "add", "kb.db", "missing.txt")
    assert not Path("missing.db").exists()


def test_each_error_has_its_status() -> None:
    def leaves(parent: type[errors.SpladeLiteError]) -> set[type[errors.SpladeLiteError]]:
        return {parent} | {leaf for child in parent.__subclasses__() for leaf in leaves(child)}

    by_status: dict[int, set[str]] = {}
    for error in leaves(errors.SpladeLiteError):
        by_status.setdefault(exit_status(error("x")), set()).add(error.__name__)
    assert by_status[1] == {"DocumentNotFound"}
    assert by_status[4] == {"Busy"}
    assert {"CorruptIndex", "NotADatabase", "ReadOnly", "ModelMismatch"} <= by_status[3]
    assert {"InvalidFilter", "IdConflict", "WrongType"} <= by_status[2]


# -- what goes in --------------------------------------------------------------------------------------------------


def test_standard_input_in_every_format() -> None:
    for format, count in {"text": 1, "lines": 2, "jsonl": 2, "csv": 1}.items():
        added = run_json(
            "add",
            f"{format}.db",
            "-",
            "--format",
            format,
            input='{"text": "hat"}\n{"text": "cap"}\n' if format == "jsonl" else "text\nA hat\n",
        )
        assert added["documents"] == count
    assert run_json("add", "kb.db", "-", input="one line\n\nanother line\n")["documents"] == 2


def test_a_table_of_another_database() -> None:
    run("add", "kb.db", "shop.db", "--table", "product", "--text-column", "description")
    (hit,) = run_json("search", "kb.db", "warm hat", "--where", '{"price": {"$gt": 10}}')
    assert (hit["id"], hit["metadata"]) == ("p1", {"price": 19.5})


def test_documents_with_and_without_ids_in_one_stream() -> None:
    Path("mixed.jsonl").write_text(
        "\n".join(json.dumps({"text": f"text {i}"} | ({"id": f"id{i}"} if i % 3 else {})) for i in range(9))
    )
    ids = run_json("add", "kb.db", "mixed.jsonl")["ids"]
    assert [i if i.startswith("id") else "hash" for i in ids] == [f"id{i}" if i % 3 else "hash" for i in range(9)]


def test_a_long_document_becomes_passages_with_a_snippet_near_the_match() -> None:
    Path("long.txt").write_text(
        "Nothing happens here at all. " * 100 + "The volcano erupted. " + "Then it was calm. " * 99
    )
    run("add", "kb.db", "long.txt")
    assert run_json("stats", "kb.db")["passages"] > 3
    assert "volcano" in run("search", "kb.db", "volcano").stdout


# -- what comes out ------------------------------------------------------------------------------------------------


def test_control_characters_of_a_document_do_not_reach_the_terminal() -> None:
    Path("evil.txt").write_text("A car \x1b]0;owned\x07 crashed\x9b2J\r into a tree.\x00")
    run("add", "kb.db", "evil.txt")
    for command in (["search", "kb.db", "car crash"], ["get", "kb.db", "evil.txt"]):
        output = run(*command).stdout
        assert "car" in output
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", output)
    assert run_json("get", "kb.db", "evil.txt")[0]["text"] == Path("evil.txt").read_bytes().decode()


def test_rows_fit_the_terminal_and_matches_are_bold_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wide.txt").write_text("A car crashed. " * 20)
    run("add", "kb.db", "wide.txt")
    monkeypatch.setenv("COLUMNS", "60")
    plain = run("search", "kb.db", "car").stdout.splitlines()[1]
    assert len(plain) == 60
    assert plain.endswith("…")
    result = CliRunner().invoke(main, ["search", "kb.db", "car"], color=True)
    bold = result.stdout.splitlines()[1]
    assert click.style("car", bold=True) in bold
    assert click.unstyle(bold) == plain


def test_pages_of_hits_and_how_much_of_a_text_is_printed() -> None:
    run("add", "kb.db", "-", input="The engine is cold.\nThe engine is old.\nThe engine is new.\n")
    every = [hit["id"] for hit in run_json("search", "kb.db", "engine")]
    assert len(every) == 3
    pages = [run_json("search", "kb.db", "engine", "-k", "2", "--offset", str(n)) for n in (0, 2)]
    assert [hit["id"] for page in pages for hit in page] == every
    assert run("search", "kb.db", "engine", "-k", "1", "--offset", "2").stdout.splitlines()[1].startswith("3  ")
    assert "there are no more than 3" in run("search", "kb.db", "engine", "--offset", "3", status=1).stderr

    filler = "Nothing here.\n" * 200
    long = f"# Bread\n\n{filler}\n# Cars\n\n{filler}A car crashed into a tree.\n"
    Path("long.md").write_text(long)
    run("add", "kb.db", "long.md")
    (hit,) = run_json("search", "kb.db", "car crash", "-k", "1")
    assert "text" not in hit
    assert len(hit["passage"]["text"]) < len(long) / 2
    assert (hit["place"], long[hit["passage"]["start"] : hit["passage"]["end"]]) == ("Cars", hit["passage"]["text"])
    assert "[Cars] " in run("search", "kb.db", "car crash", "-k", "1").stdout
    (hit,) = run_json("search", "kb.db", "car crash", "-k", "1", "--text", "full")
    assert hit["text"] == long
    head, text = run("search", "kb.db", "car crash", "-k", "1", "--text", "full").stdout.split("\n", 1)
    assert (head.split()[-1], text.strip()) == ("long.md", long.strip())
    (hit,) = run_json("search", "kb.db", "car crash", "-k", "1", "--text", "none")
    assert hit["passage"]["text"] == ""
    assert "tree" not in run("search", "kb.db", "car crash", "-k", "1", "--text", "none").stdout


@pytest.mark.usefixtures("notes")
def test_list() -> None:
    run("add", "kb.db", "faq.jsonl", "notes")
    lines = run("list", "kb.db").stdout.splitlines()
    assert lines[0].split() == ["id", "metadata", "text"]
    assert [line.split()[0] for line in lines[1:]] == ["bread.md", "crash.txt", "old.txt", "f1", "f2"]
    assert lines[1].split()[1:] == ["Bake", "the", "bread", "for", "an", "hour."]
    assert '{"year": 2021, "lang": "en"}' in lines[4]
    assert [one["id"] for one in run_json("list", "kb.db", "-k", "2", "--offset", "3")] == ["f1", "f2"]
    where = ("--where", '{"year": {"$exists": true}}', "--order-by", "year")
    assert run_json("list", "kb.db", *where) == [
        {"id": "f2", "metadata": {"year": 1999, "lang": "en"}}, {"id": "f1", "metadata": {"year": 2021, "lang": "en"}},
    ]  # fmt: skip
    assert run_json("list", "kb.db", "--where", '{"year": 3}', status=1) == []


@pytest.mark.usefixtures("notes")
def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    run("add", "kb.db", "notes")
    assert "\x1b[" in CliRunner().invoke(main, ["list", "kb.db"], color=True).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in CliRunner().invoke(main, ["list", "kb.db"], color=True).stdout


def on_a_terminal(*args: str, columns: int = 60, **environment: str) -> str:
    """What a command prints where standard output is a terminal."""
    pty, fcntl, termios = (pytest.importorskip(name) for name in ("pty", "fcntl", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")} | environment
    child = subprocess.Popen([*COMMAND, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    printed = b""
    try:
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux, at the end
                break
            if not part:
                break
            printed += part
        assert child.wait(timeout=30) == 0, printed
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    return printed.decode().replace("\r\n", "\n")


def test_hits_are_cards_on_a_terminal_and_a_table_elsewhere() -> None:
    filler = "Nothing happens in this line. " * 30
    Path("cars.md").write_text(f"# Accidents\n\n{filler}A car crashed into a tree. {filler}")
    Path("evil.txt").write_text("A car \x1b]0;owned\x07 crashed\x9b2J\r\ue000 into a tree.\x00")
    run("add", "kb.db", "cars.md", "evil.txt")
    shown = on_a_terminal("search", "kb.db", "car crashed")
    assert "\x1b[31m\x1b[1mcar\x1b[0m" in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ue000\ue001]", click.unstyle(shown))
    cards = click.unstyle(shown).rstrip().split("\n\n")
    heads = [card.split("\n")[0].split("  ") for card in cards]
    assert sorted(head[2] for head in heads) == ["cars.md", "evil.txt"]
    assert [float(head[1]) for head in heads] == sorted((float(head[1]) for head in heads), reverse=True)
    (cars,) = [card for card in cards if "cars.md" in card]
    head, *lines = cars.split("\n")
    assert head.endswith("  cars.md  Accidents")
    assert 1 < len(lines) <= 4
    assert all(line.startswith("   ") and len(line) <= 60 for line in lines)
    assert "A car crashed into a tree." in " ".join(line.strip() for line in lines)

    plain = on_a_terminal("search", "kb.db", "car crashed", NO_COLOR="1")
    assert plain == click.unstyle(shown)
    table = run("search", "kb.db", "car crashed").stdout
    assert table.splitlines()[0].split() == ["score", "id", "passage"]
    assert len(table.splitlines()) == 1 + len(cards)

    assert json.loads(on_a_terminal("search", "kb.db", "car", "--json"))


def test_lines_of_a_card_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "45")
    assert excerpt("a \ue000b\ue001") == "   a \ue000b\ue001"
    lines = excerpt("東京都で\ue000車\ue001の事故がありました。" * 40).split("\n")
    assert [len(line.replace("\ue000", "").replace("\ue001", "")) for line in lines] == [3 + 20] * 3 + [3 + 20 + 1]
    lines = excerpt("x" * 90 + " y " + "word " * 8).split("\n")
    assert lines == [
        "   " + "x" * 40,
        "   " + "x" * 40,
        "   " + "x" * 10 + " y word word word word word",
        "   word word word",
    ]


def test_quiet_and_verbose() -> None:
    assert run("add", "kb.db", "notes", "-q").output == ""
    assert run("sync", "kb.db", "notes", "-q").output == ""
    Path("notes/old.txt").write_text("Steam engines pulled the trains uphill.")
    Path("notes/new.txt").write_text("A tram.")
    output = run("add", "kb.db", "notes", "-v").stdout
    assert "new      new.txt\nchanged  old.txt\n4 read" in output
    assert re.search(r"\d\.\d seconds\n$", output)
    assert re.search(r"4 unchanged\n\d\.\d seconds\n$", run("sync", "kb.db", "notes", "-v").stdout)


def test_metadata_from_the_command_line() -> None:
    run("add", "kb.db", "notes/crash.txt", "faq.jsonl", "--metadata", "project=garden", "--metadata", "year=2024")
    stored = {one["id"]: one["metadata"] for one in run_json("list", "kb.db")}
    assert {key: stored["crash.txt"][key] for key in ("project", "year")} == {"project": "garden", "year": 2024}
    assert stored["f1"] == {"project": "garden", "year": 2024, "lang": "en"}
    run("sync", "kb.db", "notes", "--metadata", '{"tags": ["a=b"]}')
    assert [one["id"] for one in run_json("list", "kb.db", "--where", '{"tags": {"$any": ["a=b"]}}')] == [
        "crash.txt", "bread.md", "old.txt",
    ]  # fmt: skip
    run("add", "kb.db", "-", "--metadata", "from=mail=box", input="A line.\n")
    assert len(run_json("list", "kb.db", "--where", '{"from": "mail=box"}')) == 1
    for wrong in ("project", "=x", "{", '{"a": NaN'):
        assert "--metadata" in run("add", "kb.db", "notes", "--metadata", wrong, status=2).stderr
    fails(2, "'file'.*rename it", "add", "kb.db", "notes", "--metadata", "file=x")


def test_a_snippet_begins_at_a_word_before_the_first_match() -> None:
    text = "word " * 30 + "\ue000match\ue001 and\n more"
    assert snippet(text).startswith("… word word")
    assert snippet(text).endswith("\ue000match\ue001 and more")
    assert len(snippet(text)) < 80
    assert snippet("a \ue000match\ue001") == "a \ue000match\ue001"
    assert snippet("no match " * 9) == ("no match " * 9).strip()


# -- help ----------------------------------------------------------------------------------------------------------

LAZY = {"import", "mcp", "models", "eval", "train", "adapt"}
OWN = sorted(main.commands.keys() - LAZY)


@pytest.mark.parametrize("name", OWN)
def test_every_command_has_an_example(name: str) -> None:
    text = run(name, "--help").stdout
    assert re.search(rf"Examples?:\n( +.*\n)* +.*spladelite {name} ", text)


def test_the_examples_work() -> None:
    run("add", "kb.db", "notes", "faq.jsonl")
    ran = 0
    for name in ["add", *OWN]:
        for line in re.findall(r"^ +((?:\w.*)?spladelite \w.*)$", run(name, "--help").stdout, re.MULTILINE):
            for part in re.split(r" (?:&&|\|) ", line):
                servers = (
                    "://" in part or " serve " in part or " mcp " in part
                )  # tests of their own start and stop them
                if part.startswith("spladelite ") and "Usage" not in line and not servers:
                    run(*shlex.split(part)[1:], input=Path("app.log").read_text())
                    ran += 1
    assert ran > len(OWN)


def test_the_main_help_names_every_command_whole_and_the_exit_statuses() -> None:
    text = run("--help").stdout
    for name in main.commands:
        assert re.search(rf"^  {name} +\S.*[^.]\.$", text, re.MULTILINE), name
    assert "130" in text


@pytest.mark.parametrize("name", sorted(LAZY))
def test_commands_of_other_rooms_are_loaded_when_asked_for(name: str) -> None:
    assert f"main {name}" in run(name, "--help").stdout
    assert "Usage" in run(name, "--nonsense", status=2).stderr


# -- a real process ------------------------------------------------------------------------------------------------


def child(*args: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *args], input=input, capture_output=True, timeout=60, check=False)


def test_help_loads_no_model_runtime() -> None:
    code = (
        "import sys; from spladelite.cli.main import main; main(['--help'], standalone_mode=False);"
        "print({'numpy', 'apsw', 'onnxruntime', 'tokenizers', 'torch', 'sqlite3', 'tqdm'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.splitlines()[-1] == "set()"


def test_errors_have_no_traceback_and_output_is_utf8() -> None:
    result = child("stats", "missing.db")
    assert result.returncode == 3
    assert result.stderr.startswith(b"Error: ")
    assert b"missing.db does not exist" in result.stderr
    assert b"Traceback" not in result.stderr
    assert child("add", "kb.db", "-", input="Žluťoučký kůň 😀".encode()).returncode == 0
    assert json.loads(child("sql", "kb.db", "SELECT text FROM document", "--json").stdout) == [
        {"text": "Žluťoučký kůň 😀"}
    ]
    result = child("add", "kb.db", "-", input=b"fine\n\xff")
    assert (result.returncode, b"byte 5" in result.stderr) == (2, True)
    assert b"indexing" not in result.stderr  # no progress bar where there is no terminal


def test_a_reader_that_stops_early_is_no_error_of_ours() -> None:
    run("add", "kb.db", "notes")
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT i FROM n"
    with subprocess.Popen([*COMMAND, "sql", "kb.db", many], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT")
def test_ctrl_c_keeps_what_was_committed_and_the_same_command_goes_on() -> None:
    lines = [json.dumps({"id": f"d{i}", "text": f"Document {i} is about the weather."}) for i in range(2500)]
    Path("many.jsonl").write_text("\n".join(lines) + "\n")
    command = [*COMMAND, "add", "kb.db", "-", "--format", "jsonl"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(Path("many.jsonl").read_bytes())
        process.stdin.flush()  # and no end: the child waits for more after its first commits
        deadline = time.monotonic() + 60
        while not stored() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        message = process.stderr.read().decode()
        assert process.wait(60) == 130
    assert message == "Error: interrupted; what was committed stays\n"
    with SpladeLite("kb.db", read_only=True) as db:
        committed = len(db)
        assert 0 < committed < 2500
        assert db.check() == []
    added = run_json("add", "kb.db", "many.jsonl")
    assert (added["before"], added["documents"]) == (committed, 2500)


def stored() -> int:
    if not Path("kb.db").exists():
        return 0
    try:
        with SpladeLite("kb.db", read_only=True) as db:
            return len(db)
    except errors.SpladeLiteError:
        return 0  # caught between its creation and its first commit


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("kb.db", " "), "the query is empty"),
        (("kb.db", "--mode", "splade", "\u0e20\u0e32\u0e29\u0e32" * 8), "knows no word of the query"),
        (("kb.db", "engine", "--where", '{"lang": "de"}'), "that --where lets through"),
    ],
)
def test_an_empty_result_says_why(args: tuple[str, ...], why: str) -> None:
    assert re.search(why, run("search", *args, status=1).stderr)


def test_an_empty_database_says_so() -> None:
    SpladeLite("empty.db").close()
    assert "the database is empty" in run("search", "empty.db", "engine", status=1).stderr


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (("search", "kb.db", "automobile", "accident", "-k", "3"), 'search kb.db "automobile accident"'),
        (("explain", "kb.db", "car", "crash", "crash.txt"), 'explain kb.db "car crash" crash.txt'),
        (("expand", "kb.db", "a", "fast", "car"), 'expand kb.db "a fast car"'),
        (("sql", "kb.db", "SELECT", "1"), 'sql kb.db "SELECT 1"'),
    ],
)
def test_words_without_quotes(args: tuple[str, ...], meant: str) -> None:
    assert f"spladelite {meant}" in run(*args, status=2).output.replace("main ", "spladelite ")


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    "args",
    [
        ("search", "missing.db", "x"),
        ("get", "kb.db", "nowhere"),
        ("explain", "kb.db", "engine", "nowhere"),
        ("add", "kb.db", "other.jsonl"),
        ("search", "kb.db", "x", "--mode", "dense"),
        ("search", "kb.db", "x", "--mode", "nonsense"),
        ("search", "kb.db", "x", "--mode", "bm25", "--encoder", "idf"),
        ("search", "kb.db", "x", "--encoder", "nonsense"),
        ("search", "kb.db", "x", "-k", "0"),
        ("search", "kb.db", "x", "--where", "id = ?"),
        ("search", "kb.db", "x", "--where", "id = (1"),
        ("search", "kb.db", "x", "--where", " "),
        ("search", "kb.db", "x", "--model", "nowhere/there/"),
        ("sql", "kb.db", "SELECT ?"),
        ("sql", "kb.db", "SELECT :name", "--arg", "1", "--arg", "2"),
        ("sql", "kb.db", "DELETE FROM document"),
        ("sql", "kb.db", "VACUUM INTO 'x.db'"),
        ("sql", "kb.db", "SELECT 1; SELECT 2"),
        ("backup", "kb.db", "kb.db"),
        ("reencode", "kb.db", "--model", "nowhere"),
        ("search", "notes/crash.txt", "x"),
    ],
)
def test_messages_are_in_the_words_of_the_command(args: tuple[str, ...]) -> None:
    Path("other.jsonl").write_text('{"id": "crash.txt", "text": "Something else."}\n')
    result = CliRunner(catch_exceptions=False).invoke(main, args)
    assert result.exit_code in (1, 2, 3)
    said = result.stderr
    assert said.startswith(("Error: ", "Usage: "))
    assert not re.search(
        r"\b\w+=\S|\w=(?=\W|$)|\(\)|\bdb\b\.?(?=[\w(]|$)|iterating|where_args|read_only|upsert", said
    ), said


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("a bug"), 5),
        (KeyError("x"), 5),
        (RecursionError(), 5),
        (MemoryError(), 5),
        (OSError(28, "full"), 3),
    ],
)
def test_what_nobody_expects_has_its_own_status(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(SpladeLite, "search", stumble)
    result = run("search", "kb.db", "engine", status=status)
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "cp437", "utf-8"])
def test_a_terminal_that_has_not_every_character(encoding: str) -> None:
    text = "coffee \u2615 and \u4e2d\u6587 \U0001f600 na\xefve"
    Path("names").mkdir()
    Path("names/a.txt").write_text(text, encoding="utf-8")
    with SpladeLite("kb.db") as db:
        db.add(text, ids="\u65e5\u672c", metadata={"where": "\u6771\u4eac"})

    def out(*args: str, status: int = 0) -> str:
        env = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([*COMMAND, *args], env=env, capture_output=True, timeout=60, check=False)
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr
        return done.stdout.decode("utf-8" if encoding == "ascii" else encoding)  # click takes ASCII for a mistake

    (hit,) = json.loads(out("search", "kb.db", "coffee", "--json"))
    assert (hit["id"], hit["passage"]["text"], hit["metadata"]) == ("\u65e5\u672c", text, {"where": "\u6771\u4eac"})
    assert "coffee" in out("search", "kb.db", "coffee")
    assert "coffee" in out("get", "kb.db", "\u65e5\u672c")
    assert out("get", "kb.db", "\u4eac", status=1) == ""


@pytest.mark.usefixtures("notes")
def test_a_file_with_dense_vectors_of_a_python_program() -> None:
    with SpladeLite("own.db", dense=3) as db:
        db.add("The engine is cold.", ids="x", dense=[1, 0, 0])
    assert run_json("search", "own.db", "engine")[0]["id"] == "x"
    for command in (["search", "own.db", "engine", "--mode", "dense"], ["add", "own.db", "faq.jsonl", "--strict"]):
        fails(3, r"Python's add\(dense=\.\.\.\) and search\(dense=", *command)


def test_a_reader_that_goes_away_is_no_empty_result() -> None:
    with SpladeLite("kb.db") as db:
        db.add([f"line {i} of many about engines" for i in range(3000)], vectors=[{1: 1.0}] * 3000)
    listing = [*COMMAND, "sql", "kb.db", "SELECT id, text FROM document"]
    with subprocess.Popen(listing, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(60) == 141, error
    assert b"Traceback" not in error


def test_types_of_csv_columns() -> None:
    Path("a.csv").write_text("id,text,zip,n\n1,first cats,10001,5\n2,second cats,10002,6\n")
    run("add", "kb.db", "a.csv", "--text-columns", "zip", "--types", "n=float")
    with SpladeLite("kb.db") as db:
        assert db.get("1").metadata == {"zip": "10001", "n": 5.0}  # type: ignore[union-attr]
    assert "NAME=text" in run("add", "kb.db", "a.csv", "--types", "n:int", status=2).output


def test_every_model_option_says_what_it_does_there() -> None:
    helps = {name: run(name, "--help").output for name in ("add", "search", "reencode")}
    assert "Of a new file" in helps["add"]
    assert "if its folder was moved" in " ".join(helps["search"].split())


def test_the_constructor_has_its_arguments_in_help() -> None:
    assert "read_only:" in (SpladeLite.__init__.__doc__ or "")
