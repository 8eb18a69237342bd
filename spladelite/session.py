"""One open file: its connections, its encoders, and what is kept of its index between calls.

A :class:`Session` is what the facade and the rooms of ``upkeep`` work on. It holds what outlives one call; everything
that a call decides for itself comes with the call.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import apsw

from spladelite.documents.format2 import Upgrade
from spladelite.documents.metadata_index import metadata_indexes
from spladelite.errors import InvalidInput, WrongType
from spladelite.file.connection import Connections, Durability
from spladelite.file.paths import is_new
from spladelite.file_models import FileModels
from spladelite.index.settings import Meta, Settings, create_meta, read_meta
from spladelite.search.run import OpenIndex
from spladelite.search.searcher import Searcher
from spladelite.search.sql_functions import register


class Session:
    """One open file.

    Attributes:
        path: as the caller gave it.
        connections: one a thread, with their transactions.
        models: the file's encoders and its record of itself.
        index: what a search works on.

    Raises:
        NotADatabase, UnsupportedFormat, ModelMismatch, InvalidInput, ReadOnly: see
            :class:`~spladelite.database.SpladeLite`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        models: FileModels,
        settings: Settings,
        *,
        read_only: bool = False,
        immutable: bool = False,
        durability: Durability = "full",
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or not os.fspath(path):
            raise WrongType(f"path is {path!r}; give the path of a file, or ':memory:'")
        self.path = os.fspath(path)
        if durability not in ("full", "fast"):
            raise InvalidInput(f"durability is {durability!r}; give 'full' or 'fast'")
        self.models = models
        searcher = Searcher()
        if not read_only and not immutable and is_new(self.path):
            models.sparse.load()  # before there is a file: a model that cannot be loaded leaves none behind
        self.connections = Connections(
            self.path,
            read_only=read_only,
            immutable=immutable,
            durability=durability,
            prepare=_prepare(searcher, models),
            create=_create(models, settings),
            upgrade=Upgrade(models),
            indexes=metadata_indexes,
        )
        self.index = OpenIndex(self.connections, models, searcher)
        # Closes also when the facade is collected: nothing that a connection holds refers to this object.
        self._finalizer = weakref.finalize(self, self.connections.close)
        try:
            with self.connections.read() as connection:
                meta = read_meta(connection)
            if meta.slim:
                self.connections.frozen = "it is a slim export, without the vectors that changes need"
            settings.compare(meta, self.path)
            models.belongs_to(meta, self.path)
        except BaseException:
            self.connections.close()
            raise

    @property
    def meta(self) -> Meta:
        """The file's record of itself, as it was last seen."""
        return self.models.meta

    @contextmanager
    def writing(self) -> Iterator[apsw.Connection]:
        """A write transaction on the file as it is now: another process may have moved it to another model."""
        with self.connections.write() as connection:
            self.models.follow(read_meta(connection))
            yield connection
        self.changed()

    def __reduce__(self) -> tuple[object, ...]:
        raise WrongType(
            f"an open database cannot be pickled or copied; give the path to the other process, and open it there with "
            f"SpladeLite({self.path!r})"
        )

    def close(self) -> None:
        """Close every connection; idempotent."""
        self.connections.close()

    def changed(self) -> None:
        """After a commit through this handle: what is kept of the index is looked at again."""
        self.index.searcher.changed()


def _prepare(searcher: Searcher, models: FileModels) -> Callable[[apsw.Connection], None]:
    def prepare(connection: apsw.Connection) -> None:
        searcher.prepare(connection)
        register(connection, searcher, models)

    return prepare


def _create(models: FileModels, settings: Settings) -> Callable[[apsw.Connection], None]:
    return lambda connection: create_meta(
        connection, models.sparse.load(), models.sparse.source, settings, models.dense.describe()
    )
