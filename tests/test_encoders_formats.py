"""Every layout against sentence-transformers loading the same folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from models_for_tests import TEXTS, vocabulary, write_mlm, write_sentence_transformers

from spladelite.encoders.base import Encoder
from spladelite.encoders.export.export import export_model
from spladelite.encoders.objects import from_functions
from spladelite.encoders.registry import bundled_encoder, load_encoder
from spladelite.encoders.routed import RoutedEncoder
from spladelite.errors import InvalidInput, InvalidVector
from spladelite.records import SparseVectors

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

KINDS = ["bert", "distilbert", "roberta", "xlm-roberta", "modernbert"]


def dense(encoder: Encoder, vectors: SparseVectors) -> np.ndarray[Any, Any]:
    out = np.zeros((len(vectors), len(encoder.vocabulary)), np.float32)
    for i, (terms, weights) in enumerate(vectors):
        out[i, terms] = weights
    return out


def fitting(encoder: Encoder) -> list[str]:
    return [text for text in TEXTS if len(encoder.tokenize(text)) <= encoder.window]


def reference(folder: Path, encoder: RoutedEncoder, side: str) -> np.ndarray[Any, Any]:
    """sentence-transformers' vectors of the texts that fit, without the entries that never are terms."""
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(folder), device="cpu")
    method = model.encode_document if side == "document" else model.encode_query
    out: np.ndarray[Any, Any] = (
        method(fitting(encoder), convert_to_sparse_tensor=False, show_progress_bar=False).cpu().numpy()
    )
    out[:, encoder.tokenizer.excluded] = 0
    return out


def load(model: object) -> RoutedEncoder:
    encoder = load_encoder(model)
    assert isinstance(encoder, RoutedEncoder)
    return encoder


def check(folder: Path, sides: tuple[str, ...] = ("document", "query")) -> RoutedEncoder:
    encoder = load(folder)
    for side in sides:
        ours = dense(
            encoder, getattr(encoder, f"encode_{'documents' if side == 'document' else 'queries'}")(fitting(encoder))
        )
        theirs = reference(folder, encoder, side)
        assert (theirs > 0).any(1).all()
        assert np.abs(ours - theirs).max() <= 1e-4
        assert np.array_equal(np.argsort(-ours, kind="stable")[:, :5], np.argsort(-theirs, kind="stable")[:, :5])
    return encoder


def splade_modules(folder: Path, pooling: str = "max", activation: str = "relu") -> list[Any]:
    from sentence_transformers.sparse_encoder.modules import MLMTransformer, SpladePooling

    return [MLMTransformer(str(folder)), SpladePooling(pooling, activation_function=activation)]


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_checkpoints(tmp_path: Path, kind: str) -> None:
    encoder = check(write_mlm(tmp_path / kind, kind))
    assert encoder.window == 62
    assert not np.isin(encoder.encode_documents(TEXTS).terms, encoder.tokenizer.excluded).any()


@pytest.mark.parametrize(
    ("pooling", "activation"), [("max", "relu"), ("sum", "relu"), ("max", "log1p_relu"), ("sum", "log1p_relu")]
)
def test_splade_pooling(tmp_path: Path, pooling: str, activation: str) -> None:
    modules = splade_modules(write_mlm(tmp_path / "mlm"), pooling, activation)
    check(write_sentence_transformers(tmp_path / "st", modules))


def test_router_with_two_models(tmp_path: Path) -> None:
    from sentence_transformers.base.modules import Router

    query = splade_modules(write_mlm(tmp_path / "q", seed=1))
    document = splade_modules(write_mlm(tmp_path / "d", seed=2))
    router = Router.for_query_document(query_modules=query, document_modules=document)
    encoder = check(write_sentence_transformers(tmp_path / "st", [router]))
    assert encoder.encode_documents(TEXTS).weights.tolist() != encoder.encode_queries(TEXTS).weights.tolist()


def test_router_with_static_queries(tmp_path: Path) -> None:
    import torch
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

    document = splade_modules(write_mlm(tmp_path / "d"))
    weight = torch.rand(120, generator=torch.Generator().manual_seed(1))
    static = SparseStaticEmbedding(tokenizer=document[0].tokenizer, weight=weight)
    router = Router.for_query_document(query_modules=[static], document_modules=document)
    check(write_sentence_transformers(tmp_path / "st", [router]))


