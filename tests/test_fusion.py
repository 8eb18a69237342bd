"""Fusion: the rules by hand, the default weights, hybrids over a real file, and quality on real collections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spladelite import InvalidInput, SpladeLite
from spladelite.errors import InvalidVector, WrongType
from spladelite.search.fusion import FUSIONS, check_weights, default_weights, fuse, threshold

TEXTS = {
    "gzip": "Compress files with gzip to save disk space.",
    "sleep": "time.sleep suspends the calling thread for some seconds.",
    "sched": "The sched module is a general purpose event scheduler that runs functions later.",
    "json": "Encode and decode JSON, a light data interchange format.",
    "sqlite": "A database in one file, with SQL and transactions.",
    "zip": "Read and write ZIP archives; compressed files take less space.",
}


IDS = np.array([1, 2, 3])


def test_convex_by_hand() -> None:
    scores = {"splade": np.array([10, 5, 0], np.float32), "bm25": np.array([0, 4, 1], np.float32)}
    fused = fuse(IDS, scores, {"splade": 0.75, "bm25": 0.25}, 10, "convex", {"splade": 10, "bm25": 4})
    assert fused.ids.tolist() == [1, 2, 3]
    assert fused.scores.tolist() == pytest.approx([0.75, 0.375 + 0.25, 0.0625])
    assert fused.contributions["bm25"].tolist() == pytest.approx([0.0, 0.25, 0.0625])
    assert threshold({"splade": np.float32(5.0)}, {"splade": 0.75, "bm25": 0.25}, {"splade": 10, "bm25": 4}) == 0.375


def test_rrf_by_hand() -> None:
    scores = {"splade": np.array([10, 5, 0], np.float32), "bm25": np.array([0, 4, 1], np.float32)}
    fused = fuse(IDS, scores, {"splade": 1.0, "bm25": 1.0}, 2, "rrf", {"splade": 10, "bm25": 4})
    assert fused.ids.tolist() == [2, 1]
    assert fused.scores.tolist() == pytest.approx([1 / 61 + 1 / 62, 1 / 61])


def test_a_document_that_only_a_negative_dense_score_speaks_for_is_found() -> None:
    scores = {"splade": np.array([3, 0, 0], np.float32), "dense": np.array([0.5, -0.2, np.nan], np.float32)}
    fused = fuse(IDS, scores, {"splade": 0.5, "dense": 0.5}, 10, "convex", {"splade": 3, "dense": 0.5})
    assert fused.ids.tolist() == [1, 2]
    assert fused.scores.tolist() == pytest.approx([1.0, -0.2])


part_scores = st.lists(st.integers(0, 9).map(float), min_size=12, max_size=12)


@given(part_scores, part_scores, st.floats(0.1, 2), st.integers(1, 25), st.sampled_from(FUSIONS))
def test_fusion_equals_a_loop(a: list[float], b: list[float], weight: float, k: int, fusion: str) -> None:
    parts = {"splade": a, "bm25": b}
    weights = {"splade": weight, "bm25": 1.0}
    expected: dict[int, float] = {}
    for name, part in parts.items():
        ranked = sorted((i for i in range(12) if part[i] > 0), key=lambda i: (-part[i], i))
        for rank, i in enumerate(ranked, 1):
            value = 1 / (60 + rank) if fusion == "rrf" else part[i] / max(part)
            expected[i] = expected.get(i, 0.0) + weights[name] * value
    scores = {name: np.array(part, np.float32) for name, part in parts.items()}
    fused = fuse(np.arange(12), scores, weights, k, fusion, {name: max(part) for name, part in parts.items()})
    assert len(fused.ids) == min(k, len(expected))
    assert fused.scores.tolist() == pytest.approx(sorted(expected.values(), reverse=True)[:k], rel=1e-5)
    for i, score in zip(fused.ids.tolist(), fused.scores.tolist(), strict=True):
        assert score == pytest.approx(expected[i], rel=1e-5)
    order = list(zip((-fused.scores).tolist(), fused.ids.tolist(), strict=True))
    assert order == sorted(order)


def test_default_weights() -> None:
    assert default_weights(("splade", "bm25"), 3) == pytest.approx({"splade": 9 / 12, "bm25": 3 / 12})
    assert default_weights(("splade", "bm25"), 60) == pytest.approx({"splade": 0.5, "bm25": 0.5})
    assert default_weights(("splade", "bm25", "dense"), 7) == pytest.approx(
        {"splade": 0.375, "bm25": 0.25, "dense": 0.375}
    )
    assert default_weights(("splade", "dense"), 6) == {"splade": 0.5, "dense": 0.5}
    assert default_weights(("bm25",), 2) == {"bm25": 1.0}


@pytest.mark.parametrize("weights", [{}, {"bm": 1}, {"splade": -1}, {"splade": float("nan")}, {"splade": 0, "bm25": 0}])
def test_weights_that_make_no_sense(weights: object) -> None:
    with pytest.raises(InvalidInput, match="weight"):
        check_weights(weights, ["splade", "bm25"])


@pytest.mark.parametrize("weights", [[0.5, 0.5], {"splade": "much"}, {"splade": True}])
def test_weights_of_a_wrong_type(weights: object) -> None:
    with pytest.raises(WrongType, match="weights"):
        check_weights(weights, ["splade", "bm25"])


@pytest.fixture
def filled(db: SpladeLite) -> SpladeLite:
    db.add(list(TEXTS.values()), ids=list(TEXTS), metadata=[{"n": i} for i in range(len(TEXTS))])
    return db


def test_a_hybrid_is_its_parts(filled: SpladeLite) -> None:
    query = "shrink files to save space"
    splade = {hit.id: hit.score for hit in filled.search(query, mode="splade")}
    bm25 = {hit.id: hit.score for hit in filled.search(query, mode="bm25")}
    weights = default_weights(("splade", "bm25"), 4)
    hits = filled.search(query)
    assert hits == filled.search(query, mode="hybrid")
    for hit in hits:
        expected = weights["splade"] * splade.get(hit.id, 0) / max(splade.values())
        expected += weights["bm25"] * bm25.get(hit.id, 0) / max(bm25.values())
        assert hit.score == pytest.approx(expected, rel=1e-5)
    assert {hit.id for hit in hits} == splade.keys() | bm25.keys()
    assert hits[0].id in ("gzip", "zip")
    assert filled.search_many([query, "later"], mode="hybrid") == [hits, filled.search("later", mode="hybrid")]


@pytest.mark.parametrize("depth", [1, 7, 100])
def test_a_hybrid_is_exact(depth: int, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spladelite.search.hybrid.DEPTH", depth)
    rng = np.random.default_rng(depth)
    words = [f"word{i}" for i in range(40)]
    texts = [" ".join(rng.choice(words, rng.integers(3, 30), p=np.linspace(1, 9, 40) / 200)) for _ in range(300)]
    texts[10] = "word0 " * 3000  # several passages
    with SpladeLite(path, tail_size=32, segment_size=128) as db:
        db.add(texts, ids=map(str, range(300)), metadata=[{"n": i} for i in range(300)])
        db.delete([str(i) for i in range(0, 300, 9)])
        for query in ("word0 word3", "word39", "word1 word5 word20 word38 word2 word30"):
            parts = {
                mode: {hit.id: hit.score for hit in db.search(query, k=300, mode=mode)} for mode in ("splade", "bm25")
            }
            weights = default_weights(("splade", "bm25"), len(query.split()))
            expected = {
                id: sum(weights[name] * part.get(id, 0) / max(part.values()) for name, part in parts.items())
                for id in parts["splade"] | parts["bm25"]
            }
            ranked = sorted(expected, key=lambda name: -expected[name])
            for k in (1, 5, 40):
                hits = db.search(query, k=k)
                assert [hit.score for hit in hits] == pytest.approx([expected[id] for id in ranked[:k]], rel=1e-5)
                assert all(hit.score == pytest.approx(expected[hit.id], rel=1e-5) for hit in hits)
                for limit in (10, 150, 290):  # a filter leaves the scores alone
                    where = f"metadata ->> 'n' < {limit} -- {k} {query}"
                    among = [id for id in ranked if int(id) < limit][:k]
                    for _ in range(2):
                        hits = db.search(query, k=k, where=where)
                        assert [hit.score for hit in hits] == pytest.approx([expected[id] for id in among], rel=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_explain_shows_what_each_part_gives(filled: SpladeLite, fusion: str) -> None:
    query = "shrink files to save space"
    for hit in filled.search(query, mode="hybrid", fusion=fusion):
        explanation = filled.explain(query, hit.id, mode="hybrid", fusion=fusion)
        assert [part.part for part in explanation.parts] == ["splade", "bm25"]
        assert sum(part.contribution for part in explanation.parts) == pytest.approx(hit.score, rel=1e-5)
        assert explanation.score == pytest.approx(hit.score, rel=1e-5)
        splade, bm25 = explanation.parts
        assert sum(match.contribution for match in explanation.terms) == pytest.approx(splade.score, rel=1e-4)
        assert sum(bm25.words.values()) == pytest.approx(bm25.score, rel=1e-5)
        assert "bm25" in str(explanation)


def test_filters_deletes_and_weights_reach_every_part(filled: SpladeLite) -> None:
    query = "compressed files"
    assert {hit.id for hit in filled.search(query, mode="hybrid", where={"n": 5})} == {"zip"}
    filled.delete("gzip")
    assert "gzip" not in {hit.id for hit in filled.search(query, mode="hybrid")}
    only = filled.search(query, mode="hybrid", weights={"bm25": 1})
    assert [hit.id for hit in only] == [hit.id for hit in filled.search(query, mode="bm25")]
    assert all(hit.score >= 0.9 for hit in filled.search(query, mode="hybrid", min_score=0.9))
    assert len(filled.search(query, k=1, mode="hybrid")) == 1
    assert filled.search("  ", mode="hybrid") == []


def test_arguments_that_do_not_fit(filled: SpladeLite) -> None:
    with pytest.raises(InvalidInput, match="mode is 'both'"):
        filled.search("x", mode="both")
    with pytest.raises(InvalidInput, match="fusion is 'sum'"):
        filled.search("x", mode="hybrid", fusion="sum")
    with pytest.raises(InvalidInput, match="weights are for mode='hybrid'"):
        filled.search("x", mode="splade", weights={"splade": 1})
    with pytest.raises(InvalidInput, match="this search has none"):
        filled.search("x", mode="bm25", encoder="idf")
    with pytest.raises(WrongType, match="need a text"):
        filled.search({1000: 1.0}, mode="hybrid")
    with pytest.raises(InvalidInput, match="weights names dense"):
        filled.search("x", mode="hybrid", weights={"dense": 1})


@pytest.mark.parametrize("mode", ["bm25", "hybrid"])
def test_a_query_that_is_no_unicode(filled: SpladeLite, mode: str) -> None:
    with pytest.raises(InvalidInput, match="lone surrogate"):
        filled.search("file \ud800", mode=mode)


def test_rerank(filled: SpladeLite) -> None:
    seen: list[tuple[str, list[str]]] = []

    def shortest(query: str, texts: list[str]) -> list[float]:
        seen.append((query, texts))
        return [-len(text) for text in texts]

    plain = filled.search("files and space", k=3)
    hits = filled.search("files and space", k=2, rerank=shortest, rerank_top=3)
    assert seen[0] == ("files and space", [hit.passage.text for hit in plain])
    assert [hit.id for hit in hits] == [hit.id for hit in sorted(plain, key=lambda hit: len(hit.text))][:2]
    assert hits[0].score == -len(hits[0].text)
    assert filled.search(" ", rerank=shortest) == []
    with pytest.raises(InvalidVector, match="one finite number a text"):
        filled.search("files", rerank=lambda _query, _texts: [1.0, float("nan")])
    with pytest.raises(WrongType, match="needs a text"):
        filled.search({1000: 1.0}, rerank=shortest)


def test_the_default_is_safe_on_a_real_collection(collections: Path, tmp_path: Path) -> None:
    pytest.importorskip("ir_measures")
    from spladelite.evaluation import read_corpus, read_judgments, read_queries, run_evaluation

    folder = collections / "xquad-en"
    with SpladeLite(tmp_path / "kb.db") as db:
        ids, texts = zip(*read_corpus(folder), strict=True)
        db.add(texts, ids=ids, progress=False)
        qrels = dict(list(read_judgments(folder).items())[:200])
        means = {
            system.name: system.scores.mean["nDCG@10"]
            for system in run_evaluation(db, read_queries(folder), qrels, ["bm25", "splade", "hybrid"]).systems
        }
    assert means["hybrid"] >= max(means["bm25"], means["splade"]) - 0.01
    assert means["bm25"] > 0.9


def test_a_filter_reaches_sealed_segments_and_documents_of_many_passages(small: SpladeLite) -> None:
    filler = "The committee met again on Tuesday and decided nothing at all. " * 40
    texts = [f"apple number {i}. " + (filler if i % 7 == 0 else "") for i in range(40)]
    small.add(texts, ids=map(str, range(40)), metadata=[{"n": i} for i in range(40)])
    small.delete(["14", "15"])
    wanted = {str(i) for i in range(10, 30)} - {"14", "15"}
    for mode in ("splade", "bm25", "hybrid"):
        found = small.search("apple", k=100, mode=mode, where={"n": {"$gte": 10, "$lt": 30}})
        assert {hit.id for hit in found} == wanted
