"""The dense encoder of one database: loaded when first needed, and checked against the file that it serves."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spladelite.encoders.dense import DenseEncoder, load_dense
from spladelite.errors import InvalidInput, ModelError, ModelMismatch
from spladelite.index.dense_blocks import check_vectors
from spladelite.index.settings import DenseRecord, Meta


class FileDense:
    """``dense=`` of a handle: what the caller gave, or what the file says.

    Args:
        dense: None, or whatever :func:`~spladelite.encoders.dense.load_dense` takes.
    """

    def __init__(self, dense: object) -> None:
        self._given = dense
        self._encoder = None if dense is None else load_dense(dense)
        self._record: DenseRecord | None = None
        self._path = ""
        self._lock = threading.Lock()

    def describe(self) -> DenseRecord | None:
        """What a new file records of the encoder; encodes one word to learn the dimension."""
        if self._encoder is None:
            return None
        source = os.path.abspath(self._given) if isinstance(self._given, str | os.PathLike) else ""
        vectors = check_vectors(self._encoder.encode_documents(["dimension"]), 1, None, self._encoder.name)
        return DenseRecord(self._encoder.name, self._encoder.fingerprint, source, vectors.shape[1])

    def belongs_to(self, meta: Meta, path: str) -> None:
        """Bind to a file.

        Raises:
            InvalidInput: an encoder was given, and the file has no dense vectors.
            ModelMismatch: it is another one than the file was built with.
        """
        self._record, self._path = meta.dense, path
        if self._encoder is None:
            return
        if meta.dense is None:
            raise InvalidInput(f"{path} was created without dense vectors; leave dense out, or use a new file")
        self._compare(self._encoder, meta.dense)

    def given(self, meta: Meta) -> object:
        """What another file with the same dense vectors is to be created with; None if this one has none."""
        return self._given if self._given is not None or meta.dense is None else meta.dense.source

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of passages, float32 ``(N, D)``."""
        encoder, dimension = self._load()
        return self._checked(encoder.encode_documents, texts, encoder.name, dimension)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of queries, float32 ``(N, D)``."""
        encoder, dimension = self._load()
        return self._checked(encoder.encode_queries, texts, encoder.name, dimension)

    def _load(self) -> tuple[DenseEncoder, int]:
        record = self._record
        assert record is not None
        with self._lock:
            if self._encoder is None:
                if not record.source:
                    raise ModelError(
                        f"{self._path} was built with the dense encoder {record.name}, given as an object; "
                        f"open it with dense="
                    )
                encoder = load_dense(record.source)
                self._compare(encoder, record)
                self._encoder = encoder
            return self._encoder, record.dimension

    def _compare(self, encoder: DenseEncoder, record: DenseRecord) -> None:
        if encoder.fingerprint != record.fingerprint:
            raise ModelMismatch(
                f"{self._path} was built with the dense encoder {record.name} (fingerprint "
                f"{record.fingerprint[:12] or 'unknown'}), not with {encoder.name} "
                f"({encoder.fingerprint[:12] or 'unknown'}); open it with that one, or add the texts to a new file"
            )

    def _checked(
        self, encode: Callable[[Sequence[str]], ArrayLike], texts: Sequence[str], name: str, dimension: int
    ) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, dimension), np.float32)
        return check_vectors(encode(texts), len(texts), dimension, name)