@pytest.mark.parametrize("file", ["idf.json", "query_token_weights.txt"])
def test_opensearch_folder(tmp_path: Path, file: str) -> None:
    folder = write_mlm(tmp_path / "opensearch")
    weights = {word: 0.5 + i / 100 for i, word in enumerate(vocabulary()) if i % 3}
    text = json.dumps(weights) if file == "idf.json" else "\n".join(f"{k}\t{v}" for k, v in weights.items())
    (folder / file).write_text(text)
    encoder = check(folder, ("document",))
    terms, values = encoder.encode_queries(["water water is a file [SEP]"]).row(0)
    expected = {w: weights[w] for w in ("water", "is", "a", "file") if w in weights}
    assert {encoder.vocabulary[t]: pytest.approx(v) for t, v in zip(terms, values, strict=True)} == expected


def test_prompts_are_put_before_texts(tmp_path: Path) -> None:
    folder = write_sentence_transformers(tmp_path / "st", splade_modules(write_mlm(tmp_path / "mlm")))
    config = folder / "config_sentence_transformers.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "prompts": {"query": "search for the ", "document": ""}})
    )
    encoder = check(folder)
    assert len(encoder.encode_queries([""]).terms) == 0


def test_sparse_encoder_object(tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder

    folder = write_sentence_transformers(tmp_path / "st", splade_modules(write_mlm(tmp_path / "mlm")))
    model = SparseEncoder(str(folder), device="cpu")
    encoder = load(model)
    assert (
        np.abs(dense(encoder, encoder.encode_documents(TEXTS)) - reference(folder, encoder, "document")).max() <= 1e-6
    )
    assert encoder.fingerprint == load_encoder(model).fingerprint
    assert encoder.window == 62


def test_batches_change_nothing_that_matters(tmp_path: Path) -> None:
    encoder = load_encoder(write_mlm(tmp_path / "mlm"))
    together = dense(encoder, encoder.encode_documents(TEXTS * 3))
    alone = np.concatenate([dense(encoder, encoder.encode_documents([text])) for text in TEXTS * 3])
    assert np.abs(together - alone).max() <= 1e-5


def test_the_fast_way_gives_what_the_plain_way_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 only chooses candidates; and batches on several cores give what one batch gives."""
    from spladelite.encoders import torch as module

    folder = write_mlm(tmp_path / "mlm")
    found = []
    for fast, tokens in ((True, 64), (False, 64), (True, 4096)):
        monkeypatch.setattr(module, "has_fast_bfloat16", lambda fast=fast: fast)
        monkeypatch.setitem(module.BATCH_TOKENS, "cpu", tokens)
        encoder = load_encoder(folder, device="cpu")
        found.append(dense(encoder, encoder.encode_documents(TEXTS * 4)))
    assert (found[0] > 0).sum() > 100
    for other in found[1:]:
        assert np.abs(found[0] - other).max() <= 1e-5


def test_bfloat16_stays_near(tmp_path: Path) -> None:
    folder = write_mlm(tmp_path / "mlm")
    exact, rough = load_encoder(folder, device="cpu"), load_encoder(folder, dtype="bfloat16")
    a, b = (dense(encoder, encoder.encode_documents(TEXTS)) for encoder in (exact, rough))
    assert 0 < np.abs(a - b).max() < 0.2
    with pytest.raises(InvalidInput, match="dtype"):
        load_encoder(folder, dtype="float8")
    with pytest.raises(InvalidInput, match="device"):
        load_encoder(folder, device="nonsense")


def test_two_folders_and_pooling(tmp_path: Path) -> None:
    documents, queries = write_mlm(tmp_path / "d", seed=2), write_mlm(tmp_path / "q", seed=1)
    pair = load((documents, queries))
    assert np.array_equal(pair.encode_documents(TEXTS).weights, load(documents).encode_documents(TEXTS).weights)
    assert np.array_equal(pair.encode_queries(TEXTS).weights, load(queries).encode_queries(TEXTS).weights)
    summed = load_encoder(documents, pooling="sum").encode_documents(TEXTS)
    expected = reference(
        write_sentence_transformers(tmp_path / "st", splade_modules(documents, "sum")), pair, "document"
    )
    assert np.abs(dense(pair, summed) - expected).max() <= 1e-4
    with pytest.raises(InvalidInput, match="says its pooling"):
        load_encoder(tmp_path / "st", pooling="max")
    with pytest.raises(InvalidInput, match="pooling must be"):
        load_encoder(documents, pooling="mean")
    export_model((documents, queries), tmp_path / "onnx", texts=TEXTS)
    assert load(tmp_path / "onnx").fingerprint == pair.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_export_float32(tmp_path: Path, kind: str) -> None:
    folder = write_mlm(tmp_path / "mlm", kind)
    made = export_model(folder, tmp_path / "onnx", texts=TEXTS)
    assert made.document.largest_difference <= 1e-4
    exported, original = load(tmp_path / "onnx"), load(folder)
    assert exported.fingerprint == original.fingerprint
    assert (
        np.abs(
            dense(exported, exported.encode_documents(fitting(exported))) - reference(folder, original, "document")
        ).max()
        <= 1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_export_int8(tmp_path: Path, kind: str) -> None:
    made = export_model(write_mlm(tmp_path / "mlm", kind), tmp_path / "onnx", "int8", TEXTS)
    assert made.document.mean_difference < 0.03
    assert made.document.top_overlap > 0.8
    assert load_encoder(tmp_path / "onnx").fingerprint != load_encoder(tmp_path / "mlm").fingerprint


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_export_of_sum_pooling_and_static_queries(tmp_path: Path, precision: str) -> None:
    import torch
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

    document = splade_modules(write_mlm(tmp_path / "d"), "sum", "log1p_relu")
    static = SparseStaticEmbedding(tokenizer=document[0].tokenizer, weight=torch.linspace(0, 1, 120))
    router = Router.for_query_document(query_modules=[static], document_modules=document)
    folder = write_sentence_transformers(tmp_path / "st", [router])
    made = export_model(folder, tmp_path / "onnx", precision, TEXTS)
    assert made.query.largest_difference == 0
    assert made.document.score_error < (1e-5 if precision == "float32" else 0.05)


def functions() -> tuple[Callable[[list[str]], Any], Callable[[list[str]], Any]]:
    return (
        lambda texts: [{2003: 1.0, 2004: 0.0} for _ in texts],
        lambda texts: np.ones((len(texts), 1), np.float32) * (np.arange(30522) == 2003),
    )


def test_a_pair_of_functions() -> None:
    scipy_sparse = pytest.importorskip("scipy.sparse")
    encoder = load_encoder(functions())
    assert encoder.encode_documents(["one", ""]).dicts() == [{2003: 1.0}, {}]
    assert encoder.encode_queries(["one"]).dicts() == [{2003: 1.0}]
    matrix = scipy_sparse.csr_matrix(([2.0], ([0], [7000])), shape=(1, 30522))
    tokenizer = bundled_encoder().tokenizer
    for bad in ([{30522: 1.0}], [{5000: -1.0}], [{5000: float("nan")}], [{5000: 1.0}] * 2):
        broken = from_functions(lambda _: bad, lambda _: matrix, tokenizer=tokenizer, name="broken")  # noqa: B023
        assert broken.encode_queries(["one"]).dicts() == [{7000: 2.0}]
        with pytest.raises(InvalidVector):
            broken.encode_documents(["one"])
    with pytest.raises(TypeError, match="must return"):
        from_functions(lambda _: "no", lambda _: matrix, tokenizer=tokenizer, name="broken").encode_documents(["one"])


FORK = """
import os, signal, sys, time, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(2)
from spladelite import SpladeLite
part, folder, path = sys.argv[1:]
db = SpladeLite(path, **{part: folder})
text = "the car crash was an accident " * 9
db.add([text] * 4, ids=list("abcd"))
mode = "dense" if part == "dense" else "splade"
assert len(db.search(text, mode=mode)) == 4
child = os.fork()
if child == 0:
    db.add("water", ids="e")
    os._exit(len(db.search(text, k=4, mode=mode)) != 4)
end = time.monotonic() + 60
while time.monotonic() < end:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        sys.exit(status)
    time.sleep(0.05)
os.kill(child, signal.SIGKILL)
sys.exit("the child waits for ever")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("part", ["model", "dense"])
def test_a_child_of_a_process_that_used_torch_searches(tmp_path: Path, part: str) -> None:
    """Servers that load before they fork: the threads of torch's pool are not there in a child."""
    sizes: dict[str, Any] = {
        "hidden_size": 384,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
    }  # enough for several threads
    folder = write_mlm(tmp_path / "mlm", **sizes)
    if part == "dense":
        from sentence_transformers import SentenceTransformer, models

        body = models.Transformer(str(folder))
        SentenceTransformer(modules=[body, models.Pooling(384)], device="cpu").save(str(tmp_path / "dense"))
        folder = tmp_path / "dense"
    done = subprocess.run(
        [sys.executable, "-c", FORK, part, str(folder), str(tmp_path / "kb.db")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
