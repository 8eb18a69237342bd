"""The plugin in a real Datasette, asked over HTTP and, where Chromium is installed, by a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

pytest.importorskip("datasette")

from spladelite import SpladeLite

HOSTILE = '<script>window.hacked=1</script> & "it\'s"'
ROWS: list[tuple[str, str, dict[str, object]]] = [
    ("cold", "The engine does not start when it is <b>cold</b> & wet.", {"year": 2021, "topic": "cars"}),
    ("steam", "Steam engines pulled the trains.", {"year": 1999, "topic": "trains", "tags": ["old", "loud"]}),
    ("model", "An engine for a model train.", {"year": 2021, "topic": "trains", "tags": ["loud"]}),
    ("bread", "Bake the bread for an hour.", {}),
    (HOSTILE, f"A zebra: {HOSTILE}", {HOSTILE: HOSTILE, "id": "an id in the metadata", "a.b": True}),
    *((f"tree{number}", f"A forest, and tree number {number} in it.", {}) for number in range(45)),
]


@pytest.fixture
def kb(path: str) -> Path:
    fill(Path(path))
    return Path(path)


def fill(path: Path) -> None:
    with SpladeLite(path) as db:
        db.add([text for _, text, _ in ROWS], [id for id, _, _ in ROWS], [metadata for _, _, metadata in ROWS])


@contextmanager
def datasette(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Datasette in a process of its own, at an address; it is gone after the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "datasette", "serve", *arguments, "-h", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urlopen(address, timeout=5).close()
                break
            except HTTPError:  # it runs, and refuses
                break
            except OSError:
                assert process.poll() is None, process.communicate()[1].decode()
                time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Datasette with the file and one that is not ours."""
    folder = tmp_path_factory.mktemp("datasette")
    fill(folder / "kb.db")
    with datasette(str(folder / "kb.db"), str(folder / "other.db"), "--create") as (address, _):
        yield address


def read(address: str, **arguments: str | list[str]) -> str:
    query = f"?{urlencode(arguments, doseq=True)}" if arguments else ""
    with urlopen(address + query, timeout=60) as answer:
        return str(answer.read().decode())


def find(site: str, question: str, *chosen: str, name: str = "kb") -> list[str]:
    answer = json.loads(read(f"{site}/-/splade/{name}.json", q=question, f=list(chosen)))
    return [hit["id"] for hit in answer["hits"]]


def test_the_page_shows_hits_with_marked_words_and_facets(site: str) -> None:
    page = read(f"{site}/-/splade/kb", q="engine trouble")
    assert "The <mark>engine</mark> does not start when it is &lt;b&gt;cold&lt;/b&gt; &amp; wet." in page
    assert "Bake the bread" not in page
    assert "3 documents found" in page
    year = re.search(r'<a href="([^"]+)">2021</a> 2', page)
    assert year is not None
    narrowed = read(site + year[1].replace("&amp;", "&"))
    assert "Steam" not in narrowed
    assert "model train" in narrowed
    assert "year = <strong>2021</strong>" in narrowed
    back = re.search(r'<a href="([^"]+)" class="cross"', narrowed)
    assert back is not None
    assert "Steam" in read(site + back[1].replace("&amp;", "&"))
    assert "Nothing found" in read(f"{site}/-/splade/kb", q="engine", f=["topic=poetry"])
    row = re.search(r'1\. <a href="([^"]+)">', page)
    assert row is not None
    assert "model train" in read(site + row[1].replace("&amp;", "&"))


def test_facets_choose_numbers_texts_and_elements_of_lists(site: str) -> None:
    assert set(find(site, "engine", "year=2021")) == {"cold", "model"}
    assert set(find(site, "engine", 'topic="trains"')) == {"steam", "model"}
    assert find(site, "engine", 'topic="trains"', "year=2021") == ["model"]
    assert set(find(site, "engine", 'tags="loud"')) == {"steam", "model"}
    assert find(site, "zebra", 'id="an id in the metadata"', "a.b=true") == [HOSTILE]
    assert find(site, "engine", "year=[" + "[" * 5000) == []


def test_reasons_are_shown_term_by_term(site: str) -> None:
    why = read(f"{site}/-/splade/kb", q="engine trouble", why="cold")
    assert re.search(r"<td>engine</td><td>\d\.\d{3}</td>", why)
    assert "added to both by the model" in why
    assert "<td>bm25</td>" in why
    with pytest.raises(HTTPError, match="400") as refused:
        read(f"{site}/-/splade/kb", q="motor", why="nowhere")
    assert "no document has the id &#39;nowhere&#39;" in refused.value.read().decode()


def test_pages_of_twenty(site: str) -> None:
    first = read(f"{site}/-/splade/kb", q="tree forest")
    assert first.count("splade-hit") == 20 + 3  # and in the style sheet
    more = re.search(r'<a href="([^"]+)">More</a>', first)
    assert more is not None
    second = read(site + more[1].replace("&amp;", "&"))
    assert "21. <a" in second
    assert "41. <a" in read(f"{site}/-/splade/kb", q="tree forest", p="3")
    for odd in ("0", "-1", "9999999", "x", "²"):
        assert "1. <a" in read(f"{site}/-/splade/kb", q="tree forest", p=odd)


def test_what_documents_hold_is_shown_as_text(site: str) -> None:
    for page in (
        read(f"{site}/-/splade/kb", q="zebra"),
        read(f"{site}/-/splade/kb", q=f"zebra {HOSTILE}", why=HOSTILE),
    ):
        assert "&lt;script&gt;window.hacked" in page
        assert "<script>window" not in page


