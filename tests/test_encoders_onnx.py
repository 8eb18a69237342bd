"""The default encoder and the bundled model, as users get them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spladelite.encoders.base import Encoder
from spladelite.encoders.registry import BUNDLED, bundled_encoder, load_encoder
from spladelite.encoders.routed import RoutedEncoder
from spladelite.errors import InvalidInput, InvalidText

TEXTS = [
    "automobile accident injury",
    "The Eiffel Tower was built for the World's Fair of 1889 and is 330 metres tall.",
    "sqlite stores a whole database in one file " * 12,
    "x",
    "Zürich naïve café 東京 3.14 [SEP] http://example.org/a_b?c=d",
]


@pytest.fixture(scope="module")
def encoder() -> RoutedEncoder:
    return bundled_encoder()


def words(encoder: Encoder, text: str) -> dict[str, float]:
    terms, weights = encoder.encode_queries([text]).row(0)
    return {encoder.vocabulary[t]: float(w) for t, w in zip(terms, weights, strict=True)}


def test_protocol_and_name(encoder: RoutedEncoder) -> None:
    assert isinstance(encoder, Encoder)
    assert encoder.name == "splade-tiny"
    assert len(encoder.vocabulary) == 30522
    assert load_encoder() is load_encoder("splade-tiny") is encoder
    assert encoder.window == 254


def test_expansion_of_the_announcements_example(encoder: RoutedEncoder) -> None:
    found = words(encoder, "automobile accident injury")
    assert {"automobile", "accident", "injury", "car", "crash", "auto", "accidents", "injuries"} <= found.keys()


def test_rows_are_canonical(encoder: RoutedEncoder) -> None:
    vectors = encoder.encode_documents(TEXTS)
    assert vectors.indptr[0] == 0
    assert len(vectors) == len(TEXTS)
    assert vectors.terms.dtype == np.int32
    assert vectors.weights.dtype == np.float32
    for terms, weights in vectors:
        assert (np.diff(terms) > 0).all()
        assert (weights > 0).all()
        assert np.isfinite(weights).all()


def test_special_and_unused_entries_are_no_terms(encoder: RoutedEncoder) -> None:
    terms = encoder.encode_documents(TEXTS).terms
    assert not np.isin(terms, encoder.tokenizer.excluded).any()
    excluded = {encoder.vocabulary[i] for i in encoder.tokenizer.excluded}
    assert {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused993]"} <= excluded
    assert "the" not in excluded


@settings(max_examples=25)
@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=8))
def test_the_same_text_gives_the_same_vector_in_any_company(texts: list[str]) -> None:
    encoder = bundled_encoder()
    together = encoder.encode_documents(texts)
    for i, text in enumerate(texts):
        alone = encoder.encode_documents([text]).row(0)
        assert np.array_equal(together.row(i)[0], alone[0])
        assert np.array_equal(together.row(i)[1], alone[1])


def test_nothing_known_gives_an_empty_row(encoder: RoutedEncoder) -> None:
    vectors = encoder.encode_queries(["", "   \n\t", "☃☃☃", "known", "☃"])
    assert np.diff(vectors.indptr).astype(bool).tolist() == [False, False, False, True, False]
    assert len(encoder.encode_documents([])) == 0


def test_a_long_query_is_read_to_its_end(encoder: RoutedEncoder) -> None:
    filler = "the weather was fine and nothing happened on that day " * 60
    terms = words(encoder, filler + "volcano")
    assert "volcano" in terms
    assert "weather" in terms


def test_tokenize_gives_offsets_and_keeps_special_words_as_text(encoder: RoutedEncoder) -> None:
    text = "Zürich [SEP] unbelievably 東京"
    tokens = encoder.tokenize(text)
    assert [text[a:b] for a, b in zip(tokens.starts, tokens.ends, strict=True)] == [
        "Zürich", "[", "SEP", "]", "un", "bel", "ie", "va", "bly", "東", "京",
    ]  # fmt: skip
    assert not np.isin(tokens.term_ids, [100, 101, 102, 103]).any()


def test_wrong_input(encoder: RoutedEncoder) -> None:
    with pytest.raises(TypeError, match="one str"):
        encoder.encode_documents("text")
    with pytest.raises(TypeError, match="got int"):
        encoder.encode_documents(["text", 3])  # type: ignore[list-item]
    with pytest.raises(InvalidText, match="surrogate"):
        encoder.encode_documents(["\ud800"])
    with pytest.raises(TypeError, match="model must be"):
        load_encoder(3)


def test_limits(encoder: RoutedEncoder) -> None:
    full = encoder.encode_documents(TEXTS)
    few = load_encoder(max_active_terms=10)
    strong = load_encoder(min_weight=0.5)
    assert len({encoder.fingerprint, few.fingerprint, strong.fingerprint}) == 3
    for (terms, weights), row, kept in zip(
        full, few.encode_documents(TEXTS), strong.encode_documents(TEXTS), strict=True
    ):
        order = sorted(range(len(terms)), key=lambda i: (-weights[i], terms[i]))[:10]
        assert row[0].tolist() == sorted(terms[order].tolist())
        assert kept[0].tolist() == terms[weights >= 0.5].tolist()
    with pytest.raises(InvalidInput, match="max_active_terms"):
        load_encoder(max_active_terms=0)
    with pytest.raises(InvalidInput, match="min_weight"):
        load_encoder(min_weight=float("nan"))


def test_reading_the_model_loads_no_native_library() -> None:
    code = (
        "import sys; from spladelite.encoders.registry import load_encoder; e = load_encoder(); "
        "assert e.fingerprint and e.vocabulary[2003] == 'is'; "
        "bad = {'onnxruntime', 'tokenizers', 'torch', 'transformers', 'onnx'} & set(sys.modules); assert not bad, bad; "
        "e.encode_queries(['hello']); assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_encodes_without_warnings() -> None:
    code = (
        "import os, sys; from spladelite.encoders.registry import load_encoder; e = load_encoder(); "
        "texts = ['one text', 'another text', 'a third']; before = e.encode_documents(texts).terms.tolist(); "
        "pid = os.fork(); same = e.encode_documents(texts).terms.tolist() == before; "
        "os._exit(0 if same else 1) if pid == 0 else None; _, status = os.waitpid(pid, 0); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == ""


def test_the_int8_head_is_exact_in_integers() -> None:
    """The graph's pooled logits equal NumPy's int32 arithmetic, and no pair of products can leave int16."""
    onnx = pytest.importorskip("onnx")
    import onnxruntime
    from onnx import numpy_helper

    model = onnx.load(BUNDLED / "model.onnx")
    table = numpy_helper.to_array(model.graph.initializer[0])
    assert table.shape == (30522, 128)
    assert table.dtype == np.int8
    assert np.abs(table.astype(int)).max() <= 63
    assert 2 * 255 * np.abs(table.astype(int)).max() <= np.iinfo(np.int16).max
    quantize = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    join = next(node for node in model.graph.node if node.op_type == "Concat")
    sums = next(node for node in model.graph.node if node.op_type == "Reshape" and node.input[0] == join.output[0])
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(quantize.output[0], onnx.TensorProto.UINT8, None))
    model.graph.output.append(onnx.helper.make_tensor_value_info(sums.output[0], onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for text in TEXTS:
        ids = np.array([101, *bundled_encoder().tokenizer.ids(text), 102], np.int64)
        inputs, pooled = session.run(None, {"ids": ids})
        exact = (inputs.astype(np.int32) @ table.T.astype(np.int32)).max(0)
        assert np.array_equal(pooled, exact.astype(np.float32))


def test_the_card_and_the_files_agree() -> None:
    listed = json.loads((BUNDLED / "spladelite.json").read_text("utf-8"))["files"]
    total = sum(path.stat().st_size for path in Path(BUNDLED).iterdir())
    assert total <= 10_000_000
    assert {name: entry["bytes"] for name, entry in listed.items()} == {
        name: (BUNDLED / name).stat().st_size for name in ("model.onnx", "tokenizer.json")
    }
    card = (BUNDLED.parent / "MODEL_CARD.md").read_text("utf-8")
    assert f"{listed['model.onnx']['bytes']:,}" in card
    assert "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e" in card
