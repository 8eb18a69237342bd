"""Broken and hostile model folders: one error, naming the file."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from spladelite.encoders.onnx import load_onnx_folder
from spladelite.encoders.registry import BUNDLED, load_encoder
from spladelite.encoders.rows import Limits
from spladelite.encoders.tensors import read_header
from spladelite.encoders.tokenizer import TextTokenizer
from spladelite.errors import ModelError


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLED, tmp_path / "exported"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    data = json.loads(path.read_text("utf-8"))
    change(data)
    path.write_text(json.dumps(data), "utf-8")


@pytest.mark.parametrize("name", ["spladelite.json", "model.onnx", "tokenizer.json"])
def test_exported_folder_without_a_file(exported: Path, name: str) -> None:
    (exported / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_onnx_folder(exported, Limits())


@pytest.mark.parametrize("message", ["std::bad_alloc", "[ONNXRuntimeError] : 1 : FAIL : while loading: std::bad_alloc"])
def test_missing_memory_is_no_bad_file(exported: Path, message: str) -> None:
    encoder = load_onnx_folder(exported, Limits())
    with patch("onnxruntime.InferenceSession", side_effect=RuntimeError(message)), pytest.raises(MemoryError):
        encoder.encode_documents(["one text"])


def test_exported_folder_with_a_changed_graph(exported: Path) -> None:
    content = bytearray((exported / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (exported / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: damaged"):
        load_encoder(exported).encode_queries(["text"])
    (exported / "model.onnx").write_bytes(content[:-1])
    with pytest.raises(ModelError, match=r"model\.onnx: \d+ bytes"):
        load_encoder(exported)


def test_exported_folder_whose_graph_is_no_graph(exported: Path) -> None:
    from spladelite.encoders.folder import FileEntry

    (exported / "model.onnx").write_bytes(b"not a graph")
    entry = FileEntry.of(exported / "model.onnx")
    edit(
        exported / "spladelite.json", lambda d: d["files"]["model.onnx"].update(bytes=entry.bytes, sha256=entry.sha256)
    )
    with pytest.raises(ModelError, match=r"model\.onnx: ONNX Runtime cannot load it"):
        load_encoder(exported).encode_queries(["text"])


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(format=2),
        lambda d: d.update(window=0),
        lambda d: d.update(window="254"),
        lambda d: d.update(terms=30521),
        lambda d: d.pop("query"),
        lambda d: d["query"].update(file="../tokenizer.json"),
        lambda d: d["query"].update(pooling="mean"),
        lambda d: d["files"].update({"../x": {"bytes": 1, "sha256": ""}}),
        lambda d: d["files"].pop("tokenizer.json"),
    ],
)
def test_exported_folder_with_a_wrong_table_of_contents(exported: Path, change: Callable[[Any], Any]) -> None:
    edit(exported / "spladelite.json", change)
    with pytest.raises(ModelError, match=r"spladelite\.json|tokenizer\.json"):
        load_encoder(exported)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"model": 3}', '{"model": {"vocab": {"a": "x"}}}', "[" * 100_000])
def test_broken_tokenizers(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        TextTokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_that_only_looks_like_one(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unheard", "vocab": {"a": 0}}}')
    with pytest.raises(ModelError, match=r"tokenizer\.json: tokenizers cannot read it"):
        TextTokenizer(tmp_path / "tokenizer.json").ids("a")


def header(content: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(content).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\x02",
        header({}, length=1 << 40),
        header({}, length=2**64 - 1),
        b"\x04\0\0\0\0\0\0\0nope",
        header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]}}, bytes(16)),
        header({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(15)),
        header({"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}, bytes(16)),
        header({"w": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 16]}}, bytes(16)),
        header({"w": {"dtype": "X9", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)),
        header({"w": 3}),
    ],
)
def test_broken_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_header(tmp_path / "model.safetensors")


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_encoder(tmp_path / "missing")
    with pytest.raises(ModelError, match="not a model folder"):
        load_encoder(tmp_path)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ModelError, match="not a folder"):
        load_encoder(file)


def test_offline_means_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an unknown name nor a cached one leads to a connection."""
    import socket

    from huggingface_hub import constants

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        load_encoder("someone/some-model")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    cache = tmp_path / "models--someone--some-model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    shutil.copytree(BUNDLED, cache / "snapshots" / ("0" * 40))
    assert load_encoder("someone/some-model").name == "splade-tiny"


