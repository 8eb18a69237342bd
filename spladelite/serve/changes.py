"""What ``--write`` adds: documents come and go, and readers say how good a hit was."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import Annotated, Any

from spladelite import DocumentNotFound, InvalidInput
from spladelite.documents.files import find_files
from spladelite.documents.sources import read_file
from spladelite.serve.answers import Added, Deleted, Noted
from spladelite.serve.endpoints import Id, Library
from spladelite.serve.openapi import Endpoint

LARGEST = 64 << 20  # bytes of one request

Replace = Annotated[bool, "replace documents whose id exists with other content"]


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to add; without an id, a hash of its content becomes one."""

    text: str
    id: str | None = None
    metadata: dict[str, Any] | None = None


def add(
    library: Library,
    documents: Annotated[list[NewDocument], "what to add; checked as a whole before anything is stored"],
    replace: Replace = False,
) -> Added:
    """Add documents."""
    return _add(library, documents, replace)


def add_file(
    library: Library,
    name: Annotated[str, "the file's name; it says what the file is, and is the id of a text"],
    content: Annotated[bytes, "the file"],
    replace: Replace = False,
) -> Added:
    """Add the documents of a file: one of a text, page or PDF, and one of each row of a JSONL or CSV file."""
    base = os.path.basename(name.replace("\\", "/"))
    if not base.strip(". ") or "\0" in base or len(base.encode()) > 200:
        raise InvalidInput(f"name is {name[:60]!r}; give a file's name")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, base)
        with open(path, "wb") as file:
            file.write(content)
        try:
            ((found,), _) = find_files([path])
            sources = [source for source in read_file(found) if source.text.strip()]
        except InvalidInput as error:
            raise InvalidInput(str(error).replace(path, base)) from None
    if not sources:
        raise InvalidInput(f"{base} holds no text")
    return _add(library, [NewDocument(source.text, source.id, source.metadata) for source in sources], replace)


def delete(library: Library, id: Id) -> Deleted:
    """Delete a document."""
    if not library.db.delete(id):
        raise DocumentNotFound(f"no document has the id {id!r}")
    library.browser.forget()
    return Deleted(1)


def feedback(
    library: Library,
    q: Annotated[str, "the question"],
    id: Id,
    value: Annotated[int, "1: a good answer; 0: none"],
) -> Noted:
    """Note how good a document is as the answer to a question, to tune and measure with."""
    store = getattr(library.db, "feedback", None)
    if store is None:
        raise InvalidInput("this release stores no feedback")
    store(q, id, value)
    return Noted(True)


def _add(library: Library, documents: list[NewDocument], replace: bool) -> Added:
    ids = library.db.add(
        [document.text for document in documents],
        ids=[document.id for document in documents],
        metadata=[document.metadata for document in documents],
        progress=False,
        on_conflict="replace" if replace else "error",
    )
    library.browser.forget()
    return Added(list(ids), len(library.db))


WRITING = (
    Endpoint("POST", "/api/documents", add),
    Endpoint("POST", "/api/files", add_file),
    Endpoint("DELETE", "/api/document", delete),
    Endpoint("POST", "/api/feedback", feedback),
)
