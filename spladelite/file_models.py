"""The model of one database: loaded when first needed, and checked against the file that it serves."""

from __future__ import annotations

import os
import threading

from spladelite.encoders.base import Encoder
from spladelite.errors import ModelError, ModelMismatch
from spladelite.index.settings import Meta

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
            self.source = os.path.abspath(path) if os.path.exists(path) else str(path)
        self._given = model
        self._encoder: Encoder | None = None
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
        with self._lock:
            if self._encoder is None:
                from spladelite.encoders.registry import load_encoder

                encoder = load_encoder(self._wanted())
                if self._meta is not None:
                    self._compare(encoder)
                self._encoder = encoder
            return self._encoder

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
