"""Files, folders, standard input and SQLite tables -> documents, for the command line's ``add``.

==============  ===================================================================================================
format          documents
==============  ===================================================================================================
``text``        the whole file is one; its id is the path relative to the folder that was given (.txt, .md)
``lines``       every line that is not blank is one; standard input, unless told otherwise
``jsonl``       every line is a JSON object (.jsonl)
``csv``         every row after the header (.csv); columns of numbers become numbers, see :func:`column_kinds`
``table``       every row of a table or view of a SQLite file
==============  ===================================================================================================

An object or row is a document like this: the text column (``text``), after the column ``title`` and a space if there is
one; the id column (``_id``, else ``id``; a table's primary key); the object in ``metadata`` and all other columns as
metadata. Everything is read as a stream.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from spladelite.errors import InvalidInput

FORMATS = ("text", "lines", "jsonl", "csv")
FORMAT_OF_SUFFIX = {".txt": "text", ".md": "text", ".jsonl": "jsonl", ".csv": "csv"}

_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Source:
    """A document as it was found: ``id`` None where the source names none; ``place`` says where, for messages."""

    id: str | None
    text: str
    metadata: dict[str, Any] | None
    place: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of an object or row hold its text and its id; None: ``text``, and ``_id`` or ``id``.

    ``kinds`` says of columns of a CSV file what their values are, ``"text"``, ``"int"`` or ``"float"``; of the others
    the values decide.
    """

    text: str | None = None
    id: str | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)


def read_sources(paths: Iterable[str], format: str | None = None, columns: Columns = Columns()) -> Iterator[Source]:
    """The documents of files, folders (read recursively; hidden names are skipped) and ``-``, standard input.

    Args:
        paths: what to read, in this order; a folder's files come in the order of their names.
        format: one of ``FORMATS`` for all files that are named one by one; None goes by the file name.
        columns: for jsonl and csv.

    Raises:
        InvalidInput: what a file holds is not what its format says; names file and line or byte.
        OSError: a file cannot be read.
    """
    for path in paths:
        if path == "-":
            yield from _read(sys.stdin.buffer, "standard input", None, format or "lines", columns)
        elif os.path.isdir(path):
            yield from _read_folder(path, columns)
        else:
            chosen = format or _format_of(path)
            if chosen is None:
                raise InvalidInput(
                    f"{path}: files named {', '.join(FORMAT_OF_SUFFIX)} are read; for another name say --format"
                )
            with open(path, "rb") as file:
                yield from _read(file, path, os.path.basename(path), chosen, columns)


def read_table(path: str, table: str, columns: Columns = Columns()) -> Iterator[Source]:
    """The rows of a table or view of another SQLite file, which is opened read-only. BLOBs do not become metadata.

    Raises:
        InvalidInput: no SQLite file, no such table or column, or a text that is none; names the row.
        OSError: the file cannot be read.
    """
    import sqlite3  # here, since only this needs them

    import sqlite_utils

    open(path, "rb").close()  # sqlite3's own message does not say what is wrong
    try:
        connection = sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True)
        database = sqlite_utils.Database(connection)
        try:
            known = database.table_names() + database.view_names()
            if table not in known:
                raise InvalidInput(f"{path} has no table {table!r}; it has {', '.join(known) or 'none'}")
            chosen = _table_columns(database, path, table, columns)
            for number, row in enumerate(database[table].rows, 1):
                kept = {name: value for name, value in row.items() if not isinstance(value, bytes)}
                yield _document(kept, f"{path}: {table} row {number}", chosen)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise InvalidInput(f"{path} cannot be read as a SQLite database: {error}") from error


def _table_columns(database: Any, path: str, table: str, columns: Columns) -> Columns:
    names = list(database[table].columns_dict)
    for name in (columns.text or "text", columns.id):
        if name is not None and name not in names:
            raise InvalidInput(
                f"{path}: {table} has no column {name!r}; choose --text-column and --id-column from {', '.join(names)}"
            )
    keys = [key for key in getattr(database[table], "pks", []) if key in names]  # not the hidden rowid
    return Columns(columns.text, columns.id or (keys[0] if len(keys) == 1 else None))


