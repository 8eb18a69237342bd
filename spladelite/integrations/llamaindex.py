"""LlamaIndex: a vector store over a SpladeLite database. docs/integrations/llamaindex.md

The store keeps the texts and encodes questions itself (``is_embedding_query`` is False). LlamaIndex embeds nodes before
it gives them to any store, and these embeddings are not used: ``MockEmbedding(embed_dim=1)`` costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from spladelite import InvalidFilter, InvalidInput, SpladeLite
from spladelite.integrations.opening import escaped, missing, opened

try:
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import BaseNode, MetadataMode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as error:
    raise ImportError(missing("llama-index-core", "llamaindex")) from error

_MODES = {
    VectorStoreQueryMode.DEFAULT: {},
    VectorStoreQueryMode.SPARSE: {"mode": "splade"},
    VectorStoreQueryMode.TEXT_SEARCH: {"mode": "bm25"},
    VectorStoreQueryMode.HYBRID: {"mode": "hybrid"},
    VectorStoreQueryMode.SEMANTIC_HYBRID: {"mode": "hybrid"},
    VectorStoreQueryMode.MMR: {"diversity": 0.5},
}


class SpladeLiteVectorStore(BasePydanticVectorStore):
    """A LlamaIndex vector store.

    Args:
        database: the path of a file, or an open :class:`SpladeLite`.
        search_arguments: of every search, such as ``{"encoder": "idf"}``.
    """

    stores_text: bool = True
    is_embedding_query: bool = False
    search_arguments: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies it

    _database: SpladeLite = PrivateAttr()

    def __init__(
        self, database: SpladeLite | str | os.PathLike[str] = ":memory:", search_arguments: dict[str, Any] | None = None
    ) -> None:
        super().__init__(search_arguments=search_arguments or {})
        self._database = opened(database)

    @classmethod
    def class_name(cls) -> str:
        """LlamaIndex's name of this kind of store."""
        return "SpladeLiteVectorStore"

    @property
    def client(self) -> SpladeLite:
        """The database."""
        return self._database

    def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
        """Store nodes; one whose id is there is replaced."""
        texts = [node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes]
        metadata = [node_to_metadata_dict(node, remove_text=True) for node in nodes]
        return list(self._database.upsert(texts, [node.node_id for node in nodes], metadata))

    def delete(self, ref_doc_id: str, **_: Any) -> None:
        """Delete the nodes of a document."""
        self._database.delete(where={"ref_doc_id": ref_doc_id})

    def delete_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **_: Any) -> None:
        """Delete nodes that have one of these ids and match the filters; without either, none."""
        where = _both(node_ids, filters)
        if where is not None:
            self._database.delete(where=where)

    def clear(self) -> None:
        """Delete every node."""
        self._database.delete(where={})

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes that have one of these ids and match the filters."""
        found = self._database.documents(_both(node_ids, filters))
        return [metadata_dict_to_node(one.metadata, text=one.text) for one in found]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best nodes for ``query.query_str``; similarities are the scores, higher is better.

        Raises:
            InvalidInput: the mode is one that learns from embeddings, or the query has no text.
        """
        if query.mode not in _MODES:
            raise InvalidInput(f"mode {query.mode.value!r} needs embeddings; choose from {[m.value for m in _MODES]}")
        if query.query_str is None:
            raise InvalidInput("the query has no query_str, and the database searches by text")
        conditions = [_both(query.node_ids, query.filters)]
        if query.doc_ids is not None:
            conditions.append({"ref_doc_id": {"$in": list(query.doc_ids)}})
        given = [condition for condition in conditions if condition is not None]
        chosen = dict(_MODES[query.mode])
        if query.mode == VectorStoreQueryMode.MMR and query.mmr_threshold is not None:
            chosen["diversity"] = 1 - query.mmr_threshold
        hits = self._database.search(
            query.query_str,
            query.similarity_top_k,
            {"$and": given} if given else None,
            **{**self.search_arguments, **chosen, **kwargs},
        )
        return VectorStoreQueryResult(
            nodes=[metadata_dict_to_node(hit.metadata, text=hit.text) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[hit.id for hit in hits],
        )


def _both(node_ids: list[str] | None, filters: MetadataFilters | None) -> dict[str, Any] | None:
    where = None if filters is None else where_of(filters)
    if node_ids is None:
        return where
    return {"$id": {"$in": list(node_ids)}} | ({} if where is None else {"$and": [where]})


def where_of(filters: MetadataFilters) -> dict[str, Any]:
    """LlamaIndex's filters as ``where=``; they may be nested.

    Raises:
        InvalidFilter: an operator or a value that cannot be used.
    """
    if not filters.filters:
        return {}
    parts = [where_of(one) if isinstance(one, MetadataFilters) else _condition(one) for one in filters.filters]
    match filters.condition:
        case FilterCondition.OR:
            return {"$or": parts}
        case FilterCondition.NOT:  # when none of them matches
            return {"$not": {"$or": parts}}
    return {"$and": parts}


_OPERATORS = {
    FilterOperator.EQ: "$eq", FilterOperator.NE: "$ne", FilterOperator.GT: "$gt", FilterOperator.GTE: "$gte",
    FilterOperator.LT: "$lt", FilterOperator.LTE: "$lte", FilterOperator.IN: "$in", FilterOperator.NIN: "$nin",
    FilterOperator.ANY: "$any", FilterOperator.ALL: "$all", FilterOperator.CONTAINS: "$contains",
}  # fmt: skip


def _condition(filter: MetadataFilter) -> dict[str, Any]:
    key, value = escaped(filter.key.replace(".", "\\.")), filter.value
    if filter.operator == FilterOperator.IS_EMPTY:
        return {key: {"$empty": True}}
    if filter.operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE):
        if not isinstance(value, str):
            raise InvalidFilter(f"{filter.key!r}: {filter.operator.value} takes a string, not {value!r}")
        operator = "$contains" if filter.operator == FilterOperator.TEXT_MATCH else "$icontains"
        return {key: {operator: value, "$gte": ""}}  # a string, and no list
    return {key: {_OPERATORS[filter.operator]: value}}
