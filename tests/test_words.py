"""BM25: against the formula, in step with the documents, in every language, safe against what people type."""

from __future__ import annotations

import math
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_sql import connections_of

from spladelite import CorruptIndex, InvalidInput, SpladeLite, WrongType
from spladelite.file.sqlite import fetch
from spladelite.index import buckets
from spladelite.index.buckets import BUCKET, pack_ids, unpack_ids
from spladelite.index.postings import MAX_SEGMENT, Lists, in_memory
from spladelite.index.scoring import WORD
from spladelite.index.stop_words import STOP_WORDS
from spladelite.index.words import MAX_QUERY_WORDS, Analyzer, analyzer, languages, term_id

WORDS = ["fever", "cough", "aspirin", "market", "stock", "apple", "river", "stone", "music", "train"]
VECTOR = {1000: 1.0}  # no model needed


def corpus(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) for _ in range(count)]


def bm25(texts: dict[str, str], query: str) -> dict[str, float]:
    """The formula, written out."""
    tokens = {id: text.split() for id, text in texts.items()}
    average = sum(map(len, tokens.values())) / len(tokens)
    scores: dict[str, float] = {}
    for word in dict.fromkeys(query.split()):
        n = sum(word in words for words in tokens.values())
        idf = math.log(1 + (len(tokens) - n + 0.5) / (n + 0.5))
        for id, words in tokens.items():
            tf = min(Counter(words)[word], 255)
            if tf:
                norm = 1.2 * (1 - 0.7 + 0.7 * len(words) / average)
                scores[id] = scores.get(id, 0.0) + idf * tf * 2.2 / (tf + norm)
    return scores


def check_against_formula(db: SpladeLite, texts: dict[str, str], query: str) -> None:
    expected = bm25(texts, query) if texts else {}
    hits = db.search(query, k=1000, mode="bm25")
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def add(db: SpladeLite, texts: dict[str, str]) -> None:
    db.upsert(list(texts.values()), ids=list(texts), vectors=[VECTOR] * len(texts))


actions = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.dictionaries(st.integers(0, 30).map(str), st.integers(1, 40), max_size=9)),
        st.tuples(st.just("delete"), st.sets(st.integers(0, 30).map(str), max_size=9)),
        st.tuples(st.just("optimize"), st.none()),
        st.tuples(st.just("search"), st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)),
    ),
    max_size=14,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=actions, seed=st.integers(0, 1000))
def test_scores_are_the_formula_after_anything(actions: list[tuple[str, object]], seed: int) -> None:
    rng = random.Random(seed)
    texts: dict[str, str] = {}
    with SpladeLite(":memory:", language=None, tail_size=4, segment_size=12) as db:
        for name, argument in [*actions, ("search", "fever stone")]:
            if name == "add" and isinstance(argument, dict):
                new = {id: " ".join(rng.choices(WORDS, k=length)) for id, length in argument.items()}
                add(db, new)
                texts |= new
            elif name == "delete" and isinstance(argument, set):
                db.delete(argument)
                texts = {id: text for id, text in texts.items() if id not in argument}
            elif name == "optimize":
                db.optimize()
            elif isinstance(argument, str):
                check_against_formula(db, texts, argument)
        assert db.check() == []


def test_long_texts_of_several_passages_are_one_document(small: SpladeLite) -> None:
    texts = {str(i): text for i, text in enumerate(corpus(30))}
    texts["long"] = " ".join(random.Random(7).choices(WORDS, k=3000))  # tf beyond 255 and passages beyond a segment
    small.add(list(texts.values()), ids=list(texts))
    assert small.stats().passages > len(texts) + 5
    check_against_formula(small, texts, "fever")
    small.delete(["3", "4"])
    del texts["3"], texts["4"]
    small.optimize()
    check_against_formula(small, texts, "fever stone")
    (hit,) = [hit for hit in small.search("music", k=50, mode="bm25") if hit.id == "long"]
    assert "music" in hit.passage.text


def test_a_refused_batch_leaves_the_index_alone(db: SpladeLite) -> None:
    db.add(["fever"], ids=["a"], vectors=[VECTOR])
    with pytest.raises(InvalidInput):
        db.add(["cough", "stone"], ids=["b", "a"], vectors=[VECTOR] * 2)
    assert [hit.id for hit in db.search("cough fever", mode="bm25")] == ["a"]
    assert db.check() == []