def _format_of(path: str) -> str | None:
    return FORMAT_OF_SUFFIX.get(Path(path).suffix.lower())


def _read_folder(folder: str, columns: Columns) -> Iterator[Source]:
    found = False
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(parent, name)
            chosen = _format_of(name)
            if chosen is None or name.startswith(".") or not os.path.isfile(path):
                continue
            found = True
            with open(path, "rb") as file:
                yield from _read(file, path, Path(path).relative_to(folder).as_posix(), chosen, columns)
    if not found:
        raise InvalidInput(f"{folder} has no files named {', '.join(FORMAT_OF_SUFFIX)}")


def _raise(error: OSError) -> None:
    raise error


def _read(file: BinaryIO, place: str, id: str | None, format: str, columns: Columns) -> Iterator[Source]:
    if format == "text":
        content = file.read()
        start = len(_BOM) if content.startswith(_BOM) else 0
        name = None if id is None else readable(id)
        yield Source(name, _decode(content[start:], place, start), None, place)
    elif format == "lines":
        for number, line in _lines(file, place):
            if line.strip():
                name = None if id is None else f"{readable(id)}:{number}"
                yield Source(name, line.rstrip("\r\n"), None, f"{place}:{number}")
    elif format == "jsonl":
        for number, line in _lines(file, place):
            if line.strip():
                yield _document(json_object(line, f"{place}:{number}"), f"{place}:{number}", columns)
    else:
        yield from _read_csv(file, place, columns)


def _read_csv(file: BinaryIO, place: str, columns: Columns) -> Iterator[Source]:
    with _rewindable(file) as again:
        kinds = column_kinds(_csv_rows(again, place), columns)
        again.seek(0)
        for here, row in _csv_rows(again, place):
            yield _document(
                {name: _typed(value, kinds[name], here, name) for name, value in row.items()}, here, columns
            )


