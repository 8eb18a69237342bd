"""The page of `spladelite serve` in a real Chromium."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from serving import Server, serving

from spladelite import SpladeLite

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

pytest.importorskip("starlette", reason="needs the extra [serve]")
api = pytest.importorskip("playwright.sync_api", reason="needs playwright, which drives a browser")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package chromium")

AXE = Path(__file__).parents[1] / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)

HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script> & &amp; \u202e ${1} \'\'"'
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("crash", "A car crashed into a tree and the driver was hurt.", {"topic": "news", "year": 2001}),
    ("bread", "Let the bread cool for an hour before you cut it.", {"topic": "food", "year": 2002}),
    ("cat", "The cat sleeps on the warm windowsill.", {"topic": "pets", "year": 2003}),
    ("bike", "🚲 The bicycle has a flat tyre; a car must give way. The car waits.", {"topic": "news", "year": 2004}),
    ("dog", "The dog barks at every car.", {"topic": "pets", "year": 2005}),
    (f"id {HOSTILE}", f"Hostile text: {HOSTILE} and a car", {HOSTILE: HOSTILE, "topic": HOSTILE, "title": HOSTILE}),
    ("long", " ".join(f"Sentence {number} is about ships at sea." for number in range(90)), {"topic": "sea"}),
    *(
        (f"filler{number}", f"Filler number {number} speaks of gardens.", {"year": 1900 + number})
        for number in range(14)
    ),
]


def fill(path: Path) -> None:
    with SpladeLite(path) as db:
        db.add([text for _, text, _ in ROWS], ids=[id for id, _, _ in ROWS], metadata=[row for _, _, row in ROWS])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("page") / "kb.db"
    fill(path)
    with serving(str(path)) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield running
        running.close()


Opener = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opener]:
    """Opens pages; at the end none may have complained, asked another host, or run a document's script."""
    pages: list[tuple[Page, str]] = []
    complaints: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        if "a status of 400" not in message.text:  # what the server refuses, Chromium reports, too
            complaints.append(f"{message.type}: {message.text}")

    def open_page(url: str, **context: Any) -> Page:
        page = browser.new_context(viewport={"width": 1200, "height": 900}, **context).new_page()
        page.set_default_timeout(10_000)
        own = url.split("#")[0]
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith(own) else complaints.append(asked.url))
        pages.append((page, own))
        page.goto(url)
        return page

    yield open_page
    for page, _ in pages:
        assert page.evaluate("window.hacked") is None
        page.context.close()
    assert complaints == []


def ask(page: Page, question: str) -> list[str]:
    """Type a question; the names of the hits, once they are there."""
    asked = f"/api/facets?{urlencode({'q': question})}&"
    with page.expect_response(lambda response: asked in response.url and response.ok):
        page.locator("#q").fill(question)
    return page.locator("li.hit h2").all_inner_texts()


