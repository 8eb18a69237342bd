"""One open database: opening and closing it, looking at its documents, copying it.

:class:`Handle` holds what outlives one call: the connections, the model, the cached state of the index.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import apsw

from spladelite.arguments import check_id, check_timeout
from spladelite.documents import table as store
from spladelite.documents.metadata_index import metadata_indexes
from spladelite.errors import DocumentNotFound, InvalidInput, WrongType
from spladelite.file.connection import Connections, Durability
from spladelite.file.paths import is_new, replacing
from spladelite.file.sqlite import backup
from spladelite.file_models import FileModel
from spladelite.file_models_dense import FileDense
from spladelite.index.settings import Meta, Settings, create_meta, read_meta
from spladelite.progress import Progress, ticking
from spladelite.records import Document, Finding, Row, Stats, WebExport
from spladelite.search.query_weights import weigher
from spladelite.search.searcher import Searcher
from spladelite.search.sql_functions import register
from spladelite.upkeep import check as checking
from spladelite.upkeep.slim import make_slim
from spladelite.upkeep.stats import read_stats

Where = Mapping[str, Any] | str | None
WhereArgs = Sequence[Any] | Mapping[str, Any] | None


class Handle:
    """The base of :class:`~spladelite.database.SpladeLite`: what needs no search and changes nothing."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: object,
        dense: object,
        *,
        read_only: bool,
        immutable: bool,
        durability: Durability,
        settings: Settings,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or not os.fspath(path):
            raise WrongType(f"path is {path!r}; give the path of a file, or ':memory:'")
        self._path = os.fspath(path)
        if durability not in ("full", "fast"):
            raise InvalidInput(f"durability is {durability!r}; give 'full' or 'fast'")
        self._model = FileModel(model)
        self._dense = FileDense(dense)
        self._searcher = Searcher()
        if not read_only and not immutable and is_new(self._path):
            self._model.load()  # before there is a file: a model that cannot be loaded leaves none behind
        self._connections = Connections(
            self._path,
            read_only=read_only,
            immutable=immutable,
            durability=durability,
            prepare=_prepare(self._searcher, self._model),
            create=_create(self._model, self._dense, settings),
            indexes=metadata_indexes,
        )
        self._finalizer = weakref.finalize(self, self._connections.close)
        try:
            with self._connections.read() as connection:
                self._meta = read_meta(connection)
            if self._meta.slim:
                self._connections.frozen = "it is a slim export, without the vectors that changes need"
            settings.compare(self._meta, self._path)
            self._model.belongs_to(self._meta, self._path)
            self._dense.belongs_to(self._meta, self._path)
        except BaseException:
            self.close()
            raise

    # --- looking -----------------------------------------------------------------------------------------------------

    def get(self, id: str) -> Document | None:
        """The document with this id, or None."""
        with self._connections.read() as connection:
            return store.get(connection, check_id(id))

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str) or "\0" in id:
            return False
        with self._connections.read() as connection:
            return bool(store.look_up(connection, [id]))

    def __len__(self) -> int:
        with self._connections.read() as connection:
            return int(connection.execute("SELECT count(*) FROM document").get)

    def __iter__(self) -> Iterator[str]:
        """The ids, in the order in which the documents were stored; what is stored meanwhile is not among them."""
        after, last = 0, None
        while True:
            with self._connections.read() as connection:
                last = store.last_doc_id(connection) if last is None else last
                rows = [row for row in store.all_ids(connection, after, 1000) if row[0] <= last]
            if not rows:
                return
            yield from (id for _, id in rows)
            after = rows[-1][0]

    def stats(self) -> Stats:
        """Figures: documents, passages, postings, sizes by part, model, kernel."""
        with self._connections.read() as connection:
            return read_stats(connection, read_meta(connection))

    def check(self) -> list[Finding]:
        """Verify every checksum, and compare the posting lists with the stored vectors; empty if all is well."""
        with self._connections.read() as connection:
            return checking.check(connection, self._meta.layout, self._meta.slim)

    def sql(self, query: str, args: WhereArgs = None, timeout: float | None = None) -> list[Row]:
        """Run one SQL statement of yours that reads, and return its rows (tuples that also know column names).

        Besides the tables and views of the file it sees whatever you ``ATTACH`` (for this thread's connection).

        Args:
            query: the statement, with ``?`` or ``:name`` for values.
            args: a sequence for ``?``, a dict for ``:name``.
            timeout: seconds after which the statement is ended.

        Raises:
            Interrupted: the timeout has passed.
            InvalidInput: it does not compile, would change something, or is more than one statement.
        """
        seconds = check_timeout(timeout)
        statements: list[str] = []

        def one_statement(cursor: apsw.Cursor, sql: str, _: object) -> bool:
            statements.append(sql)
            if not cursor.is_readonly:  # VACUUM INTO, which needs no permission of an authorizer
                raise InvalidInput("db.sql() runs statements that read; use db.export() to write a copy")
            if len(statements) > 1:
                raise InvalidInput(f"db.sql() runs one statement at a time; call it once more for {sql.strip()[:40]!r}")
            return True

        with self._connections.querying(seconds) as connection:
            cursor = connection.cursor()
            cursor.exec_trace = one_statement
            try:
                cursor.execute(query, args)
            except KeyError as error:
                raise InvalidInput(f"the SQL has a value named {error}, which args does not give") from None
            try:
                names = tuple(column[0] for column in cursor.description)
            except apsw.ExecutionCompleteError:
                return []  # without rows apsw knows no names
            return [Row(values, names) for values in cursor]

    # --- files -------------------------------------------------------------------------------------------------------

    def backup(self, path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> None:
        """Copy the database as it is now to another file, while others may write. ``progress(pages done, pages)``."""
        with replacing(self._target(path)) as temporary, self._connections.read() as connection:
            backup(connection, temporary, progress)

    def export(self, path: str | os.PathLike[str], slim: bool = False) -> None:
        """Write a compact copy for shipping: one plain file that also opens in read-only folders.

        Args:
            path: where to; what is there is replaced in one step when the copy is complete.
            slim: leave out the stored vectors, half of the index. Such a file is searched and explained as usual, and
                cannot be changed: it always opens read-only.
        """
        with replacing(self._target(path)) as temporary:
            with self._connections.outside_transaction() as connection:
                connection.execute("VACUUM INTO ?", (temporary,))
            if slim:
                make_slim(temporary)

    def export_rows(self, path: str | os.PathLike[str], progress: Progress = None) -> None:
        """Write a plain SQLite file, one row a posting; its table ``readme`` has the SQL that searches it anywhere.

        Tables: ``document(doc_id, id, text, metadata)``, ``passage(passage_id, doc_id, start_char, end_char)``,
        ``term(term_id, term, idf)``, ``posting(term_id, passage_id, weight)``.
        """
        from spladelite.upkeep.export_rows import export_rows  # here: sqlite-utils is slow to import

        with (
            replacing(self._target(path)) as temporary,
            self._connections.read() as connection,
            ticking(progress, range(len(self)), "exporting") as advance,
        ):
            meta = read_meta(connection)
            if meta.slim:
                raise InvalidInput(f"{self._path} is a slim export; export the rows from the full database")
            export_rows(connection, meta.layout, temporary, advance)

    def export_web(self, path: str | os.PathLike[str], progress: Progress = None) -> WebExport:
        """Write a folder that any static web host can serve and a browser can search, with a page to try it.

        docs/web.md tells how to publish it, and what the JavaScript module in it can do.

        Args:
            path: a new or empty folder, or one with an earlier export, which is replaced when the new one is complete;
                of the page, files that were changed by hand stay.
            progress: as for :meth:`~spladelite.database.SpladeLite.add`.

        Raises:
            InvalidInput: the folder holds something else.
        """
        from spladelite.upkeep.web.encoder import web_encoder
        from spladelite.upkeep.web.site import export_site

        with (
            self._connections.read() as connection,
            ticking(progress, range(len(self)), "exporting") as advance,
        ):
            view = self._searcher.view(connection)
            self._is_current(view.snapshot.meta)
            encoder = web_encoder(self._model.load)
            return export_site(connection, view.snapshot, encoder, os.fspath(path), advance)

    def close(self) -> None:
        """Close the file; idempotent. Without it, closing happens when the object goes, or at exit."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SpladeLite({self._path!r}{', read_only=True' if self._connections.read_only else ''})"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _is_current(self, meta: Meta) -> bool:
        """Whether the file still has the model that this handle knows; if not, follow it, or ModelMismatch."""
        if meta == self._meta:
            return True
        self._model.belongs_to(meta, self._path)
        self._meta = meta
        return False

    def _target(self, path: str | os.PathLike[str]) -> str:
        target = os.fspath(path)
        if os.path.realpath(target) == os.path.realpath(self._path):
            raise InvalidInput(f"{target} is this database itself; give another path")
        if os.path.isdir(target) or not os.path.isdir(os.path.dirname(os.path.abspath(target))):
            raise InvalidInput(f"{target} is a directory, or lies in one that does not exist; give the path of a file")
        return target


# Without a reference to the handle: a connection that held one would keep it from being collected.
def _prepare(searcher: Searcher, model: FileModel) -> Callable[[apsw.Connection], None]:
    def prepare(connection: apsw.Connection) -> None:
        searcher.prepare(connection)
        register(connection, searcher, lambda view, text: weigher(text, None, model)(view))

    return prepare


def _create(model: FileModel, dense: FileDense, settings: Settings) -> Callable[[apsw.Connection], None]:
    return lambda connection: create_meta(connection, model.load(), model.source, settings, dense.describe())


def not_found(id: str) -> DocumentNotFound:
    """The error for an id that is not there."""
    return DocumentNotFound(f"no document has the id {id!r}; `id in db` tells, and iterating over db lists all ids")