def _csv_rows(file: BinaryIO, place: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Place and values of each row after the header, by column."""
    csv.field_size_limit(2**31 - 1)  # a text may be longer than the default of 128 KiB
    reader = csv.reader((line for _, line in _lines(file, place)), strict=True)
    header: list[str] | None = None
    try:
        for row in reader:
            here = f"{place}:{reader.line_num}"
            if not row:
                continue
            if header is None:
                header = row
                if len(set(header)) < len(header):
                    raise InvalidInput(f"{here}: the header names a column twice: {', '.join(header)}")
                continue
            if len(row) != len(header):
                raise InvalidInput(f"{here}: the row has {len(row)} values, the header {len(header)}")
            yield here, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InvalidInput(f"{place}:{reader.line_num}: not CSV: {error}") from error


@contextmanager
def _rewindable(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file itself, or, of a pipe, a copy of it that can be read twice."""
    if file.seekable():
        yield file
        return
    with tempfile.SpooledTemporaryFile(max_size=64 << 20) as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield cast(BinaryIO, copy)


def column_kinds(rows: Iterable[tuple[str, Mapping[str, str]]], columns: Columns) -> dict[str, str]:
    """What the values of each column are: ``"text"``, or ``"number"`` where that loses nothing in any row.

    That is where each value that is not empty prints back as it was written: 7 and 1.5 do, 007, 1.10 and 1E5 do not,
    and then the whole column is text. So a column has values of one kind, and a code stays the code that it is.

    Raises:
        InvalidInput: ``columns.kinds`` names a column that is not there.
    """
    kinds: dict[str, str] = {}
    filled: set[str] = set()
    for _, row in rows:
        kinds = kinds or dict.fromkeys(row, "number")
        for name, value in row.items():
            if value and kinds[name] == "number":
                filled.add(name)
                if isinstance(number_or_text(value), str):
                    kinds[name] = "text"
    for name in (
        kinds.keys() - filled | {columns.text or "text", "title", columns.id or "id", "_id", "id"} & kinds.keys()
    ):
        kinds[name] = "text"
    unknown = sorted(columns.kinds.keys() - kinds.keys()) if kinds else []
    if unknown:
        raise InvalidInput(f"no column {unknown[0]!r} to give a type; the columns are {', '.join(kinds)}")
    return kinds | {name: kind for name, kind in columns.kinds.items() if name in kinds}


def _typed(value: str, kind: str, place: str, name: str) -> str | int | float | None:
    if kind == "text":
        return value
    if not value:
        return None
    if kind == "number":
        return number_or_text(value)
    try:
        number = int(value) if kind == "int" else float(value)
    except ValueError:
        raise InvalidInput(
            f"{place}: {name!r} is {value[:60]!r}, which is no {kind}; say --types {name}=text"
        ) from None
    return number


def number_or_text(value: str) -> str | int | float:
    """The number, if the text is how that number is written and it fits 64 bits; else the text (``"007"``, ``""``)."""
    if not _NUMBER.fullmatch(value):
        return value
    number = json.loads(value) if len(value) < 40 else 0.0
    fits = repr(number) == value and (isinstance(number, float) or -(2**63) <= number < 2**63)
    return number if fits else value


def readable(name: str) -> str:
    """A file's name as an id: bytes that are no UTF-8 become escapes such as ``\\xff``."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _lines(file: BinaryIO, place: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line, its end included."""
    offset = 0
    for number, line in enumerate(file, 1):
        start = len(_BOM) if number == 1 and line.startswith(_BOM) else 0
        yield number, _decode(line[start:], place, offset + start)
        offset += len(line)


def _decode(content: bytes, place: str, offset: int) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{place}: byte {offset + error.start} (0x{content[error.start]:02x}) is not UTF-8; convert the file, "
            f"for example with iconv -t UTF-8"
        ) from None


def json_object(line: str, place: str) -> dict[str, Any]:
    """A line as a JSON object, as written; :class:`InvalidInput` that names ``place`` if it is none."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(line, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{place}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{place}: a JSON object with a key 'text' is expected, not {line.strip()[:60]}")
    return value


def _document(row: Mapping[str, Any], place: str, columns: Columns) -> Source:
    """A document from an object or row, by the rules of the module's docstring."""
    rest = dict(row)
    text_column = columns.text or "text"
    if text_column not in rest:
        raise InvalidInput(f"{place}: no {text_column!r} among {', '.join(rest) or 'no keys'}; choose a --text-column")
    text = rest.pop(text_column)
    text = "" if text is None else text
    if not isinstance(text, str):
        raise InvalidInput(f"{place}: {text_column!r} is {json.dumps(text, default=str)[:60]}, not a text")
    title = rest.pop("title", None)
    if title is not None and not isinstance(title, str):
        raise InvalidInput(f"{place}: 'title' is {json.dumps(title)[:60]}, not a text")
    if columns.id is not None and columns.id not in rest:
        raise InvalidInput(f"{place}: no {columns.id!r} among {', '.join(row)}; choose an --id-column")
    id_column = columns.id or next((name for name in ("_id", "id") if name in rest), None)
    id = None if id_column is None else rest.pop(id_column)
    if id is not None and (isinstance(id, bool) or not isinstance(id, str | int) or id == ""):
        raise InvalidInput(
            f"{place}: {id_column!r} is {json.dumps(id)[:60]}; an id is a non-empty string or an integer"
        )
    nested = rest.pop("metadata") if isinstance(rest.get("metadata"), dict) else {}
    metadata = rest | nested
    full = f"{title} {text}".strip() if title else text
    try:
        json.dumps([full, id, metadata], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{place}: holds a lone surrogate (such as \\ud800), which is not valid Unicode") from None
    return Source(None if id is None else str(id), full, metadata or None, place)
