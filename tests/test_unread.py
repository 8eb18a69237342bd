"""Texts that the model cannot read: told from its tokens, marked, and without a say for SPLADE in a hybrid."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from languages import ENGLISH, TEXTS
from raw_sql import connections_of

from spladelite import CorruptIndex, SpladeLite, UnreadText
from spladelite.encoders.reading import Reader
from spladelite.encoders.registry import load_encoder
from spladelite.index.unread import add_unread
from spladelite.index.words import analyzer
from spladelite.records import Tokens
from spladelite.search.fusion import default_weights

VECTOR = {1000: 1.0}
EVERY = [text for texts in TEXTS.values() for text in texts]


@pytest.fixture
def mixed(path: str) -> Iterator[SpladeLite]:
    """All texts of all languages, ids as the texts, in sealed segments and the tail."""
    with SpladeLite(path, tail_size=8, segment_size=32) as database:
        with pytest.warns(UnreadText):
            database.add([*EVERY, *ENGLISH], ids=[*EVERY, *ENGLISH])
        yield database


# --- what is told from the tokens -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> Reader:
    return Reader(load_encoder(None))


@pytest.mark.parametrize("language", TEXTS)
def test_the_bundled_model_reads_none_of_these(bundled: Reader, language: str) -> None:
    for text, question in TEXTS[language].items():
        assert not bundled.reads(text)
        assert not bundled.reads(question)


@pytest.mark.parametrize(
    "text",
    [
        *ENGLISH,
        "L'été dernier, les élèves étaient fatigués",
        "Příliš žluťoučký kůň úpěl ďábelské ódy",
        "Trường học lớn nằm ở trung tâm thành phố",
        "R2D2",
        "Q4",
        "x + y = z",
        "d41d8cd98f00b204e9800998ecf8427e",
        "β-carotene",
        "the word кошка means cat",
        "12.5 % – 2024",
        "🎉🎉",
        "…",
    ],
)
def test_the_bundled_model_reads(bundled: Reader, text: str) -> None:
    assert bundled.reads(text)


@pytest.mark.parametrize(
    "text",
    [
        "人民大学在北京的中心",  # each character is in the vocabulary, of 492
        "고양이가 소파 위에서 자고 있습니다",
        "बिल्ली सोफे पर सो रही है",
        "Кошка спит на диване",
        "החתול ישן על הספה",
        "Το whisky είναι στο ράφι δίπλα στο παράθυρο",
        "猫",
    ],
)
def test_the_bundled_model_does_not_read(bundled: Reader, text: str) -> None:
    assert not bundled.reads(text)


def test_of_a_long_text_all_parts_count(bundled: Reader) -> None:
    english, greek = " ".join(ENGLISH), " ".join(TEXTS["greek"])
    assert bundled.reads(english * 20)
    assert not bundled.reads(greek * 20)
    assert not bundled.reads(english + greek * 20)
    assert bundled.reads(english * 20 + greek)


class Vocabulary:
    """As much of an encoder as :class:`Reader` needs: the longest entries that fit, else single characters or bytes."""

    def __init__(self, entries: list[str], cut: str) -> None:
        self.vocabulary = ["<unk>", "?", *entries]
        self._cut = cut

    def tokenize(self, text: str) -> Tokens:
        found: list[tuple[int, int, int]] = []
        place = 0
        while place < len(text):
            if text[place] == " ":
                place += 1
                continue
            ends = [end for end in range(min(len(text), place + 12), place, -1) if text[place:end] in self.vocabulary]
            if ends:
                found.append((self.vocabulary.index(text[place : ends[0]]), place, ends[0]))
            elif self._cut == "bytes":
                found += [(1, place, place + 1)] * len(text[place].encode())
            else:
                found.append((0 if self._cut == "unknown" else 1, place, place + 1))
            place = ends[0] if ends else place + 1
        columns = np.array(found, np.int64).reshape(-1, 3)
        return Tokens(columns[:, 0].astype(np.int32), columns[:, 1], columns[:, 2])


HAN = list("雪雷茶糖碗棉袋帽鼻眉唇肩腰膝骨皮泥沙秋冬我喝在天里")


@pytest.mark.parametrize("cut", ["unknown", "characters", "bytes"])
def test_a_vocabulary_of_chinese_characters_reads_chinese_and_no_english(cut: str) -> None:
    chinese = Reader(Vocabulary(HAN, cut))  # type: ignore[arg-type]
    assert chinese.reads("我秋天在雪里喝茶")
    assert not chinese.reads("the cat sleeps on the windowsill")


@pytest.mark.parametrize("cut", ["unknown", "characters", "bytes"])
def test_a_vocabulary_of_parts_of_words_reads_them(cut: str) -> None:
    greek = Reader(Vocabulary(["γά", "τα", "κοι", "μάται", "κανα", "πέ"], cut))  # type: ignore[arg-type]
    assert greek.reads("η γάτα κοιμάται")
    assert not greek.reads("ο σκύλος τρέχει")
    assert not greek.reads("the cat sleeps on the windowsill")


# --- documents --------------------------------------------------------------------------------------------------------


def ranking(db: SpladeLite, query: str, **options: object) -> list[str]:
    return [hit.id for hit in db.search(query, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("language", TEXTS)
def test_a_hybrid_goes_by_the_words(mixed: SpladeLite, language: str) -> None:
    for text, question in TEXTS[language].items():
        hits = mixed.search(question)
        assert hits[0].id == text
        assert [hit.id for hit in hits] == ranking(mixed, question, mode="bm25")
        assert hits[0].relevance == hits[0].score == 1.0
        assert all(term >= 1 << 24 for term in hits[0].query)  # highlight marks words alone
        assert mixed.search_many([question]) == [hits]


@pytest.mark.parametrize("where", [None, "length(text) > 45"])
@pytest.mark.parametrize("query", [*ENGLISH.values(), "the whisky stands beside the bread"])
def test_a_hybrid_is_exact(mixed: SpladeLite, query: str, where: str | None) -> None:
    mixed.add("Το whisky είναι στο ράφι δίπλα στο παράθυρο", ids="whisky")
    mixed.delete(list(ENGLISH)[8])
    scores = {mode: {hit.id: hit.score for hit in mixed.search(query, 100, mode=mode)} for mode in ("splade", "bm25")}
    assert set(scores["splade"]) & {*EVERY, "whisky"}
    splade = {id: score for id, score in scores["splade"].items() if id in ENGLISH}
    weights = default_weights(("splade", "bm25"), len(analyzer("english").query(query)))
    expected = {
        id: weights["splade"] * splade.get(id, 0) / max(splade.values())
        + weights["bm25"] * scores["bm25"].get(id, 0) / max(scores["bm25"].values(), default=1)
        for id in splade | scores["bm25"]
    }
    if where:
        expected = {id: score for id, score in expected.items() if id != "whisky" and len(id) > 45}
    for k in (1, 100):
        hits = mixed.search(query, k, where=where)
        best = sorted(expected.values(), reverse=True)[:k]
        assert [hit.score for hit in hits] == pytest.approx(best, rel=1e-5)
        assert {hit.id: hit.score for hit in hits} == pytest.approx({hit.id: expected[hit.id] for hit in hits})
    by_rank = ranking(mixed, query, k=100, fusion="rrf", where=where)
    assert set(by_rank) == expected.keys()


def test_a_caller_with_weights_decides(mixed: SpladeLite) -> None:
    text, question = next(iter(TEXTS["greek"].items()))
    weights = {"splade": 1.0, "bm25": 0.001}
    splade = ranking(mixed, question, mode="splade")
    assert splade[0] in EVERY
    assert ranking(mixed, question, weights=weights)[0] == splade[0]
    assert mixed.explain(question, text, weights=weights).parts[0].contribution > 0


def test_a_vector_that_the_caller_gives_is_not_judged(db: SpladeLite) -> None:
    db.add(EVERY, vectors=[VECTOR] * len(EVERY))
    assert db.stats().unread == 0


def test_explain_says_it(mixed: SpladeLite) -> None:
    (text, question), english = next(iter(TEXTS["arabic"].items())), next(iter(ENGLISH))
    found = mixed.explain(question, text)
    assert found.unread == ("query", "document")
    assert found.terms == ()
    assert [(part.part, part.score, part.contribution) for part in found.parts[:1]] == [("splade", 0.0, 0.0)]
    assert found.score == found.parts[1].contribution == 1.0
    assert "The model cannot read most of the query and of the document." in str(found)
    assert mixed.explain("school", text).unread == ("document",)
    assert mixed.explain("school", text).terms == ()
    assert mixed.explain(question, english).unread == ("query",)
    assert mixed.explain("school", english).unread == ()
    assert "cannot read" not in str(mixed.explain("school", english))
    alone = mixed.explain(question, text, mode="splade")
    assert alone.unread == ("query", "document")
    assert sum(match.contribution for match in alone.terms) == pytest.approx(alone.score, rel=1e-4)
    assert mixed.explain(question, text, mode="bm25").unread == ()


def test_in_sql(mixed: SpladeLite) -> None:
    text, question = next(iter(TEXTS["japanese"].items()))
    rows = mixed.sql("SELECT d.id, s.splade FROM hybrid(?, 3) AS s JOIN document AS d USING (doc_id)", (question,))
    assert rows[0] == (text, 0.0)


def test_add_warns_once_and_says_what_to_do(db: SpladeLite) -> None:
    arabic, greek = list(TEXTS["arabic"]), list(TEXTS["greek"])
    with pytest.warns(
        UnreadText, match=r"most of the text of 2 documents, such as 'a'.*by their words.*reencode"
    ) as told:
        db.add([arabic[0], "English", arabic[1]], ids=["a", "e", "b"])
    assert len(told) == 1
    assert told[0].filename == __file__
    assert "language=" in str(told[0].message)
    db.add(greek)
    db.upsert(list(TEXTS["thai"]), ids=[str(i) for i in range(10)])
    assert db.stats().unread == 22
    with SpladeLite(":memory:", language="greek", bm25=True) as other, pytest.warns(UnreadText) as told:
        other.add(greek)
    assert "language=" not in str(told[0].message)
    with SpladeLite(":memory:", bm25=False) as other, pytest.warns(UnreadText, match="no search finds them"):
        other.add(greek)


# --- the table --------------------------------------------------------------------------------------------------------


def answers(db: SpladeLite) -> list[object]:
    return [
        [(hit.id, hit.score) for hit in db.search(question, k=5)]
        for texts in (*TEXTS.values(), ENGLISH)
        for question in texts.values()
    ]


def test_it_follows_the_documents(path: str) -> None:
    greek, english = list(TEXTS["greek"]), list(ENGLISH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadText)
        with SpladeLite(path, tail_size=4, segment_size=8) as db, SpladeLite(path) as other:
            db.add(greek, ids=[str(i) for i in range(10)])
            assert (other.stats().unread, other.search("whisky school")) == (10, [])
            db.upsert(english[0], ids="0")
            assert [hit.id for hit in other.search("school")] == ["0"]
            db.update("1", english[1])
            db.update("2", metadata={"n": 1})
            db.delete(["3", "4"])
            assert other.stats().unread == 6
            assert "1" in ranking(other, "hospital", k=20)
            assert set(ranking(other, "hospital", k=20)) <= {"0", "1"}
            db.optimize()
            db.upsert(greek[5], ids="0")
            db.add(english[5], ids="new")
            assert other.stats().unread == 7
            assert "new" in set(ranking(other, "books", k=20)) <= {"1", "new"}
            assert db.check() == []
            db.delete(where={})
            assert other.stats().unread == 0
            assert db.check() == []


class ReadsAll:
    """The bundled model, with a tokenizer that takes every text for one known word."""

    def __init__(self) -> None:
        self._model = load_encoder(None)
        self.name, self.fingerprint, self.window = "reads all", "0123", self._model.window
        self.vocabulary = self._model.vocabulary
        self.encode_documents, self.encode_queries = self._model.encode_documents, self._model.encode_queries

    def tokenize(self, text: str) -> Tokens:
        return Tokens(np.array([1996], np.int32), np.array([0]), np.array([len(text)]))


def test_another_model_may_read_it(mixed: SpladeLite) -> None:
    before = answers(mixed)
    assert mixed.stats().unread == 40
    mixed.reencode(language="greek")
    assert mixed.stats().unread == 40
    mixed.reencode(ReadsAll())
    assert mixed.stats().unread == 0
    assert mixed.explain("σχολείο", next(iter(TEXTS["greek"]))).unread == ()
    with pytest.warns(UnreadText):
        mixed.reencode()
    mixed.reencode(language="english")
    assert mixed.stats().unread == 40
    assert answers(mixed) == before
    assert mixed.check() == []


@pytest.mark.parametrize("slim", [False, True])
def test_an_export_has_it(mixed: SpladeLite, tmp_path: Path, slim: bool) -> None:
    mixed.delete([EVERY[0], EVERY[30]])
    before = answers(mixed)
    mixed.export(tmp_path / "copy.db", slim=slim)
    with SpladeLite(tmp_path / "copy.db") as copy:
        assert copy.stats().unread == 38
        assert copy.check() == []
        found = answers(copy)
        for one, other in zip(found, before, strict=True):
            assert dict(one) == pytest.approx(dict(other), rel=1e-5)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM unread WHERE doc_id = (SELECT min(doc_id) FROM unread)",
        "DELETE FROM unread WHERE doc_id = (SELECT max(doc_id) FROM unread)",
        "DELETE FROM unread",
        "INSERT INTO unread SELECT max(doc_id) FROM document",
        "UPDATE unread SET doc_id = doc_id + 1000000",
        "UPDATE meta SET value = '1 1' WHERE key = 'unread'",
        "DELETE FROM meta WHERE key = 'unread'",
    ],
)
def test_damage_is_noticed_by_a_search_and_repaired(mixed: SpladeLite, sql: str) -> None:
    before = answers(mixed)
    path = mixed.path
    mixed.close()
    connection = sqlite3.connect(path)
    connection.execute(sql)
    connection.commit()
    connection.close()
    with SpladeLite(path) as db:
        with pytest.raises(CorruptIndex, match="unread"):
            db.search("school")
        assert "unread" in {finding.table for finding in db.check()}
        db.check(repair=True)
        assert db.check() == []
        assert db.stats().unread == 40
        assert answers(db) == before


def test_check_finds_one_that_is_no_document(mixed: SpladeLite) -> None:
    with connections_of(mixed).write() as connection:
        add_unread(connection, [10**9])
    assert [(finding.table, finding.row) for finding in mixed.check()] == [("unread", str(10**9))]
    mixed.check(repair=True)
    assert mixed.check() == []
    assert mixed.stats().unread == 40
