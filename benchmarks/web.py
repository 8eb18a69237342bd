"""What a search in the browser fetches and how long it takes on a slow line, beside Pagefind on the same texts.

    python benchmarks/web.py SITE QUESTIONS [--database kb.db] [--pagefind FOLDER] [--queries 100]

SITE is a folder from ``spladelite export kb.db SITE --web``, QUESTIONS a text file, one a line. Each query is the
first of a visitor: nothing is cached. Chromium simulates the line: 10 Mbit/s, 50 ms a round trip. With ``--database``,
ids and scores are compared with Python's.

Pagefind's FOLDER holds its bundle of the same texts in ``pagefind/``; ``benchmarks/pagefind.mjs`` makes it. Pagefind
finds pages that have every word of the query, which for whole questions is seldom one. So both are asked for two words
of each question: those that add most to the BM25 score of its best passage. Pagefind's worker is off: Chromium does not
simulate the line of a worker, nor count what it fetches.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import re
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from spladelite import SpladeLite

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
LINE = {"offline": False, "latency": 50, "downloadThroughput": 10e6 / 8, "uploadThroughput": 10e6 / 8}
WAYS: dict[str, dict[str, Any]] = {
    "idf": {"mode": "splade", "encoder": "idf"},
    "SPLADE": {"mode": "splade", "encoder": "model"},
    "BM25": {"mode": "bm25"},
    "hybrid, idf": {"mode": "hybrid", "encoder": "idf"},
    "hybrid, SPLADE": {"mode": "hybrid", "encoder": "model"},
}

# The encoder is loaded before the clock starts: it comes once, a query's rows of it come with the query.
ASK = """async ([query, options]) => {
  const { open } = await import("./spladelite/index.js");
  const silent = { persist: false, onNotice: () => {} };
  window.loaded ??= await open("./", silent);
  if (options.encoder === "model") await window.loaded.loadEncoder();
  const begun = performance.now();
  const db = await open("./", silent);
  const opened = performance.now();
  const atOpen = db.traffic;
  let hits, more = { requests: 0, bytes: 0 };
  if (options.encoder === "model") {
    const before = window.loaded.traffic;
    await window.loaded.weigh(query, "model");
    const after = window.loaded.traffic;
    more = { requests: after.requests - before.requests, bytes: after.bytes - before.bytes };
    db.loadEncoder = window.loaded.loadEncoder.bind(window.loaded);
  }
  ({ hits } = await db.search(query, options));
  const done = performance.now();
  const all = db.traffic;
  return {
    open: [atOpen.requests, atOpen.bytes, opened - begun],
    query: [all.requests - atOpen.requests + more.requests, all.bytes - atOpen.bytes + more.bytes, done - opened],
    hits: hits.map(({ id, score }) => [id, score]),
  };
}"""

ASK_PAGEFIND = """async (query) => {
  const pagefind = await import("./pagefind/pagefind.js?" + Math.random());
  await window.noted();
  const begun = performance.now();
  await pagefind.options({ basePath: "/pagefind/", noWorker: true });
  await pagefind.init();
  await pagefind.filters(); // init() does not wait for what it loads
  const opened = performance.now();
  await window.noted();
  const asked = performance.now();
  const found = await pagefind.search(query);
  await Promise.all(found.results.slice(0, 10).map((result) => result.data()));
  const done = performance.now();
  await window.noted();
  return { open: opened - begun, query: done - asked, found: found.results.length };
}"""


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Static files with range requests."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            self.send_error(404)
            return
        content, status = path.read_bytes(), 200
        total = len(content)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted:
            content, status = content[int(wanted[1]) : int(wanted[2]) + 1], 206
        self.send_response(status)
        if wanted:
            self.send_header("Content-Range", f"bytes {wanted[1]}-{int(wanted[1]) + len(content) - 1}/{total}")
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def host(folder: str) -> Iterator[str]:
    def handler(*args: Any) -> RangeHandler:
        return RangeHandler(*args, directory=folder)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def row(name: str, figures: list[list[float]]) -> str:
    requests, sizes, times = (sorted(column) for column in zip(*figures, strict=True))
    return (
        f"| {name} | {statistics.mean(requests):.1f} | {statistics.mean(sizes) / 1000:.0f} | "
        f"{statistics.median(times):.0f} | {times[int(0.9 * len(times))]:.0f} |"
    )


def compare(found: list[Any], expected: list[Any]) -> tuple[bool, float]:
    """Whether the ids are the same, and the largest relative difference of scores."""
    same = [id for id, _ in found] == [id for id, _ in expected]
    pairs = zip(found, expected, strict=False)
    return same, max((abs(a[1] - b[1]) / abs(b[1]) for a, b in pairs), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("site")
    parser.add_argument("questions")
    parser.add_argument("--database")
    parser.add_argument("--pagefind")
    parser.add_argument("--queries", type=int, default=100)
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    questions = Path(arguments.questions).read_text("utf-8").splitlines()[: arguments.queries]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=CHROMIUM
        )
        print("| what | requests | KB | p50 ms | p90 ms |\n|---|---|---|---|---|")
        with host(arguments.site) as address:
            for name, options in WAYS.items():
                page = slow_page(browser, address)
                answers = [page.evaluate(ASK, [question, options]) for question in questions]
                if name == "idf":
                    print(row("open", [answer["open"] for answer in answers]))
                print(row(name, [answer["query"] for answer in answers]))
                if arguments.database:
                    with SpladeLite(arguments.database, read_only=True) as db:
                        python = {
                            "mode": options["mode"],
                            "encoder": "idf" if options.get("encoder") == "idf" else None,
                        }
                        compared = [
                            compare(answer["hits"], [(hit.id, hit.score) for hit in db.search(question, **python)])
                            for question, answer in zip(questions, answers, strict=True)
                        ]
                    same = sum(ids for ids, _ in compared)
                    near = sum(ids and worst <= 1e-5 for ids, worst in compared)
                    worst = max(worst for _, worst in compared)
                    print(f"<!-- {name}: ids {same} of {len(compared)}, within 1e-5 {near}, largest {worst:.1e} -->")
                page.context.close()
            print(row("first visit, page to ten hits", [first_visit(browser, address, q) for q in questions[:10]]))
        if arguments.pagefind:
            with SpladeLite(arguments.database, read_only=True) as db:
                words = [two_words(db, question) for question in questions]
            with host(arguments.site) as address:
                page = slow_page(browser, address)
                answers = [page.evaluate(ASK, [query, WAYS["BM25"]]) for query in words]
                print(row("open", [answer["open"] for answer in answers]))
                print(row("BM25, two words", [answer["query"] for answer in answers]))
            with host(arguments.pagefind) as address:
                found = [ask_pagefind(browser, address, query) for query in words]
                print(row("Pagefind, open", [one.open for one in found]))
                print(row("Pagefind, two words", [one.query for one in found]))
                whole = [ask_pagefind(browser, address, question).found for question in questions[:20]]
            print(
                f"<!-- Pagefind: hits for {sum(one.found > 0 for one in found)} of {len(found)} pairs of words, and for"
            )
            print(f"{sum(count > 0 for count in whole)} of {len(whole)} whole questions -->")
        browser.close()


def two_words(db: SpladeLite, question: str) -> str:
    """The words of a question that add most to its best passage's BM25 score: a query that has an answer."""
    (best,) = db.search(question, k=1, mode="bm25")
    (part,) = db.explain(question, best.id, mode="bm25").parts
    return " ".join(sorted(part.words, key=lambda word: -part.words[word])[:2])


