"""Hard negatives out of a database; teachers and kept scores."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from models_for_tests import write_wordpiece

from spladelite import InvalidInput, ModelError, SpladeLite
from spladelite.encoders.registry import bundled_encoder

torch = pytest.importorskip("torch")

from spladelite.training.data import Example  # noqa: E402
from spladelite.training.mining import mine  # noqa: E402
from spladelite.training.pseudo import pseudo_queries  # noqa: E402
from spladelite.training.teachers import bi_encoder, cached, cross_encoder, ensemble, sparse, with_scores  # noqa: E402

TEXTS = [
    "A car crashed into a tree on the motorway last night.",
    "The car crash on the motorway injured two people.",
    "An automobile accident blocked the road for hours.",
    "Bake the bread for an hour in a hot oven.",
    "The river floods its banks in the spring rain.",
    "A fire destroyed the old wooden house by the river.",
    "Insurance pays for the damage that a car accident does.",
    "The bank lends money at a low rate of interest.",
]
QUERY = "car accident"


@pytest.fixture
def filled(db: SpladeLite) -> SpladeLite:
    db.add(TEXTS)
    return db


@pytest.mark.parametrize("mode", ["splade", "bm25", "hybrid"])
def test_negatives_are_found_and_are_never_positives(filled: SpladeLite, mode: str) -> None:
    examples = [
        Example(QUERY, TEXTS[1], ("given",)),
        Example(QUERY, TEXTS[6]),
        Example("bread", TEXTS[3], (TEXTS[4],)),
    ]
    mined = mine(filled, examples, count=3, mode=mode, margin=math.inf, seed=4)
    assert [(example.query, example.positive) for example in mined] == [(e.query, e.positive) for e in examples]
    assert mined[0].negatives[0] == "given"
    assert mined[2].negatives[0] == TEXTS[4]
    for example, given in zip(mined, (1, 0, 1), strict=True):
        assert len(set(example.negatives)) == given + 3
        assert example.positive not in example.negatives
        assert set(example.negatives) <= {*TEXTS, "given"}
    assert not {TEXTS[1], TEXTS[6]} & {*mined[0].negatives, *mined[1].negatives}
    assert mined == mine(filled, examples, count=3, mode=mode, margin=math.inf, seed=4)


def test_what_scores_like_the_positive_is_no_negative(filled: SpladeLite) -> None:
    scores = {hit.text: hit.score for hit in filled.search(QUERY, k=100, mode="splade")}
    lower = sorted(score for score in scores.values() if score < scores[TEXTS[6]])
    assert len(lower) > 2
    for limit in lower[-1] * 1.01, lower[1] * 1.01:  # all that is lower, and only the lowest two
        hard = {text for text, score in scores.items() if score <= limit and text != TEXTS[6]}
        margin = limit / scores[TEXTS[6]]
        (mined,) = mine(filled, [Example(QUERY, TEXTS[6])], count=len(hard), margin=margin)
        assert set(mined.negatives) == hard
    (unfiltered,) = mine(filled, [Example(QUERY, "not in the database")], count=len(scores), margin=0.5)
    assert set(unfiltered.negatives) == set(scores)


def test_what_scores_like_the_positive_does_not_come_back_at_random(filled: SpladeLite) -> None:
    scores = {hit.text: hit.score for hit in filled.search(QUERY, k=100, mode="splade")}
    positive, *_ = sorted(scores, key=scores.__getitem__)[1:]
    alike = {text for text, score in scores.items() if score > 0.95 * scores[positive] and text != positive}
    assert len(alike) > 2
    (mined,) = mine(filled, [Example(QUERY, positive)], count=50)
    assert set(mined.negatives) == set(TEXTS) - alike - {positive}


def test_a_high_count_searches_deeper(filled: SpladeLite) -> None:
    hits = [hit.text for hit in filled.search(QUERY, k=100, mode="splade")]
    for seed in range(8):
        (mined,) = mine(filled, [Example(QUERY, hits[0])], count=2, depth=1, margin=math.inf, seed=seed)
        assert set(mined.negatives) <= set(hits[1:4])


def test_too_few_hits_are_made_up_at_random_and_a_small_database_gives_what_it_has(filled: SpladeLite) -> None:
    (mined,) = mine(filled, [Example("", TEXTS[0])], count=5)
    assert len(set(mined.negatives)) == 5
    (everything,) = mine(filled, [Example(QUERY, TEXTS[0])], count=50, margin=math.inf)
    assert set(everything.negatives) == set(TEXTS[1:])


def test_of_a_long_document_the_whole_is_the_negative(db: SpladeLite) -> None:
    long = " ".join(f"Sentence {i} is about the weather in town." for i in range(80)) + " A car accident happened."
    db.add([long, *TEXTS])
    (mined,) = mine(db, [Example(QUERY, TEXTS[6])], count=8, margin=math.inf)
    assert [text for text in mined.negatives if text in long] == [long]
    # The document of which a positive is a part is no negative.
    (kept,) = mine(db, [Example(QUERY, long[-200:])], count=8, margin=math.inf)
    assert long not in kept.negatives


def test_a_pseudo_query_does_not_find_its_own_document_as_negative(db: SpladeLite) -> None:
    documents = [f"{a} {b} {a}" for a in TEXTS for b in TEXTS if a != b]
    db.add(documents)
    examples = pseudo_queries(documents, seed=3)
    for example in mine(db, examples, count=4):
        assert not any(example.positive in text for text in example.negatives)


def test_arguments_of_mine(filled: SpladeLite, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="count is 0"):
        mine(filled, [], count=0)
    with pytest.raises(InvalidInput, match="margin is nan"):
        mine(filled, [], count=1, margin=math.nan)
    with pytest.raises(InvalidInput, match=r"examples\[0\] has scores"):
        mine(filled, [Example("q", "a", scores=(1.0,))], count=1)
    with SpladeLite(tmp_path / "empty.db") as empty, pytest.raises(InvalidInput, match="database is empty"):
        mine(empty, [Example("q", "a")], count=1)


class Counting:
    """A teacher whose scores are known, and that remembers what it was asked."""

    name = "counting"

    def __init__(self, fingerprint: str = "f", factor: float = 1.0) -> None:
        self.fingerprint = fingerprint
        self.factor = factor
        self.asked: list[tuple[str, str]] = []

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        self.asked += pairs
        return np.array([self.factor * len(text) - len(query) for query, text in pairs], np.float32)


EXAMPLES = [Example("q", "four", ("six666", "x")), Example("query", "a"), Example("q", "x", ("four",))]


def test_scores_go_to_their_texts() -> None:
    teacher = Counting()
    given = Example("given", "a", scores=(9.0,))
    scored = with_scores([*EXAMPLES, given], teacher)
    assert [example.scores for example in scored] == [(3.0, 5.0, 0.0), (-4.0,), (0.0, 3.0), (9.0,)]
    assert sorted(teacher.asked) == sorted({("q", "four"), ("q", "six666"), ("q", "x"), ("query", "a")})


def test_a_teacher_that_gives_no_number_is_named() -> None:
    with pytest.raises(ModelError, match="counting scored query 'q' and text 'four' as nan"):
        with_scores(EXAMPLES, Counting(factor=math.nan))


def test_kept_scores_are_not_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "scores"
    with cached(Counting(), path) as first:
        expected = with_scores(EXAMPLES[:2], first)
    again = Counting()
    with cached(again, path) as second:
        assert with_scores(EXAMPLES, second)[:2] == expected
    assert again.asked == []
    other = Counting("other", 2.0)
    with cached(other, path) as third:
        assert with_scores(EXAMPLES[1:2], third)[0].scores == (-3.0,)
    assert other.asked == [("query", "a")]
    nameless = Counting("")
    with cached(nameless, path) as fourth:
        with_scores(EXAMPLES, fourth)
    assert len(nameless.asked) == 4
    (tmp_path / "note.txt").write_text("no database, but a text that is long enough to be looked at" * 20)
    message = r"note\.txt: cannot be used to keep scores"
    with pytest.raises(InvalidInput, match=message), cached(again, tmp_path / "note.txt"):
        pass


def test_what_was_scored_before_an_interruption_is_kept(tmp_path: Path) -> None:
    class Interrupted(Counting):
        def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
            if len(self.asked) >= 2000:
                raise KeyboardInterrupt
            return super().score(pairs)

    examples = [Example(f"q{i}", "a", ("b", "c")) for i in range(1500)]
    first = Interrupted()
    with pytest.raises(KeyboardInterrupt), cached(first, tmp_path / "scores") as teacher:
        with_scores(examples, teacher, progress=False)
    rest = Counting()
    with cached(rest, tmp_path / "scores") as teacher:
        with_scores(examples, teacher, progress=False)
    assert len(first.asked) >= 2000
    assert len(first.asked) + len(rest.asked) == 4500
    assert not set(first.asked) & set(rest.asked)


def test_an_ensemble_is_the_mean_on_the_first_teachers_scale() -> None:
    members = [Counting("a"), Counting("b", 100.0), Counting("c", 0.0)]  # the last one tells nothing apart
    asked = [Example("q", "four", ("six666", "x")), Example("query", "two", ("fourteen",))]
    scored = with_scores(asked, ensemble(members[:2]))
    for example, lengths in zip(scored, ([4, 6, 1], [3, 8]), strict=True):
        assert example.scores == pytest.approx(np.array(lengths) - np.mean(lengths), abs=1e-5)
    for example, whole in zip(with_scores(asked, ensemble(members)), scored, strict=True):
        assert example.scores == pytest.approx(np.array(whole.scores) * 2 / 3, abs=1e-5)
    assert with_scores([Example("q", "one")], ensemble(members))[0].scores == (0.0,)
    with pytest.raises(InvalidInput, match="at least one teacher"):
        ensemble([])


def test_the_scores_of_an_ensembles_members_are_kept(tmp_path: Path) -> None:
    members = [Counting("a"), Counting("b", 100.0)]
    whole = with_scores(EXAMPLES, ensemble(members))
    before = len(members[0].asked)
    for _ in range(2):
        with cached(ensemble(members), tmp_path / "scores") as teacher:
            assert with_scores(EXAMPLES, teacher) == whole
    assert len(members[0].asked) == 2 * before


def test_a_sparse_teacher_scores_as_the_search_does(tmp_path: Path) -> None:
    with SpladeLite(tmp_path / "kb.db", min_weight=0.0) as db:
        db.add(TEXTS)
        hits = db.search(QUERY, k=8, mode="splade")
    scores = sparse(bundled_encoder()).score([(QUERY, hit.text) for hit in hits])
    np.testing.assert_allclose(scores, [hit.score for hit in hits], rtol=0.02)


def test_a_bi_encoder_gives_cosines() -> None:
    teacher = bi_encoder(lambda texts: [[len(text), 1.0] for text in texts])
    np.testing.assert_allclose(
        teacher.score([("a", "b"), ("a", "a" * 1000)]), [20.0, 20 * 1001 / math.sqrt(2e6 + 2)], 1e-4
    )
    assert teacher.score([]).shape == (0,)


def write_cross_encoder(folder: Path, labels: int) -> Path:
    import transformers

    write_wordpiece(folder)
    config = transformers.BertConfig(
        vocab_size=120, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, num_labels=labels, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(1)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("labels", [1, 2])
def test_a_cross_encoder_scores_as_transformers_does(tmp_path: Path, labels: int) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = write_cross_encoder(tmp_path / "ce", labels)
    pairs = [("car crash", "the car " * n) for n in (1, 40, 3, 100)] + [("water " * 80, "the river"), ("bank", "money")]
    teacher = cross_encoder(folder)
    scores = teacher.score(pairs)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for pair, score in zip(pairs, scores, strict=True):
        with torch.no_grad():
            (logits,) = model(**tokenizer(*pair, truncation=True, max_length=64, return_tensors="pt")).logits
        expected = logits[0] if labels == 1 else logits[1] - logits[0]
        assert score == pytest.approx(expected.item(), abs=1e-4)
    assert scores.dtype == np.float32
    assert len(np.unique(scores)) == len(pairs) - 1  # two are cut to the same
    assert teacher.score([]).shape == (0,)
    assert teacher.fingerprint == cross_encoder(folder).fingerprint


def test_what_is_no_cross_encoder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 3 labels"):
        cross_encoder(write_cross_encoder(tmp_path / "three", 3))
    from models_for_tests import write_mlm

    with pytest.raises(ModelError, match=r"the weights lack .*classifier"):
        cross_encoder(write_mlm(tmp_path / "mlm"))
    with pytest.raises(ModelError, match="no such folder"):
        cross_encoder(tmp_path / "missing")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text(json.dumps({"model_type": "nothing"}))
    with pytest.raises(ModelError, match="cannot load it"):
        cross_encoder(tmp_path / "bad")
