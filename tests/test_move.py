"""Moving between a file and other engines: all of it, once, whatever happens on the way."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from remotes import ENGINES, IDS, TEXTS, Servers, content, random_database
from test_readme import assert_alike

from spladelite import SpladeLite
from spladelite.errors import (
    IdConflict,
    InvalidInput,
    Unfinished,
)
from spladelite.transfer.clickhouse import TABLES
from spladelite.transfer.clickhouse_clients import ServerClient
from spladelite.transfer.connect import connect, open_engine
from spladelite.transfer.move import move
from spladelite.transfer.remote import Remote
from spladelite.transfer.verify import verify


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_there_and_back(engine: str, running: Servers, tmp_path: Path) -> None:
    path, back, url = str(tmp_path / "kb.db"), str(tmp_path / "back.db"), running.url(engine)
    random_database(tmp_path / "kb.db", 700)
    seen: list[tuple[int, int | None]] = []
    moved = move(path, url, progress=lambda done, total: seen.append((done, total)))
    assert (moved.documents, moved.new) == (602, 602)
    assert seen[-1] == (602, 602)
    assert content(url) == content(path)
    assert move(path, url).new == 0
    assert move(url, back).new == 602
    assert content(back) == content(path)
    assert not os.path.exists(back + ".moving")
    assert move(url, back).new == 0
    for mode in (None, "bm25", "splade"):
        found = verify(path, url, queries=40, mode=mode)
        assert found.equal
        assert (found.mode, found.queries) == (mode or "hybrid", 40)
        assert found.worst < 1e-12
    with SpladeLite(back) as db:
        assert db.check() == []
        assert db.search("zebra", mode="bm25")[0].id == "long"
        db.add(["Another river"], ids=["another"])
        db.update("d1", metadata={"n": -1})
    with pytest.raises(IdConflict, match="'d1'"):
        move(back, url)
    with connect(url) as there:
        there.update("d1", metadata={"n": -1})
        assert not verify(back, url, queries=5).contents
    assert move(back, url).new == 1
    with connect(url) as there:
        assert there.get("another") is not None
        there.delete(["d2"])
    found = verify(back, url, queries=20)
    assert not found.equal
    assert found.documents == (603, 602)


def test_words_are_those_that_the_source_has_and_the_target_wants(running: Servers, tmp_path: Path) -> None:
    texts = ["Houses by the river", "The house", "Das Haus und die Häuser am Fluss"]
    for settings, found in (({"bm25": False}, None), ({"language": "german"}, 1), ({"language": None}, 1)):
        path, url = str(tmp_path / f"{settings}.db"), running.url("postgres")
        with SpladeLite(path, **settings) as db:
            db.add(texts, ids=list("abc"))
        assert move(path, url).left == ()
        assert move(url, path + "2").left == ()
        back = verify(path + "2", url, queries=5)
        assert back.equal
        assert back.mode == ("splade" if found is None else "hybrid")
        with connect(url) as there, SpladeLite(path + "2", read_only=True) as db:
            assert there.stats().language == db.stats().language == settings.get("language")
            if found is not None:
                assert len(there.search("Haus", mode="bm25")) == len(db.search("Haus", mode="bm25")) == found
    url = running.url("postgres")
    connect(url, language="german").close()
    with SpladeLite(tmp_path / "english.db") as db:
        db.add(["Die Häuser", "The houses"], ids=list("ab"))
    move(tmp_path / "english.db", url)
    with connect(url) as there:
        assert [hit.id for hit in there.search("Haus", mode="bm25")] == ["a"]


CHILD = """
import sys
from spladelite.transfer.move import move
move(sys.argv[1], sys.argv[2])
"""


def kill_and_repeat(path: str, url: str, kills: int, rng: random.Random, longest: float = 1.5) -> int:
    """``move`` in a child that is killed at random moments, then undisturbed; how often it was killed in the middle."""
    killed = 0
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, "-c", CHILD, path, url], stderr=subprocess.DEVNULL)
        try:
            child.wait(0.5 + rng.random() * longest)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            killed += 1
    move(path, url)
    return killed


@pytest.mark.parametrize("engine", ["postgres", "shards", "file"])
def test_a_move_that_is_killed_goes_on(engine: str, running: Servers, tmp_path: Path) -> None:
    path = str(tmp_path / "kb.db")
    random_database(tmp_path / "kb.db", 2500)
    if engine == "file":
        there = running.url("postgres")
        move(path, there)
        target = str(tmp_path / "back.db")
        path, there = there, path
    else:
        target = running.url(engine)
    kill_and_repeat(path, target, 3, random.Random(4))
    assert content(target) == content(path)
    assert verify(path, target, queries=20, mode="bm25").equal


@pytest.mark.parametrize("engine", ["clickhouse", "shards"])
def test_tables_that_are_half_made_are_made_by_the_next_call(engine: str, running: Servers) -> None:
    """A kill after each statement of the creation, one after the other."""
    url = running.url(engine)
    rows = ServerClient.rows
    with contextlib.ExitStack() as stack:
        for statements in itertools.count(1):
            left = iter(range(statements))

            def counted(client: ServerClient, sql: str) -> Any:
                next(left)  # noqa: B023 - called in this round alone
                return rows(client, sql)

            there = stack.enter_context(contextlib.closing(open_engine(url)))
            assert there.meta() == {}
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(StopIteration):
                patch.setattr(ServerClient, "rows", counted)
                there.create({"a": "1"})
                break
    assert statements > len(TABLES)
    with contextlib.closing(open_engine(url)) as there:
        assert there.meta() == {"a": "1"}


@pytest.mark.parametrize("engine", ["postgres", "clickhouse"])
def test_nothing_half_moved_is_searched(engine: str, running: Servers, tmp_path: Path) -> None:
    path, url = str(tmp_path / "kb.db"), running.url(engine)
    random_database(tmp_path / "kb.db", 1200)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move(path, url, progress=stop)
    with connect(url) as half:
        assert isinstance(half, Remote)
        for call in (lambda: half.search("x"), lambda: half.get("d1"), lambda: half.count(), lambda: half.add(["x"])):
            with pytest.raises(Unfinished, match="repeat the same"):
                call()
    with pytest.raises(Unfinished):
        move(url, str(tmp_path / "back.db"))
    random_database(tmp_path / "other.db", 10)
    with pytest.raises(InvalidInput, match="is being filled from"):
        move(str(tmp_path / "other.db"), url)
    with SpladeLite(path) as db:  # what goes meanwhile, or changes, is not left behind
        db.delete(["d1", "d2"])
        db.upsert(["Another text of d3"], ids=["d3"])
        left = len(db)
    move(path, url)
    with connect(url) as there:
        assert len(there) == left
        assert there.get("d3") == SpladeLite(path, read_only=True).get("d3")
    assert verify(path, url, queries=20).equal


def test_search_while_others_write(running: Servers) -> None:
    """A reader sees whole batches only, on two shards without transactions."""
    url = running.url("shards")
    with connect(url) as one, connect(url) as two:
        assert isinstance(one, Remote)
        assert isinstance(two, Remote)
        batch = two.engine.numbers(3)
        from spladelite.arguments import new_documents
        from spladelite.documents.ingest import encode_documents
        from spladelite.transfer.engine import Batch

        documents = list(new_documents(TEXTS[:3], IDS[:3], None, None, 30522))
        encoded = encode_documents(documents, two._models)
        engine: Any = two.engine
        real = engine._batch
        engine._batch = lambda *_: None  # everything but the last row, which makes it visible
        engine.write(Batch(np.arange(batch, batch + 3), encoded), [])
        assert one.count() == 0
        assert one.search("car") == []
        assert one.get("car") is None
        real(batch, 0, 1)
        assert one.count() == 3
        assert [hit.id for hit in one.search("car", 1)] == ["car"]


def test_the_command_line(running: Servers, tmp_path: Path) -> None:
    url = running.url("postgres")
    random_database(tmp_path / "kb.db", 40)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "spladelite", *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120
        )

    assert "36 documents, 36 of them new" in run("move", "kb.db", url).stdout
    assert "36 documents, 0 of them new" in run("move", "kb.db", url).stdout
    done = run("verify", "kb.db", url, "--queries", "20")
    assert re.match(r"hybrid: 0 of 20 top-10 lists differ; .* 36 and 36 documents", done.stdout), done.stderr
    assert done.returncode == 0
    with connect(url) as remote:
        remote.delete(["d1"])
    assert run("verify", "kb.db", url, "--queries", "20", "--json").returncode == 1
    assert "A short one" in run("search", url, "short", "-k", "2").stdout
    assert json.loads(run("get", url, "d2", "--json").stdout)[0]["metadata"] == {"n": 2}
    assert run("delete", url, "d2").returncode == 0
    assert run("add", url, "-").returncode == 2
    assert "documents  34" in re.sub(" +", "  ", run("stats", url).stdout)
    assert run("move", "kb.db", "nosuch://x/y").returncode == 2
    assert run("move", "kb.db", "postgresql://me:secret@127.0.0.1:1/kb").returncode == 3


def test_the_page_does_what_it_says(running: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands and its Python, with a server of the tests' own in place of the one that it names."""
    page = (Path(__file__).parents[1] / "docs" / "scale.md").read_text("utf-8")
    url = running.url("postgres")
    monkeypatch.chdir(tmp_path)
    with SpladeLite("kb.db") as db:
        texts = ["A car crashed into a tree.", "Let the bread cool for an hour.", "The cat sleeps on the windowsill."]
        db.add(texts, ids=["car", "bread", "cat"], metadata=[{"topic": t} for t in ("news", "food", "pets")])
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.replace(PAGE_URL, url), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    ran = 0
    for (language, code), (_, following) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language == "console":
            for command in code.removeprefix("$ ").split("\n$ "):
                line, _, expected = command.partition("\n")
                done = subprocess.run(
                    [sys.executable, "-m", *shlex.split(line)], capture_output=True, text=True, timeout=120
                )
                assert done.returncode == 0, done.stderr
                if expected:
                    assert_alike(SMALL.sub("#", done.stdout.strip()), SMALL.sub("#", expected.strip()))
                ran += 1
        elif language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "scale.md", "exec"), names)
            assert_alike(printed.getvalue(), following)
            ran += 1
    assert ran == 5


PAGE_URL = "postgresql://me@localhost/kb"
SMALL = re.compile(r"\d\.\de[-+]\d+")
