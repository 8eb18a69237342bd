"""Files, measures, significance, and whole evaluations through the command line."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from spladelite import InvalidInput, SpladeLite
from spladelite.evaluation import beir, report, trec
from spladelite.evaluation.measures import (
    EXPONENTIAL,
    MEASURES,
    expected_flops,
    measures_for,
    paired_test,
    term_probabilities,
)
from spladelite.evaluation.runner import compare, run_evaluation
from spladelite.records import SparseVectors

ir_measures = pytest.importorskip("ir_measures")

from spladelite.cli.evaluate import evaluate  # noqa: E402
from spladelite.evaluation.measures import parse_measure, score_run  # noqa: E402

DOCUMENTS = {
    "d1": ("Compression", "gzip makes files smaller on disk."),
    "d2": ("", "time.sleep suspends the calling thread."),
    "d3": ("Scheduling", "The sched module runs functions at a later time."),
    "d4": ("Archives", "Zip archives hold compressed files."),
}
QUERIES = {"q1": "shrink a file", "q2": "run something later", "q3": "never judged", "q4": "wait some seconds"}
QRELS = {"q1": {"d1": 2, "d4": 1}, "q2": {"d3": 2, "d2": 0}, "q4": {"d2": 1}}


@pytest.fixture(params=["plain", "gz"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "tiny"
    (path / "qrels").mkdir(parents=True)
    corpus = [json.dumps({"_id": id, "title": title, "text": text}) for id, (title, text) in DOCUMENTS.items()]
    queries = [json.dumps({"_id": id, "text": text, "metadata": {}}) for id, text in QUERIES.items()]
    for name, lines in (("corpus", corpus), ("queries", queries)):
        content = ("\n".join(lines) + "\n").encode()
        if request.param == "gz":
            (path / f"{name}.jsonl.gz").write_bytes(gzip.compress(content))
        else:
            (path / f"{name}.jsonl").write_bytes(content)
    rows = [f"{query}\t{document}\t{grade}" for query, grades in QRELS.items() for document, grade in grades.items()]
    (path / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n")
    return path


def test_a_beir_folder(folder: Path) -> None:
    assert dict(beir.read_corpus(folder)) == {id: f"{title} {text}".strip() for id, (title, text) in DOCUMENTS.items()}
    assert beir.read_queries(folder) == QUERIES
    assert beir.read_judgments(folder) == QRELS
    with pytest.raises(InvalidInput, match=r"no judgments for split 'dev'.*has: test"):
        beir.read_judgments(folder, "dev")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "corpus.jsonl:1: not JSON"),
        ('{"text": "a"}', 'expected a JSON object with a string "_id"'),
        ('{"_id": 3, "text": "a"}', 'string "_id"'),
        ('{"_id": "a"}', '"text" must be strings'),
        ('{"_id": "a", "text": "x"}\n\n{"_id": "a", "text": "y"}', "corpus.jsonl:3: document id 'a' occurs twice"),
    ],
)
def test_a_broken_corpus(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "corpus.jsonl").write_text(content)
    with pytest.raises(InvalidInput, match=message.replace(".", r"\.")):
        list(beir.read_corpus(tmp_path))


def test_what_is_no_beir_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a BEIR folder"):
        beir.read_queries(tmp_path)
    (tmp_path / "queries.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "q", "text": "t"}\n')[:-9])
    with pytest.raises(InvalidInput, match="cannot read"):
        beir.read_queries(tmp_path)


def test_trec_files_round_trip(tmp_path: Path) -> None:
    run = {"q1": {"d1": 3.25, "d2": 1e-7}, "q2": {}}
    trec.write_run(tmp_path / "a.run", run, "ours")
    assert trec.read_run(tmp_path / "a.run") == {"q1": run["q1"]}
    assert (tmp_path / "a.run").read_text().splitlines()[0] == "q1 Q0 d1 1 3.25 ours"
    trec.write_qrels(tmp_path / "a.qrels", QRELS)
    assert trec.read_qrels(tmp_path / "a.qrels") == QRELS
    with pytest.raises(InvalidInput, match="white space"):
        trec.write_run(tmp_path / "b.run", {"q 1": {"d": 1.0}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q1 0 d1", "expected 4 columns"),
        ("q1 0 d1 high", "grade must be an integer"),
        ("q1 0 d1 1\nq1 0 d1 2", "judged twice, as 1 and as 2"),
    ],
)
def test_broken_qrels(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "q").write_text(content)
    with pytest.raises(InvalidInput, match=message):
        trec.read_qrels(tmp_path / "q")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q1 Q0 d1 1 0.5", "expected 6 columns"),
        ("q1 Q0 d1 1 x t", "score must be a number"),
        ("q1 Q0 d1 1 nan t", "finite"),
        ("q1 Q0 d1 1 2 t\nq1 Q0 d1 2 1 t", "'d1' occurs twice"),
    ],
)
def test_broken_runs(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "r").write_text(content)
    with pytest.raises(InvalidInput, match=message):
        trec.read_run(tmp_path / "r")


def test_broken_topics(tmp_path: Path) -> None:
    for content, message in (
        ("q1 no tab", "expected query_id"),
        ("q1\ta\nq1\tb", "occurs twice"),
        ("q1\t ", "expected"),
    ):
        (tmp_path / "t").write_text(content)
        with pytest.raises(InvalidInput, match=message):
            trec.read_topics(tmp_path / "t")
    (tmp_path / "t").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        trec.read_topics(tmp_path / "t")
    with pytest.raises(InvalidInput, match="cannot read"):
        trec.read_topics(tmp_path / "missing")


def test_measures_are_the_librarys() -> None:
    rng = np.random.default_rng(0)
    qrels = {f"q{i}": {f"d{j}": int(rng.integers(0, 4)) for j in range(30)} for i in range(20)}
    run = {f"q{i}": {f"d{j}": float(rng.random()) for j in rng.choice(60, 25, replace=False)} for i in range(20)}
    ours = score_run(qrels, run)
    names = {name: parse_measure(name) for name in ours.mean}
    library = ir_measures.calc_aggregate(list(names.values()), qrels, run)
    assert ours.mean == pytest.approx({name: library[measure] for name, measure in names.items()}, abs=1e-9)
    for name, values in ours.per_query.items():
        assert np.mean(list(values.values())) == pytest.approx(ours.mean[name])


def test_exponential_gain_by_hand() -> None:
    qrels = {"q": {"a": 3, "b": 1, "c": 0}}
    run = {"q": {"b": 3.0, "x": 2.0, "a": 1.0}}
    assert measures_for(qrels)[1] == EXPONENTIAL
    assert measures_for({"q": {"a": 1}}) == ("nDCG@10", "RR@10", "R@100", "R@1000")
    dcg, ideal = 1 + 7 / 2, 7 + 1 / math.log2(3)
    assert score_run(qrels, run, [EXPONENTIAL]).mean[EXPONENTIAL] == pytest.approx(dcg / ideal)


@pytest.mark.parametrize("grade", [2, 29, 32, 63, 64, 100, 1023, 1024, 10**6, 10**30])
def test_a_grade_of_any_size(grade: int) -> None:
    """trec_eval would take memory for each grade, give 0.0, or die."""
    qrels, run = {"q": {"high": grade, "low": 1, "bad": -grade}}, {"q": {"low": 2.0, "bad": 1.5, "high": 1.0}}
    mean = score_run(qrels, run, measures_for(qrels)).mean
    low = 1 / grade
    assert mean["nDCG@10"] == pytest.approx((low + 1 / 2) / (1 + low / math.log2(3)))
    low = 1 / (2**grade - 1) if grade < 2000 else 0.0
    assert mean[EXPONENTIAL] == pytest.approx((low + 1 / 2) / (1 + low / math.log2(3)))
    assert (mean["RR@10"], mean["R@100"]) == (1.0, 1.0)
    with pytest.raises(InvalidInput, match="takes grades up to"):
        score_run({"q": {"high": 1001}}, {"q": {"high": 1.0}}, ["ERR@10"])


def test_ndcg_is_trec_evals() -> None:
    rng = np.random.default_rng(5)
    qrels = {f"q{i}": {f"d{j}": int(rng.integers(-1, 4)) for j in range(20)} for i in range(30)}
    run = {f"q{i}": {f"d{j}": float(rng.integers(0, 5)) for j in range(40)} for i in range(30)}  # many ties
    gains = ir_measures.nDCG(gains={grade: 2**grade - 1 for grade in range(4)}) @ 10
    # One at a time: together, ir-measures gives the gains of one to the others, or not, by the order of a set.
    asked = (ir_measures.nDCG @ 10, ir_measures.nDCG, gains)
    expected = {measure: ir_measures.calc_aggregate([measure], qrels, run)[measure] for measure in asked}
    ours = score_run(qrels, run, ["nDCG@10", "nDCG", EXPONENTIAL]).mean
    assert ours["nDCG@10"] == pytest.approx(expected[ir_measures.nDCG @ 10], abs=1e-9)
    assert ours["nDCG"] == pytest.approx(expected[ir_measures.nDCG], abs=1e-9)
    assert ours[EXPONENTIAL] == pytest.approx(expected[gains], abs=1e-9)


def test_a_query_that_is_a_document_does_not_find_itself(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    corpus = {"a1": "dogs should be kept on a leash in parks", "d1": "a leash law for dogs harms nobody", "1": "bread"}
    for name, texts in (("corpus", corpus), ("queries", {"a1": corpus["a1"], "2": "a law for dogs"})):
        rows = "".join(json.dumps({"_id": id, "text": text}) + "\n" for id, text in texts.items())
        (tmp_path / f"{name}.jsonl").write_text(rows)
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\na1\td1\t1\n2\td1\t1\n")
    result = CliRunner().invoke(evaluate, [str(tmp_path), "--system", "splade", "--database", str(tmp_path / "kb.db")])
    assert result.exit_code == 0, result.output
    assert "1.0000" in result.output
    assert "1 queries are documents too" in result.output
    assert "own id is left out" in result.output
    with SpladeLite(tmp_path / "kb.db") as db:  # one's own judgments: nothing is left out
        evaluation = run_evaluation(db, {"a1": corpus["a1"]}, {"a1": {"a1": 1}}, ["splade"])
    assert evaluation.systems[0].scores.mean["RR@10"] == 1.0


@pytest.mark.parametrize("name", [*MEASURES, EXPONENTIAL, "AP", "P(rel=2)@5", "RR(rel=2)", "nDCG(gains={0:1,2:3})@7"])
def test_names_of_measures(name: str) -> None:
    assert str(parse_measure(name)) == name
    assert parse_measure(f" {name.replace('@', ' @ ')} ") == parse_measure(name)


def test_what_is_missing_counts_as_the_measure_defines() -> None:
    qrels = {"q1": {"d1": 1}, "q2": {"d2": 1}}
    run = {"q1": {"d1": 1.0}, "unjudged": {"d9": 1.0}}
    scores = score_run(qrels, run)
    assert scores.per_query["nDCG@10"] == {"q1": 1.0, "q2": 0.0}
    assert scores.mean["R@1000"] == 0.5
    assert score_run(qrels, {}).mean["nDCG@10"] == 0.0
    with pytest.raises(InvalidInput, match="qrels are empty"):
        score_run({}, run)
    for name in (
        "nDGC@10",
        "nDCG@",
        "nDCG@x",
        "P(2)@5",
        "P(rel=x)@5",
        "P(rel=1)) or (f(",
        "nDCG(nosuch=1)",
        "P(**{})@5",
        "",
    ):
        with pytest.raises(InvalidInput, match="unknown measure"):
            score_run(qrels, run, [name])


def test_paired_test() -> None:
    queries = [f"q{i}" for i in range(40)]
    a = dict.fromkeys(queries, 0.5)
    assert paired_test(a, a) == 1.0
    better = dict.fromkeys(queries, 0.6)
    assert paired_test(better, a) == pytest.approx(1 / 20_001)
    # Three pairs that differ by the same: of the eight sign patterns two are as extreme.
    small = {query: 0.5 + (0.1 if i < 3 else 0) for i, query in enumerate(queries)}
    assert paired_test(small, a) == pytest.approx(0.25, abs=0.02)
    assert paired_test(small, a) == paired_test(a, small)
    with pytest.raises(InvalidInput, match="same queries"):
        paired_test(a, {"q1": 1.0})


def test_flops_by_hand() -> None:
    documents = SparseVectors.from_dicts([{0: 1.0, 1: 2.0}, {1: 1.0}])
    queries = SparseVectors.from_dicts([{1: 1.0, 2: 1.0}])
    p_d, p_q = term_probabilities(documents, 3), term_probabilities(queries, 3)
    assert p_d.tolist() == [0.5, 1.0, 0.0]
    assert expected_flops(p_q, p_d) == 1.0


@pytest.fixture
def filled(db: SpladeLite) -> SpladeLite:
    db.add([f"{title} {text}".strip() for title, text in DOCUMENTS.values()], ids=list(DOCUMENTS))
    return db


def test_an_evaluation(filled: SpladeLite) -> None:
    qrels = {**QRELS, "q9": {"d1": 1}, "q4": {"d2": 1, "gone": 1}}
    result = run_evaluation(filled, QUERIES, qrels, baseline="bm25", name="tiny")
    assert [system.name for system in result.systems] == ["bm25", "splade", "splade-idf", "hybrid"]
    splade = result.system("splade")
    assert splade.run["q1"] == {hit.id: hit.score for hit in filled.search("shrink a file", k=1000, mode="splade")}
    assert splade.scores == score_run(qrels, splade.run, result.measures)
    assert result.system("bm25").p_values == {}
    assert set(splade.p_values) == set(result.measures)
    assert splade.query_terms == np.mean([len(filled.expand(QUERIES[q], "query")) for q in ("q1", "q2", "q4")])
    weights = [[term.term_id for term in filled.expand(f"{t} {x}".strip())] for t, x in DOCUMENTS.values()]
    assert result.document_terms == np.mean(list(map(len, weights)))
    queries = [[term.term_id for term in filled.expand(QUERIES[q], "query")] for q in ("q1", "q2", "q4")]
    pairs = [len(set(query) & set(document)) for query in queries for document in weights]
    assert splade.flops == pytest.approx(np.mean(pairs))
    assert result.system("hybrid").flops is None
    assert [note.split(" ", 1)[0] for note in result.notes] == ["1", "1", "1"]
    assert "judged queries have no text" in result.notes[1]


def test_evaluations_that_cannot_be(filled: SpladeLite) -> None:
    with pytest.raises(InvalidInput, match="none of the 1 judged queries"):
        run_evaluation(filled, QUERIES, {"other": {"d1": 1}})
    with pytest.raises(InvalidInput, match="unknown system 'bm'"):
        run_evaluation(filled, QUERIES, QRELS, ["bm"])
    with pytest.raises(InvalidInput, match="named twice"):
        run_evaluation(filled, QUERIES, QRELS, ["bm25", "bm25"])
    with pytest.raises(InvalidInput, match="no dense vectors"):
        run_evaluation(filled, QUERIES, QRELS, ["dense"])
    with pytest.raises(InvalidInput, match="'dense' is not among"):
        run_evaluation(filled, QUERIES, QRELS, ["bm25"], baseline="dense")
    with SpladeLite(":memory:") as empty, pytest.raises(InvalidInput, match="empty"):
        run_evaluation(empty, QUERIES, QRELS)


def test_compare_shows_the_queries_that_differ(filled: SpladeLite) -> None:
    result = run_evaluation(filled, QUERIES, QRELS)
    differences = compare(filled, result, QRELS, "splade", "bm25", show=2)
    assert differences
    assert differences[0].first > differences[0].second
    for difference in differences:
        text = report.difference_text(difference, "splade", "bm25")
        assert difference.text in text
        assert "splade: d" in text
        assert difference.document_id in QRELS[difference.query_id]
    with pytest.raises(InvalidInput, match="'dense' was not run"):
        compare(filled, result, QRELS, "dense", "bm25")


def test_the_command_on_a_folder(folder: Path, tmp_path: Path) -> None:
    arguments = [str(folder), "--database", str(tmp_path / "kb.db"), "--compare", "splade", "bm25", "--show", "1"]
    arguments += ["--runs", str(tmp_path / "runs"), "--html", str(tmp_path / "report.html")]
    result = CliRunner().invoke(evaluate, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()[:5]] == [
        "system",
        "bm25",
        "splade",
        "splade-idf",
        "hybrid",
    ]
    assert "4 documents in 4 passages, 3 judged queries" in result.output
    assert "q4: wait some seconds" in result.output
    run = trec.read_run(tmp_path / "runs" / "hybrid.run")
    assert score_run(QRELS, run).mean["nDCG@10"] > 0.9
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "http" not in page

    again = CliRunner().invoke(evaluate, [str(folder), "--database", str(tmp_path / "kb.db"), "--json"])
    systems = json.loads(again.output)["systems"]
    assert systems["hybrid"]["measures"]["nDCG@10"] > 0.9


def test_the_command_on_a_users_own_database(filled: SpladeLite, path: str, tmp_path: Path) -> None:
    filled.close()
    trec.write_qrels(tmp_path / "qrels.txt", QRELS)
    (tmp_path / "topics.tsv").write_text("".join(f"{query}\t{text}\n" for query, text in QUERIES.items()))
    arguments = ["--database", path, "--qrels", str(tmp_path / "qrels.txt"), "--topics", str(tmp_path / "topics.tsv")]
    result = CliRunner().invoke(evaluate, [*arguments, "--system", "splade"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "3 judged queries" in result.output
    for wrong in (["--database", path], [str(tmp_path), *arguments]):
        assert CliRunner().invoke(evaluate, wrong).exit_code == 2


def test_html_escapes_what_a_collection_holds(filled: SpladeLite) -> None:
    result = run_evaluation(filled, {"q1": "<script>alert(1)</script> file"}, {"q1": {"d1": 1}}, name="<b>x</b>")
    page = report.as_html(result, compare(filled, result, {"q1": {"d1": 1}}, "splade", "bm25"), ("splade", "bm25"))
    assert "<script>" not in page
    assert "<b>" not in page
