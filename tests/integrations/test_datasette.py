"""The plugin in a real Datasette, asked over HTTP and, where Chromium is installed, by a real browser."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import urlopen

import pytest

pytest.importorskip("datasette")

from spladelite import SpladeLite

TEXTS = {
    "cold": "The engine does not start when it is <b>cold</b> & wet.",
    "steam": "Steam engines pulled the trains.",
    "model": "An engine for a model train.",
    "bread": "Bake the bread for an hour.",
}
METADATA = [{"year": 2021, "topic": "cars"}, {"year": 1999, "topic": "trains"}, {"year": 2021, "topic": "trains"}, {}]


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("datasette") / "kb.db"
    with SpladeLite(path) as db:
        db.add(list(TEXTS.values()), list(TEXTS), METADATA)
    return path


@pytest.fixture(scope="module")
def site(kb: Path) -> Iterator[str]:
    """Datasette in a process of its own, with the file and another that is not ours."""
    other = kb.parent / "other.db"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "datasette", str(kb), str(other), "--create", "-h", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urlopen(address, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, process.communicate()[1].decode()
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=30)


def read(address: str, **arguments: str | list[str]) -> str:
    with urlopen(f"{address}?{urlencode(arguments, doseq=True)}", timeout=60) as answer:
        return str(answer.read().decode())


def test_the_page_shows_hits_with_marked_words_reasons_and_facets(site: str) -> None:
    page = read(f"{site}/-/splade/kb", q="engine trouble")
    assert "The <mark>engine</mark> does not start when it is &lt;b&gt;cold" in page
    assert "Bake the bread" not in page
    year = re.search(r'<a href="([^"]+)">2021</a> 2', page)
    assert year is not None
    narrowed = read(site + year[1].replace("&amp;", "&").split("?")[0], q="engine trouble", f=["year=2021"])
    assert "Steam engines" not in narrowed
    assert "model train" in narrowed
    assert "year = <strong>2021</strong>" in narrowed
    why = read(f"{site}/-/splade/kb", q="engine trouble", why="cold")
    assert re.search(r"<td>engine</td><td>\d\.\d{3}</td>", why)
    assert "added by the model" in why
    assert "Nothing found" in read(f"{site}/-/splade/kb", q="engine", f=["topic=poetry"])


def test_json_errors_and_files_of_others(site: str) -> None:
    found = json.loads(read(f"{site}/-/splade/kb.json", q="engine", f=['topic="trains"']))
    assert {hit["id"] for hit in found["hits"]} == {"steam", "model"}
    with pytest.raises(HTTPError, match="400") as refused:
        read(f"{site}/-/splade/kb.json", q="engine", f=['a"b=1'])
    assert "cannot be used in a filter" in refused.value.read().decode()
    for name in ("other", "nowhere"):
        with pytest.raises(HTTPError, match="404"):
            read(f"{site}/-/splade/{name}")
    assert '/-/splade/kb"' in read(site)
    assert "splade/other" not in read(site)
    assert "<h1>Search kb</h1>" in read(f"{site}/-/splade/kb")


def test_others_write_while_datasette_reads(site: str, kb: Path) -> None:
    """Datasette's process holds the file with another copy of SQLite: no lock is lost, and no row."""
    for number in range(5):
        with SpladeLite(kb) as db:
            db.add(f"A zeppelin, number {number}.", f"z{number}")
        assert json.loads(read(f"{site}/kb/document.json", _shape="arrays", id__exact=f"z{number}"))["rows"]
        hits = json.loads(read(f"{site}/-/splade/kb.json", q="zeppelin"))["hits"]
        assert len(hits) == number + 1
    with SpladeLite(kb) as db:
        assert db.check() == []
        assert len(db) == 9


def test_a_real_browser_shows_the_page(site: str) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    address = f"{site}/-/splade/kb?q={quote('engine trouble')}"
    shown = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom", address],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    assert "<mark>engine</mark>" in shown
    assert 'value="engine trouble"' in shown
    assert "facet-info" in shown
