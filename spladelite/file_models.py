"""The encoders of one database, loaded when first needed, and checked against the file that they serve."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spladelite.encoders.base import Encoder
from spladelite.encoders.dense import DenseEncoder, load_dense
from spladelite.encoders.forked import encoder_in_use
from spladelite.encoders.reading import Reader
from spladelite.errors import InvalidInput, ModelError, ModelMismatch
from spladelite.index.dense_blocks import check_vectors
from spladelite.index.settings import MAX_DIMENSION, DenseRecord, Meta

BUNDLED = "bundled"


class FileModel:
    """``model=`` of a handle: what the caller gave, or what the file says.

    Args:
        model: None, or whatever ``load_encoder`` takes.
    """

    def __init__(self, model: object) -> None:
        self.source = BUNDLED if model is None else ""
        if isinstance(model, str | os.PathLike):
            path = os.fspath(model)
            model = self.source = os.path.abspath(path) if os.path.exists(path) else str(path)
        self._given = model
        self._encoder: Encoder | None = None
        self._reader: tuple[Encoder, Reader] | None = None
        self._meta: Meta | None = None
        self._path = ""
        self._lock = threading.Lock()

    def belongs_to(self, meta: Meta, path: str) -> None:
        """Bind to a file; a model that the caller gave must be the file's."""
        self._meta, self._path = meta, path
        if self._given is None:
            self.source = meta.source
            if self._encoder is not None and meta.fingerprint != self._encoder.fingerprint:
                self._encoder = None  # another process created the file, with another model
        else:
            self.load()
        if self._encoder is not None:
            self._compare(self._encoder)

    @property
    def vocabulary_size(self) -> int:
        """Term ids are below it."""
        assert self._meta is not None
        return self._meta.layout.vocabulary_size

    def load(self) -> Encoder:
        """The encoder.

        Raises:
            ModelError: the file's model was an object, or its folder is gone: open the file with ``model=``.
            ModelMismatch: it is another model than the one that the file was built with.
        """
        encoder_in_use()
        with self._lock:
            if self._encoder is None:
                from spladelite.encoders.registry import load_encoder

                encoder = load_encoder(self._wanted())
                if self._meta is not None:
                    self._compare(encoder)
                self._encoder = encoder
            return self._encoder

    def reads(self, text: str) -> bool:
        """Whether the model's vocabulary has most of a text.

        Raises:
            ModelError, ModelMismatch: as :meth:`load`.
        """
        encoder = self.load()
        reader = self._reader
        if reader is None or reader[0] is not encoder:
            reader = self._reader = (encoder, Reader(encoder))
        return reader[1].reads(text)

    def _wanted(self) -> object:
        if self._given is not None or self.source == BUNDLED:
            return self._given
        if not self.source:
            name = self._meta.model if self._meta else "another model"
            raise ModelError(f"{self._path} was built with {name}, given as an object; open it with model=")
        return self.source

    def _compare(self, encoder: Encoder) -> None:
        meta = self._meta
        assert meta is not None
        if encoder.fingerprint != meta.fingerprint or len(encoder.vocabulary) != meta.layout.vocabulary_size:
            raise ModelMismatch(
                f"{self._path} was built with the model {meta.model} (fingerprint {meta.fingerprint[:12]}), not with "
                f"{encoder.name} ({encoder.fingerprint[:12]}); open it with that model, or add the texts to a new file"
            )


GIVEN = "vectors of the caller"
"""The name of the dense encoder of a file that was made with ``dense=D``."""


def _checked_dimension(dimension: int) -> int:
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InvalidInput(f"dense is {dimension}; as the dimension of vectors, give 1 to {MAX_DIMENSION:,}")
    return dimension


