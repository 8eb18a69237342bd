"""Documents by filter, in an order of the caller's, page after page; and by their ids."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import numpy as np

from spladelite.arguments import check_count
from spladelite.documents.filter_dict import OWN_FIELDS, field_of
from spladelite.documents.filters import Filter, matching_doc_ids
from spladelite.documents.table import DOCUMENT_COLUMNS, places, read_document, read_metadata
from spladelite.errors import InvalidInput, WrongType
from spladelite.file.sqlite import int_array
from spladelite.records import Document


def list_documents(
    connection: apsw.Connection,
    matching: Filter | None,
    ids: Sequence[str] | None,
    order_by: str | Sequence[str] | None,
    limit: int | None,
    offset: int,
    text: bool,
) -> list[Document]:
    """The documents that match and, if ``ids`` are given, are among them; see :meth:`SpladeLite.documents`."""
    doc_ids = None if matching is None else matching_doc_ids(connection, matching)
    if ids is not None:
        named = np.sort(np.array([doc_id for doc_id, _ in places(connection, ids)], np.int64))
        doc_ids = named if doc_ids is None else np.intersect1d(named, doc_ids, assume_unique=True)
    if doc_ids is not None and not len(doc_ids):
        return []
    source, bindings = "document d", {}
    if doc_ids is not None:
        source, bindings = "carray(:ids) c CROSS JOIN document d ON d.doc_id = c.value", {"ids": int_array(doc_ids)}
    columns = DOCUMENT_COLUMNS if text else "d.id, d.metadata"
    rows = connection.execute(
        f"SELECT {columns} FROM {source} ORDER BY {order_sql(order_by)} LIMIT :limit OFFSET :offset",
        {**bindings, "limit": -1 if limit is None else limit, "offset": offset},
    )
    if text:
        return [read_document(row) for row in rows]
    return [Document(id, "", read_metadata(id, metadata)) for id, metadata in rows]


def count_documents(connection: apsw.Connection, matching: Filter | None) -> int:
    """How many documents match."""
    if matching is None:
        return int(connection.execute("SELECT count(*) FROM document").get)
    return len(matching_doc_ids(connection, matching))


def get_documents(connection: apsw.Connection, ids: Sequence[str]) -> list[Document | None]:
    """The document with each id, in order; None where there is none."""
    if not ids:
        return []
    rows = connection.execute(
        f"SELECT {DOCUMENT_COLUMNS} FROM carray(?) c CROSS JOIN document d ON d.id = c.value",
        (apsw.carray(tuple(dict.fromkeys(ids))),),
    )
    found = {document.id: document for document in map(read_document, rows)}
    return [found.get(id) for id in ids]


def order_sql(order_by: str | Sequence[str] | None) -> str:
    """The ORDER BY of fields as filters name them, ``-`` before one for descending; missing values come last."""
    if order_by is None:
        return "d.doc_id"
    fields = [order_by] if isinstance(order_by, str) else order_by
    if not isinstance(fields, Sequence) or not all(isinstance(name, str) for name in fields):
        raise WrongType(f"order_by is {order_by!r}; give a metadata field such as 'year', '-year' or '$id', or several")
    keys = []
    for name in fields:
        path = name.removeprefix("-")
        value = (OWN_FIELDS.get(path) or field_of(path)).value
        keys.append(f"{value} {'DESC' if name.startswith('-') else 'ASC'} NULLS LAST")
    return ", ".join([*keys, "d.doc_id"])


def check_page(limit: object, offset: object) -> tuple[int | None, int]:
    """``limit=`` and ``offset=``: None or at least 0, and at least 0."""
    return None if limit is None else check_from_zero(limit, "limit"), check_from_zero(offset, "offset")


def check_from_zero(value: object, name: str) -> int:
    """An int of at least 0."""
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0
    try:
        return check_count(value, name)
    except InvalidInput:
        raise InvalidInput(f"{name} is {value}; it must be at least 0") from None
