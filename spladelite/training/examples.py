"""Training examples, and the files that hold one a line.

``.jsonl`` lines are objects with ``query``, ``positive`` (a text, or a list: one example each), ``negatives`` and
``scores``, a teacher's scores of the positives and then of the negatives; ``_QUERY`` and the names after it are what
else these keys may be called. ``.tsv`` lines are ``query<TAB>positive[<TAB>negative...]``. Either may be compressed
with gzip (``.gz``).
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spladelite.arguments import check_unicode
from spladelite.documents.sources import _lines
from spladelite.errors import InvalidInput

# The names of sentence-transformers' datasets, and FlagEmbedding's "pos" and "neg".
_QUERY = ("query", "anchor", "question")
_POSITIVE = ("positive", "positives", "pos", "answer", "passage")
_NEGATIVES = ("negatives", "negative", "neg")
_NUMBERED = re.compile(r"negative_(\d{1,9})")
_SCORES = ("scores", "score")
_LABELS = ("labels", "label")  # there a teacher's scores, or 0 for a pair that does not fit: refused
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Example:
    """A query with a text that answers it.

    Attributes:
        query: the query's text.
        positive: the text that answers it.
        negatives: texts that do not, any number.
        scores: a teacher's score of the positive, then of each negative: ``1 + len(negatives)`` finite float32 numbers.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] | None = None


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """``".jsonl"`` or ``".tsv"``, by the file's name; None for another name."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    kind = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
    return kind[0] if kind in ([".jsonl"], [".tsv"]) else None


def read_examples(path: str | os.PathLike[str]) -> tuple[Example, ...]:
    """The examples of a file, in order; the whole file is checked.

    Raises:
        InvalidInput: the file cannot be read, has no examples, or a line is wrong: an empty or missing text, a positive
            that is among the negatives of the same query, scores that are not finite as float32, not one a text, or not
            on every line, a key ``label``, or a last line that is cut off; names the line.
    """
    place = os.fspath(path)
    kind = kind_of(path)
    if kind is None:
        raise InvalidInput(
            f"{place}: training files are named .jsonl or .tsv, also with .gz; a folder is a BEIR folder, and a "
            "SpladeLite database has its users' feedback"
        )
    examples: list[Example] = []
    places: list[str] = []  # of each example: its line
    first: dict[bool, str] = {}  # the first line with scores, and the first without
    try:
        with gzip.open(path, "rb") if place.lower().endswith(".gz") else open(path, "rb") as file:
            lines = ((f"{place}:{number}", line) for number, line in _lines(file, place) if line.strip(" \r\n"))  # type: ignore[arg-type]
            for here, found in _json_rows(lines) if kind == ".jsonl" else _tsv_rows(lines):
                examples.extend(found)
                places.extend(here for _ in found)
                first.setdefault(found[0].scores is not None, here)
                if len(first) == 2:
                    raise InvalidInput(
                        f"{here}: {first[True]} has scores and {first[False]} has none; give all or none"
                    )
    except (OSError, EOFError, zlib.error) as error:  # gzip reports damage as any of them
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidInput(f"{place}: cannot be read: {reason}") from error
    if not examples:
        raise InvalidInput(f"{place}: no examples; expected one a line")
    _check_contradictions(examples, places)
    return tuple(examples)


def _check_contradictions(examples: Sequence[Example], places: Sequence[str]) -> None:
    positives = {(example.query, example.positive): here for example, here in zip(examples, places, strict=True)}
    for example, here in zip(examples, places, strict=True):
        for text in example.negatives:
            other = positives.get((example.query, text))
            if other is not None:
                raise InvalidInput(
                    f"{here}: the negative {text[:40]!r} is a positive of the same query in {other}; keep one of them"
                )


def _json_rows(lines: Iterator[tuple[str, str]]) -> Iterator[tuple[str, list[Example]]]:
    for here, line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            cut = "" if line.endswith("\n") else " (the last line, and it has no line end: is the file half written?)"
            raise InvalidInput(f"{here}: not JSON: {error}{cut}") from None
        if not isinstance(row, dict):
            raise InvalidInput(f"{here}: expected an object with query and positive, got {line.strip()[:60]}")
        yield here, _from_object(row, here)


def _from_object(row: Mapping[str, Any], here: str) -> list[Example]:
    query = _text(_field(row, _QUERY, here), here, _QUERY[0])
    positives = _texts(_field(row, _POSITIVE, here), here, _POSITIVE[0])
    numbered = sorted((int(match[1]), name) for name in row if (match := _NUMBERED.fullmatch(name)))
    negatives = _texts(_field(row, _NEGATIVES, here, []), here, _NEGATIVES[0])
    negatives += [_text(row[name], here, name) for _, name in numbered]
    if not positives:
        raise InvalidInput(f"{here}: positive is an empty list; give at least one text")
    for name in _LABELS:
        if row.get(name) is not None:
            raise InvalidInput(
                f"{here}: has {name!r}, which may mean several things; call a teacher's scores 'scores'; of pairs that "
                f"are labelled as fitting or not, keep those that fit, without {name!r}"
            )
    scores = _field(row, _SCORES, here, None)
    if scores is None and ("pos_scores" in row or "neg_scores" in row):  # FlagEmbedding
        scores = [score for name in ("pos_scores", "neg_scores") for score in _list(row.get(name))]
    if scores is None:
        return [_example(query, positive, negatives, None, here) for positive in positives]
    numbers = _numbers(scores, len(positives), len(negatives), here)
    shared = numbers[len(positives) :]
    return [
        _example(query, text, negatives, [own, *shared], here) for own, text in zip(numbers, positives, strict=False)
    ]


def _tsv_rows(lines: Iterator[tuple[str, str]]) -> Iterator[tuple[str, list[Example]]]:
    before = 2
    for number, (here, line) in enumerate(lines):
        fields = line.rstrip("\r\n").split("\t")
        names = [field.strip().lower() for field in fields[:2]]
        if number == 0 and len(names) == 2 and names[0] in _QUERY and names[1] in _POSITIVE:
            continue
        if not line.endswith("\n") and len(fields) < before:
            raise InvalidInput(
                f"{here}: the last line has no line end and {len(fields)} columns where others have {before}: is the "
                "file half written? Complete it, or end it with a line end"
            )
        if len(fields) < 2:
            raise InvalidInput(f"{here}: expected query<TAB>positive[<TAB>negative...], got {line.strip()[:60]!r}")
        before = max(before, len(fields))
        texts = [_text(field, here, f"column {column}") for column, field in enumerate(fields, 1)]
        yield here, [_example(texts[0], texts[1], texts[2:], None, here)]


def _example(query: str, positive: str, negatives: list[str], scores: list[float] | None, here: str) -> Example:
    if positive in negatives:
        raise InvalidInput(f"{here}: the positive {positive[:40]!r} is also negative {negatives.index(positive) + 1}")
    return Example(query, positive, tuple(negatives), None if scores is None else tuple(scores))


_REQUIRED = object()


def _field(row: Mapping[str, Any], names: Sequence[str], here: str, default: Any = _REQUIRED) -> Any:
    found = [name for name in names if row.get(name) is not None]
    if len(found) > 1:
        raise InvalidInput(f"{here}: has {found[0]!r} and {found[1]!r}, which mean the same; keep one")
    if found:
        return row[found[0]]
    if default is _REQUIRED:
        raise InvalidInput(f"{here}: no {names[0]!r} among {', '.join(row) or 'no keys'}")
    return default


def _list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _texts(value: Any, here: str, name: str) -> list[str]:
    return [_text(item, here, name) for item in _list(value)]


def _text(value: Any, here: str, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{here}: {name} is {json.dumps(value)[:60]}, not a text")
    text = value.strip()
    if not text:
        raise InvalidInput(f"{here}: {name} is empty; fill it in or remove the line")
    check_unicode(text, f"{here}: {name}")
    return text


def _numbers(value: Any, positives: int, negatives: int, here: str) -> list[float]:
    values = _list(value)
    for number in values:
        if isinstance(number, bool) or not isinstance(number, int | float) or not -_LARGEST <= number <= _LARGEST:
            raise InvalidInput(
                f"{here}: scores has {json.dumps(number)[:60]}; every score must be a finite number, also as float32"
            )
    if len(values) != positives + negatives:
        raise InvalidInput(
            f"{here}: {len(values)} scores for {positives} positive and {negatives} negative texts; give one a text, "
            "the positive's first"
        )
    return [float(number) for number in values]
