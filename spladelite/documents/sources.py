"""Files, standard input and SQLite tables -> documents, for ``add`` and ``sync``.

==============  ===================================================================================================
format          documents
==============  ===================================================================================================
``text``        the whole file is one, its id the path inside of the folder that was given; source code too
``html`` …      the same for what :mod:`spladelite.documents.extract` reads
``lines``       every line that is not blank is one; standard input, unless told otherwise
``jsonl``       every line is a JSON object (.jsonl)
``json``        the file is a list of JSON objects, or one
``csv``         every row after the header (.csv); columns of numbers become numbers, see :func:`column_kinds`
``table``       every row of a table or view of a SQLite file
==============  ===================================================================================================

An object or row is a document like this: the text column (``text``), after the column ``title`` and a space if there is
one; the id column (``_id``, else ``id``; a table's primary key); the object in ``metadata`` and all other columns as
metadata. What has rows is read as a stream.

A text's encoding is what its byte order mark says, else UTF-8, else the one that the caller names.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from spladelite.documents.extract import extract
from spladelite.documents.files import ROWS, File
from spladelite.errors import InvalidInput

_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
KINDS = ("text", "int", "float")  # what a caller can say that a column is
MAX_FILE = 512 << 20  # bytes of a file that is one document, unpacked
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


def read_file(
    file: File,
    columns: Columns = Columns(),
    encoding: str | None = None,
    at: Callable[[int], object] = lambda _: None,
) -> Iterator[Source]:
    """The documents of a file.

    Args:
        file: from :func:`~spladelite.documents.files.find_files`.
        columns: of its rows, if it has any.
        encoding: of what has no byte order mark and is not UTF-8.
        at: called before each document with how many bytes of the file have been read.

    Raises:
        InvalidInput: what the file holds is not what its format says; names file and line or byte.
        OSError: the file cannot be read.
    """
    with open(file.path, "rb") as raw:
        content: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if file.packed else raw
        try:
            for source in _read(content, file.path, file.name, file.format, columns, encoding):
                at(raw.tell())
                yield source
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidInput(f"{file.path}: cannot be unpacked: {error}") from error


def read_stdin(format: str, columns: Columns = Columns(), encoding: str | None = None) -> Iterator[Source]:
    """The documents of standard input; errors as of :func:`read_file`."""
    yield from _read(sys.stdin.buffer, "standard input", None, format, columns, encoding)


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


def _read(
    file: BinaryIO, place: str, id: str | None, format: str, columns: Columns, encoding: str | None
) -> Iterator[Source]:
    if format in ROWS:
        yield from _read_rows(file, place, id, format, columns, encoding)
        return
    content = _whole(file, place)
    if format == "text":
        yield Source(id, decode(content, place, encoding), None, place)
        return
    try:
        text, metadata = extract(content, format, lambda part: decode(part, "a part of it", encoding))
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from error
    yield Source(id, text, metadata or None, place)


def _read_rows(
    file: BinaryIO, place: str, id: str | None, format: str, columns: Columns, encoding: str | None
) -> Iterator[Source]:
    if format == "lines":
        for number, line in _lines(file, place, encoding):
            if line.strip():
                name = None if id is None else f"{id}:{number}"
                yield Source(name, line.rstrip("\r\n"), None, f"{place}:{number}")
    elif format == "jsonl":
        for number, line in _lines(file, place, encoding):
            if line.strip():
                yield _document(json_object(line, f"{place}:{number}"), f"{place}:{number}", columns)
    elif format == "json":
        value = _json_value(decode(_whole(file, place), place, encoding), place)
        for number, row in enumerate(value if isinstance(value, list) else [value], 1):
            here = f"{place}: object {number}"
            if not isinstance(row, dict):
                raise InvalidInput(f"{here}: {json.dumps(row)[:60]} is no JSON object")
            yield _document(row, here, columns)
    else:
        yield from _read_csv(file, place, columns, encoding)


def _whole(file: BinaryIO, place: str) -> bytes:
    content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise InvalidInput(f"{place}: has more than {MAX_FILE:,} bytes, which are too many for one document; split it")
    return content


def _read_csv(file: BinaryIO, place: str, columns: Columns, encoding: str | None) -> Iterator[Source]:
    with _rewindable(file) as again:
        kinds = column_kinds(_csv_rows(again, place, encoding), columns)
        again.seek(0)
        for here, row in _csv_rows(again, place, encoding):
            yield _document(
                {name: _typed(value, kinds[name], here, name) for name, value in row.items()}, here, columns
            )


def _csv_rows(file: BinaryIO, place: str, encoding: str | None) -> Iterator[tuple[str, dict[str, str]]]:
    """Place and values of each row after the header, by column."""
    csv.field_size_limit(2**31 - 1)  # a text may be longer than the default of 128 KiB
    reader = csv.reader((line for _, line in _lines(file, place, encoding)), strict=True)
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


def _lines(file: BinaryIO, place: str, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Number and text of each line, its end included."""
    offset, mark, marked = 0, 0, "utf-8"
    for number, line in enumerate(file, 1):
        if number == 1:
            mark, marked = _mark(line)
            if marked != "utf-8":  # its line ends are wider than a byte
                rest = (line + file.read())[mark:]
                text = _decoded(rest, place, mark, marked)
                yield from enumerate(io.StringIO(text, newline=None), 1)
                return
        start = mark if number == 1 else 0
        yield number, _decode(line[start:], place, offset + start, encoding)
        offset += len(line)


def _mark(content: bytes) -> tuple[int, str]:
    """How long the byte order mark is, and the encoding that it says."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return len(mark), encoding
    return 0, "utf-8"


def decode(content: bytes, place: str, encoding: str | None) -> str:
    """A text by its byte order mark, else as UTF-8, else in ``encoding``; :class:`InvalidInput` names the byte."""
    mark, marked = _mark(content)
    if marked != "utf-8":
        return _decoded(content[mark:], place, mark, marked)
    return _decode(content[mark:], place, mark, None if mark else encoding)


def _decode(content: bytes, place: str, offset: int, encoding: str | None) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        if encoding is not None:
            return _decoded(content, place, offset, encoding)
        raise InvalidInput(
            f"{place}: byte {offset + error.start} (0x{content[error.start]:02x}) is not UTF-8; say in which encoding "
            f"it is, such as --encoding latin-1, or convert the file"
        ) from None


def _decoded(content: bytes, place: str, offset: int, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{place}: byte {offset + error.start} is not {encoding}") from None


def check_types(types: Mapping[str, str] | None) -> Mapping[str, str]:
    """What a caller says that columns are; :class:`InvalidInput` names a kind that there is not."""
    for name, kind in (types or {}).items():
        if kind not in KINDS:
            raise InvalidInput(f"types[{name!r}] is {kind!r}; give one of {', '.join(map(repr, KINDS))}")
    return types or {}


def check_encoding(encoding: str | None) -> str | None:
    """The name of a text encoding that Python knows, or None."""
    try:
        if encoding is not None:
            "".encode(encoding)
    except LookupError:
        raise InvalidInput(f"encoding is {encoding!r}; give one such as 'latin-1', 'cp1252' or 'shift_jis'") from None
    return encoding


def _json_value(text: str, place: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{place}: not JSON: {error}") from None


def json_object(line: str, place: str) -> dict[str, Any]:
    """A line as a JSON object, as written; :class:`InvalidInput` that names ``place`` if it is none."""
    value = _json_value(line, place)
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
