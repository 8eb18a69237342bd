"""Files of examples, BEIR folders, held-out queries, and questions made of documents."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from spladelite import InvalidInput, SpladeLite, WrongType
from spladelite.training.data import Example, hold_out, read_examples, read_training_data
from spladelite.training.pseudo import pseudo_data, pseudo_queries


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_jsonl_file(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"query": " q1 ", "positive": "a", "negatives": ["b", "c"]},
        {"anchor": "q2", "positive": ["d", "e"], "negative": "f"},
        {"question": "q3", "answer": "g", "negative_10": "z", "negative_2": "y"},
        {"query": "ü", "pos": ["h"], "neg": []},
    ]
    lines = "\n\n".join(json.dumps(row) for row in rows)  # blank lines and a missing last line end are no harm
    assert read_examples(write(tmp_path / f"x.jsonl{suffix}", "\ufeff" + lines)) == (
        Example("q1", "a", ("b", "c")),
        Example("q2", "d", ("f",)),
        Example("q2", "e", ("f",)),
        Example("q3", "g", ("y", "z")),
        Example("ü", "h"),
    )


def test_scores_belong_to_their_texts(tmp_path: Path) -> None:
    rows = [
        {"query": "q", "positive": ["a", "b"], "negatives": ["c"], "scores": [3, 2.5, -1]},
        {"query": "q", "positive": "a", "score": 1},
        {"query": "r", "pos": ["a"], "neg": ["b"], "pos_scores": [2], "neg_scores": [1]},
    ]
    path = write(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [example.scores for example in read_examples(path)] == [(3.0, -1.0), (2.5, -1.0), (1.0,), (2.0, 1.0)]


@pytest.mark.parametrize("header", ["", "query\tpositive\tnegative\n"])
def test_a_tsv_file(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "x.tsv", header + 'q1\ta "quoted" text\nq2\tb\tc\td\r\nq3\te\tf\tg')
    assert read_examples(path) == (
        Example("q1", 'a "quoted" text'),
        Example("q2", "b", ("c", "d")),
        Example("q3", "e", ("f", "g")),
    )


GOOD = '{"query": "q", "positive": "a", "negatives": ["b"], "scores": [1, 0]}\n'
BAD = {
    "blank query": ('{"query": " ", "positive": "a"}\n', "x.jsonl:2: query is empty"),
    "no positive": ('{"query": "q"}\n', "x.jsonl:2: no 'positive' among query"),
    "no positives": ('{"query": "q", "positive": []}\n', "x.jsonl:2: positive is an empty list"),
    "a number": ('{"query": "q", "positive": 7}\n', "x.jsonl:2: positive is 7, not a text"),
    "blank negative": ('{"query": "q", "positive": "a", "negatives": ["b", ""]}\n', "x.jsonl:2: negatives is empty"),
    "contradiction": ('{"query": "q", "positive": "a", "negatives": ["b", "a "]}\n', "2: the positive 'a' is also neg"),
    "NaN": ('{"query": "q", "positive": "a", "scores": [NaN]}\n', "2: scores has NaN; every score must be a finite"),
    "infinite": ('{"query": "q", "positive": "a", "scores": [1e999]}\n', "2: scores has Infinity"),
    "hundreds of digits": (
        '{"query": "q", "positive": "a", "scores": [' + "9" * 400 + "]}\n",
        "2: scores has 9999.*float32",
    ),
    "not a float32": ('{"query": "q", "positive": "a", "scores": [-1e300]}\n', "2: scores has -1e\\+300.*float32"),
    "label": ('{"query": "q", "positive": "a", "label": 0}\n', "x.jsonl:2: has 'label'.*teacher's scores 'scores'"),
    "swapped": (
        '{"query": "q", "positive": "b", "negatives": ["a"], "scores": [1, 0]}\n',
        r"x.jsonl:1: the negative 'b' is a positive of the same query in .*x.jsonl:2",
    ),
    "bool": ('{"query": "q", "positive": "a", "scores": [true]}\n', "2: scores has true"),
    "too few": (
        '{"query": "q", "positive": "a", "negatives": ["b"], "scores": [1]}\n',
        "2: 1 scores for 1 positive and 1",
    ),
    "too many": ('{"query": "q", "positive": "a", "scores": [1, 2]}\n', "2: 2 scores for 1 positive and 0 negative"),
    "some scores": ('{"query": "q", "positive": "a"}\n', "x.jsonl:1 has scores and .*x.jsonl:2 has none"),
    "half a line": ('{"query": "q", "posi', "2: not JSON: .*half written"),
    "not JSON": ("query: q\n", "x.jsonl:2: not JSON"),
    "a list": ('["q", "a"]\n', "x.jsonl:2: expected an object"),
    "two names": ('{"query": "q", "anchor": "q", "positive": "a"}\n', "2: has 'query' and 'anchor'"),
    "surrogate": ('{"query": "\\ud800", "positive": "a"}\n', "2: query holds a lone surrogate"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_line_is_named(tmp_path: Path, what: str) -> None:
    line, message = BAD[what]
    with pytest.raises(InvalidInput, match=message):
        read_examples(write(tmp_path / "x.jsonl", GOOD + line))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", "q\ta\nq\n", r"x.tsv:2: expected query<TAB>positive"),
        ("x.tsv", "q\ta\tb\nq\ta", r"x.tsv:2: the last line has no line end and 2 columns where others have 3"),
        ("x.tsv", "q\t \n", r"x.tsv:1: column 2 is empty"),
        ("x.tsv", "\t\n", r"x.tsv:1: column 1 is empty"),
        ("x.tsv", "query\tpositive\n", "no examples"),
        ("x.jsonl", "\n", "no examples"),
        ("x.jsonl", GOOD.encode() + b'{"query": "\xff"}\n', r"\(0xff\) is not UTF-8"),
        ("x.csv", "q,a\n", "training files are named"),
        ("x", "q", "training files are named"),
    ],
)
def test_a_bad_file(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_examples(write(tmp_path / name, content))


def test_a_damaged_gzip_file(tmp_path: Path) -> None:
    whole = gzip.compress("".join(GOOD.replace("q", f"q{i}", 1) for i in range(500)).encode())
    path = tmp_path / "x.jsonl.gz"
    for content in (whole[:-20], whole[: len(whole) // 2], b"no gzip", whole[:40] + b"\xff" * 40 + whole[80:]):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=r"x\.jsonl\.gz"):
            read_examples(path)
    with pytest.raises(InvalidInput, match="No such file"):
        read_examples(tmp_path / "missing.jsonl")


def many(tmp_path: Path, count: int) -> Path:
    lines = [f"Query {i}\ttext {i}\tother {i}\nquery  {i}\tmore {i}\n" for i in range(count)]
    return write(tmp_path / "x.tsv", "".join(lines))


@pytest.mark.parametrize(("count", "held"), [(1, 0), (6, 3), (100, 20), (300, 30), (2500, 200)])
def test_queries_are_held_out_with_all_their_examples(tmp_path: Path, count: int, held: int) -> None:
    data = read_training_data(many(tmp_path, count), seed=3)
    trained = {example.query.split()[1] for example in data.examples}
    assert len(data.corpus) == 3 * count
    queries, left = min(2 * held, 200), len(data.examples)
    note = f"{queries} of {2 * count} queries held out for validation, {left} of {2 * count} examples left to train on"
    assert data.notes == ((note,) if held else ())
    if not held:
        assert data.validation is None
        assert len(data.examples) == 2
        return
    assert data.validation is not None
    asked = {query.split()[1] for query in data.validation.queries.values()}
    # Two spellings of a query go together; the limit of 200 counts both.
    assert len(data.validation.queries) == min(2 * held, 200)
    assert not asked & trained
    assert len(data.validation.corpus) == min(3 * count, 1000)
    for id, grades in data.validation.qrels.items():
        number = data.validation.queries[id].split()[1]
        expected = {f"text {number}": 1, f"other {number}": 0}, {f"more {number}": 1}
        assert {data.validation.corpus[d]: grade for d, grade in grades.items()} in expected
    again = read_training_data(many(tmp_path, count), seed=3)
    assert again.validation is not None
    assert again.examples == data.examples
    assert again.validation.corpus == data.validation.corpus
    assert read_training_data(many(tmp_path, count), seed=4).examples != data.examples


def test_what_validation_may_be(tmp_path: Path) -> None:
    path = many(tmp_path, 40)
    half = read_training_data(path, validation=0.5)
    assert half.validation is not None
    assert len(half.validation.queries) == 40
    assert half.notes == ("40 of 80 queries held out for validation, 40 of 80 examples left to train on",)
    assert read_training_data(path, validation=0).validation is None
    other = read_training_data(path, validation=write(tmp_path / "v.tsv", "query 7\ttext 7\nnew\ttext 1\n"))
    assert other.validation is not None
    assert list(other.validation.queries.values()) == ["query 7", "new"]
    assert len(other.examples) == 78
    assert other.notes == ("2 examples left out, whose queries are validation queries",)
    for share in (1.0, -0.1, float("nan")):
        with pytest.raises(InvalidInput, match="a share of the queries"):
            read_training_data(path, validation=share)
    with pytest.raises(WrongType, match="validation is of type list"):
        read_training_data(path, validation=[])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="nothing is left to train on"):
        read_training_data(path, validation=path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    corpus = {"d1": "one", "d2": "two", "d3": "three", "d4": "", "d5": "one"}
    queries = {"q1": "first", "q2": "second", "q3": "third"}
    (tmp_path / "qrels").mkdir()
    for name, texts in (("corpus", corpus), ("queries", queries)):
        lines = [json.dumps({"_id": id, "text": text}) for id, text in texts.items()]
        write(tmp_path / f"{name}.jsonl", "\n".join(lines) + "\n")
    header = "query-id\tcorpus-id\tscore\n"
    train = "q1\td1\t2\nq1\td2\t0\nq1\td5\t0\nq2\td4\t1\nq2\td3\t1\nq9\td3\t1\nq2\tgone\t1\n"
    write(tmp_path / "qrels" / "train.tsv", header + train)
    write(tmp_path / "qrels" / "dev.tsv", header + "q3\td2\t1\nq3\td3\t0\nq1\td1\t0\n")
    return tmp_path


def test_a_beir_folder(folder: Path) -> None:
    data = read_training_data(folder)
    assert data.examples == (Example("first", "one", ("two",)), Example("second", "three"))
    assert data.corpus == ("one", "two", "three")
    assert data.notes == ("3 judgments left out, whose query or document is missing or empty",)
    assert data.validation is not None
    assert data.validation.queries == {"q3": "third"}  # q1 has no relevant document
    assert data.validation.qrels == {"q3": {"d2": 1, "d3": 0}}
    assert data.validation.corpus == {"d1": "one", "d2": "two", "d3": "three", "d5": "one"}
    (folder / "qrels" / "train.tsv").unlink()
    with pytest.raises(InvalidInput, match=r"no judgments for split 'train'.*has: dev"):
        read_training_data(folder)


def test_a_document_that_holds_an_answer_is_no_distractor() -> None:
    examples = [Example(f"q{i}", f"answer number {i:02}, of a length that no other has") for i in range(10)]
    documents = [f"title {i}\nanswer number {i:02}, of a length that no other has, and more" for i in range(10)]
    _, held = hold_out(examples, documents, seed=1)
    assert held is not None
    answers = [held.corpus[d] for grades in held.qrels.values() for d in grades]
    assert len(held.corpus) == len(answers) + 2 * (10 - len(answers))


DOCUMENT = """# Frobs

