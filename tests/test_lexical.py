"""BM25 over FTS5: against the formula, in step with the documents, safe against what people type."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import apsw
import numpy as np
import pytest
from raw_sql import connections_of

from spladelite import InvalidInput, SpladeLite
from spladelite.errors import CorruptIndex
from spladelite.file.sqlite import fetch
from spladelite.index import words as lexical

WORDS = ["fever", "cough", "aspirin", "market", "stock", "apple", "river", "stone", "music", "train"]


def corpus(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(count)]


def bm25(texts: dict[str, str], query: str) -> dict[str, float]:
    """The formula of the module's docstring, written out."""
    tokens = {id: text.split() for id, text in texts.items()}
    average = sum(map(len, tokens.values())) / len(tokens)
    scores: dict[str, float] = {}
    for word in dict.fromkeys(query.split()):
        n = sum(word in words for words in tokens.values())
        idf = max(math.log((len(tokens) - n + 0.5) / (n + 0.5)), 1e-6)
        for id, words in tokens.items():
            tf = Counter(words)[word]
            if tf:
                norm = tf + 1.2 * (1 - 0.75 + 0.75 * len(words) / average)
                scores[id] = scores.get(id, 0.0) + idf * tf * 2.2 / norm
    return scores


def check_against_formula(db: SpladeLite, texts: dict[str, str], query: str) -> None:
    expected = bm25(texts, query)
    hits = db.search(query, k=1000, mode="bm25")
    assert {hit.id for hit in hits} == set(expected)
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits], rel=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_scores_are_the_formula_and_stay_in_step(db: SpladeLite) -> None:
    texts = {str(i): text for i, text in enumerate(corpus(60))}
    vectors = [{1000: 1.0}] * len(texts)  # no model needed
    db.add(list(texts.values()), ids=list(texts), vectors=vectors)
    check_against_formula(db, texts, "fever stone")
    for id in ("3", "10", "11"):
        del texts[id]
    db.delete(["3", "10", "11"])
    check_against_formula(db, texts, "fever stone")
    texts["5"] = "fever fever river"
    db.upsert([texts["5"]], ids=["5"], vectors=[{1000: 1.0}])
    db.update("6", text="stone", vector={1000: 1.0})
    texts["6"] = "stone"
    check_against_formula(db, texts, "fever stone")
    db.optimize()
    check_against_formula(db, texts, "fever stone")
    assert db.check() == []


def test_a_refused_batch_leaves_the_index_alone(db: SpladeLite) -> None:
    db.add(["fever"], ids=["a"], vectors=[{1000: 1.0}])
    with pytest.raises(InvalidInput):
        db.add(["cough", "stone"], ids=["b", "a"], vectors=[{1000: 1.0}] * 2)
    assert [hit.id for hit in db.search("cough fever", mode="bm25")] == ["a"]
    assert db.check() == []


def test_the_k_best_are_exact_and_ties_go_to_the_first(db: SpladeLite) -> None:
    db.add(["apple"] * 5, ids=list("edcba"), vectors=[{1000: 1.0}] * 5)
    assert [hit.id for hit in db.search("apple", k=3, mode="bm25")] == ["e", "d", "c"]


def test_stems_accents_and_case_fold(db: SpladeLite) -> None:
    db.add(["Crème brûlées", "Running runners", "日本語"], ids=["a", "b", "c"], vectors=[{1000: 1.0}] * 3)
    assert [hit.id for hit in db.search("CREME", mode="bm25")] == ["a"]
    assert [hit.id for hit in db.search("brulee", mode="bm25")] == ["a"]
    assert [hit.id for hit in db.search("runs", mode="bm25")] == ["b"]
    assert [hit.id for hit in db.search("日本語", mode="bm25")] == ["c"]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        'a" OR "b',
        "fever AND",
        "NEAR(fever cough)",
        "text:fever",
        "fev*",
        "-fever",
        "^fever",
        "(",
        "fever\0cough",
        "'",
        "{a b}",
    ],
)
def test_operators_mean_nothing(db: SpladeLite, query: str) -> None:
    db.add(["fever and cough"], ids=["a"], vectors=[{1000: 1.0}])
    found = [hit.id for hit in db.search(query, mode="bm25")]
    assert found == (["a"] if "fever" in query else [])


def test_stop_words_count_only_where_there_is_nothing_else(db: SpladeLite) -> None:
    db.add(["who is who", "stone age"], ids=["a", "b"], vectors=[{1000: 1.0}] * 2)
    assert [hit.id for hit in db.search("who is the stone", mode="bm25")] == ["b"]
    assert [hit.id for hit in db.search("who is", mode="bm25")] == ["a"]
    assert db.search("", mode="bm25") == db.search("?!", mode="bm25") == []


