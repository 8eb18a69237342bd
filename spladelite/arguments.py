"""What callers give, checked and brought to one shape before anything is stored or run.

Every error says what was given, by position, what was expected, and what to do.
"""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from hashlib import blake2b
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spladelite.errors import InvalidInput, InvalidMetadata, InvalidText, InvalidVector, WrongType
from spladelite.index.quantize import LARGEST_WEIGHT
from spladelite.json_values import canonical_json, json_values, merge_patch

Vector = tuple[NDArray[np.int32], NDArray[np.float32]]

MAX_DEPTH = 200  # of metadata: SQLite's JSON functions read 1,000 levels, Python's recursion allows fewer

_YEARS = 1e9  # seconds; more is no limit either, and fits every clock


@dataclass(frozen=True, slots=True, eq=False)
class NewDocument:
    """A document as it is to be stored.

    ``metadata`` is JSON text; it, the sparse ``vector`` and the ``dense`` one, float32 ``(D,)``, are None where the
    caller gave none.
    """

    id: str
    text: str
    metadata: str | None
    vector: Vector | None
    content_hash: bytes
    dense: NDArray[np.float32] | None = None


def new_documents(
    texts: object,
    ids: object,
    metadata: object,
    vectors: object,
    vocabulary_size: int,
    dense: object = None,
    dimension: int = 0,
) -> Iterator[NewDocument]:
    """Check the arguments of ``add`` and ``upsert`` and yield one document a text.

    Sized arguments are compared in length, and a sequence of texts is checked whole, before the first document is
    yielded; an iterator is checked as it is read.
    """
    if isinstance(texts, str):
        texts = [texts]
        ids = None if ids is None else [ids] if isinstance(ids, str) else ids
        metadata = [metadata] if isinstance(metadata, Mapping) else metadata
        vectors = [vectors] if isinstance(vectors, Mapping) else vectors
        dense = [dense] if _is_vector(dense) else dense
    if isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable):
        raise WrongType(f"texts is {_name(texts)}; give a str or an iterable of str")
    columns: dict[str, Iterable[Any] | None] = {}
    for name, column in (("ids", ids), ("metadata", metadata), ("vectors", vectors), ("dense", dense)):
        if column is not None and (isinstance(column, str | bytes | Mapping) or not isinstance(column, Iterable)):
            raise WrongType(f"{name} is {_name(column)}; give one entry a text, as a list")
        if isinstance(column, Sized) and isinstance(texts, Sized) and len(column) != len(texts):
            raise InvalidInput(f"{name} has {len(column)} entries for {len(texts)} texts; give one a text")
        columns[name] = column
    if isinstance(texts, Sequence):
        for position, text in enumerate(texts):
            check_text(text, f"texts[{position}]")
    return _rows(texts, columns, vocabulary_size, dimension)


def _is_vector(value: Any) -> bool:
    """Whether it is one vector, not an iterable of several."""
    first = next(iter(value), None) if isinstance(value, Sequence | np.ndarray) else None
    return first is not None and np.ndim(first) == 0


def _rows(
    texts: Iterable[object], columns: Mapping[str, Iterable[Any] | None], vocabulary_size: int, dimension: int
) -> Iterator[NewDocument]:
    given = [repeat(None) if column is None else column for column in columns.values()]
    iterators = [iter(column) for column in given]
    position = -1
    for position, text in enumerate(texts):
        row = []
        for (name, column), iterator in zip(columns.items(), iterators, strict=True):
            try:
                row.append(next(iterator))
            except StopIteration:
                raise InvalidInput(f"{name} ended after {position} entries, but there are more texts") from None
            if column is not None and row[-1] is None and name in ("vectors", "dense"):
                raise WrongType(f"{name}[{position}] is None; give an entry for every text, or leave {name} out")
        id, metadata, vector, dense = row
        checked = None if vector is None else check_vector(vector, vocabulary_size, f"vectors[{position}]")
        checked_dense = None if dense is None else check_dense(dense, dimension, f"dense[{position}]")
        digest = content_hash(check_text(text, f"texts[{position}]"), checked, checked_dense)
        stored_metadata = None if metadata is None else check_metadata(metadata, f"metadata[{position}]")
        yield NewDocument(
            default_id(digest, stored_metadata) if id is None else check_id(id, f"ids[{position}]"),
            str(text),
            stored_metadata,
            checked,
            digest,
            checked_dense,
        )
    for (name, column), iterator in zip(columns.items(), iterators, strict=True):
        if column is not None and next(iterator, iterator) is not iterator:
            raise InvalidInput(f"{name} has more than {position + 1} entries, but there are {position + 1} texts")