def test_documents_from_files_show_their_place(path: str, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "cars.md").write_text("# Engines\n\nThe engine does not start.\n")
    with SpladeLite(path) as db:
        db.sync(tmp_path / "notes", metadata={"topic": "cars"})
    with datasette(path) as (site, _):
        page = read(f"{site}/-/splade/kb", q="engine")
    assert "cars.md</a> · Engines</h3>" in page
    assert "topic: cars" in page
    assert "hash" not in page


def test_errors_and_files_of_others(site: str) -> None:
    with pytest.raises(HTTPError, match="400") as refused:
        read(f"{site}/-/splade/kb.json", q="engine", f=['a"b=1'])
    assert "cannot be used in a filter" in json.loads(refused.value.read())["error"]
    for name in ("other", "nowhere"):
        with pytest.raises(HTTPError, match="404"):
            read(f"{site}/-/splade/{name}")
    assert '/-/splade/kb"' in read(site)
    assert '/-/splade/kb"' in read(f"{site}/kb")
    assert "splade/other" not in read(site)
    assert "<h1>Search kb</h1>" in read(f"{site}/-/splade/kb")


def test_who_may_not_read_the_documents_may_not_search_them(kb: Path) -> None:
    rules = kb.parent / "rules.json"
    rules.write_text(json.dumps({"databases": {"kb": {"tables": {"document": {"allow": False}}}}}))
    with datasette(str(kb), "--metadata", str(rules)) as (site, _):
        with pytest.raises(HTTPError, match="403"):
            read(f"{site}/-/splade/kb", q="engine")
        assert "splade/kb" not in read(site)


def test_a_view_has_metadata_as_columns_with_facets(kb: Path) -> None:
    import sqlite3

    rows = sqlite3.connect(kb)
    rows.execute("CREATE VIEW documents AS SELECT id, metadata ->> 'topic' AS topic, text FROM document")
    rows.close()
    with datasette(str(kb)) as (site, _):
        facets = json.loads(read(f"{site}/kb/documents.json", _facet="topic"))["facet_results"]["topic"]["results"]
        assert {facet["value"]: facet["count"] for facet in facets if facet["value"]} == {"trains": 2, "cars": 1}
        assert "cold" in find(site, "engine")
    with SpladeLite(kb) as db:
        db.add("An engine more.", "more")
        assert db.check() == []


def test_others_write_while_datasette_reads(kb: Path) -> None:
    """Datasette's process holds the file with another copy of SQLite: no lock is lost, and no row."""
    with datasette(str(kb)) as (site, _):
        for number in range(5):
            with SpladeLite(kb) as db:
                db.add(f"A zeppelin, number {number}.", f"z{number}")
            rows = json.loads(read(f"{site}/kb/document.json", _shape="arrays", id__exact=f"z{number}"))["rows"]
            assert len(rows) == 1
            assert {f"z{one}" for one in range(number + 1)} <= set(find(site, "zeppelin"))
    with SpladeLite(kb) as db:
        assert db.check() == []
        assert len(db) == len(ROWS) + 5


def test_an_immutable_file_in_a_folder_that_is_not_ours(kb: Path) -> None:
    kb.rename(kb.parent / "a b.db")
    with datasette("-i", str(kb.parent / "a b.db")) as (site, _):
        links = re.search(r'href="(/-/splade/[^"]+)"', read(site))
        assert links is not None
        assert "cold" in read(site + links[1], q="engine")
    assert [path.name for path in kb.parent.iterdir()] == ["a b.db"]


def children(process: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if parent == process:
                found.append(int(entry.name))
    return found


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_process_that_searches_ends_with_datasette(kb: Path, end: signal.Signals) -> None:
    with datasette(str(kb)) as (site, process):
        assert children(process.pid) == []  # it starts when it is needed
        find(site, "engine")
        (searching,) = children(process.pid)
        os.kill(searching, signal.SIGKILL)
        assert "cold" in find(site, "engine")  # another one
        (searching,) = children(process.pid)
        process.send_signal(end)
        process.wait(timeout=30)
        for _ in range(100):
            if not runs(searching):
                break
            time.sleep(0.1)
        assert not runs(searching)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert [path.name for path in kb.parent.iterdir()] == ["kb.db"]


def test_a_real_browser_shows_the_page(site: str) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    api = pytest.importorskip("playwright.sync_api")
    if chromium is None:
        pytest.skip("needs Chromium, such as Debian's package chromium")
    complaints: list[str] = []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(site)
            page.locator("summary", has_text="Menu").or_(page.locator("details.nav-menu > summary")).first.click()
            page.get_by_role("link", name="Search kb").click()
            page.get_by_role("searchbox", name="Question").fill("engine trouble")
            page.keyboard.press("Enter")
            page.get_by_role("link", name="2021").click()
            assert page.locator("article").count() == 2
            page.get_by_role("link", name="why?").first.click()
            assert page.get_by_role("cell", name="engine", exact=True).count() == 1
            page.get_by_role("link", name="Back to what was found").click()
            assert page.locator("article mark").first.inner_text() == "engine"
            page.goto(f"{site}/-/splade/kb?{urlencode({'q': 'zebra'})}")
            assert page.evaluate("window.hacked") is None
        finally:
            browser.close()
    assert complaints == []
