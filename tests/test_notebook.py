"""What a notebook shows: HTML in which nothing that a document holds is markup."""

from __future__ import annotations

from html.parser import HTMLParser

from spladelite import SpladeLite

HOSTILE = "<script>alert('engine')</script> & <img src=x onerror=\"alert(1)\"> the engine"


class Page(HTMLParser):
    """The tags of a page, each closed again, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert {name for name, _ in attrs} <= {"style"}
        self.tags.add(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_documents_hold_is_no_markup(db: SpladeLite) -> None:
    db.add([HOSTILE, "Bread bakes."], ["<b>id</b>", "bread"], [{"<i>": "'\"><s>"}, {}])
    hits = db.search("engine")
    for shown in (hits[0], hits, db.more_like("<b>id</b>"), db.explain("engine", "<b>id</b>"), db.expand(HOSTILE)):
        html = shown._repr_html_()  # type: ignore[union-attr]
        if html is not None:  # nothing is shown as []
            assert Page(html).tags <= {"div", "b", "span", "table", "tr", "td"}
    page = Page(hits[0]._repr_html_())
    assert HOSTILE in page.text
    assert "<b>id</b>" in page.text
    assert "'\"><s>" in page.text or "\\'\"><s>" in page.text
    assert db.search("")._repr_html_() is None  # type: ignore[attr-defined]


def test_bars_and_figures(db: SpladeLite) -> None:
    db.add(["The engine does not start.", "x" * 5000], ["a", "long"])
    explained = Page(db.explain("motor", "a")._repr_html_()).text
    assert explained.startswith("a: ")
    assert "splade" in explained
    terms = db.expand("engine")
    html = terms._repr_html_()  # type: ignore[attr-defined]
    assert html.count("<tr>") == len(terms)
    assert f"{terms[0].term} {terms[0].weight:.3f}" in Page(html).text
    stats = Page(db.stats()._repr_html_()).text
    assert "documents2" in stats
    assert "postings" in stats
    assert len(Page(db.search("x" * 5000, mode="bm25")[0]._repr_html_()).text) < 2200
