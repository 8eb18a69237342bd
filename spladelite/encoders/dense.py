"""Dense encoders: a function, an ONNX folder, or a sentence-transformers folder.

A dense encoder turns each text into one vector; a score is the inner product of two. An ONNX folder holds
``model.onnx`` (also in ``onnx/``) and ``tokenizer.json``; the graph takes ``input_ids`` and ``attention_mask`` (and
``token_type_ids``) and gives token vectors ``(B, T, D)`` or sentence vectors ``(B, D)``. Pooling, normalisation,
prompts and length come from the files that sentence-transformers puts beside it: mean, none, none and 512 tokens where
there are none. What is longer than the model's length is cut, as sentence-transformers does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spladelite.errors import ModelError, WrongType

DenseFunction = Callable[[list[str]], ArrayLike]

_BATCH = 32


@runtime_checkable
class DenseEncoder(Protocol):
    """What ``SpladeLite(dense=...)`` makes of its argument.

    ``fingerprint`` is a hex digest over all that decides the vectors, or "" where that cannot be known.
    """

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hex digest, or ""."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> ArrayLike:
        """``(N, D)`` numbers, row i for text i."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> ArrayLike:
        """``(N, D)`` numbers, row i for text i."""
        ...


def load_dense(dense: object) -> DenseEncoder:
    """The dense encoder for ``SpladeLite(dense=...)``.

    Args:
        dense: a function from a list of texts to ``(N, D)`` numbers, the path of a folder, or a dense encoder.

    Raises:
        ModelError: the folder is missing or has neither an ONNX graph nor ``modules.json``.
        WrongType: ``dense`` is none of these.
    """
    if isinstance(dense, DenseEncoder):
        return dense
    if isinstance(dense, str | os.PathLike):
        folder = Path(os.fspath(dense))
        if not folder.is_dir():
            raise ModelError(f"{folder} is not a folder; give the folder of an ONNX or sentence-transformers model")
        for graph in (folder / "model.onnx", folder / "onnx" / "model.onnx"):
            if graph.is_file():
                return OnnxDense(folder, graph)
        if (folder / "modules.json").is_file():
            return SentenceTransformersDense(folder)
        raise ModelError(f"{folder} has neither model.onnx nor modules.json; expected one of them")
    if callable(dense):
        return FunctionDense(dense)
    raise WrongType(
        f"dense is of type {type(dense).__name__}; give a function, the path of a model folder, or an encoder"
    )


@dataclass(frozen=True, slots=True)
class FunctionDense:
    """A caller's function, for documents and queries alike."""

    function: DenseFunction

    @property
    def name(self) -> str:
        """The function's own name."""
        return getattr(self.function, "__qualname__", type(self.function).__qualname__)

    @property
    def fingerprint(self) -> str:
        """Nothing is known of it."""
        return ""

    def encode_documents(self, texts: Sequence[str]) -> ArrayLike:
        """See :class:`DenseEncoder`."""
        return self.function(list(texts))

    def encode_queries(self, texts: Sequence[str]) -> ArrayLike:
        """See :class:`DenseEncoder`."""
        return self.function(list(texts))


class OnnxDense:
    """An ONNX graph with its tokenizer; both are loaded with the first text."""

    def __init__(self, folder: Path, graph: Path) -> None:
        self.name = folder.resolve().name
        self._graph = graph.resolve()
        self._sessions: dict[int, Any] = {}
        self._tokenizer_path = folder.resolve() / "tokenizer.json"
        self._settings = _Settings.read(folder)
        if not self._tokenizer_path.is_file():
            raise ModelError(f"{self._tokenizer_path}: missing; it belongs beside the ONNX graph")

    @cached_property
    def fingerprint(self) -> str:
        """Over graph, tokenizer and settings."""
        return _digest([self._graph, self._tokenizer_path], repr(self._settings))

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See :class:`DenseEncoder`."""
        return self._encode([self._settings.document_prompt + text for text in texts])

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See :class:`DenseEncoder`."""
        return self._encode([self._settings.query_prompt + text for text in texts])

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self._tokenizer_path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{self._tokenizer_path}: tokenizers cannot read it: {error}") from error
        tokenizer.enable_truncation(self._settings.length)
        tokenizer.no_padding()
        return tokenizer

    @property
    def _session(self) -> Any:
        """One a process: its threads are not there after a fork."""
        process = os.getpid()
        if process not in self._sessions:
            self._sessions[process] = self._open_session()
        return self._sessions[process]

    def _open_session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(self._graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise ModelError(f"{self._graph}: ONNX Runtime cannot load it: {error}") from error

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        encoded = [item.ids for item in self._tokenizer.encode_batch(texts)]
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))  # equal lengths together: little padding
        rows: list[NDArray[np.float32]] = []
        for start in range(0, len(order), _BATCH):
            rows.extend(self._batch([encoded[i] for i in order[start : start + _BATCH]]))
        result = np.empty((len(texts), len(rows[0]) if rows else 0), np.float32)
        result[order] = rows or result
        return result

    def _batch(self, sequences: list[list[int]]) -> NDArray[np.float32]:
        ids = np.zeros((len(sequences), max(1, *map(len, sequences))), np.int64)  # (B, T)
        mask = np.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        known = {node.name for node in self._session.get_inputs()}
        output = self._session.run(None, {name: value for name, value in feeds.items() if name in known})[0]
        if output.ndim == 3:
            output = output[:, 0] if self._settings.first_token else _mean(output, mask)
        if self._settings.normalize:
            output = output / np.maximum(np.linalg.norm(output, axis=1, keepdims=True), 1e-12)
        return np.asarray(output, np.float32)