class TestCheckpoints:
    """Folders of masked language models."""

    @pytest.fixture
    def mlm(self, tmp_path: Path) -> Path:
        pytest.importorskip("transformers")
        from models_for_tests import write_mlm

        return write_mlm(tmp_path / "mlm")

    @staticmethod
    def refused(folder: Path, message: str) -> None:
        with pytest.raises(ModelError, match=message):
            load_encoder(folder)

    @pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "config.json"])
    def test_missing_file(self, mlm: Path, name: str) -> None:
        (mlm / name).unlink()
        self.refused(mlm, name.replace(".", r"\.") if name != "config.json" else "not a model folder")

    def test_without_torch(self, mlm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        self.refused(mlm, r"install the extra: pip install 'spladelite\[torch\]'")

    def test_pickle(self, mlm: Path) -> None:
        (mlm / "model.safetensors").rename(mlm / "pytorch_model.bin")
        self.refused(mlm, r"pytorch_model\.bin: a pickle")

    def test_no_output_layer(self, mlm: Path) -> None:
        edit(mlm / "config.json", lambda d: d.update(architectures=["BertModel"]))
        self.refused(mlm, r"config\.json: architectures .*ForMaskedLM")

    def test_unknown_architecture(self, mlm: Path) -> None:
        edit(mlm / "config.json", lambda d: d.update(architectures=["FooForMaskedLM"], model_type="foo"))
        self.refused(mlm, "transformers cannot load it")

    def test_own_code_is_never_run(self, mlm: Path) -> None:
        (mlm / "evil.py").write_text("raise SystemExit('ran')")
        edit(mlm / "config.json", lambda d: d.update(auto_map={"AutoModelForMaskedLM": "evil.Evil"}, model_type="evil"))
        self.refused(mlm, "cannot load it")

    def test_vocabulary_of_another_length(self, mlm: Path) -> None:
        edit(mlm / "config.json", lambda d: d.update(vocab_size=121))
        self.refused(mlm, r"vocab_size 121, the weights have \[120\]")

    def test_other_shapes(self, mlm: Path) -> None:
        edit(mlm / "config.json", lambda d: d.update(intermediate_size=40))
        self.refused(mlm, "another shape|cannot load it")

    def test_missing_weights(self, mlm: Path) -> None:
        from safetensors.numpy import load_file, save_file

        weights = load_file(mlm / "model.safetensors")
        save_file(
            {k: v for k, v in weights.items() if "transform" not in k}, mlm / "model.safetensors", {"format": "pt"}
        )
        self.refused(mlm, "the weights lack")

    def test_nan_weights(self, mlm: Path) -> None:
        from safetensors.numpy import load_file, save_file

        weights = load_file(mlm / "model.safetensors")
        weights["cls.predictions.bias"][3] = float("nan")
        save_file(weights, mlm / "model.safetensors", {"format": "pt"})
        self.refused(mlm, r"cls\.predictions\.bias has NaN")

    def test_tokenizer_of_another_model(self, mlm: Path) -> None:
        shutil.copy(BUNDLED / "tokenizer.json", mlm)
        self.refused(mlm, r"tokenizer\.json: 30522 vocabulary entries, .* for 120")

    def test_tokenizer_of_the_same_length(self, mlm: Path) -> None:
        edit(mlm / "tokenizer.json", lambda d: d["model"]["vocab"].update({"[PAD]": 7, "the": 0, "a": 6}))
        self.refused(mlm, "another model's tokenizer")

    @pytest.mark.parametrize("shard", ["../model.safetensors", 3])
    def test_index_that_leads_elsewhere(self, mlm: Path, shard: object) -> None:
        (mlm / "model.safetensors").unlink()
        (mlm / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
        self.refused(mlm, r"index\.json")

    @pytest.mark.parametrize(
        "modules",
        [
            {},
            [{"type": "x"}],
            [{"type": "a.Pooling", "path": ""}],
            [{"type": "a.MLMTransformer", "path": "../.."}, {"type": "a.SpladePooling", "path": ""}],
        ],
    )
    def test_broken_modules(self, mlm: Path, modules: object) -> None:
        (mlm / "modules.json").write_text(json.dumps(modules))
        self.refused(mlm, r"modules|leads out")

    @pytest.mark.parametrize("text", ['{"water": "wet"}', '{"water": NaN}', '{"unheard": 1.0}', "[]", "{"])
    def test_broken_idf(self, mlm: Path, text: str) -> None:
        (mlm / "idf.json").write_text(text)
        self.refused(mlm, r"idf\.json")