def test_the_k_best_are_exact_and_ties_go_to_the_first(db: SpladeLite) -> None:
    db.add(["apple"] * 5, ids=list("edcba"), vectors=[VECTOR] * 5)
    assert [hit.id for hit in db.search("apple", k=3, mode="bm25")] == ["e", "d", "c"]


# --- words ------------------------------------------------------------------------------------------------------------


def words(text: str, language: str | None = "english") -> list[str]:
    of_language = analyzer(language)
    return [word for start, end, word in _places(of_language, text)]


def _places(of_language: Analyzer, text: str) -> list[tuple[int, int, str]]:
    return [(start, end, text[start:end]) for start, end, _ in of_language.places(text)]


def finds(text: str, query: str, language: str | None = "english") -> bool:
    """Whether a text shares a word with a query."""
    of_language = analyzer(language)
    return bool({word.term_id for word in of_language.query(query)} & set(of_language.count([text]).terms.tolist()))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Crème brûlées", "CREME"),
        ("Crème brûlées", "brulee"),
        ("Running runners", "runs"),
        ("call parse_http_header() first", "parse_http_header"),
        ("call parse_http_header() first", "http"),
        ("class HTTPServerError extends Error", "server"),
        ("class HTTPServerError extends Error", "httpservererror"),
        ("getUserName", "user"),
        ("released as v1.22.3 today", "v1.22.3"),
        ("released as v1.22.3 today", "22"),
        ("write to jane.doe@example.org now", "jane.doe@example.org"),
        ("write to jane.doe@example.org now", "example"),
        ("see docs/install.md", "install"),
        ("état-major", "major"),
        ("naïve", "naive"),
        ("STRASSE", "straße"),
        ("ﬁle", "file"),
        ("ＡＢＣ", "abc"),
        ("今日は雨が降ります", "雨"),
        ("今日は雨が降ります", "今日"),
        ("東京タワー", "ﾀﾜｰ"),
        ("我们明天去北京", "北京"),
        ("ภาษาไทยอ่านง่าย", "ภาษาไทย"),
        ("학교에서 공부한다", "학교"),
        ("المدرسة الكبيرة", "مدرسة"),
        ("ذهب إلى المَدْرَسَة", "المدرسة"),
        ("мы читали книгами", "книга"),
        ("Йод и ёлка", "йод"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("Η γάτα κοιμάται", "γατα"),
    ],
)
def test_a_text_is_found_by(text: str, query: str) -> None:
    assert finds(text, query)


@pytest.mark.parametrize(("text", "query"), [("今日は雨が降ります", "明日"), ("user_id", "id_user"), ("café", "caf")])
def test_a_text_is_not_found_by(text: str, query: str) -> None:
    whole = analyzer("english").query(query)[0].term_id
    assert whole not in analyzer("english").count([text]).terms.tolist()


def test_languages_have_their_stems_and_stop_words() -> None:
    assert finds("Die Häuser sind groß", "Haus", "german")
    assert not finds("Die Häuser sind groß", "Haus", None)
    assert [word.word for word in analyzer("german").query("Wo ist das Haus")] == ["haus"]
    assert [word.word for word in analyzer("english").query("wo ist das Haus")] == ["wo", "ist", "das", "haus"]
    assert [word.word for word in analyzer("english").query("Are any other pills taken between meals?")] == [
        "pills",
        "taken",
        "meals",
    ]
    assert [word.word for word in analyzer(None).query("where is the house")] == ["where", "is", "the", "house"]
    assert finds("les étoiles filantes", "étoile", "french")
    assert finds("les étoiles filantes", "etoile", "french")
    assert finds("The houses", "house", "russian")  # Latin script in a file of another
    assert set(STOP_WORDS) <= set(languages())
    for language in languages():
        assert finds("one two", "two", language)


def test_stop_words_count_only_where_there_is_nothing_else(db: SpladeLite) -> None:
    db.add(["who is who", "stone age"], ids=["a", "b"], vectors=[VECTOR] * 2)
    assert [hit.id for hit in db.search("who is the stone", mode="bm25")] == ["b"]
    assert [hit.id for hit in db.search("who is", mode="bm25")] == ["a"]
    assert db.search("", mode="bm25") == db.search("?!", mode="bm25") == []


