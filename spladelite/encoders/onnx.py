"""The default encoder: an exported model folder, run by ONNX Runtime on the processor.

A folder holds ``spladelite.json`` (what the model is, and size and SHA-256 of each file), ``tokenizer.json`` and one
ONNX graph a route. Reading the folder costs milliseconds and loads no native library; the graph is loaded with the
first text. Each text runs on its own (see :mod:`spladelite.encoders.export.heads`), several texts on several threads.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.encoders.folder import ModelFolder, Route
from spladelite.encoders.routed import RoutedEncoder, Side, StaticSide, Windows
from spladelite.encoders.rows import Limits, Row, merge, sparsify
from spladelite.encoders.tensors import read_static
from spladelite.encoders.tokenizer import TextTokenizer
from spladelite.errors import ModelError
from spladelite.processors import usable_processors


class OnnxSide:
    """One route of an exported folder; its graph is loaded with the first text."""

    def __init__(self, folder: ModelFolder, route: Route, threads: int) -> None:
        self.prompt = route.prompt
        self.folder = folder
        self.route = route
        self._threads = threads
        self._lock = threading.Lock()
        self._loaded: Any = None

    def rows(self, texts: Sequence[str], windows: Windows) -> list[Row]:
        """See :class:`~spladelite.encoders.routed.Side`."""
        session = self._session()

        def encode(text: str) -> Row:
            return merge([self._row(session, ids) for ids in windows(text)], self.route.pooling)

        return spread(encode, texts, self._threads)

    def _row(self, session: Any, ids: NDArray[np.int64]) -> Row:
        pooled: NDArray[np.float32] = session.run(None, {"ids": ids})[0]
        if np.isnan(pooled).any():
            raise ModelError(f"{self.folder.path / self.route.file}: gave NaN; the weights are damaged")
        return sparsify(pooled, self.route.activation)

    def _session(self) -> Any:
        with self._lock:
            if self._loaded is None:
                self._loaded = _open_session(self.folder, self.route)
            return self._loaded


def load_onnx_folder(path: Path, limits: Limits, threads: int | None = None) -> RoutedEncoder:
    """An exported model folder as an encoder.

    Args:
        path: the folder.
        limits: which terms a row keeps.
        threads: texts that run at the same time; by default the processors that this process may use.

    Raises:
        ModelError: a file is missing, damaged, or does not fit the others.
    """
    folder = ModelFolder.read(path)
    tokenizer = TextTokenizer(path / "tokenizer.json", folder.terms)
    threads = threads or usable_processors()
    document = _side(folder, folder.document, threads)
    query = document if folder.query == folder.document else _side(folder, folder.query, threads)
    return RoutedEncoder(
        folder.name, folder.fingerprint, tokenizer, folder.window, document, query, limits, folder.max_active_terms
    )


def _side(folder: ModelFolder, route: Route, threads: int) -> Side:
    if route.file.endswith(".onnx"):
        return OnnxSide(folder, route, threads)
    return StaticSide(read_static(folder.path / route.file, folder.terms), route.prompt)


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


def raise_if_out_of_memory(error: Exception) -> None:
    """ONNX Runtime reports missing memory like a bad file: raise :class:`MemoryError` for it."""
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        raise MemoryError(f"ONNX Runtime: {error}") from error


def _open_session(folder: ModelFolder, route: Route) -> Any:
    import onnxruntime

    path = folder.path / route.file
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # threads run whole texts, see `spread`
    options.enable_mem_pattern = False  # it would keep a plan for every text length
    options.log_severity_level = 3
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != folder.files[route.file].sha256:
        raise ModelError(f"{path}: damaged: its SHA-256 is not the one in spladelite.json; export the model again")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise_if_out_of_memory(error)
        raise ModelError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if [node.name for node in inputs] != ["ids"] or [node.shape for node in outputs] != [[folder.terms]]:
        raise ModelError(
            f"{path}: a graph with input 'ids' and one output of shape [{folder.terms}] was expected, got inputs "
            f"{[node.name for node in inputs]} and output shapes {[node.shape for node in outputs]}"
        )
    return session
