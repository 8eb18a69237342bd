"""Files into the database, and the database equal to a folder: what ``add`` and ``sync`` of files do.

A document that comes from a file has an object ``file`` in its metadata: ``folder``, ``path`` inside of it, and, where
the file is one document, ``modified`` (ISO 8601), ``size`` and ``hash`` of the bytes. Whose a document is, is read
there: its id is the path where that is free, else with as many folders before it as it takes, so two folders never
share an id. What has no such object, or another folder, is never changed or deleted.

A file of one document is new, changed (its size or time is another, and then its hash), renamed (its hash is that of a
path that is gone: nothing is encoded), or the same. Whatever else is in its metadata stays. Files with rows are read
again each time; rows that are the same are not encoded again.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any

import apsw

from spladelite.arguments import NewDocument, new_documents
from spladelite.documents import table
from spladelite.documents.files import ROWS, File
from spladelite.documents.filters import compile_filter, matching_doc_ids
from spladelite.documents.ingest import Target, ingest
from spladelite.documents.sources import Columns, Source, read_file
from spladelite.documents.table import OnConflict
from spladelite.errors import InvalidInput, SpladeLiteError
from spladelite.records import Added, FileProblem, FilesReport
from spladelite.session import Session

GROUP = 4096  # rows whose ids are looked up together

Advance = Callable[[File, int], object]


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read.

    Attributes:
        columns: of files with rows.
        encoding: of what is not UTF-8 and has no byte order mark.
        strict: whether the first file that cannot be used ends it all.
        on_conflict: of rows that are added, not synchronised.
        metadata: what the metadata of every document gets.
    """

    columns: Columns
    encoding: str | None = None
    strict: bool = False
    on_conflict: OnConflict = "error"
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """A stored document of a folder."""

    stored: table.Stored
    id: str
    metadata: dict[str, Any]

    @property
    def file(self) -> dict[str, Any]:
        """Where it is from."""
        found: dict[str, Any] = self.metadata["file"]
        return found

    def has(self, metadata: dict[str, Any]) -> bool:
        """Whether all of it is in the document's metadata."""
        return self.metadata | metadata == self.metadata