def test_a_query_is_one_word_of_each_stem_and_bounded() -> None:
    assert [word.word for word in analyzer("english").query("Run running the RUNS stone")] == ["run", "stone"]
    assert len(analyzer("english").query(" ".join(f"w{i}" for i in range(3000)))) == MAX_QUERY_WORDS


@given(st.lists(st.text(max_size=60), max_size=6))
def test_counting_equals_a_loop(texts: list[str]) -> None:
    of_language = analyzer("english")
    counts = of_language.count(texts)
    for i, text in enumerate(texts):
        ids = Counter(id for _, _, id in of_language.places(text))
        row = slice(counts.indptr[i], counts.indptr[i + 1])
        assert dict(zip(counts.terms[row].tolist(), counts.frequencies[row].tolist(), strict=True)) == ids
        assert counts.lengths[i] == ids.total()
        assert all(id & WORD and id < 2 * WORD for id in ids)
        assert {word.term_id for word in of_language.query(text)} <= ids.keys()
        assert all(0 <= start < end <= len(text) for start, end, _ in of_language.places(text))


@given(st.lists(st.integers(0, WORD - 1), unique=True))
def test_term_ids_are_packed_in_six_bytes(hashes: list[int]) -> None:
    ids = np.array(sorted(hash | WORD for hash in hashes), np.int64)
    assert unpack_ids(pack_ids(ids)).tolist() == ids.tolist()
    assert len(pack_ids(ids)) == 6 * len(ids)
    for wrong in (b"\0" * 6, pack_ids(ids) + b"\0", pack_ids(ids[:1]) * 2 + b"\0" * (not hashes)):
        with pytest.raises(ValueError, match="term ids"):
            unpack_ids(wrong)


segment_words = st.dictionaries(
    st.integers(0, WORD - 1).map(WORD.__or__),
    st.dictionaries(st.integers(0, 99), st.integers(1, 255), min_size=1, max_size=40),
    max_size=150,
)


@settings(max_examples=50)
@given(segment_words, st.data())
def test_buckets_give_back_what_they_were_given(given_words: dict[int, dict[int, int]], data: st.DataObject) -> None:
    ordered = sorted((word, sorted(postings.items())) for word, postings in given_words.items())
    lists = Lists(
        [word for word, _ in ordered],
        np.append(0, np.cumsum([len(postings) for _, postings in ordered])).astype(np.int64),
        np.array([ordinal for _, postings in ordered for ordinal, _ in postings], np.uint16),
        np.array([tf for _, postings in ordered for _, tf in postings], np.uint8),
    )
    count, rows, own = buckets.encode(lists)
    assert len(rows) == count
    assert all(len(postings) > buckets.SMALL for word, postings in ordered if word in own.terms)
    small, long = buckets.decode_all(rows, count, 100)
    assert sorted([*small.terms, *own.terms]) == lists.terms
    assert long.tolist() == own.terms
    row_of = {row.term_id: row for row in rows}
    for word in [*given_words, WORD, 2 * WORD - 1, WORD | 12345]:
        row = row_of[buckets.bucket_id(word, count)]
        found = buckets.find(row.blob, row.postings, word, 100)
        if word in own.terms:
            assert found is None
        else:
            i = lists.terms.index(word) if word in given_words else None
            assert found == (b"" if i is None else in_memory(*lists.of(i), 100))
    place = data.draw(st.integers(0, count - 1))
    term, postings, blob = rows[place]
    change = data.draw(st.sampled_from(["byte", "cut", "count", "lost", "segment"]))
    if change == "byte" and blob:
        damaged = bytearray(blob)
        damaged[data.draw(st.integers(0, len(blob) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        rows[place] = buckets.BucketRow(term, postings, bytes(damaged))
    elif change == "cut":
        rows[place] = buckets.BucketRow(term, postings, blob[: data.draw(st.integers(0, len(blob)))])
    elif change == "count":
        rows[place] = buckets.BucketRow(term, data.draw(st.integers(-2, 300)), blob)
    elif change == "lost":
        del rows[place]
    try:  # nonsense is found or read as another list, and never leads anywhere else
        small, _ = buckets.decode_all(rows, count, 100)
        assert (small.ordinals < 100).all()
        assert small.impacts.all()
        assert change != "lost"
    except ValueError:
        assert change != "segment"
    for _, postings, blob in rows:
        for word in given_words:
            try:
                found = buckets.find(blob, postings, word, 100)
                assert found is None or len(found) <= MAX_SEGMENT
            except ValueError:
                pass


def test_term_ids_are_for_ever() -> None:
    assert term_id("fever") == 0x4DA92D54CF4F
    assert term_id("東京") == 0x40E27B763CB1


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"word{i % 1000}" for i in range(400_000)),
        "x" * 1_000_000,
        "日" * 100_000,
        "a_" * 100_000,
        "?!… —",
        "null\0byte",
        "\u0301\u0301",
        "...---...",
        "😀 ✓",
    ],
    ids=["many words", "one word", "unspaced", "parts", "punctuation", "null", "marks", "connectors", "signs"],
)
def test_texts_that_are_hardly_texts(path: str, text: str) -> None:
    with SpladeLite(path) as db:
        db.add([text, "an ordinary text"], ids=["odd", "plain"], vectors=[VECTOR] * 2)
        assert [hit.id for hit in db.search("ordinary", mode="bm25")] == ["plain"]
        start = text[:100] if " " in text else text
        found = [hit.id for hit in db.search(start, mode="bm25")]
        assert found == (["odd"] if analyzer("english").query(text[:1000]) else [])
        assert db.check() == []


