"""Every key of a model's configuration files is applied or refused; none is read past."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from models_for_tests import TEXTS, write_bytelevel, write_mlm, write_sentence_transformers
from test_dense import onnx_folder
from test_encoders_formats import check, load, splade_modules

from spladelite import SpladeLite
from spladelite.encoders.dense import load_dense
from spladelite.encoders.export.export import export_model
from spladelite.encoders.registry import load_encoder
from spladelite.encoders.settings import find_prompts
from spladelite.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SETTINGS = "config_sentence_transformers.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sentence_transformers(tmp_path / "st", splade_modules(write_mlm(tmp_path / "mlm")))


def change(file: Path, **changes: Any) -> None:
    settings = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(settings | changes))


def test_max_active_dims_is_applied_and_exported(folder: Path, tmp_path: Path) -> None:
    before = load(folder)
    change(folder / SETTINGS, max_active_dims=4)
    encoder = check(folder)  # equal to sentence-transformers
    assert max(len(terms) for terms, _ in encoder.encode_documents(TEXTS)) <= 4
    assert encoder.fingerprint != before.fingerprint
    export_model(folder, tmp_path / "onnx")
    exported = load(tmp_path / "onnx")
    for terms, same in zip(exported.encode_documents(TEXTS), encoder.encode_documents(TEXTS), strict=True):
        assert terms[0].tolist() == same[0].tolist()


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (SETTINGS, "max_active_dims", 0),
        (SETTINGS, "similarity_fn_name", "cosine"),
        (SETTINGS, "model_type", "CrossEncoder"),
        (SETTINGS, "prompts", ["query: "]),
        (SETTINGS, "default_prompt_name", "missing"),
        (SETTINGS, "a_setting_of_next_year", 1),
        ("sentence_bert_config.json", "transformer_task", "feature-extraction"),
        ("sentence_bert_config.json", "query_length", 8),
        ("sentence_bert_config.json", "processing_kwargs", {"text": {"add_special_tokens": False}}),
        ("sentence_bert_config.json", "tokenizer_args", {"do_lower_case": False}),
        ("1_SpladePooling/config.json", "activation_function", "gelu"),
        ("1_SpladePooling/config.json", "temperature", 0.5),
        ("tokenizer_config.json", "do_lower_case", False),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(folder: Path, file: str, key: str, value: object) -> None:
    change(folder / file, **{key: value})
    with pytest.raises(ModelError, match=key):
        load_encoder(folder)


def test_settings_that_decide_no_vector_do_not_matter(folder: Path) -> None:
    before = load(folder)
    change(folder / "1_SpladePooling/config.json", chunk_size=16)
    change(folder / SETTINGS, similarity_fn_name="dot", __version__={"torch": "9"})
    assert load(folder).fingerprint == before.fingerprint


def test_lowercasing_is_refused_only_where_the_tokenizer_does_not_do_it(folder: Path) -> None:
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    load_encoder(folder)  # its normalizer lowercases already
    definition = json.loads((folder / "tokenizer.json").read_text())
    definition["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    with pytest.raises(ModelError, match="do_lower_case"):
        load_encoder(folder)


def test_code_of_others_is_not_taken_for_ours(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "my_package.SpladePooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="my_package"):
        load_encoder(folder)


def test_a_key_that_spladelite_json_does_not_know(folder: Path, tmp_path: Path) -> None:
    export_model(folder, tmp_path / "onnx")
    (tmp_path / "other").mkdir()
    for file in (tmp_path / "onnx").iterdir():
        (tmp_path / "other" / file.name).write_bytes(file.read_bytes())
    data = json.loads((tmp_path / "onnx" / "spladelite.json").read_text())
    for changed in (data | {"temperature": 2}, data | {"document": data["document"] | {"temperature": 2}}):
        (tmp_path / "other" / "spladelite.json").write_text(json.dumps(changed))
        with pytest.raises(ModelError, match="temperature"):
            load_encoder(tmp_path / "other")


@pytest.mark.parametrize(
    ("settings", "document", "query"),
    [
        ({}, "", ""),
        ({"prompts": None, "default_prompt_name": None}, "", ""),
        ({"prompts": {"query": "", "document": "", "s": "s: "}, "default_prompt_name": "s"}, "", ""),
        ({"prompts": {"query": "q: ", "document": "", "passage": "p: "}}, "", "q: "),
        ({"prompts": {"query": "q: ", "passage": "p: "}}, "p: ", "q: "),
        ({"prompts": {"s": "s: "}, "default_prompt_name": "s"}, "s: ", "s: "),
        ({"prompts": {"": "s: "}, "default_prompt_name": ""}, "s: ", "s: "),
        ({"prompts": {"query": None, "s": ""}, "default_prompt_name": "s"}, "", ""),
    ],
)
def test_an_empty_prompt_is_a_prompt(settings: dict[str, Any], document: str, query: str) -> None:
    assert find_prompts(Path("folder"), settings) == {"document": document, "query": query}


def test_an_empty_prompt_is_not_overridden(folder: Path) -> None:
    change(folder / SETTINGS, prompts={"query": "", "document": "", "s": "search the "}, default_prompt_name="s")
    check(folder)  # equal to sentence-transformers


@pytest.mark.parametrize(
    "kind", ["mpnet", "xlm-roberta-xl", "roberta", "camembert", "data2vec-text", "bert", "electra"]
)
@pytest.mark.filterwarnings("ignore::spladelite.UnreadText")
def test_the_window_comes_from_the_table_of_positions(tmp_path: Path, kind: str) -> None:
    import torch
    import transformers

    write_bytelevel(tmp_path)
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=261,
        max_position_embeddings=40,
        hidden_size=32,
        embedding_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForMaskedLM.from_config(config)
    model.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    assert encoder.window == 40 - 2 - (0 if kind in ("bert", "electra") else 2)
    with SpladeLite(":memory:", model=tmp_path) as db:
        db.add("all of a long text, " * 20)
        db.search("a long query, " * 20)


def test_the_window_of_an_object_comes_from_its_table_of_positions(tmp_path: Path) -> None:
    from sentence_transformers import SparseEncoder

    folder = write_sentence_transformers(tmp_path / "st", splade_modules(write_mlm(tmp_path / "mlm", "roberta")))
    model = SparseEncoder(str(folder), device="cpu")
    model.max_seq_length = 66
    encoder = load(model)
    assert encoder.window == 66 - 2 - 2
    encoder.encode_documents(["x" * encoder.window])


def test_dense_settings(tmp_path: Path) -> None:
    folder = onnx_folder(tmp_path / "model", pooled=False)
    table = np.array(json.loads((folder / "table.json").read_text()))
    change(folder / SETTINGS, truncate_dim=4, similarity_fn_name="cosine", prompts={"document": "", "passage": "z "})
    expected = table[1, :4] / np.linalg.norm(table[1, :4])
    assert np.allclose(load_dense(folder).encode_documents(["a"]), [expected], atol=1e-6)
    change(folder / SETTINGS, similarity_fn_name="euclidean")
    with pytest.raises(ModelError, match="similarity_fn_name"):
        load_dense(folder)
    change(folder / SETTINGS, similarity_fn_name=None)
    (folder / "1_Pooling").mkdir()
    pooling = folder / "1_Pooling" / "config.json"
    for settings in ({"pooling_mode": "max"}, {"pooling_mode_max_tokens": True}, {"pooling_mode": ["cls", "mean"]}):
        pooling.write_text(json.dumps(settings))
        with pytest.raises(ModelError, match="pooling"):
            load_dense(folder)
    pooling.unlink()
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense", "path": "2"}]))
    with pytest.raises(ModelError, match="Dense"):
        load_dense(folder)