def default_id(digest: bytes, metadata: str | None) -> str:
    """The id of a document that came without one: a hash of its content, and of its metadata where it has any.

    So the same text twice is one document, and a paragraph that two files share is two.
    """
    if metadata is None or metadata == "{}":
        return digest.hex()
    return blake2b(digest + canonical_json(metadata).encode(), digest_size=16).hexdigest()


def content_hash(text: str, vector: Vector | None, dense: NDArray[np.float32] | None = None) -> bytes:
    """16 bytes that stand for a document's content: its text, and its vectors where the caller gave them."""
    digest = blake2b(text.encode(), digest_size=16)
    if vector is not None:
        digest.update(b"\0vector\0" + vector[0].tobytes() + vector[1].tobytes())
    if dense is not None:
        digest.update(b"\0dense\0" + dense.astype("<f4").tobytes())
    return digest.digest()


def check_text(text: object, where: str) -> str:
    """A text that can be stored and searched."""
    if not isinstance(text, str):
        raise WrongType(f"{where} is {_name(text)}; a text must be a str")
    if not text.strip():
        raise InvalidText(f"{where} is {'blank' if text else 'empty'}; leave it out")
    check_unicode(text, where)
    return text


def check_id(id: object, where: str = "id") -> str:
    """A document id: a non-empty str without NUL, which SQLite's carray cannot hold."""
    if not isinstance(id, str):
        raise WrongType(f"{where} is {_name(id)}; ids are str, so give {str(id)!r}")
    if not id:
        raise InvalidInput(f"{where} is an empty string; give a non-empty id, or no ids at all")
    if "\0" in id:
        raise InvalidInput(f"{where} is {id!r}; an id has no NUL characters")
    check_unicode(id, where)
    return id


def id_list(ids: object) -> list[str]:
    """One id or an iterable of ids, as a list without duplicates."""
    return list(dict.fromkeys(check_ids([ids] if isinstance(ids, str) else ids)))


def check_ids(ids: object) -> list[str]:
    """An iterable of ids, as a list."""
    if isinstance(ids, bytes | Mapping) or not isinstance(ids, Iterable):
        raise WrongType(f"ids is {_name(ids)}; give an id or an iterable of ids")
    return [check_id(id, f"ids[{position}]") for position, id in enumerate(ids)]