class SentenceTransformersDense:
    """A sentence-transformers folder, run by that package; it and torch are imported with the first text."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.resolve().name
        self._folder = folder
        modules = _read_json(folder / "modules.json")
        types = [str(module.get("type")) for module in modules if isinstance(module, dict)]
        if len(types) != len(modules) or not all(name.startswith("sentence_transformers.") for name in types):
            raise ModelError(f"{folder / 'modules.json'}: names code outside sentence-transformers, which is never run")

    @cached_property
    def fingerprint(self) -> str:
        """Over weights, tokenizer and settings."""
        files = sorted(path for kind in ("*.safetensors", "*.json", "*.txt") for path in self._folder.rglob(kind))
        return _digest(files, "")

    def encode_documents(self, texts: Sequence[str]) -> ArrayLike:
        """See :class:`DenseEncoder`."""
        return self._vectors(self._model.encode_document, texts)

    def encode_queries(self, texts: Sequence[str]) -> ArrayLike:
        """See :class:`DenseEncoder`."""
        return self._vectors(self._model.encode_query, texts)

    def _vectors(self, encode: Callable[..., Any], texts: Sequence[str]) -> ArrayLike:
        vectors: ArrayLike = encode(list(texts), batch_size=_BATCH, show_progress_bar=False, convert_to_numpy=True)
        return vectors

    @cached_property
    def _model(self) -> Any:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ModelError(
                f"{self._folder} has no model.onnx, so it needs the package sentence-transformers (5 or newer): "
                "pip install sentence-transformers"
            ) from error
        try:
            return SentenceTransformer(
                str(self._folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(f"{self._folder}: sentence-transformers cannot load it: {error}") from error


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a sentence-transformers folder says about the use of its graph."""

    first_token: bool
    normalize: bool
    length: int
    document_prompt: str
    query_prompt: str

    @staticmethod
    def read(folder: Path) -> _Settings:
        pooling = _read_json(folder / "1_Pooling" / "config.json", {})
        modules = _read_json(folder / "modules.json", [])
        length = _read_json(folder / "sentence_bert_config.json", {}).get("max_seq_length") or 512
        prompts = _read_json(folder / "config_sentence_transformers.json", {}).get("prompts") or {}
        return _Settings(
            first_token=pooling.get("pooling_mode") == "cls" or bool(pooling.get("pooling_mode_cls_token")),
            normalize=any(str(module.get("type", "")).endswith("Normalize") for module in modules),
            length=int(length),
            document_prompt=str(prompts.get("document") or prompts.get("passage") or ""),
            query_prompt=str(prompts.get("query") or ""),
        )


def _mean(vectors: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """``(B, T, D)`` to ``(B, D)``, over the tokens that are text."""
    weights = mask[:, :, None].astype(np.float32)
    return np.asarray((vectors * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1), np.float32)


def _read_json(path: Path, default: Any = None) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        if default is None:
            raise ModelError(f"{path}: missing") from None
        return default
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
    if default is not None and not isinstance(value, type(default)):
        raise ModelError(f"{path}: expected a JSON {'object' if default == {} else 'list'}")
    return value


def _digest(files: Sequence[Path], more: str) -> str:
    digest = hashlib.sha256(more.encode())
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
