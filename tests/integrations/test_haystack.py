"""Haystack's own suites, and what they do not ask."""

from __future__ import annotations

import pytest

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing import document_store as sync
from haystack.testing import document_store_async as asynchronous

from spladelite import SpladeLite
from spladelite.integrations.haystack import SpladeLiteDocumentStore, SpladeLiteRetriever


@pytest.fixture
def document_store(db: SpladeLite) -> SpladeLiteDocumentStore:
    return SpladeLiteDocumentStore(db)


class TestStore(
    sync.DocumentStoreBaseExtendedTests,
    sync.CountDocumentsByFilterTest,
    sync.CountUniqueMetadataByFilterTest,
    sync.GetMetadataFieldsInfoTest,
    sync.GetMetadataFieldMinMaxTest,
    sync.GetMetadataFieldUniqueValuesTest,
):
    @pytest.fixture
    def document_store(self, db: SpladeLite) -> SpladeLiteDocumentStore:
        return SpladeLiteDocumentStore(db)

    def test_write_documents(self, document_store: SpladeLiteDocumentStore) -> None:
        """Without a policy a document that is there is refused."""
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])


class TestStoreAsync(
    asynchronous.CountDocumentsAsyncTest,
    asynchronous.WriteDocumentsAsyncTest,
    asynchronous.DeleteDocumentsAsyncTest,
    asynchronous.FilterDocumentsAsyncTest,
    asynchronous.DeleteAllAsyncTest,
    asynchronous.DeleteByFilterAsyncTest,
    asynchronous.UpdateByFilterAsyncTest,
    asynchronous.CountDocumentsByFilterAsyncTest,
    asynchronous.CountUniqueMetadataByFilterAsyncTest,
    asynchronous.GetMetadataFieldsInfoAsyncTest,
    asynchronous.GetMetadataFieldMinMaxAsyncTest,
    asynchronous.GetMetadataFieldUniqueValuesAsyncTest,
):
    @pytest.fixture
    def document_store(self, db: SpladeLite) -> SpladeLiteDocumentStore:
        return SpladeLiteDocumentStore(db)

    @pytest.mark.asyncio
    async def test_write_documents_async(self, document_store: SpladeLiteDocumentStore) -> None:
        assert await document_store.write_documents_async([Document(content="test doc")]) == 1


@pytest.mark.filterwarnings("ignore::spladelite.UnfindableText")  # two of them have no text
def test_documents_come_back_whole(document_store: SpladeLiteDocumentStore) -> None:
    documents = [
        Document(id="a", content="The engine", meta={"n": 1}, embedding=[0.5, -1.0]),
        Document(id="b", content=None, blob=ByteStream(b"\x00\xff", mime_type="image/png")),
        Document(id="c", content=" ", meta={"id": 7, "text": "x"}),
    ]
    assert document_store.write_documents(documents) == 3
    assert sorted(document_store.filter_documents(), key=lambda one: one.id) == documents
    assert document_store.filter_documents({"field": "meta.id", "operator": "==", "value": 7}) == [documents[2]]
    assert document_store.filter_documents({"field": "id", "operator": "in", "value": ["a", "x"]}) == [documents[0]]
    assert document_store.filter_documents({"field": "content", "operator": "==", "value": "The engine"})[0].id == "a"
    with pytest.raises(FilterError, match="one value"):
        document_store.filter_documents({"field": "meta.n", "operator": "==", "value": [1]})
    assert document_store.write_documents(documents, DuplicatePolicy.SKIP) == 0
    found = SpladeLiteRetriever(document_store).run("engine – text")["documents"]
    assert [one.id for one in found] == ["a"]


def test_a_pipeline_that_is_written_down_and_read_again(path: str) -> None:
    store = SpladeLiteDocumentStore(path)
    texts = ["The engine does not start.", "Bake the bread.", "An engine for a train."]
    store.write_documents([Document(content=text, meta={"n": n}) for n, text in enumerate(texts)])
    pipeline = Pipeline()
    pipeline.add_component("retriever", SpladeLiteRetriever(store, top_k=1, scale_score=True))
    written = pipeline.dumps()
    again = Pipeline.loads(written, allowed_modules=["spladelite.integrations.haystack"])
    (document,) = again.run({"retriever": {"query": "bread"}})["retriever"]["documents"]
    assert (document.content, document.meta) == ("Bake the bread.", {"n": 1})
    assert 0 < document.score <= 1
    only = {"field": "meta.n", "operator": ">", "value": 1}
    (document,) = again.run({"retriever": {"query": "engine", "filters": only}})["retriever"]["documents"]
    assert document.meta == {"n": 2}


def test_what_a_splitter_writes_is_stored(document_store: SpladeLiteDocumentStore) -> None:
    """Its overlaps are tuples."""
    meta = {"_split_overlap": [{"doc_id": "other", "range": (0, 12)}], "page": (1, (2, 3))}
    document_store.write_documents([Document(id="x", content="The engine.", meta=meta)])
    (found,) = document_store.filter_documents()
    assert found.meta == {"_split_overlap": [{"doc_id": "other", "range": [0, 12]}], "page": [1, [2, 3]]}
