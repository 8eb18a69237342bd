"""Dense encoders: a function, an ONNX folder, or a sentence-transformers folder.

A dense encoder turns each text into one vector; a score is the inner product of two. An ONNX folder holds
``model.onnx`` (also in ``onnx/``) and ``tokenizer.json``; the graph takes ``input_ids`` and ``attention_mask`` (and
``token_type_ids``) and gives token vectors ``(B, T, D)`` or sentence vectors ``(B, D)``. Pooling, normalisation,
prompts, length and dimensions come from the files that sentence-transformers puts beside it: mean, none, none, 512
tokens and all where there are none; a setting that cannot be applied is refused, see
:mod:`spladelite.encoders.settings`. What is longer than the model's length is cut, as sentence-transformers does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spladelite.encoders.onnx import raise_if_out_of_memory
from spladelite.encoders.settings import (
    DENSE_MODEL,
    DENSE_TRANSFORMER,
    MODULE,
    POOLING,
    check_settings,
    check_tokenizer_settings,
    find_prompts,
    parse,
    read_json,
    read_settings,
    read_transformer,
)
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
        if not self._tokenizer_path.is_file():
            raise ModelError(f"{self._tokenizer_path}: missing; it belongs beside the ONNX graph")
        self._settings = _Settings.read(folder)

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
            raise_if_out_of_memory(error)
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
        try:
            output = self._session.run(None, {name: value for name, value in feeds.items() if name in known})[0]
        except Exception as error:  # ONNX Runtime's exceptions have no common base but this
            raise_if_out_of_memory(error)
            raise ModelError(f"{self._graph}: fails on a text of {ids.shape[1]} tokens: {error}") from error
        if output.ndim == 3:
            output = output[:, 0] if self._settings.first_token else _mean(output, mask)
        output = output[:, : self._settings.dimensions]
        if self._settings.normalize:
            output = output / np.maximum(np.linalg.norm(output, axis=1, keepdims=True), 1e-12)
        return np.asarray(output, np.float32)


class SentenceTransformersDense:
    """A sentence-transformers folder, run by that package; it and torch are imported with the first text."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.resolve().name
        self._folder = folder
        _modules(folder)
        self._cosine = _cosine(read_settings(folder / "config_sentence_transformers.json", DENSE_MODEL))

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
        vectors: ArrayLike = encode(
            list(texts),
            batch_size=_BATCH,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=self._cosine,
        )
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

    dimensions: int | None

    @staticmethod
    def read(folder: Path) -> _Settings:
        pooling, normalize = read_settings(folder / "1_Pooling" / "config.json", POOLING), False
        for kind, path in _modules(folder) if (folder / "modules.json").exists() else ():
            if kind == "Pooling":
                pooling = read_settings(path / "config.json", POOLING)
            elif kind == "Normalize":
                normalize = True
            elif kind != "Transformer":
                raise ModelError(
                    f"{folder / 'modules.json'}: the module {kind} cannot be run with an ONNX graph; take the "
                    "graph out of the folder, so that sentence-transformers runs all of it"
                )
        file = folder / "config_sentence_transformers.json"
        settings = read_settings(file, DENSE_MODEL)
        prompts = find_prompts(file, settings)
        if pooling.get("include_prompt") is False and any(prompts.values()):
            raise ModelError(f"{folder}: include_prompt is false in the pooling, which an ONNX graph cannot do")
        definition = read_json(folder / "tokenizer.json")
        check_tokenizer_settings(folder, definition)
        dimensions = settings.get("truncate_dim")
        return _Settings(
            first_token=_first_token(folder, pooling),
            normalize=normalize or _cosine(settings),
            length=_length(folder, read_transformer(folder, DENSE_TRANSFORMER, definition)),
            document_prompt=prompts["document"],
            query_prompt=prompts["query"],
            dimensions=None if dimensions is None else _positive(file, "truncate_dim", dimensions),
        )


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Kind and folder of each module of a sentence-transformers folder."""
    file = folder / "modules.json"
    modules = parse(file)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{file}: a list of modules was expected")
    found = []
    for module in modules:
        check_settings(file, module, MODULE)
        package, _, kind = str(module.get("type")).rpartition(".")
        if package.partition(".")[0] != "sentence_transformers":
            raise ModelError(f"{file}: names code outside sentence-transformers, which is never run")
        found.append((kind, folder / str(module.get("path", ""))))
    return found


def _first_token(folder: Path, pooling: dict[str, Any]) -> bool:
    """Whether the first token's vector stands for the text; else the mean of all does."""
    legacy = {"cls": pooling.get("pooling_mode_cls_token"), "mean": pooling.get("pooling_mode_mean_tokens")}
    modes = pooling.get("pooling_mode") or [mode for mode, on in legacy.items() if on] or "mean"
    if isinstance(modes, list) and len(modes) == 1:
        modes = modes[0]
    if modes not in ("cls", "mean"):
        raise ModelError(
            f"{folder}: the pooling {modes!r:.80} cannot be applied to an ONNX graph, only 'cls' or 'mean'; "
            "take the graph out of the folder, so that sentence-transformers runs it"
        )
    return bool(modes == "cls")


def _length(folder: Path, transformer: dict[str, Any]) -> int:
    """Tokens of a text, special ones included: what sentence-transformers reads, at most 512."""
    config, settings = folder / "config.json", folder / "tokenizer_config.json"
    given = transformer.get("max_seq_length")
    if given is None and settings.exists():
        given = read_json(settings).get("model_max_length")
    longest = read_json(config).get("max_position_embeddings") if config.exists() else None
    places = [place for place in (given, longest) if isinstance(place, int) and place > 0]
    return min(places) if transformer.get("max_seq_length") is not None else min([512, *places])


def _positive(file: Path, name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError(f"{file}: {name} is {value!r:.80}; a positive integer was expected")
    return value


def _cosine(settings: dict[str, Any]) -> bool:
    """Whether vectors are compared by their angle: their inner product is it once they have length 1."""
    return str(settings.get("similarity_fn_name")).startswith("cos")


def _mean(vectors: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """``(B, T, D)`` to ``(B, D)``, over the tokens that are text."""
    weights = mask[:, :, None].astype(np.float32)
    return np.asarray((vectors * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1), np.float32)


def _digest(files: Sequence[Path], more: str) -> str:
    digest = hashlib.sha256(more.encode())
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
