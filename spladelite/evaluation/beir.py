"""BEIR dataset folders: ``corpus.jsonl``, ``queries.jsonl`` (each also as ``.jsonl.gz``) and ``qrels/SPLIT.tsv``.

The layout of Thakur et al. 2021, "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information Retrieval
Models". A document's text is its title, a space and its text, which is how BEIR's own baselines read it.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spladelite.errors import InvalidInput
from spladelite.evaluation.trec import Qrels, _lines, add_judgment


def read_corpus(folder: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """``(id, text)`` of each document, in file order, read as it is consumed.

    Raises:
        InvalidInput: no corpus file, a line that is not such a JSON object, or an id that occurs twice; names the line.
    """
    seen: set[str] = set()
    for place, row in _objects(folder, "corpus"):
        title, text = row.get("title") or "", row.get("text")
        if not isinstance(title, str) or not isinstance(text, str):
            raise InvalidInput(f'{place}: "title" and "text" must be strings')
        if row["_id"] in seen:
            raise InvalidInput(f"{place}: document id {row['_id']!r} occurs twice; document ids must be unique")
        seen.add(row["_id"])
        yield row["_id"], f"{title} {text}".strip()


def read_queries(folder: str | os.PathLike[str]) -> dict[str, str]:
    """``{id: text}`` of all queries, of every split.

    Raises:
        InvalidInput: as :func:`read_corpus`.
    """
    queries: dict[str, str] = {}
    for place, row in _objects(folder, "queries"):
        if not isinstance(row.get("text"), str):
            raise InvalidInput(f'{place}: "text" must be a string')
        if row["_id"] in queries:
            raise InvalidInput(f"{place}: query id {row['_id']!r} occurs twice; query ids must be unique")
        queries[row["_id"]] = row["text"]
    return queries


def read_judgments(folder: str | os.PathLike[str], split: str = "test") -> Qrels:
    """Judgments of one split: tab-separated ``query-id corpus-id score`` under a header line.

    Raises:
        InvalidInput: no such split (the message lists those there are), a malformed line, or contradicting grades.
    """
    path = Path(folder) / "qrels" / f"{split}.tsv"
    if not path.is_file():
        splits = ", ".join(sorted(file.stem for file in path.parent.glob("*.tsv"))) or "none"
        raise InvalidInput(f"{os.fspath(folder)} has no judgments for split {split!r}; splits that it has: {splits}")
    qrels: Qrels = {}
    for number, (place, line) in enumerate(_lines(path)):
        fields = line.split("\t")
        if len(fields) != 3:
            raise InvalidInput(f"{place}: expected query-id<TAB>corpus-id<TAB>score, got {line!r}")
        if number == 0 and not fields[2].strip().lstrip("-").isdigit():
            continue  # the header, which some published folders leave out
        add_judgment(qrels, fields[0], fields[1], fields[2].strip(), place)
    return qrels


def _objects(folder: str | os.PathLike[str], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    path = next((p for p in (Path(folder, f"{name}.jsonl"), Path(folder, f"{name}.jsonl.gz")) if p.is_file()), None)
    if path is None:
        raise InvalidInput(
            f"{os.fspath(folder)} is not a BEIR folder: it has neither {name}.jsonl nor {name}.jsonl.gz; "
            "expected corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"
        )
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                place = f"{path.name}:{number}"
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InvalidInput(f"{place}: not JSON: {error}") from error
                if not isinstance(row, dict) or not isinstance(row.get("_id"), str):
                    raise InvalidInput(f'{place}: expected a JSON object with a string "_id"')
                yield place, row
    except (OSError, EOFError, UnicodeDecodeError) as error:  # gzip reports damage as OSError or EOFError
        raise InvalidInput(f"cannot read {path}: {error}") from error