def test_a_query_is_one_word_of_each_stem_and_bounded(db: SpladeLite) -> None:
    with connections_of(db).read() as connection:
        assert lexical.query_words(connection, "Run running the RUNS stone") == ["run", "stone"]
        assert len(lexical.query_words(connection, " ".join(f"w{i}" for i in range(3000)))) == lexical.MAX_WORDS


def test_filters_leave_the_scores_alone(db: SpladeLite) -> None:
    texts = corpus(50, seed=1)
    db.add(texts, ids=map(str, range(50)), metadata=[{"n": i} for i in range(50)], vectors=[{1000: 1.0}] * 50)
    every = {hit.id: hit.score for hit in db.search("music train", k=50, mode="bm25")}
    some = {hit.id: hit.score for hit in db.search("music train", k=50, mode="bm25", where={"n": {"$lt": 20}})}
    assert some == {id: score for id, score in every.items() if int(id) < 20}
    assert db.search("music", mode="bm25", where={"n": 1000}) == []


def test_an_explanation_sums_to_the_score(db: SpladeLite) -> None:
    db.add(corpus(30), ids=map(str, range(30)), vectors=[{1000: 1.0}] * 30)
    hit = db.search("fever cough the river", mode="bm25")[0]
    explanation = db.explain("fever cough the river", hit.id, mode="bm25")
    (part,) = explanation.parts
    assert (part.part, explanation.terms) == ("bm25", ())
    assert sum(part.words.values()) == pytest.approx(hit.score, rel=1e-5)
    assert explanation.score == pytest.approx(hit.score)


def test_the_passage_with_most_words_is_shown(db: SpladeLite) -> None:
    filler = "The committee met again on Tuesday and decided nothing at all. " * 60
    db.add([filler + "An aspirin lowers the fever. " + filler], ids=["long"])
    (hit,) = db.search("aspirin fever", mode="bm25")
    assert "aspirin" in hit.passage.text
    assert hit.text[hit.passage.start : hit.passage.end] == hit.passage.text


def test_a_file_without_it_says_so() -> None:
    with SpladeLite(":memory:", bm25=False) as db:
        db.add(["fever"], vectors=[{1000: 1.0}])
        for mode in ("bm25", "hybrid"):
            with pytest.raises(InvalidInput, match="bm25=False"):
                db.search("fever", mode=mode)
        assert db.check() == []


def test_check_finds_what_is_out_of_step(db: SpladeLite) -> None:
    db.add(["fever", "cough"], ids=["a", "b"], vectors=[{1000: 1.0}] * 2)
    with connections_of(db).write() as connection:
        ((doc_id,),) = fetch(connection, "SELECT doc_id FROM document WHERE id = 'b'")
        lexical.delete(connection, [doc_id])
    assert [(finding.table, finding.row) for finding in db.check()] == [("document_text", str(doc_id))]
    db.check(repair=True)
    assert db.check() == []
    assert [hit.id for hit in db.search("cough", mode="bm25")] == ["b"]


def test_any_shell_can_ask_it(db: SpladeLite) -> None:
    db.add(["fever and cough", "stone"], ids=["a", "b"], vectors=[{1000: 1.0}] * 2)
    sql = (
        "SELECT d.id FROM document_text t JOIN document d ON d.doc_id = t.rowid"
        " WHERE document_text MATCH 'fever OR chill' ORDER BY bm25(document_text) LIMIT 10"
    )
    assert [row[0] for row in db.sql(sql)] == ["a"]


def test_search_gives_arrays(db: SpladeLite) -> None:
    with connections_of(db).read() as connection:
        doc_ids, scores = lexical.search(connection, ["nothing"], 5)
    assert len(doc_ids) == len(scores) == 0
    assert doc_ids.dtype == np.int64
    assert scores.dtype == np.float32


def test_check_finds_every_changed_place(path: str) -> None:
    with SpladeLite(path) as db:
        db.add(corpus(80), vectors=[{1000: 1.0}] * 80)
        good = {word: db.search(word, k=80, mode="bm25") for word in WORDS}
    content = Path(path).read_bytes()
    rng = random.Random(3)
    caught = 0
    for _ in range(25):
        Path(path).write_bytes(content)
        connection = apsw.Connection(path)
        row, block = rng.choice(fetch(connection, "SELECT id, block FROM document_text_data"))
        damaged = bytearray(block)
        damaged[rng.randrange(len(block))] ^= 1 << rng.randrange(8)
        connection.execute("UPDATE document_text_data SET block = ? WHERE id = ?", (bytes(damaged), row))
        connection.close()
        with SpladeLite(path) as db:
            findings = db.check()
            try:
                found = {word: db.search(word, k=80, mode="bm25") for word in WORDS}
            except CorruptIndex:
                found = {}
            assert findings or found == good
            caught += found != good
    assert caught > 5


def test_check_of_a_read_only_file(path: str) -> None:
    with SpladeLite(path) as db:
        db.add(corpus(5), vectors=[{1000: 1.0}] * 5)
    with SpladeLite(path, read_only=True) as db:
        assert db.check() == []
