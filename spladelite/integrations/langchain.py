"""LangChain: a vector store, and a retriever, over a SpladeLite database.

``VectorStore.embeddings`` is None: the database encodes texts itself. The asynchronous methods are LangChain's own,
which run these on threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

from spladelite import Hit, SpladeLite, Where
from spladelite.integrations.opening import missing, opened, with_lists

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore
    from pydantic import ConfigDict, field_validator
except ImportError as error:
    raise ImportError(missing("langchain-core", "langchain")) from error


class SpladeLiteVectorStore(VectorStore):
    """A LangChain ``VectorStore``.

    Args:
        database: a :class:`SpladeLite`, or the path of its file.
        pad: whether a search that finds fewer than k documents is filled up, with score 0, by others in the order in
            which they were stored. Off: what shares no term with the question is not an answer to it.
        search_arguments: of every search, such as ``mode="hybrid"``.

    Searches take ``filter``, which is ``where=`` of :meth:`SpladeLite.search`, and its other arguments.
    """

    def __init__(
        self, database: SpladeLite | str | os.PathLike[str], *, pad: bool = False, **search_arguments: Any
    ) -> None:
        self.database = opened(database)
        self._pad = pad
        self._search_arguments = search_arguments

    @property
    def embeddings(self) -> Embeddings | None:
        """None: the database encodes texts itself."""
        return None

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Add texts, or replace those whose id is there; a text without an id gets a hash of it and its metadata."""
        return list(self.database.upsert(list(texts), ids=ids, metadata=with_lists(metadatas)))

    def delete(self, ids: list[str] | None = None, *, filter: Where = None, **_: Any) -> bool | None:
        """Delete by id, or what matches a filter; without either, everything."""
        if ids is not None:
            self.database.delete(ids)
        else:
            self.database.delete(where={} if filter is None else filter)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids; unknown ones are left out."""
        return [_document(one.text, one.metadata, one.id) for one in self.database.get(list(ids)) if one is not None]

    def similarity_search(self, query: str, k: int = 4, filter: Where = None, **kwargs: Any) -> list[Document]:
        """The k best documents."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Where = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The k best documents with their scores, higher is better."""
        return [(_of_hit(hit), hit.score) for hit in self._hits(query, k, filter, **kwargs)]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, filter: Where = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return [(_of_hit(hit), hit.relevance) for hit in self._hits(query, k, filter, **kwargs)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,  # noqa: ARG002 - the database chooses how many it compares
        lambda_mult: float = 0.5,
        filter: Where = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Documents that are good and differ from each other; ``lambda_mult=1`` is the plain ranking."""
        return [_of_hit(hit) for hit in self._hits(query, k, filter, diversity=1 - lambda_mult, **kwargs)]

    def _hits(self, query: str, k: int, filter: Where, **kwargs: Any) -> list[Hit]:
        hits = self.database.search(query, k, filter, **{**self._search_arguments, **kwargs})
        if self._pad and len(hits) < k:
            found = [hit.id for hit in hits]
            where: dict[str, Any] | None = {"$id": {"$nin": found}}
            if isinstance(filter, str):
                others = self.database.documents(where, where_sql=filter, limit=k - len(hits))
            else:
                others = self.database.documents({"$and": [where, filter or {}]}, limit=k - len(hits))
            hits += [Hit(one.id, 0.0, one.text, one.metadata, 0, len(one.text), {}) for one in others]
        return hits

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,  # noqa: ARG003 - part of the interface
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str | None] | None = None,
        database: SpladeLite | str | os.PathLike[str] = ":memory:",
        **kwargs: Any,
    ) -> Self:
        """A store with these texts; ``embedding`` is not used."""
        store = cls(database, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store


class SpladeLiteRetriever(BaseRetriever):
    """A LangChain retriever.

    Attributes:
        database: a :class:`SpladeLite`, or the path of its file.
        k: how many documents.
        where: a filter.
        search_arguments: others of :meth:`SpladeLite.search`, such as ``{"mode": "hybrid"}``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    database: SpladeLite
    k: int = 4
    where: dict[str, Any] | str | None = None
    search_arguments: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it

    @field_validator("database", mode="before")
    @classmethod
    def _opened(cls, database: Any) -> Any:
        return opened(database) if isinstance(database, str | os.PathLike) else database

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - part of the interface
        k: int | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        hits = self.database.search(query, k or self.k, self.where, **{**self.search_arguments, **kwargs})
        return [_of_hit(hit) for hit in hits]


def _of_hit(hit: Hit) -> Document:
    return _document(hit.text, hit.metadata, hit.id)


def _document(text: str, metadata: dict[str, Any], id: str) -> Document:
    return Document(page_content=text, metadata=metadata, id=id)