class FileDense:
    """``dense=`` of a handle: what the caller gave, or what the file says.

    Args:
        dense: None, whatever :func:`~spladelite.encoders.dense.load_dense` takes, or the dimension of vectors that
            callers give.
    """

    def __init__(self, dense: object) -> None:
        self._dimension: int | None = None
        if isinstance(dense, int) and not isinstance(dense, bool):
            self._dimension, dense = _checked_dimension(dense), None
        if isinstance(dense, str | os.PathLike):
            dense = os.path.abspath(os.fspath(dense))  # threads may load it later, from another folder
        self._given = dense
        self._encoder = None if dense is None else load_dense(dense)
        self._record: DenseRecord | None = None
        self._path = ""
        self._lock = threading.Lock()

    def describe(self) -> DenseRecord | None:
        """What a new file records of the encoder; encodes one word to learn the dimension."""
        if self._dimension is not None:
            return DenseRecord(GIVEN, "", "", self._dimension)
        if self._encoder is None:
            return None
        source = self._given if isinstance(self._given, str) else ""
        vectors = check_vectors(self._encoder.encode_documents(["dimension"]), 1, None, self._encoder.name)
        return DenseRecord(self._encoder.name, self._encoder.fingerprint, source, vectors.shape[1])

    def belongs_to(self, meta: Meta, path: str) -> None:
        """Bind to a file.

        Raises:
            InvalidInput: an encoder was given, and the file has no dense vectors; or a dimension that is not theirs.
            ModelMismatch: it is another one than the file was built with.
        """
        self._record, self._path = meta.dense, path
        if self._encoder is None and self._dimension is None:
            return
        if meta.dense is None:
            raise InvalidInput(f"{path} was created without dense vectors; leave dense out, or use a new file")
        if self._dimension not in (None, meta.dense.dimension):
            raise InvalidInput(
                f"{path} holds dense vectors of {meta.dense.dimension} dimensions, not of {self._dimension}; "
                "leave dense out, or use a new file"
            )
        if self._encoder is not None:
            self._compare(self._encoder, meta.dense)

    @property
    def encodes(self) -> bool:
        """False if only callers have vectors: an encoder was neither given nor recorded."""
        return self._encoder is not None or (self._record is not None and self._record.name != GIVEN)

    def given(self, meta: Meta) -> object:
        """What another file with the same dense vectors is to be created with; None if this one has none."""
        if meta.dense is not None and not self.encodes:
            return meta.dense.dimension
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
        encoder_in_use()
        with self._lock:
            if self._encoder is None:
                if record.name == GIVEN:
                    raise ModelError(
                        f"{self._path} holds dense vectors that callers give: say dense= with each text and each query,"
                        " or open it with dense= a function that encodes them"
                    )
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


class FileModels:
    """A file's SPLADE encoder, its dense encoder, and the file's own record of itself, which names both.

    Attributes:
        sparse: the SPLADE encoder.
        dense: the dense encoder.
        meta: the file's record as it was last seen.
        told: the caller has been told that the model cannot read what is stored.
    """

    def __init__(self, model: object, dense: object) -> None:
        self.told = False
        self.sparse = FileModel(model)
        self.dense = FileDense(dense)
        self._meta: Meta | None = None
        self._path = ""

    @property
    def meta(self) -> Meta:
        """The file's record as it was last seen."""
        assert self._meta is not None, "belongs_to() comes first"
        return self._meta

    def belongs_to(self, meta: Meta, path: str) -> None:
        """Bind to a file; :class:`ModelMismatch` if an encoder that the caller gave is not the file's."""
        self.sparse.belongs_to(meta, path)
        self.dense.belongs_to(meta, path)
        self._meta, self._path = meta, path

    def follow(self, meta: Meta) -> bool:
        """Go over to the model that the file names now; False if it has moved to another one since it was last seen.

        Raises:
            ModelMismatch: it has moved, and this handle was opened with ``model=``.
        """
        if meta is self._meta:
            return True
        if meta == self._meta:
            self._meta = meta  # which the next search finds to be the same object
            return True
        self.sparse.belongs_to(meta, self._path)
        self._meta = meta
        return False

    def use(self, model: FileModel, meta: Meta) -> None:
        """Take another SPLADE model, with which the file was re-encoded."""
        model.belongs_to(meta, self._path)
        self.sparse, self._meta = model, meta