A frob is a thing that frobs other things, as long as it is oiled well each day.

## How to oil a frob

Take a can of oil and pour three drops on the frob before it starts to frob.

Can a frob be repaired?
It can, if the spring inside is whole; take out the two screws and look at it under a lamp.
"""


def test_headings_and_questions_come_first() -> None:
    made = pseudo_queries([DOCUMENT], per_document=2, keep=0.0)
    assert made == (
        Example("How to oil a frob", "Take a can of oil and pour three drops on the frob before it starts to frob."),
        Example(
            "Can a frob be repaired?",
            "It can, if the spring inside is whole; take out the two screws and look at it under a lamp.",
        ),
    )
    text = "Reset your password\n\nOpen the settings page, then press the button and wait for the mail."
    (titled,) = pseudo_queries([text], per_document=1, keep=0.0)
    assert titled.query == "Reset your password"
    text = "The first sentence is this. It has e.g. a second one. " + "And more words. " * 9
    first, span = pseudo_queries([text], keep=0.0)
    assert first.query == "The first sentence is this."
    assert first.positive.startswith("It has e.g. a second one.")
    assert len(span.query.split()) >= 5


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_an_answer_is_one_piece_of_its_document(keep: float) -> None:
    documents = [" ".join(f"w{i}x{j}" for j in range(10 + 7 * i)) for i in range(60)]
    documents += ["", "too short", "これは日本語の文書です。とても短いですが、質問を作るには十分な長さがあります。"]
    made = pseudo_queries(documents, per_document=3, seed=5, keep=keep)
    assert made == pseudo_queries(documents, per_document=3, seed=5, keep=keep)
    assert made != pseudo_queries(documents, per_document=3, seed=6, keep=keep)
    assert len(made) >= 170
    for example in made:
        assert any(example.positive in text and example.query in text for text in documents)
        assert (example.query in example.positive) == bool(keep)
    assert any("日" in example.query + example.positive for example in made)


def test_documents_are_held_out_whole() -> None:
    documents = [" ".join(f"w{i}x{j}" for j in range(50)) for i in range(100)] + ["short"]
    data = pseudo_data(documents, seed=2)
    assert data.validation is not None
    trained = {example.query.split("x")[0] for example in data.examples}
    held = {query.split("x")[0] for query in data.validation.queries.values()}
    assert len(held) == 20
    assert len(trained) == 80
    assert not trained & held
    assert len(data.validation.corpus) == 101
    assert data.notes == ("20 of 100 documents held out for validation, with all that is made of them",)
    for id, grades in data.validation.qrels.items():
        (document,) = grades
        assert not set(data.validation.queries[id].split()) & set(data.validation.corpus[document].split())
    with pytest.raises(InvalidInput, match="0 of 1 documents"):
        pseudo_data(["too short", "too short"])


def test_a_database_teaches_what_its_users_found_useful(tmp_path: Path) -> None:
    texts = {
        f"d{i}": f"Document number {i} about {word}." for i, word in enumerate(("trains", "bread", "snow", "cars"))
    }
    with SpladeLite(tmp_path / "kb.db") as db:
        db.add(texts.values(), ids=texts.keys())
        with pytest.raises(InvalidInput, match="no feedback that calls a document useful"):
            read_training_data(tmp_path / "kb.db")
        db.feedback("loaf", "d1")
        db.feedback("loaf", "d0", 0)
        db.feedback("winter", "d2", 2)
    data = read_training_data(tmp_path / "kb.db", validation=0)
    assert data.examples == (Example("loaf", texts["d1"], (texts["d0"],)), Example("winter", texts["d2"]))
    assert set(data.corpus) == set(texts.values())
    with pytest.raises(InvalidInput, match=r"training files are named .jsonl or .tsv"):
        read_training_data(tmp_path / "kb.csv")