@pytest.mark.parametrize(
    "query",
    ['"', 'a" OR "b', "fever AND", "NEAR(fever cough)", "text:fever", "fev*", "-fever", "^fever", "(", "fever\0cough"],
)
def test_operators_mean_nothing(db: SpladeLite, query: str) -> None:
    db.add(["fever and cough"], ids=["a"], vectors=[VECTOR])
    found = [hit.id for hit in db.search(query, mode="bm25")]
    assert found == (["a"] if "fever" in query else [])


# --- the language of a file -------------------------------------------------------------------------------------------


def test_a_file_has_a_language(path: str) -> None:
    with SpladeLite(path, language="german") as db:
        db.add(["Die Häuser am Fluss", "Ein Haus am See"], ids=["a", "b"], vectors=[VECTOR] * 2)
        assert {hit.id for hit in db.search("Hause", mode="bm25")} == {"a", "b"}
        assert db.stats().language == "german"
    with SpladeLite(path) as db:
        assert {hit.id for hit in db.search("Hause", mode="bm25")} == {"a", "b"}
    with pytest.raises(InvalidInput, match=r"language='german', not 'french'.*reencode\(language='french'\)"):
        SpladeLite(path, language="french")
    with SpladeLite(path, language="german") as db:
        version = db.search("Hause", mode="splade")
        db.reencode(language=None)
        assert db.search("Hause", mode="splade") == version
        assert db.search("Hause", mode="bm25") == []
        assert [hit.id for hit in db.search("Haus", mode="bm25")] == ["b"]
        assert db.stats().language is None
        assert db.check() == []
        db.add("Hause", ids="c", vectors=[VECTOR])
        assert [hit.id for hit in db.search("Hause", mode="bm25")] == ["c"]
    with SpladeLite(path, language=None) as db:
        assert db.check() == []


@pytest.mark.parametrize("language", ["klingon", "", "porter", "English"])
def test_an_unknown_language_lists_those_that_exist(path: str, language: str) -> None:
    with pytest.raises(InvalidInput, match=r"arabic, .*spanish"):
        SpladeLite(path, language=language)
    assert not Path(path).exists()
    with pytest.raises(WrongType, match="type int"):
        SpladeLite(path, language=7)  # type: ignore[arg-type]


def test_a_file_without_it_says_so() -> None:
    with SpladeLite(":memory:", bm25=False) as db:
        db.add(["fever"], vectors=[VECTOR])
        for mode in ("bm25", "hybrid"):
            with pytest.raises(InvalidInput, match="bm25=False"):
                db.search("fever", mode=mode)
        with pytest.raises(InvalidInput, match="bm25=False"):
            db.reencode(language="german")
        assert db.search({1000: 1.0})
        assert db.check() == []


