"""Haystack: a document store, and a retriever component, over a SpladeLite database.

A Haystack document's ``meta`` is the metadata of ours. What it has beside content and meta (``embedding``, ``blob``,
``sparse_embedding``) is kept under the metadata key ``_haystack`` and comes back as it was; searches do not use it. A
document without text is stored and filtered, and never found by a search.
"""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from spladelite import Document as Stored
from spladelite import Hit, IdConflict, SpladeLite
from spladelite.integrations.opening import escaped, missing, opened, with_lists

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy
    from haystack.errors import FilterError
except ImportError as error:
    raise ImportError(missing("haystack-ai", "haystack")) from error

EXTRA = "_haystack"
_NO_TEXT = "–"  # no word and no term: such a document is never found

P = ParamSpec("P")
R = TypeVar("R")


def _on_a_thread(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.to_thread(method, *args, **kwargs)

    run.__doc__ = f"``{getattr(method, '__name__', '')}`` on a thread."
    return run


class SpladeLiteDocumentStore:
    """A Haystack ``DocumentStore``.

    Args:
        database: the path of a file, or an open :class:`SpladeLite`.
    """

    def __init__(self, database: SpladeLite | str | os.PathLike[str] = ":memory:") -> None:
        self.database = opened(database)

    def to_dict(self) -> dict[str, Any]:
        """For Haystack's pipelines: the path."""
        return dict(default_to_dict(self, database=self.database.path))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SpladeLiteDocumentStore:
        """The store that :meth:`to_dict` described."""
        store: SpladeLiteDocumentStore = default_from_dict(cls, data)
        return store

    def count_documents(self) -> int:
        """How many documents there are."""
        return len(self.database)

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """The documents that match Haystack's filters.

        Raises:
            FilterError: the filters are malformed.
        """
        return [_document(one) for one in self.database.documents(where_of(filters))]

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Store documents; returns how many were written. ``NONE`` is ``FAIL``.

        Raises:
            DuplicateDocumentError: with ``FAIL``, an id is there already; nothing is written.
            ValueError: something is no Haystack document.
        """
        if not isinstance(documents, list) or not all(isinstance(one, Document) for one in documents):
            raise ValueError("write_documents() takes a list of Haystack's Documents")
        if policy in (DuplicatePolicy.NONE, DuplicatePolicy.FAIL):
            ids = [one.id for one in documents]
            there = [one.id for one in self.database.get(ids) if one is not None]
            if there:
                raise DuplicateDocumentError(
                    f"the id {there[0]!r} exists already; choose DuplicatePolicy.OVERWRITE or SKIP"
                )
        written = 0
        for textless in (False, True):  # vectors are given for all documents of a call, or for none
            some = [one for one in documents if bool(one.content and one.content.strip()) is not textless]
            written += self._write(some, policy, textless=textless) if some else 0
        return written

    def _write(self, documents: list[Document], policy: DuplicatePolicy, *, textless: bool) -> int:
        texts = [_NO_TEXT if textless else str(one.content) for one in documents]
        vectors: list[dict[int, float]] | None = [{} for _ in documents] if textless else None
        ids, metadata = [one.id for one in documents], list(map(_metadata, documents))
        if policy == DuplicatePolicy.SKIP:
            return len(self.database.add(texts, ids, metadata, vectors, on_conflict="skip").new)
        if policy == DuplicatePolicy.OVERWRITE:
            return len(self.database.upsert(texts, ids, metadata, vectors))
        try:
            return len(self.database.add(texts, ids, metadata, vectors))
        except IdConflict as error:
            raise DuplicateDocumentError(str(error)) from error

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete by id; unknown ids are ignored."""
        self.database.delete(document_ids)

    def delete_all_documents(self) -> None:
        """Delete every document."""
        self.database.delete(where={})

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete what matches; returns how many."""
        return self.database.delete(where=where_of(filters) or {})

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set ``meta`` in the metadata of what matches; returns how many."""
        return self.database.update(where=where_of(filters) or {}, metadata=meta, merge=True)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many match."""
        return self.database.count(where_of(filters))

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """How many different values each field has among what matches."""
        return {field: len(self._values(field, filters)) for field in metadata_fields}

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The metadata fields, and the JSON type of the first value of each."""
        names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
        info: dict[str, dict[str, str]] = {}
        for one in self.database.documents(text=False):
            for field, value in one.metadata.items():
                if field != EXTRA and value is not None:
                    info.setdefault(field, {"type": names[type(value)]})
        return info

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The least and the largest number (or text, where there is no number) of a field; None where it has none."""
        values = self._values(metadata_field, None)
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        ordered: list[Any] = sorted(numbers) or sorted(value for value in values if isinstance(value, str))
        return {"min": ordered[0] if ordered else None, "max": ordered[-1] if ordered else None}

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """A page of a field's different values, in the order of their texts, and how many there are in all."""
        values = self._values(metadata_field, filters)
        if search_term is not None:
            values = [value for value in values if search_term.casefold() in str(value).casefold()]
        return sorted(values, key=lambda value: (str(value), str(type(value))))[from_ : from_ + size], len(values)

    def _values(self, field: str, filters: dict[str, Any] | None) -> list[Any]:
        """Different values: 1, 1.0, ``"1"`` and True are four."""
        values: dict[tuple[type, str], Any] = {}
        for one in self.database.documents(where_of(filters), text=False):
            value: Any = one.metadata
            for label in field.removeprefix("meta.").split("."):
                value = value.get(label) if isinstance(value, dict) else None
            if value is not None:
                values[type(value), repr(value)] = value
        return list(values.values())

    count_documents_async = _on_a_thread(count_documents)
    filter_documents_async = _on_a_thread(filter_documents)
    write_documents_async = _on_a_thread(write_documents)
    delete_documents_async = _on_a_thread(delete_documents)
    delete_all_documents_async = _on_a_thread(delete_all_documents)
    delete_by_filter_async = _on_a_thread(delete_by_filter)
    update_by_filter_async = _on_a_thread(update_by_filter)
    count_documents_by_filter_async = _on_a_thread(count_documents_by_filter)
    count_unique_metadata_by_filter_async = _on_a_thread(count_unique_metadata_by_filter)
    get_metadata_fields_info_async = _on_a_thread(get_metadata_fields_info)
    get_metadata_field_min_max_async = _on_a_thread(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = _on_a_thread(get_metadata_field_unique_values)


@component
class SpladeLiteRetriever:
    """A Haystack component: a question in, documents with scores out.

    Args:
        document_store: where to search.
        filters: Haystack's filters, for every search.
        top_k: how many documents.
        scale_score: whether ``score`` is the relevance from 0 to 1 instead of the score itself.
        search_arguments: others of :meth:`SpladeLite.search`, such as ``{"mode": "hybrid"}``.
    """

    def __init__(
        self,
        document_store: SpladeLiteDocumentStore,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        scale_score: bool = False,
        search_arguments: dict[str, Any] | None = None,
    ) -> None:
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.scale_score = scale_score
        self.search_arguments = search_arguments or {}

    def to_dict(self) -> dict[str, Any]:
        """For Haystack's pipelines."""
        return dict(
            default_to_dict(
                self,
                document_store=self.document_store.to_dict(),
                filters=self.filters,
                top_k=self.top_k,
                scale_score=self.scale_score,
                search_arguments=self.search_arguments,
            )
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SpladeLiteRetriever:
        """The component that :meth:`to_dict` described."""
        parameters = data["init_parameters"]
        if isinstance(parameters["document_store"], dict):
            parameters["document_store"] = SpladeLiteDocumentStore.from_dict(parameters["document_store"])
        retriever: SpladeLiteRetriever = default_from_dict(cls, data)
        return retriever

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The best documents for a question; ``filters`` hold together with those of the component."""
        both = [one for one in (where_of(self.filters), where_of(filters)) if one]
        where = {"$and": both} if both else None
        hits = self.document_store.database.search(query, top_k or self.top_k, where, **self.search_arguments)
        return {"documents": [_document(hit, hit.relevance if self.scale_score else hit.score) for hit in hits]}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """:meth:`run` on a thread."""
        return await asyncio.to_thread(self.run, query, filters, top_k)


def _metadata(document: Document) -> dict[str, Any]:
    whole = document.to_dict(flatten=False)
    extra = {
        key: value
        for key, value in whole.items()
        if value is not None and key not in ("id", "content", "meta", "score")
    }
    if not (document.content and document.content.strip()):
        extra["content"] = document.content
    return {**with_lists(document.meta), **({EXTRA: extra} if extra else {})}


def _document(found: Stored | Hit, score: float | None = None) -> Document:
    metadata = dict(found.metadata)
    extra = metadata.pop(EXTRA, {})
    return Document.from_dict({"id": found.id, "content": found.text, "meta": metadata, "score": score} | extra)


_COMPARISONS = {
    "==": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte", "in": "$in", "not in": "$nin"
}  # fmt: skip


def where_of(filters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Haystack's filters as ``where=``.

    Raises:
        FilterError: they are malformed.
    """
    if not filters:
        return None
    operator = filters.get("operator")
    if "field" not in filters:
        conditions = filters.get("conditions")
        if operator not in ("AND", "OR", "NOT") or not isinstance(conditions, list) or not conditions:
            raise FilterError(f"{filters!r} has neither a field, nor an operator AND, OR or NOT with conditions")
        inner = [where_of(condition) or {} for condition in conditions]
        if operator == "NOT":
            return {"$not": {"$and": inner}}
        return {f"${operator.lower()}": inner}
    if operator not in _COMPARISONS or "value" not in filters:
        raise FilterError(f"{filters!r}: a condition has a field, a value and one of {', '.join(_COMPARISONS)}")
    value = filters["value"]
    field = {"id": "$id", "content": "$text"}.get(filters["field"]) or escaped(filters["field"].removeprefix("meta."))
    if operator in ("in", "not in") and not isinstance(value, list):
        raise FilterError(f"{filters!r}: {operator} takes a list")
    if operator in (">", ">=", "<", "<="):
        if value is None:
            return {field: {"$in": []}}
        if isinstance(value, str) and not _is_date(value):
            raise FilterError(f"{filters!r}: {operator} compares numbers and dates in ISO 8601")
    if operator not in ("in", "not in") and isinstance(value, list | dict | tuple | set):
        raise FilterError(f"{filters!r}: {operator} compares with one value")
    return {field: {_COMPARISONS[operator]: value}}


def _is_date(text: str) -> bool:
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