def test_a_search_as_you_type_and_why(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    api.expect(page.locator("#status")).to_contain_text("21 documents, the newest first")
    assert server.token not in page.url
    assert ask(page, "automobile accident")[0] == "crash"
    api.expect(page.locator("#status")).to_contain_text("ms to search")
    chips = page.locator(".expansion-line .chip")
    assert "+crash" in chips.all_inner_texts()
    # The best hit is explained without a click.
    why = page.locator("li.hit").first.locator(".why")
    api.expect(why.locator("table.bars")).to_be_visible()
    api.expect(why.locator("caption")).to_contain_text("shared terms add up to")
    row = why.locator("tr", has_text=re.compile(r"\bcar\b"))
    row.hover()
    marks = page.locator("li.hit").first.locator(".passage mark")
    api.expect(marks).to_have_text(["car"])
    api.expect(why.locator(".detail")).to_contain_text("Once in this passage")
    api.expect(why.locator(".others a").first).to_be_visible()
    assert "bike" in why.locator(".others").inner_text()
    # Follow a term to its page, and a document from there.
    why.locator(".detail h4 a").click()
    api.expect(page.locator("h1")).to_have_text("car")
    page.get_by_role("link", name="bike").click()
    api.expect(page.locator(".text")).to_contain_text("🚲 The bicycle")
    page.go_back()
    page.go_back()
    api.expect(page.locator("#q")).to_have_value("automobile accident")
    api.expect(page.locator("li.hit h2").first).to_have_text("crash")


def test_the_parts_of_a_hybrid_and_other_modes(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    ask(page, "car tyre")
    first = page.locator("li.hit").first
    api.expect(first.locator(".parts")).to_contain_text("words (BM25)")
    first.locator(".words .chip", has_text="tyre").hover()
    api.expect(first.locator(".passage mark")).to_have_text(["tyre"])
    with page.expect_response(lambda response: "mode=bm25" in response.url):
        page.get_by_label("bm25").check()
    assert "mode=bm25" in page.url
    api.expect(page.locator(".expansion-line .chip")).to_have_count(0)
    page.get_by_label("splade").check()
    api.expect(page.locator("li.hit").first.locator(".why table.bars")).to_be_visible()
    assert page.locator("li.hit .parts").count() == 0


def test_marks_are_where_they_belong_after_an_emoji(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    page.get_by_label("splade").check()
    ask(page, "bicycle")
    assert page.locator("li.hit").first.locator(".passage mark").all_inner_texts() == ["bicycle"]


def test_filters(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    ask(page, "car")
    pets = page.locator(".facets label", has_text="pets")
    api.expect(pets.locator(".count")).to_have_text("1")
    pets.get_by_role("checkbox").check()
    api.expect(page.locator("li.hit h2")).to_have_text(["dog"])
    assert json.loads(page.evaluate("new URLSearchParams(location.hash.split('?')[1]).get('where')")) == {
        "topic": {"$in": ["pets"]}
    }
    page.get_by_label("year at least").fill("2004")
    page.get_by_label("year at least").press("Enter")
    api.expect(page.locator("li.hit h2")).to_have_text(["dog"])
    page.reload()
    api.expect(page.locator("li.hit h2")).to_have_text(["dog"])
    page.get_by_role("button", name="Remove the filters").click()
    api.expect(page.locator("li.hit h2", has_text="crash")).to_be_visible()


def test_the_next_key_cancels(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    api.expect(page.locator("li.hit").first).to_be_visible()
    cancelled: list[str] = []
    page.on("requestfailed", lambda request: cancelled.append(request.url))
    held: list[Any] = []
    page.route("**/api/search?q=bread*", lambda route: held.append(route))  # an answer that does not come
    page.locator("#q").fill("bread")
    page.wait_for_timeout(150)
    assert held
    assert ask(page, "cat")[0] == "cat"
    assert any("q=bread" in url for url in cancelled)


def test_more_hits(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    api.expect(page.locator("li.hit")).to_have_count(10)
    page.get_by_role("button", name="More hits").click()
    api.expect(page.locator("li.hit")).to_have_count(20)
    page.get_by_role("button", name="More hits").click()
    api.expect(page.locator("li.hit")).to_have_count(21)
    api.expect(page.get_by_role("button", name="More hits")).to_be_hidden()


def test_keys(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    ask(page, "car")
    api.expect(page.locator("li.hit").first.locator(".why")).to_be_visible()
    focused = "document.activeElement.textContent"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = page.locator("li.hit h2").nth(1).inner_text()
    assert page.evaluate(focused) == second
    page.keyboard.press("w")
    api.expect(page.locator("li.hit").nth(1).locator(".why")).to_be_visible()
    page.keyboard.press("w")
    api.expect(page.locator("li.hit").nth(1).locator(".why")).to_be_hidden()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("?")
    api.expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    api.expect(page.locator(".text")).to_be_visible()
    page.keyboard.press("/")
    api.expect(page.locator("#q")).to_be_focused()


def test_hostile_content_is_shown_as_text(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    scripts = page.locator("script, img[src='x']").count()
    page.locator("#q").fill("hostile text")
    hit = page.locator("li.hit").first
    api.expect(hit.locator("h2")).to_have_text(HOSTILE)
    api.expect(hit.locator(".passage")).to_contain_text(f"Hostile text: {HOSTILE} and a car")
    api.expect(hit.locator(".meta")).to_contain_text(HOSTILE)
    api.expect(hit.locator(".why table.bars")).to_be_visible()
    api.expect(page.locator(".facets")).to_contain_text("window.hacked=2")
    hit.locator("h2 a").click()
    api.expect(page.locator(".text")).to_contain_text(HOSTILE)
    api.expect(page.locator("dl.fields")).to_contain_text(HOSTILE)
    page.goto(f"{server.url.split('#')[0]}#/explore")
    page.locator("#left").fill(HOSTILE)
    api.expect(page.locator(".vectors")).to_contain_text("script")
    page.goto(f"{server.url.split('#')[0]}#/term?term={HOSTILE.replace('&', '%26')}")
    api.expect(page.locator("h1")).to_contain_text("<script>")
    page.goto(f"{server.url.split('#')[0]}#/search?q=<img src=x onerror=hacked=1>&where=%5B1")
    api.expect(page.locator("#q")).to_have_value("<img src=x onerror=hacked=1>")
    assert page.locator("script, img[src='x']").count() == scripts


def test_the_policy_of_the_page_holds(server: Server, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(server.url)
    api.expect(page.locator("li.hit").first).to_be_visible()
    for attempt in (
        "document.body.innerHTML = '<b>x</b>'",
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 1'}))",
        "document.body.setAttribute('onclick', 'window.hacked = 1'), document.body.click()",
        "fetch('http://127.0.0.1:9/')",
        "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))",
    ):
        page.evaluate(f"(async () => {{ try {{ {attempt} }} catch {{}} }})()")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'asked', () => 'refused')") == "refused"
    assert page.locator("b", has_text="x").count() == 0
    page.context.close()


def test_the_explorer(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    page.get_by_role("link", name="Explore").click()
    api.expect(page.locator(".shared")).to_contain_text("score, from")
    api.expect(page.locator(".shared table")).to_contain_text("crash")
    page.get_by_label("Document").fill("Bake the bread for an hour")
    api.expect(page.locator(".vectors section").nth(2)).to_contain_text("bread")
    page.get_by_label("Document").fill("")
    api.expect(page.locator(".shared h2")).to_have_text("With itself")
    page.reload()
    api.expect(page.locator(".shared h2")).to_have_text("With itself")


def test_a_document_of_several_passages(server: Server, open_page: Opener) -> None:
    page = open_page(f"{server.url}")
    page.goto(f"{server.url.split('#')[0]}#/document?id=long")
    api.expect(page.locator("dl.fields")).to_contain_text("sea")
    buttons = page.locator(".passages button")
    assert buttons.count() > 1
    buttons.nth(1).click()
    passages = server.get("document", id="long")["passages"]
    shown = page.locator("mark.whole").inner_text()
    assert shown == ROWS[6][1][passages[1]["start"] : passages[1]["end"]]
    page.locator("table.bars tr", has_text=re.compile(r"^sea\d")).hover()
    assert set(page.locator(".text mark").all_inner_texts()) == {"sea"}
    api.expect(page.get_by_text("More like this")).to_be_visible()


def test_the_collection(server: Server, open_page: Opener) -> None:
    page = open_page(server.url)
    page.get_by_role("link", name="Collection").click()
    api.expect(page.locator("ul.figures")).to_contain_text("21")
    page.get_by_label("Only terms that contain").fill("garden")
    terms = page.locator("table.bars th a")
    api.expect(terms.first).to_contain_text("garden")
    page.get_by_role("button", name="Check the file").click()
    api.expect(page.get_by_text("No problem found")).to_be_visible()
    page.get_by_text("Model card").click()
    api.expect(page.get_by_text("Where it comes from")).to_be_visible()


def test_without_the_token_there_is_only_an_explanation(server: Server, browser: Browser) -> None:
    page = browser.new_page()
    for address in ("", "#token=guessed"):
        page.goto(f"{server.url.split('#')[0]}{address}")
        api.expect(page.get_by_role("alert")).to_contain_text("This page needs its token")
    page.context.close()


@pytest.fixture
def writable(path: str) -> Iterator[Server]:
    fill(Path(path))
    with serving(path, "--write") as running:
        yield running


def test_adding_and_deleting(writable: Server, path: str, tmp_path: Path, open_page: Opener) -> None:
    (tmp_path / "lorry.txt").write_text("A lorry overturned on the motorway.")
    (tmp_path / "latin.txt").write_bytes(b"\xe4\xf6")
    page = open_page(writable.url)
    page.get_by_role("link", name="Add").click()
    page.locator("#text").fill("A ferry sank in the storm.")
    page.locator("#id").fill("ferry")
    page.get_by_label("Metadata").fill('{"topic": "sea"}')
    page.get_by_role("button", name="Add", exact=True).click()
    api.expect(page.locator(".log")).to_contain_text("22 documents now")
    page.locator("#files").set_input_files([tmp_path / "latin.txt", tmp_path / "lorry.txt"])
    api.expect(page.locator(".log")).to_contain_text("23 documents now")
    api.expect(page.locator(".log .error")).to_contain_text("latin.txt: byte 0 (0xe4) is not UTF-8")
    page.get_by_role("link", name="Search").click()
    assert ask(page, "truck overturned on the motorway")[0] == "lorry.txt"
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("li.hit").first.get_by_role("button", name="Delete").click()
    api.expect(page.locator("#status")).to_contain_text("Deleted lorry.txt")
    with SpladeLite(path, read_only=True) as db:
        assert "lorry.txt" not in db
        assert db.get("ferry") is not None


@pytest.mark.parametrize("width", [1200, 360])
def test_nothing_sticks_out(server: Server, open_page: Opener, width: int) -> None:
    page = open_page(server.url)
    page.set_viewport_size({"width": width, "height": 740})
    ask(page, "car")
    page.locator("li.hit").first.get_by_role("button", name="Why?").click()
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) <= 0
    for address in ("explore", "collection", "document?id=long", "term?term=car"):
        page.goto(f"{server.url.split('#')[0]}#/{address}")
        page.wait_for_load_state("networkidle")
        assert page.evaluate(overflow) <= 0, address


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm install --prefix build/npm axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(server: Server, open_page: Opener, scheme: str) -> None:
    page = open_page(server.url, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    ask(page, "car accident")
    api.expect(page.locator("li.hit").first.locator(".why table.bars")).to_be_visible()
    for address in (None, "explore", "collection", "document?id=long", "term?term=car", "add"):
        if address is not None:
            page.goto(f"{server.url.split('#')[0]}#/{address}")
            api.expect(page.locator("h1")).not_to_have_text("Search")
            page.wait_for_load_state("networkidle")
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("axe.run()")["violations"]
        assert [
            (rule["id"], re.sub(r"\s+", " ", node["html"])[:160], node["failureSummary"])
            for rule in found
            for node in rule["nodes"]
        ] == [], address
