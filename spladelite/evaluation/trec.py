"""Qrels and runs, and the TREC text formats that carry them.

A qrels file has four columns, ``query 0 document grade``; a run file six, ``query Q0 document rank score tag``,
separated by white space. Ids with white space in them do not fit the format and are refused when writing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from spladelite.errors import InvalidInput

Qrels: TypeAlias = dict[str, dict[str, int]]
"""``{query_id: {document_id: grade}}``; a grade above 0 is relevant."""
Run: TypeAlias = dict[str, dict[str, float]]
"""``{query_id: {document_id: score}}``; the higher score is the better."""


def read_qrels(path: str | os.PathLike[str]) -> Qrels:
    """Judgments of a TREC qrels file.

    Raises:
        InvalidInput: not four columns, a grade that is no integer, or two grades for one pair; names the line.
    """
    qrels: Qrels = {}
    for place, (query, _, document, grade) in _rows(path, 4, "query 0 document grade"):
        add_judgment(qrels, query, document, grade, place)
    return qrels


def add_judgment(qrels: Qrels, query: str, document: str, grade: str, place: str) -> None:
    """Enter one judgment that was read as text at ``place``; the same judgment twice is one.

    Raises:
        InvalidInput: the grade is no integer, or contradicts an earlier one.
    """
    try:
        value = int(grade)
    except ValueError:
        raise InvalidInput(f"{place}: the grade must be an integer, got {grade!r}") from None
    if qrels.setdefault(query, {}).setdefault(document, value) != value:
        raise InvalidInput(
            f"{place}: query {query!r} and document {document!r} are judged twice, "
            f"as {qrels[query][document]} and as {value}; keep one of the lines"
        )


def write_qrels(path: str | os.PathLike[str], qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write judgments as a TREC qrels file."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for query, grades in qrels.items():
            file.writelines(f"{_word(query)} 0 {_word(document)} {grade}\n" for document, grade in grades.items())


def read_run(path: str | os.PathLike[str]) -> Run:
    """Results of a TREC run file. The rank column is ignored, as trec_eval does: the scores decide.

    Raises:
        InvalidInput: not six columns, a score that is no finite number, or a document twice; names the line.
    """
    run: Run = {}
    for place, (query, _, document, _, score, _) in _rows(path, 6, "query Q0 document rank score tag"):
        results = run.setdefault(query, {})
        if document in results:
            raise InvalidInput(f"{place}: document {document!r} occurs twice for query {query!r}; keep one")
        try:
            results[document] = float(score)
        except ValueError:
            raise InvalidInput(f"{place}: the score must be a number, got {score!r}") from None
        if results[document] - results[document] != 0:  # inf and NaN
            raise InvalidInput(f"{place}: the score must be finite, got {score!r}")
    return run


def write_run(path: str | os.PathLike[str], run: Mapping[str, Mapping[str, float]], tag: str = "spladelite") -> None:
    """Write results as a TREC run file, best first in each query; equal scores keep their order in ``run``."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for query, results in run.items():
            ranked = sorted(results.items(), key=lambda item: -item[1])
            file.writelines(
                f"{_word(query)} Q0 {_word(document)} {rank} {score!r} {_word(tag)}\n"
                for rank, (document, score) in enumerate(ranked, 1)
            )


def read_topics(path: str | os.PathLike[str]) -> dict[str, str]:
    """Queries of a tab-separated file, ``query_id<TAB>text`` in each line.

    Raises:
        InvalidInput: a line without a tab or without text, or an id that occurs twice; names the line.
    """
    topics: dict[str, str] = {}
    for place, line in _lines(path):
        query, tab, text = line.partition("\t")
        if not tab or not query.strip() or not text.strip():
            raise InvalidInput(f"{place}: expected query_id<TAB>text, got {line!r}")
        if query in topics:
            raise InvalidInput(f"{place}: query id {query!r} occurs twice; query ids must be unique")
        topics[query] = text.strip()
    return topics


def _rows(path: str | os.PathLike[str], columns: int, layout: str) -> Iterator[tuple[str, list[str]]]:
    for place, line in _lines(path):
        fields = line.split()
        if len(fields) != columns:
            raise InvalidInput(f"{place}: expected {columns} columns ({layout}), got {len(fields)}: {line!r}")
        yield place, fields


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """Non-blank lines with their place, ``file:line``, for messages."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{Path(path).name}:{number}", line.rstrip("\r\n")
    except OSError as error:
        raise InvalidInput(f"cannot read {os.fspath(path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{os.fspath(path)} is not UTF-8 text: {error}") from error


def _word(text: str) -> str:
    if not text or text.split() != [text]:
        raise InvalidInput(f"{text!r} cannot be written to a TREC file: ids and tags must have no white space in them")
    return text
