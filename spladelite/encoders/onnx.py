"""The default encoder: an exported model folder, run by ONNX Runtime on the processor.

A folder holds ``spladelite.json`` (what the model is, and size and SHA-256 of each file), ``tokenizer.json`` and one
ONNX graph a route. Reading the folder costs milliseconds and loads no native library; the graph is loaded with the
first text. Each text runs on its own (see :mod:`spladelite.encoders.heads`), several texts on several threads.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.folder import ModelFolder, Route
from spladelite.encoders.rows import EMPTY_ROW, Limits, Row, sparsify
from spladelite.encoders.tokenizer import TextTokenizer
from spladelite.errors import ModelError
from spladelite.records import SparseVectors, Tokens


class OnnxEncoder:
    """An exported model folder as an :class:`~spladelite.encoders.base.Encoder`.

    Args:
        path: the folder.
        max_active_terms: keep at most so many terms of a document or query, the strongest.
        min_weight: drop weaker terms.
        threads: texts that run at the same time; by default the processors this process may use.

    Raises:
        ModelError: a file is missing, damaged, or does not fit the others.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_active_terms: int | None = None,
        min_weight: float = 0.0,
        threads: int | None = None,
    ) -> None:
        self._folder = ModelFolder.read(Path(path))
        self._tokenizer = TextTokenizer(self._folder.path / "tokenizer.json")
        self._limits = Limits(max_active_terms, min_weight)
        self._threads = threads or _usable_processors()
        self._sessions: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.name = self._folder.name
        self.window = self._folder.window
        self.fingerprint = self._limits.sign(self._folder.fingerprint)
        self.vocabulary: Sequence[str] = self._tokenizer.vocabulary[: self._folder.terms]
        if len(self.vocabulary) != self._folder.terms:
            raise ModelError(
                f"{self._tokenizer.path}: {len(self.vocabulary)} vocabulary entries, "
                f"but the model gives weights for {self._folder.terms}"
            )

    def encode_documents(self, texts: Sequence[str]) -> SparseVectors:
        """One row a text. A text of more than ``window`` tokens is encoded in windows, pooled by maximum."""
        return self._encode(texts, self._folder.document)

    def encode_queries(self, texts: Sequence[str]) -> SparseVectors:
        """One row a text. A text of more than ``window`` tokens is encoded in windows, pooled by maximum."""
        return self._encode(texts, self._folder.query)

    def tokenize(self, text: str) -> Tokens:
        """The text's own tokens with character offsets."""
        return self._tokenizer.tokenize(text)

    def _encode(self, texts: Sequence[str], route: Route) -> SparseVectors:
        if isinstance(texts, str):
            raise TypeError("a sequence of texts was expected, got one str; pass [text]")
        session = self._session(route)
        self._tokenizer.load()
        return SparseVectors.from_rows(spread(lambda text: self._row(session, text, route), texts, self._threads))

    def _row(self, session: Any, text: str, route: Route) -> Row:
        ids = self._tokenizer.ids(text)
        unknown = self._tokenizer.unknown_id
        if all(i == unknown for i in ids):
            return EMPTY_ROW
        windows = [self._pooled(session, part) for part in split(ids, self.window)]
        pooled = windows[0] if len(windows) == 1 else np.maximum.reduce(windows)
        return self._limits.apply(sparsify(pooled, route.activation))

    def _pooled(self, session: Any, ids: list[int]) -> NDArray[np.float32]:
        frame = self._tokenizer.frame
        whole = np.array([*frame.before, *ids, *frame.after], np.int64)
        pooled: NDArray[np.float32] = session.run(None, {"ids": whole})[0]
        if np.isnan(pooled).any():
            raise ModelError(f"{self._folder.path}: the model gave NaN; its weights are damaged")
        pooled[self._tokenizer.excluded[self._tokenizer.excluded < len(pooled)]] = 0
        return pooled

    def _session(self, route: Route) -> Any:
        with self._lock:
            if route.file not in self._sessions:
                self._sessions[route.file] = _open_session(self._folder, route)
            return self._sessions[route.file]


def split(ids: list[int], window: int) -> list[list[int]]:
    """Consecutive parts of at most ``window`` ids, as even as can be; at least one."""
    count = max(1, -(-len(ids) // window))
    edges = [len(ids) * i // count for i in range(count + 1)]
    return [ids[start:end] for start, end in pairwise(edges)]


def spread(encode: Callable[[str], Row], texts: Sequence[str], threads: int) -> list[Row]:
    """``[encode(text) for text in texts]`` on several threads; the first error ends the work."""
    if len(texts) < 2 or threads < 2:
        return [encode(text) for text in texts]
    # Threads of this call only: nothing is left running that a fork could not copy.
    pool = ThreadPoolExecutor(min(threads, len(texts)), thread_name_prefix="spladelite-encode")
    try:
        return list(pool.map(encode, texts))
    finally:
        pool.shutdown(cancel_futures=True)


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open_session(folder: ModelFolder, route: Route) -> Any:
    import onnxruntime

    path = folder.path / route.file
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # threads run whole texts, see `spread`
    options.enable_mem_pattern = False  # it would keep a plan for every text length
    options.log_severity_level = 3
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != folder.files[route.file].sha256:
            raise ModelError(f"{path}: damaged: its SHA-256 is not the one in spladelite.json; export the model again")
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    except (RuntimeError, ValueError) as error:  # all of ONNX Runtime's own exceptions are RuntimeErrors
        raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [node.name for node in inputs] != ["ids"] or [node.shape for node in outputs] != [[folder.terms]]:
        raise ModelError(
            f"{path}: a graph with input 'ids' and one output of shape [{folder.terms}] was expected, got inputs "
            f"{[node.name for node in inputs]} and output shapes {[node.shape for node in outputs]}"
        )
    return session