# --- what is searched, and how it is shown ----------------------------------------------------------------------------


def test_filters_leave_the_scores_alone(db: SpladeLite) -> None:
    texts = corpus(50, seed=1)
    db.add(texts, ids=map(str, range(50)), metadata=[{"n": i} for i in range(50)], vectors=[VECTOR] * 50)
    every = {hit.id: hit.score for hit in db.search("music train", k=50, mode="bm25")}
    some = {hit.id: hit.score for hit in db.search("music train", k=50, mode="bm25", where={"n": {"$lt": 20}})}
    assert some == {id: score for id, score in every.items() if int(id) < 20}
    assert db.search("music", mode="bm25", where={"n": 1000}) == []


def test_an_explanation_sums_to_the_score(db: SpladeLite) -> None:
    db.add(corpus(30), ids=map(str, range(30)), vectors=[VECTOR] * 30)
    hit = db.search("fever cough the river", mode="bm25")[0]
    explanation = db.explain("fever cough the river", hit.id, mode="bm25")
    (part,) = explanation.parts
    assert (part.part, explanation.terms) == ("bm25", ())
    assert sum(part.words.values()) == pytest.approx(hit.score, rel=1e-5)
    assert explanation.score == pytest.approx(hit.score)


def test_the_passage_with_most_words_is_shown(db: SpladeLite) -> None:
    filler = "The committee met again on Tuesday and decided nothing at all. " * 60
    db.add([filler + "An aspirin lowers the fever. " + filler], ids=["long"])
    (hit,) = db.search("aspirin fevers", mode="bm25")
    assert "aspirin" in hit.passage.text
    assert hit.text[hit.passage.start : hit.passage.end] == hit.passage.text
    assert "**aspirin** lowers the **fever**" in db.highlight(hit)


def test_highlight_knows_words_of_every_script(db: SpladeLite) -> None:
    db.add(["今日は東京タワーに行きます", "Call getUserName() in v2.0.1"], ids=["a", "b"], vectors=[VECTOR] * 2)
    assert db.highlight(db.search("東京", mode="bm25")[0]) == "今日は**東京**タワーに行きます"
    assert db.highlight(db.search("user", mode="bm25")[0]) == "Call get**User**Name() in v2.0.1"
    assert db.highlight(db.search("v2.0.1", mode="bm25")[0]) == "Call getUserName() in **v2.0.1**"


