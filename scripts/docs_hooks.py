"""MkDocs hooks: pages that live beside the code are part of the site, and links between them lead to where they are.

The README is the first page. A link to a file that is no page of the site leads to the repository. The search box is
SpladeLite's web export of the pages themselves, a document for each section.
"""

from __future__ import annotations

import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from spladelite import SpladeLite

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "RELIABILITY.md": "project/reliability.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "benchmarks/README.md": "project/benchmarks.md",
    "benchmarks/LOG.md": "project/benchmarks-log.md",
    "benchmarks/training/README.md": "project/benchmarks-training.md",
    "migrations/README.md": "project/migrations.md",
    "spladelite/models/MODEL_CARD.md": "project/model-card.md",
    "packages/splade-small/spladelite_splade_small/MODEL_CARD.md": "project/model-card-small.md",
}
PICTURES = (".png", ".svg")
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository, and the pictures that they show, to those of docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
        for target in LINK.findall((ROOT / source).read_text("utf-8")):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target[1]))
            if path.endswith(PICTURES) and not path.startswith("docs/") and files.get_file_from_path(path) is None:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    shown_as = {page_path: source for source, page_path in PAGES.items()}
    source = shown_as.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def moved(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        target = PAGES.get(path) or (
            path[5:] if path.startswith("docs/") else path if path.endswith(PICTURES) else None
        )
        if target is None or files.get_file_from_path(target) is None:
            kind = "tree" if (ROOT / path).is_dir() else "blob"
            return f"{match[1]}{config['extra']['repository']}/{kind}/main/{path}"
        return match[1] + posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(moved, markdown)


class Sections(HTMLParser):
    """The text of each section of a page, by the id of its heading."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str], list[str]]] = []  # id, words of the heading, words of the text
        self._heading = self._link = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A heading with an id begins a section."""
        known = dict(attrs)
        if tag in ("h1", "h2", "h3") and known.get("id"):
            self.found.append((str(known["id"]), [], []))
            self._heading = True
        self._link = tag == "a" and known.get("class") == "headerlink"

    def handle_endtag(self, tag: str) -> None:
        """Leave a heading."""
        self._heading = self._heading and tag not in ("h1", "h2", "h3")
        self._link = False

    def handle_data(self, data: str) -> None:
        """Words of the heading, or of the section's text."""
        if self.found and not self._link:
            _, heading, text = self.found[-1]
            (heading if self._heading else text).append(data)


SECTIONS: list[tuple[str, str, str]] = []  # of all pages: address, title, text


def on_pre_build(**_: Any) -> None:
    """Begin anew: a server that rebuilds runs in one process."""
    SECTIONS.clear()


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Take the sections of a page for the search."""
    parser = Sections()
    parser.feed(html)
    for anchor, heading, words in parser.found:
        text = " ".join("".join(words).split())
        if text:
            own = " ".join("".join(heading).split())
            title = own if own == page.title else f"{page.title} · {own}"
            SECTIONS.append((f"{page.file.url}#{anchor}", title, f"{own}. {text}"))
    return html


def on_post_build(config: Any) -> None:
    """Index the sections, and write what the search box reads."""
    with SpladeLite(":memory:") as db:
        db.add(
            [text for _, _, text in SECTIONS],
            ids=[address for address, _, _ in SECTIONS],
            metadata=[{"page": address, "title": title} for address, title, _ in SECTIONS],
            progress=False,
        )
        db.export_web(Path(config["site_dir"]) / "search")