@dataclass(slots=True)
class _Work:
    """What a call has found out so far; becomes a :class:`FilesReport`."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: list[FileProblem] = field(default_factory=list)
    blank: int = 0
    id_of: dict[File, str] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)

    @contextmanager
    def skipping(self, file: File, strict: bool) -> Iterator[None]:
        """One file that cannot be used does not end the others."""
        try:
            yield
        except (SpladeLiteError, OSError) as error:
            if strict or not isinstance(error, InvalidInput | OSError):
                raise
            reason = str(error.strerror or error) if isinstance(error, OSError) else str(error)
            self.problems.append(FileProblem(file.path, reason.removeprefix(f"{file.path}: ")))


def take_files(
    session: Session, files: Sequence[File], reading: Reading, advance: Advance, folder: str | None, dry_run: bool
) -> FilesReport:
    """Store what files hold.

    Args:
        session: of the database.
        files: what to read.
        reading: how.
        advance: called with each file, and its size when it is done.
        folder: absolute; the database is to be equal to it, so documents of it whose file is gone are deleted. None:
            files are added, and nothing is deleted.
        dry_run: only find out what would be done.

    Raises:
        InvalidInput: with ``strict``; or the folder has no files left at all, and the database has.
        IdConflict: of rows, see :class:`Reading`.
    """
    work = _Work()
    before = {one: _known(session, one) for one in {file.folder for file in files} | ({folder} if folder else set())}
    if folder is not None and before[folder] and not files:
        raise InvalidInput(
            f"{folder} has no files that are read, and the database has {len(before[folder])} documents from it: is it "
            f"the right folder? To delete them: where={{'file.folder': {folder!r}}}"
        )
    by_path = {
        (one, str(known.file.get("path"))): known
        for one, documents in before.items()
        for known in documents
        if "hash" in known.file
    }
    present = {(file.folder, file.name) for file in files}
    gone = {}
    if folder is not None:
        gone = {known.file["hash"]: known for (_, path), known in by_path.items() if (folder, path) not in present}
    whole = [file for file in files if file.format not in ROWS]
    todo: list[tuple[File, str, Known | None]] = []
    touched: list[tuple[Known, str, str]] = []  # a document, its id and its metadata as they are to be
    for file in whole:
        with work.skipping(file, reading.strict):
            known = by_path.get((file.folder, file.name))
            same_time = known and known.file.get("size") == file.size and known.file.get("modified") == _time(file)
            if known and same_time and known.has(reading.metadata):
                work.unchanged.append(file.name)
                work.id_of[file] = known.id
                advance(file, file.size)
                continue
            digest = _hash(file.path)
            moved = None if known else gone.pop(digest, None)
            if known is None and moved is None:
                todo.append((file, digest, None))
            elif known is not None and known.file["hash"] != digest:
                todo.append((file, digest, known))
            else:
                same = moved or known
                assert same is not None
                metadata = same.metadata | reading.metadata | {"file": _facts(file, digest)}
                work.id_of[file] = same.id
                touched.append((same, file.name if moved else same.id, json.dumps(metadata, ensure_ascii=False)))
                if moved:
                    work.renamed.append((str(moved.file["path"]), file.name))
                else:
                    (work.unchanged if same.has(reading.metadata) else work.changed).append(file.name)
                advance(file, file.size)
    renamed_from = {known.id for known, _, _ in touched}
    stale = [known for known in (before[folder] if folder else []) if (folder, known.file.get("path")) not in present]
    stale = [known for known in stale if known.id not in renamed_from]
    work.deleted += sorted({str(known.file.get("path")) for known in stale})
    rows = [file for file in files if file.format in ROWS]
    if dry_run:
        work.new += [file.name for file, _, known in todo if known is None]
        work.changed += [file.name for file, _, known in todo if known is not None]
        _plan_rows(work, rows, before, reading)
        return _report(work)
    _touch(session, touched, work)
    blank = _store_whole(session, todo, work, reading, advance)
    work.ids += [work.id_of[file] for file in whole if file in work.id_of]
    for file in rows:
        with work.skipping(file, reading.strict):
            old = [known for known in before[file.folder] if known.file.get("path") == file.name]
            _store_rows(session, file, old, work, reading, advance, synchronised=folder is not None)
    _delete(session, [known.id for known in [*stale, *blank]])
    return _report(work)


def _report(work: _Work) -> FilesReport:
    return FilesReport(
        tuple(work.ids), tuple(work.new), tuple(work.changed), tuple(work.renamed), tuple(work.deleted),
        len(work.unchanged), work.blank, tuple(work.problems), {},
    )  # fmt: skip


def _known(session: Session, folder: str) -> list[Known]:
    matching = compile_filter({"file.folder": folder})
    assert matching is not None
    with session.connections.read() as connection:
        found = table.stored(connection, matching_doc_ids(connection, matching))
    return [Known(stored, id, json.loads(stored.metadata)) for id, stored in found]


def _hash(path: str) -> str:
    digest = blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _time(file: File) -> str:
    return datetime.datetime.fromtimestamp(file.modified // 1000 / 1e6, datetime.UTC).isoformat()


def _facts(file: File, digest: str) -> dict[str, object]:
    return {"folder": file.folder, "path": file.name, "modified": _time(file), "size": file.size, "hash": digest}


def _free_id(connection: apsw.Connection, taken: set[str], folder: str, name: str) -> str:
    """The path, with as many of the folder's names before it as make it nobody else's."""
    parts = [part for part in folder.replace(os.sep, "/").split("/") if part]
    for count in range(len(parts) + 1):
        id = "/".join([*parts[len(parts) - count :], name])
        if id not in taken and not table.look_up(connection, [id]):
            return id
    number = 2
    while (id := f"{folder}/{name} ({number})") in taken or table.look_up(connection, [id]):
        number += 1
    return id


def _touch(session: Session, touched: Sequence[tuple[Known, str, str]], work: _Work) -> None:
    if not touched:
        return
    with session.writing() as connection:
        for known, name, metadata in touched:
            new_id = known.id
            if name != known.id:
                new_id = _free_id(connection, set(), str(json.loads(metadata)["file"]["folder"]), name)
                work.id_of = {file: new_id if id == known.id else id for file, id in work.id_of.items()}
            table.rename(connection, known.stored, new_id, metadata)


def _store_whole(
    session: Session,
    todo: Sequence[tuple[File, str, Known | None]],
    work: _Work,
    reading: Reading,
    advance: Advance,
) -> list[Known]:
    """Read, encode and store files of one document each; returns the documents whose file holds nothing any more."""
    blank: list[Known] = []
    taken: set[str] = set()
    waiting: dict[str, File] = {}

    def documents() -> Iterator[NewDocument]:
        for file, digest, known in todo:
            with work.skipping(file, reading.strict):
                (source,) = read_file(file, reading.columns, reading.encoding)
                if not source.text.strip():
                    work.blank += 1
                    if known is not None:
                        blank.append(known)
                        work.deleted.append(file.name)
                    advance(file, file.size)
                    continue
                if known is None:
                    with session.connections.read() as connection:
                        id = _free_id(connection, taken, file.folder, file.name)
                else:
                    id = known.id
                taken.add(id)
                before = {} if known is None else known.metadata
                metadata = before | (source.metadata or {}) | reading.metadata | {"file": _facts(file, digest)}
                (document,) = new_documents(source.text, id, metadata, None, session.meta.layout.vocabulary_size)
                (work.new if known is None else work.changed).append(file.name)
                waiting[id] = file
                advance(file, 0)
                yield document

    def stored(ids: Iterable[str]) -> None:
        for id in ids:
            work.id_of[waiting[id]] = id
            advance(waiting[id], waiting[id].size)

    _ingest(session, documents(), "replace", stored)
    return blank


def _ingest(
    session: Session, documents: Iterator[NewDocument], on_conflict: OnConflict, stored: Callable[[Iterable[str]], None]
) -> None:
    order: list[str] = []
    done = 0

    def noted() -> Iterator[NewDocument]:
        for document in documents:
            order.append(document.id)
            yield document

    def advance(count: int, _: int) -> None:
        nonlocal done
        stored(order[done : done + count])
        done += count

    try:
        ingest(Target(session.connections, session.models, on_conflict), noted(), advance)
    finally:
        session.changed()


def _store_rows(
    session: Session,
    file: File,
    old: Sequence[Known],
    work: _Work,
    reading: Reading,
    advance: Advance,
    *,
    synchronised: bool,
) -> None:
    """Store the rows of a file; of a synchronised folder with their place, and those that are gone are deleted."""
    mine = {known.id for known in old}
    result = Added()
    position = [0]
    sources = read_file(file, reading.columns, reading.encoding, lambda place: position.__setitem__(0, place))
    shown = 0
    on_conflict: OnConflict = "replace" if synchronised else reading.on_conflict
    advance(file, 0)
    while group := list(islice(sources, GROUP)):
        documents = list(_row_documents(session, file, group, mine, work, reading.metadata, synchronised=synchronised))
        share = (min(position[0], file.size) - shown) / max(1, len(documents))

        def stored(count: int, _: int, share: float = share) -> None:
            nonlocal shown
            advance(file, int(count * share))
            shown += int(count * share)

        try:
            some = ingest(Target(session.connections, session.models, on_conflict), documents, stored)
        finally:
            session.changed()
        result += some
        result.new += some.new
        result.replaced += some.replaced
    advance(file, file.size - shown)
    work.ids += result
    dropped = mine.difference(result)
    if synchronised:
        _delete(session, sorted(dropped))
    if not mine and result.new:
        work.new.append(file.name)
    elif result.new or result.replaced or (synchronised and dropped):
        work.changed.append(file.name)
    elif result:
        work.unchanged.append(file.name)


def _row_documents(
    session: Session,
    file: File,
    group: Sequence[Source],
    mine: set[str],
    work: _Work,
    more: dict[str, Any],
    *,
    synchronised: bool,
) -> Iterator[NewDocument]:
    filled = [source for source in group if source.text.strip()]
    work.blank += len(group) - len(filled)
    place = {"folder": file.folder, "path": file.name}
    with session.connections.read() as connection:
        others = set(table.look_up(connection, [s.id for s in filled if s.id is not None])) - mine
    for source in filled:
        metadata, id = (source.metadata or {}) | more, source.id
        if synchronised:
            if "file" in metadata:
                raise InvalidInput(f"{source.place}: has a column named 'file', which holds where a document is from")
            metadata = metadata | {"file": place}
            id = f"{file.name}#{id}" if id in others else id
        ids = None if id is None else [id]
        yield from new_documents([source.text], ids, [metadata or None], None, session.meta.layout.vocabulary_size)


def _plan_rows(work: _Work, rows: Sequence[File], before: dict[str, list[Known]], reading: Reading) -> None:
    """For a dry run: whether a file's rows can be read, and are as many as are stored; not whether they are equal."""
    for file in rows:
        with work.skipping(file, reading.strict):
            sources = list(read_file(file, reading.columns, reading.encoding))
            stored = sum(known.file.get("path") == file.name for known in before[file.folder])
            filled = sum(bool(source.text.strip()) for source in sources)
            (work.new if not stored else work.unchanged if filled == stored else work.changed).append(file.name)


def _delete(session: Session, ids: Sequence[str]) -> None:
    if not ids:
        return
    with session.writing() as connection:
        table.remove(connection, session.meta.layout, table.places(connection, ids))