def test_sql_asks_words_and_hybrids(db: SpladeLite) -> None:
    db.add(["fever and cough", "stone"], ids=["a", "b"])
    rows = db.sql("SELECT id, score, passage_id FROM bm25('fevers OR chill', 10) JOIN document USING (doc_id)")
    assert [(row["id"], row["score"]) for row in rows] == [
        (hit.id, hit.score) for hit in db.search("fevers OR chill", mode="bm25")
    ]
    row = db.sql("SELECT id, score, splade, bm25, dense FROM hybrid('fevers') JOIN document USING (doc_id)")[0]
    parts = db.explain("fevers", "a").parts
    assert (row["id"], row["dense"]) == ("a", None)
    assert (row["splade"], row["bm25"]) == pytest.approx((parts[0].score, parts[1].score))
    assert row["score"] == pytest.approx(db.search("fevers")[0].score)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        f"DELETE FROM posting WHERE term_id >= {BUCKET}",
        f"DELETE FROM posting WHERE term_id >= {WORD}",
        f"UPDATE posting SET postings = x'000001' WHERE term_id >= {BUCKET}",
        f"UPDATE posting SET count = 0, postings = x'' WHERE term_id BETWEEN {BUCKET} AND {WORD}",
        "UPDATE segment SET lengths = x''",
        "UPDATE segment SET buckets = 0",
        "UPDATE segment SET buckets = 2 * buckets",
        "DELETE FROM document_words WHERE doc_id = (SELECT max(doc_id) FROM document)",
        "UPDATE document_words SET length = length + 1",
        "UPDATE document_words SET frequencies = x''",
    ],
)
def test_damage_to_words_is_noticed_by_a_search_and_repaired(
    path: str, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spladelite.index.buckets.SMALL", 10)  # some words get rows of their own
    texts = {str(i): text for i, text in enumerate(corpus(40))}
    with SpladeLite(path, tail_size=36) as db:
        add(db, {id: text for id, text in texts.items() if int(id) < 36})
        add(db, {id: text for id, text in texts.items() if int(id) >= 36})
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()
    with SpladeLite(path) as db:
        for mode in ("bm25", "hybrid"):
            with pytest.raises(CorruptIndex, match="repair=True"):
                [db.search(word, mode=mode) for word in WORDS]
        assert db.check()
        db.check(repair=True)
        assert db.check() == []
        check_against_formula(db, texts, "fever stone")


def test_check_compares_words_with_the_texts(db: SpladeLite) -> None:
    add(db, {str(i): text for i, text in enumerate(corpus(5))})
    from spladelite.index.word_rows import append_words

    with connections_of(db).write() as connection:
        ((doc_id,),) = fetch(connection, "SELECT doc_id FROM document WHERE id = '3'")
        connection.execute("DELETE FROM document_words WHERE doc_id = ?", (doc_id,))
        append_words(connection, [doc_id], analyzer("english").count(["other words"]))
    assert [(finding.table, finding.row) for finding in db.check()] == [("document_words", str(doc_id))]


def test_check_finds_every_changed_place(path: str) -> None:
    with SpladeLite(path, tail_size=64) as db:
        add(db, {str(i): text for i, text in enumerate(corpus(80))})
        good = {word: db.search(word, k=80, mode="bm25") for word in WORDS}
    content = Path(path).read_bytes()
    rng = random.Random(3)
    caught = 0
    for _ in range(25):
        Path(path).write_bytes(content)
        connection = sqlite3.connect(path)
        row, block = rng.choice(
            connection.execute("SELECT rowid, postings FROM posting WHERE term_id >= ?", (BUCKET,)).fetchall()
        )
        damaged = bytearray(block)
        damaged[rng.randrange(len(block))] ^= 1 << rng.randrange(8)
        connection.execute("UPDATE posting SET postings = ? WHERE rowid = ?", (bytes(damaged), row))
        connection.commit()
        connection.close()
        with SpladeLite(path) as db:
            assert db.check()
            for word in WORDS:
                try:
                    assert db.search(word, k=80, mode="bm25") == good[word]
                except CorruptIndex:
                    caught += 1
    assert caught >= 25


def test_check_of_a_read_only_file(path: str) -> None:
    with SpladeLite(path) as db:
        add(db, {str(i): text for i, text in enumerate(corpus(5))})
    with SpladeLite(path, read_only=True) as db:
        assert db.check() == []


# --- other programs ---------------------------------------------------------------------------------------------------


def test_a_slim_export_has_the_words(small: SpladeLite, tmp_path: Path) -> None:
    texts = {str(i): text for i, text in enumerate(corpus(40))}
    add(small, texts)
    small.export(tmp_path / "slim.db", slim=True)
    with SpladeLite(tmp_path / "slim.db") as slim:
        check_against_formula(slim, texts, "fever stone")
        assert slim.check() == []


def test_no_table_needs_an_extension(path: str) -> None:
    with SpladeLite(path) as db:
        db.add(["fever and cough"], ids=["a"])
    connection = sqlite3.connect(path)
    try:
        assert not [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema") if "VIRTUAL" in (sql or "")]
        names = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")
        ]
        for name in names:
            connection.execute(f"SELECT * FROM {name} LIMIT 3").fetchall()
        assert connection.execute("SELECT id FROM term_document WHERE term = 'fever'").fetchall() == [("a",)]
    finally:
        connection.close()


@pytest.mark.parametrize(
    "command",
    [["sqlite_utils", "tables", "{path}", "--counts"], ["datasette", "inspect", "{path}"]],
    ids=lambda c: c[0],
)
def test_other_programs_open_it(path: str, command: list[str]) -> None:
    pytest.importorskip(command[0])
    with SpladeLite(path) as db:
        db.add(["fever and cough"], ids=["a"])
    run = [sys.executable, "-W", "ignore", "-m", *(part.format(path=path) for part in command)]
    found = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True)
    assert '"document"' in found.stdout
    assert '"posting"' in found.stdout
