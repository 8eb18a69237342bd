"""LangChain's own suites, and what they do not ask."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("langchain_tests")

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

from spladelite import SpladeLite
from spladelite.integrations.langchain import SpladeLiteRetriever, SpladeLiteVectorStore

TEXTS = [
    "The engine does not start when it is cold.",
    "Steam engines pulled the trains.",
    "An engine for a model train.",
    "The engine needs oil.",
    "Bake the bread for an hour.",
]


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, db: SpladeLite) -> VectorStore:
        return SpladeLiteVectorStore(db, pad=True)  # the suite wants k documents also where fewer match


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def database_of_texts(self, db: SpladeLite) -> None:
        db.add(TEXTS)
        TestRetriever.database = db

    database: SpladeLite

    @property
    def retriever_constructor(self) -> type[SpladeLiteRetriever]:
        return SpladeLiteRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"database": self.database}

    @property
    def retriever_query_example(self) -> str:
        return "engine trouble"


@pytest.fixture
def store(db: SpladeLite) -> SpladeLiteVectorStore:
    store = SpladeLiteVectorStore(db)
    store.add_texts(TEXTS, [{"n": i} for i in range(5)], ids=["cold", "steam", "model", "oil", "bread"])
    return store


def test_what_does_not_match_is_not_found(store: SpladeLiteVectorStore) -> None:
    assert {document.id for document in store.similarity_search("engine", k=5)} == {"cold", "steam", "model", "oil"}
    padded = SpladeLiteVectorStore(store.database, pad=True)
    assert padded.similarity_search_with_score("engine", k=9)[-1][1] == 0.0
    assert [one.id for one in padded.similarity_search("engine", k=9, filter={"n": {"$gt": 2}})] == ["oil", "bread"]
    assert [one.id for one in padded.similarity_search("engine", k=9, filter="id = 'bread'")] == ["bread"]


def test_filters_scores_and_diversity(store: SpladeLiteVectorStore) -> None:
    assert [one.id for one in store.similarity_search("engine", filter={"n": 3})] == ["oil"]
    for document, relevance in store.similarity_search_with_relevance_scores("engine"):
        assert isinstance(document, Document)
        assert 0 < relevance <= 1
    plain = store.max_marginal_relevance_search("engine", k=2, lambda_mult=1.0)
    assert plain == store.similarity_search("engine", k=2)
    assert store.as_retriever(search_kwargs={"k": 1}).invoke("bread")[0].id == "bread"
    threshold = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99, "mode": "splade"}
    )
    assert threshold.invoke("engine") == []
    store.delete(filter={"n": {"$lt": 3}})
    assert len(store.database) == 2
    store.delete()
    assert len(store.database) == 0


def test_from_documents_and_a_path(path: str) -> None:
    documents = [Document(page_content=text, metadata={"n": n}) for n, text in enumerate(TEXTS)]
    store = SpladeLiteVectorStore.from_documents(documents, None, database=path)
    assert store.similarity_search("bread")[0].metadata == {"n": 4}
    assert store.embeddings is None
    store.database.close()


def test_a_retriever_of_a_path_and_tuples_in_metadata(path: str) -> None:
    store = SpladeLiteVectorStore(path)
    store.add_documents([Document(id="x", page_content="The engine.", metadata={"box": (1, 2)})])
    store.database.close()
    retriever = SpladeLiteRetriever(database=path)
    (found,) = retriever.invoke("engine")
    assert (found.id, found.metadata) == ("x", {"box": [1, 2]})
    retriever.database.close()
