"""LlamaIndex: what its own in-memory store does, this one does too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from spladelite import SpladeLite
from spladelite.errors import InvalidFilter, InvalidInput
from spladelite.integrations.llamaindex import SpladeLiteVectorStore


def node(id: str, text: str, parent: str, /, **metadata: Any) -> TextNode:
    related = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=parent)}
    return TextNode(id_=id, text=text, metadata=metadata, relationships=related)


NODES = [
    node("cold", "The engine does not start when it is cold.", "doc-1", weight=1.0, rank="a", tags=["faq", "engine"]),
    node("steam", "Steam engines pull trains.", "doc-1", weight=2.0, rank="c", tags=["history"], note="Old Trains"),
    node("model", "An engine for a model train.", "doc-2", weight=3.0, rank="c", tags=[], note=""),
    node("oil", "The engine needs oil.", "doc-3", weight=2.0, rank="b", note=None, id="seven"),
]


@pytest.fixture
def store(db: SpladeLite) -> SpladeLiteVectorStore:
    store = SpladeLiteVectorStore(db)
    assert store.add(NODES) == ["cold", "steam", "model", "oil"]
    return store


def found(store: SpladeLiteVectorStore, **arguments: Any) -> set[str]:
    return set(store.query(VectorStoreQuery(query_str="engine", similarity_top_k=9, **arguments)).ids or [])


def filters(*conditions: Any, condition: FilterCondition = FilterCondition.AND) -> MetadataFilters:
    made = [one if isinstance(one, MetadataFilters) else MetadataFilter(**one) for one in conditions]
    return MetadataFilters(filters=made, condition=condition)


def one(key: str, operator: FilterOperator, value: Any = None) -> dict[str, Any]:
    return {"key": key, "operator": operator, "value": value}


def test_a_query_gives_nodes_best_first_with_similarities(store: SpladeLiteVectorStore) -> None:
    result = store.query(VectorStoreQuery(query_str="oil for engines", similarity_top_k=2))
    assert result.nodes is not None
    assert result.similarities is not None
    assert result.nodes[0] == NODES[3]
    assert result.ids is not None
    assert result.ids[0] == "oil"
    assert result.similarities == sorted(result.similarities, reverse=True)
    assert len(result.nodes) == 2


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (one("weight", FilterOperator.EQ, 2.0), {"steam", "oil"}),
        (one("rank", FilterOperator.EQ, "c"), {"steam", "model"}),
        (one("rank", FilterOperator.NE, "c"), {"cold", "oil"}),
        (one("nowhere", FilterOperator.NE, "c"), {"cold", "steam", "model", "oil"}),
        (one("nowhere", FilterOperator.EQ, "c"), set()),
        (one("weight", FilterOperator.GT, 1.0), {"steam", "model", "oil"}),
        (one("weight", FilterOperator.GTE, 2.0), {"steam", "model", "oil"}),
        (one("weight", FilterOperator.LT, 2), {"cold"}),
        (one("weight", FilterOperator.LTE, 2), {"cold", "steam", "oil"}),
        (one("rank", FilterOperator.IN, ["a", "b"]), {"cold", "oil"}),
        (one("rank", FilterOperator.NIN, ["a", "b"]), {"steam", "model"}),
        (one("nowhere", FilterOperator.NIN, ["a"]), {"cold", "steam", "model", "oil"}),
        (one("tags", FilterOperator.CONTAINS, "faq"), {"cold"}),
        (one("note", FilterOperator.CONTAINS, "Trains"), {"steam"}),
        (one("tags", FilterOperator.ANY, ["faq", "history"]), {"cold", "steam"}),
        (one("tags", FilterOperator.ALL, ["faq", "engine"]), {"cold"}),
        (one("tags", FilterOperator.ALL, ["faq", "history"]), set()),
        (one("note", FilterOperator.TEXT_MATCH, "Train"), {"steam"}),
        (one("note", FilterOperator.TEXT_MATCH, "train"), set()),
        (one("note", FilterOperator.TEXT_MATCH_INSENSITIVE, "old train"), {"steam"}),
        (one("note", FilterOperator.IS_EMPTY), {"cold", "model", "oil"}),
        (one("tags", FilterOperator.IS_EMPTY), {"model", "oil"}),
        (one("id", FilterOperator.EQ, "seven"), {"oil"}),
    ],
)
def test_every_operator(store: SpladeLiteVectorStore, condition: dict[str, Any], expected: set[str]) -> None:
    assert found(store, filters=filters(condition)) == expected
    assert {one.node_id for one in store.get_nodes(filters=filters(condition))} == expected


def test_conditions_hold_together_apart_and_not_and_may_be_nested(store: SpladeLiteVectorStore) -> None:
    c, light = one("rank", FilterOperator.EQ, "c"), one("weight", FilterOperator.LTE, 2.0)
    assert found(store, filters=filters(c, light)) == {"steam"}
    assert found(store, filters=filters(c, light, condition=FilterCondition.OR)) == {"cold", "steam", "model", "oil"}
    assert found(store, filters=filters(c, condition=FilterCondition.NOT)) == {"cold", "oil"}
    inner = filters(c, one("rank", FilterOperator.EQ, "a"), condition=FilterCondition.OR)
    assert found(store, filters=filters(inner, light)) == {"cold", "steam"}
    assert found(store, filters=filters()) == {"cold", "steam", "model", "oil"}
    with pytest.raises(InvalidFilter, match="takes a string"):
        found(store, filters=filters(one("note", FilterOperator.TEXT_MATCH, 7)))


def test_ids_of_nodes_and_of_documents(store: SpladeLiteVectorStore) -> None:
    assert found(store, node_ids=["cold", "oil", "nowhere"]) == {"cold", "oil"}
    assert found(store, node_ids=[]) == set()
    assert found(store, doc_ids=["doc-1"]) == {"cold", "steam"}
    assert found(store, doc_ids=["doc-1"], filters=filters(one("rank", FilterOperator.EQ, "c"))) == {"steam"}
    assert [one.node_id for one in store.get_nodes(["steam", "cold"])] == ["cold", "steam"]
    assert store.get_nodes(["cold"])[0] == NODES[0]


def test_deleting(store: SpladeLiteVectorStore) -> None:
    store.delete("doc-1")
    assert found(store) == {"model", "oil"}
    store.delete_nodes(["nowhere"])
    store.delete_nodes()
    assert found(store) == {"model", "oil"}
    store.delete_nodes(["model", "oil"], filters(one("rank", FilterOperator.EQ, "b")))
    assert found(store) == {"model"}
    store.delete_nodes(filters=filters(one("rank", FilterOperator.EQ, "c")))
    assert found(store) == set()
    store.add(NODES)
    asyncio.run(store.aclear())
    assert len(store.client) == 0


@pytest.mark.parametrize(
    "mode", [VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.HYBRID]
)
def test_modes(store: SpladeLiteVectorStore, mode: VectorStoreQueryMode) -> None:
    assert "oil" in found(store, mode=mode)


def test_diversity_and_what_needs_embeddings(store: SpladeLiteVectorStore) -> None:
    query = VectorStoreQuery(query_str="engine", similarity_top_k=2, mode=VectorStoreQueryMode.MMR, mmr_threshold=0.1)
    plain = store.query(VectorStoreQuery(query_str="engine", similarity_top_k=2))
    assert store.query(query).ids != plain.ids
    with pytest.raises(InvalidInput, match="needs embeddings"):
        store.query(VectorStoreQuery(query_str="engine", mode=VectorStoreQueryMode.SVM))
    with pytest.raises(InvalidInput, match="no query_str"):
        store.query(VectorStoreQuery(query_embedding=[1.0]))


def test_an_index_and_its_retriever(path: str) -> None:
    store = SpladeLiteVectorStore(path)
    embed = MockEmbedding(embed_dim=1)
    from llama_index.core import StorageContext

    index = VectorStoreIndex(NODES, StorageContext.from_defaults(vector_store=store), embed_model=embed)
    (best,) = index.as_retriever(similarity_top_k=1).retrieve("bring the oil")
    assert best.node.node_id == "oil"
    assert best.score
    asyncio.run(store.async_add([node("late", "A late engine.", "doc-9")]))
    again = VectorStoreIndex.from_vector_store(store, embed_model=embed)
    assert len(asyncio.run(again.as_retriever(similarity_top_k=9).aretrieve("engine"))) == 5
    store.client.close()