def slow_page(browser: Any, address: str) -> Any:
    """A page on a slow line that caches nothing."""
    page = browser.new_page()
    page.goto(f"{address}database.json")
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    session.send("Network.emulateNetworkConditions", LINE)
    return page


def counted(page: Any) -> tuple[Any, list[float]]:
    """A slow line for the page, and its requests and bytes so far."""
    session = page.context.new_cdp_session(page)
    traffic = [0.0, 0.0]
    session.on("Network.loadingFinished", lambda event: traffic.__setitem__(1, traffic[1] + event["encodedDataLength"]))
    session.on("Network.requestWillBeSent", lambda _: traffic.__setitem__(0, traffic[0] + 1))
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", LINE)
    return session, traffic


def first_visit(browser: Any, address: str, question: str) -> list[float]:
    page = browser.new_context(service_workers="block").new_page()
    _, traffic = counted(page)
    page.add_init_script(
        "new MutationObserver((_, seen) => { if (!document.querySelector('#hits li')) return;"
        " window.shown = performance.now(); seen.disconnect(); })"
        ".observe(document, { childList: true, subtree: true })"
    )
    page.goto(f"{address}?q={json.dumps(question)[1:-1].replace(' ', '+')}")
    page.locator("#hits li").first.wait_for(timeout=60_000)
    shown = page.evaluate("window.shown")
    page.context.close()
    return [*traffic, shown]


class Found(NamedTuple):
    """What Pagefind fetched, each as requests, bytes and milliseconds, and how many pages it found."""

    open: list[float]
    query: list[float]
    found: int


def ask_pagefind(browser: Any, address: str, question: str) -> Found:
    page = browser.new_context().new_page()
    page.goto(f"{address}pagefind/pagefind-entry.json")
    _, traffic = counted(page)
    noted: list[list[float]] = []

    def note() -> None:
        page.wait_for_timeout(50)  # the last events of the network
        noted.append(list(traffic))

    page.expose_function("noted", note)
    answer = page.evaluate(ASK_PAGEFIND.replace("./pagefind/", "/pagefind/"), question)
    page.context.close()
    imported, opened, done = noted
    return Found(
        [*(b - a for a, b in zip(imported, opened, strict=True)), answer["open"]],
        [*(b - a for a, b in zip(opened, done, strict=True)), answer["query"]],
        answer["found"],
    )


if __name__ == "__main__":
    main()
