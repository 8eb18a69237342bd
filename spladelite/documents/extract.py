"""Files that are no plain text -> text: HTML, PDF, Office documents, e-books, mail, notebooks.

In the text, pages and slides are divided by a form feed, and headings are lines of ``#`` signs as in Markdown:
:attr:`spladelite.records.Hit.place` reads both. PDF, Word and PowerPoint need the extra ``[files]``. What a stranger's
file unpacks to is bounded, and whatever a library raises over it becomes :class:`InvalidInput`.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from html.parser import HTMLParser
from importlib import import_module
from posixpath import dirname, join, normpath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from spladelite.errors import InvalidInput

PAGE = "\n\f\n"  # between two pages; a form feed alone would join the words on both sides
MAX_UNPACKED = 512 << 20

_BLOCK_TAGS = """
    address article aside blockquote br dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr
    li main nav ol option p pre section table tr ul
"""
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_HIDDEN = frozenset(["head", "script", "style", "template", "noscript", "svg", "math", "iframe", "object"])
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE)


def extract(content: bytes, format: str, decode: Callable[[bytes], str]) -> tuple[str, dict[str, Any]]:
    """Text and metadata of a file's content.

    Args:
        content: all bytes of the file.
        format: a key of ``EXTRACTORS``.
        decode: turns bytes into text, for the formats that do not say their encoding.

    Raises:
        InvalidInput: it is not what the format says, or unpacks to too much; or an extra is missing.
    """
    try:
        return EXTRACTORS[format](content, decode)
    except InvalidInput:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        raise InvalidInput(f"cannot be read as {format} ({reason})") from error


# --- HTML ------------------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Collects the visible text: blocks on lines of their own, headings with their ``#`` signs."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.hidden: list[str] = []
        self.preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in _HIDDEN:
            self.hidden.append(tag)
        elif tag in ("body", "main", "article"):
            self.hidden.clear()  # a head that nobody closed
        if tag in _BLOCKS:
            self.parts.append("\n\n" if tag in ("p", "h1", "h2", "h3", "h4", "h5", "h6", "table", "pre") else "\n")
        if re.fullmatch("h[1-6]", tag):
            self.parts.append("#" * int(tag[1]) + " ")
        elif tag == "li":
            self.parts.append("- ")
        elif tag == "pre":
            self.preformatted += 1

    def handle_endtag(self, tag: str) -> None:
        if self.hidden and tag == self.hidden[-1]:
            self.hidden.pop()
        if tag in ("td", "th"):
            self.parts.append("\t")
        elif tag in _BLOCKS:
            self.parts.append("\n")
        if tag == "pre":
            self.preformatted = max(0, self.preformatted - 1)

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data if self.preformatted else re.sub(r"\s+", " ", data))

    def text(self) -> str:
        lines = [
            line.strip(" \t") if not line.startswith("  ") else line.rstrip()
            for line in "".join(self.parts).split("\n")
        ]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def html_text(html: str) -> str:
    """The visible text of an HTML page, headings as in Markdown."""
    page = _Page()
    page.feed(html)
    page.close()
    return page.text()


def _html(content: bytes, decode: Callable[[bytes], str]) -> tuple[str, dict[str, Any]]:
    html = _decode_html(content, decode)
    title = re.search(r"<title[^>]*>(.{1,500}?)</title>", html, re.IGNORECASE | re.DOTALL)
    text = html_text(html)
    if title is None:
        return text, {}
    name = " ".join(html_text(title[1]).split())
    return text, {"title": name} if name else {}


def _decode_html(content: bytes, decode: Callable[[bytes], str]) -> str:
    named = _CHARSET.search(content[:4096])
    try:
        return decode(content)
    except InvalidInput:
        if named is None:
            raise
    try:
        return content.decode(named[1].decode("ascii"))
    except (LookupError, UnicodeDecodeError) as error:
        raise InvalidInput(f"is not in the encoding that it names: {error}") from None


# --- PDF and Office --------------------------------------------------------------------------------------------------


def _library(name: str, package: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InvalidInput(f"needs the package {package}: pip install 'spladelite[files]'") from None


def _pdf(content: bytes, _: Callable[[bytes], str]) -> tuple[str, dict[str, Any]]:
    pypdf = _library("pypdf", "pypdf")
    reader = pypdf.PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        raise InvalidInput("is a PDF that is locked with a password")
    text = PAGE.join((page.extract_text() or "").replace("\f", " ").strip() for page in reader.pages)
    if not text.strip():
        raise InvalidInput(f"is a PDF of {len(reader.pages)} pages without text: a scan? It needs OCR first")
    title = reader.metadata.title if reader.metadata else None
    return text, {"pages": len(reader.pages)} | ({"title": str(title)} if title else {})


def _docx(content: bytes, _: Callable[[bytes], str]) -> tuple[str, dict[str, Any]]:
    docx = _library("docx", "python-docx")
    _unpacks_to(content)
    document = docx.Document(io.BytesIO(content))
    lines = []
    for block in document.iter_inner_content():
        if hasattr(block, "rows"):
            lines += ["\t".join(cell.text for cell in row.cells) for row in block.rows]
        else:
            level = re.fullmatch(r"Heading ([1-6])", getattr(block.style, "name", None) or "")
            lines.append(f"\n{'#' * int(level[1])} {block.text}\n" if level and block.text.strip() else block.text)
    title = document.core_properties.title
    return "\n".join(lines).strip(), {"title": title} if title else {}


def _pptx(content: bytes, _: Callable[[bytes], str]) -> tuple[str, dict[str, Any]]:
    pptx = _library("pptx", "python-pptx")
    _unpacks_to(content)
    slides = []
    for slide in pptx.Presentation(io.BytesIO(content)).slides:
        lines = [line for shape in slide.shapes for line in _shape_lines(shape)]
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            lines.append(slide.notes_slide.notes_text_frame.text)
        slides.append("\n".join(lines))
    return PAGE.join(slides), {"pages": len(slides)}


def _shape_lines(shape: Any) -> Iterator[str]:
    if shape.shape_type == 6:  # a group
        for inner in shape.shapes:
            yield from _shape_lines(inner)
    elif shape.has_text_frame:
        yield shape.text_frame.text
    elif getattr(shape, "has_table", False):
        yield from ("\t".join(cell.text for cell in row.cells) for row in shape.table.rows)


def _unpacks_to(content: bytes) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(content))
    size = sum(entry.file_size for entry in archive.infolist())
    if size > MAX_UNPACKED:
        raise InvalidInput(f"unpacks to {size:,} bytes, more than the {MAX_UNPACKED:,} that are read")
    return archive


# --- e-books, mail, notebooks ----------------------------------------------------------------------------------------


def _epub(content: bytes, decode: Callable[[bytes], str]) -> tuple[str, dict[str, Any]]:
    archive = _unpacks_to(content)
    container = _xml(archive, "META-INF/container.xml")
    package = next(node.get("full-path", "") for node in container.iter() if node.tag.endswith("}rootfile"))
    book = _xml(archive, package)
    files = {node.get("id"): node.get("href", "") for node in book.iter() if node.tag.endswith("}item")}
    chapters = []
    for node in book.iter():
        if node.tag.endswith("}itemref") and node.get("idref") in files:
            name = normpath(join(dirname(package), unquote(files[node.get("idref")])))
            chapters.append(html_text(_decode_html(archive.read(name), decode)))
    title = next((node.text for node in book.iter() if node.tag.endswith("}title") and node.text), None)
    return "\n\n".join(filter(None, chapters)), {"title": title} if title else {}


def _xml(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    content = archive.read(name)
    if b"<!ENTITY" in content:
        raise InvalidInput(f"{name} in it defines entities, which are not read")
    return ElementTree.fromstring(content)  # noqa: S314 - without entities it grows to nothing


def _eml(content: bytes, _: Callable[[bytes], str]) -> tuple[str, dict[str, Any]]:
    message = message_from_bytes(content, policy=modern)
    assert isinstance(message, EmailMessage)
    headers = {name: str(message[name]) for name in ("subject", "from", "to", "date") if message[name]}
    body = message.get_body(("plain", "html"))
    text = "" if body is None else str(body.get_content())
    if body is not None and body.get_content_type() == "text/html":
        text = html_text(text)
    return f"{headers.get('subject', '')}\n\n{text.strip()}".strip(), headers


def _ipynb(content: bytes, decode: Callable[[bytes], str]) -> tuple[str, dict[str, Any]]:
    cells = json.loads(decode(content))["cells"]
    sources = [cell["source"] for cell in cells if cell["cell_type"] in ("markdown", "code", "raw")]
    texts = [source if isinstance(source, str) else "".join(source) for source in sources]
    return "\n\n".join(text.strip() for text in texts if text.strip()), {}


EXTRACTORS: dict[str, Callable[[bytes, Callable[[bytes], str]], tuple[str, dict[str, Any]]]] = {
    "html": _html,
    "pdf": _pdf,
    "docx": _docx,
    "pptx": _pptx,
    "epub": _epub,
    "eml": _eml,
    "ipynb": _ipynb,
}
