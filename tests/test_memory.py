"""A call's memory is bounded by what it returns, however long a document's text is. Measured in child processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")

CHILD = """
import re, sys
from spladelite import SpladeLite

def encode(texts):
    return [{2000 + len(text) % 1000: 1.0, 12992: 1.0} for text in texts]

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024  # MB

path, characters = sys.argv[1], int(sys.argv[2])
calls = []
with SpladeLite(path, model=(encode, encode)) as db:
    db.add("warm up the model and the libraries", ids="small")
    before = peak()
    line = "The boost library has pointers, templates and iterators of many kinds.\\n"
    db.add(line * (characters // len(line)), ids="long", progress=lambda done, total: calls.append(done))
    print("add", peak() - before, db.stats().passages, len(calls))
with SpladeLite(path, model=(encode, encode)) as db:
    db.search("warm", mode="bm25")
    before = peak()
    for mode in ("bm25", "splade", "hybrid"):
        for k in (1, 5000):
            db.search("boost pointer", k=k, mode=mode)
    db.search_many(["boost", "library pointers", "templates"] * 40)
    db.explain("boost", "long", mode="hybrid")
    db.update("long", metadata={"a": 1})
    db.search("boost", where={"a": 1})
    db.stats()
    print("search", peak() - before)
"""


def test_a_long_text_costs_its_length_and_no_more(tmp_path: Path) -> None:
    """Before, a text was read once for each of its passages: 2,000 times 1.2 MB here."""
    megabytes = 1.2
    child = [sys.executable, "-c", CHILD, str(tmp_path / "kb.db"), str(int(megabytes * 1e6))]
    done = subprocess.run(child, capture_output=True, text=True, timeout=300, check=True)
    (_, add, passages, calls), (_, search) = (line.split() for line in done.stdout.splitlines())
    assert int(passages) > 1000
    assert int(calls) >= 1
    assert float(add) < 100 * megabytes
    assert float(search) < 200 * megabytes