def check_unicode(text: str, where: str) -> None:
    """Refuse what UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidText(
            f"{where} holds a lone surrogate at character {error.start}, which is not valid Unicode; "
            f"decode the source with errors='replace'"
        ) from None


def check_path(path: object, name: str = "path") -> str:
    """The path of a file, as a str."""
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str):
        raise WrongType(f"{name} is {_name(path)}; give the path of a file as a str or a Path")
    if not path or "\0" in path:
        raise InvalidInput(f"{name} is {path!r}; give the path of a file")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} is {path!r}, which is no name of a file here") from None
    return path


def check_statement(query: object) -> str:
    """The text of one SQL statement."""
    if not isinstance(query, str):
        raise WrongType(f"the SQL is {_name(query)}; give a str, such as 'SELECT id FROM document'")
    if "\0" in query:
        raise InvalidInput(f"the SQL has a NUL at character {query.index(chr(0))}; give values in args")
    check_unicode(query, "the SQL")
    return query


def check_metadata(metadata: object, where: str = "metadata") -> str:
    """Metadata as JSON text that reads back as the very same value, :mod:`spladelite.json_values` replaced."""
    if not isinstance(metadata, Mapping):
        raise WrongType(f"{where} is {_name(metadata)}; give a dict that can be written as JSON, or None")
    try:
        metadata = json_values(metadata)
    except RecursionError as error:  # also where it holds itself
        raise InvalidMetadata(f"{where} cannot be written as JSON: {error}") from None
    _check_values(metadata, where)
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
        same = json.loads(text) == metadata
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetadata(f"{where} cannot be written as JSON: {error}") from None
    if not same:
        raise InvalidMetadata(
            f"{where} would not read back from JSON as it was given; use str keys, lists and not tuples, str, "
            f"numbers, booleans and None"
        )
    return text


def _check_values(metadata: object, where: str) -> None:
    """Refuse what JSON can write, and filters, SQL and other programs that read the file cannot."""
    todo: list[tuple[object, int]] = [(metadata, 1)]
    while todo:
        value, depth = todo.pop()
        if isinstance(value, Mapping | list | tuple):
            if depth > MAX_DEPTH:
                raise InvalidMetadata(f"{where} is nested more than {MAX_DEPTH} deep, which filters cannot read")
            todo += [(inner, depth + 1) for inner in (value.values() if isinstance(value, Mapping) else value)]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InvalidMetadata(
                f"{where} holds the integer {_short(value)}, and SQLite's have at most 64 bits; give it as a str, "
                "which filters compare exactly"
            )


def _short(number: int) -> str:
    return str(number) if abs(number) < 10**40 else f"of {number.bit_length()} bits"


def file_metadata(metadata: object) -> dict[str, Any]:
    """What callers give the documents of files: as it is stored, and without the field that tells the file."""
    checked: dict[str, Any] = json.loads(check_metadata(metadata or {}))
    if "file" in checked:
        raise InvalidMetadata("metadata has a field 'file', which tells the file that a document is from; rename it")
    return checked


def metadata_change(metadata: object, *, merge: bool) -> Callable[[str], str]:
    """What ``update`` makes of stored metadata, JSON text both: the new, or the old with the new merged in."""
    checked = check_metadata(metadata)
    if not merge:
        return lambda _: checked
    patch = json.loads(checked)
    return lambda old: check_metadata(merge_patch(json.loads(old), patch))


def check_vector(vector: object, vocabulary_size: int, where: str = "the vector") -> Vector:
    """A sparse vector from ``{term_id: weight}`` or ``(term_ids, weights)``: terms ascending, weights float32."""
    if isinstance(vector, Mapping):
        terms, weights = np.asarray(list(vector)), np.asarray(list(vector.values()))
    elif isinstance(vector, tuple) and len(vector) == 2:
        terms, weights = np.asarray(vector[0]), np.asarray(vector[1])
    else:
        raise WrongType(f"{where} is {_name(vector)}; give {{term_id: weight}} or (term_ids, weights)")
    if terms.ndim != 1 or terms.shape != weights.shape:
        raise InvalidVector(f"{where} has {terms.size} term ids and {weights.size} weights; give as many of each")
    if not len(terms):
        return np.empty(0, np.int32), np.empty(0, np.float32)
    if terms.dtype.kind not in "iu":
        raise InvalidVector(f"{where} has term ids of type {terms.dtype}; term ids are int")
    if weights.dtype.kind not in "fiu":
        raise InvalidVector(f"{where} has weights of type {weights.dtype}; weights are float")
    weights = weights.astype(np.float64)  # compared with a limit that float16 cannot hold
    if (terms[1:] > terms[:-1]).all():
        ordered = terms
    else:
        order = np.argsort(terms, kind="stable")
        ordered, weights = terms[order], weights[order]
        if (ordered[1:] == ordered[:-1]).any():
            raise InvalidVector(f"{where} names a term twice; add their weights up")
    # NaN fails every comparison. A weight above 0 may still be 0 in float32.
    if ordered[0] >= 0 and ordered[-1] < vocabulary_size and weights.max() <= LARGEST_WEIGHT:
        values = weights.astype(np.float32)
        if values.min() > 0:
            return ordered.astype(np.int32), values
    raise _wrong_entry(ordered, weights, vocabulary_size, where)


def check_dense(vector: object, dimension: int, where: str) -> NDArray[np.float32]:
    """A dense vector of a file's dimension, float32 ``(D,)``.

    Raises:
        InvalidInput: the file has no dense vectors.
        InvalidVector: no vector of finite numbers, or of another dimension.
    """
    if not dimension:
        raise InvalidInput(
            "dense= is for files with dense vectors, which this is not; create a new one with "
            "SpladeLite(path, dense=D), D being the dimension of your vectors"
        )
    try:
        given = np.asarray(vector, np.float64)
    except (TypeError, ValueError):
        given = np.empty((0, 0))
    if given.ndim != 1 or not len(given):
        raise InvalidVector(f"{where} is {_name(vector)}; give a vector of {dimension} numbers")
    if len(given) != dimension:
        raise InvalidVector(f"{where} has {len(given)} dimensions, and the file holds vectors of {dimension}")
    with np.errstate(over="ignore"):
        checked = given.astype(np.float32)
    if not np.isfinite(checked).all():
        raise InvalidVector(f"{where} has {given[~np.isfinite(checked)][0]}; give finite float32 numbers")
    return checked


def _wrong_entry(terms: NDArray[Any], weights: NDArray[Any], vocabulary_size: int, where: str) -> InvalidVector:
    with np.errstate(over="ignore"):
        values = weights.astype(np.float32)
    problem, wrong = next(
        (problem, wrong)
        for problem, wrong in (
            (f"a term id outside the vocabulary of {vocabulary_size}", (terms < 0) | (terms >= vocabulary_size)),
            ("a weight that is NaN", np.isnan(weights)),
            (f"a weight over {LARGEST_WEIGHT:g}", weights > LARGEST_WEIGHT),
            ("a weight that is not above 0", values <= 0),
        )
        if wrong.any()
    )
    i = int(np.argmax(wrong))
    return InvalidVector(f"{where} has {problem}: term {terms[i]}, weight {weights[i]}; leave the term out")


def check_count(k: object, name: str = "k") -> int:
    """How many results: an int of at least 1."""
    try:
        count = operator.index(k)  # type: ignore[arg-type]
    except TypeError:
        raise WrongType(f"{name} is {_name(k)}; give an int") from None
    if isinstance(k, bool) or count < 1:
        raise InvalidInput(f"{name} is {k}; it must be at least 1")
    return min(count, 1 << 62)


def check_timeout(timeout: object) -> float | None:
    """Seconds above 0; None for no limit."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise WrongType(f"timeout is {_name(timeout)}; give seconds, or None for no limit")
    if not timeout > 0:
        raise InvalidInput(f"timeout is {timeout}; give seconds above 0, or None for no limit")
    return float(min(timeout, _YEARS))


def check_min_score(min_score: object) -> float:
    """A lowest score; None means any score above 0."""
    if min_score is None:
        return 0.0
    if isinstance(min_score, bool) or not isinstance(min_score, int | float | np.number):
        raise WrongType(f"min_score is {_name(min_score)}; give a number")
    try:
        score = float(min_score)
    except OverflowError:  # an int that no float holds
        score = math.inf
    if not math.isfinite(score):
        raise InvalidInput(f"min_score is {min_score!s:.60}; give a finite number")
    return score


def _name(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
