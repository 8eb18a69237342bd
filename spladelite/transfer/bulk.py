"""OpenSearch and Elasticsearch: files for a bulk import, and the body of a search over what they make.

Written from the two projects' reference documentation; this project has never run it against a server. One entry a
passage; a search collapses them to documents. Both engines keep 9 significant bits of a weight (8 of them stored), so
that scores come out up to 0.4 % lower than in a file, and lists may differ where scores are that close.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spladelite.documents.table import read_metadata
from spladelite.errors import InvalidInput, Unsupported
from spladelite.renaming import rename
from spladelite.transfer.collections import Source
from spladelite.transfer.conditions import TEXT_PATH, All, AnyOf, Condition, Not, Test, parse, path_key
from spladelite.transfer.digests import digest, point_id, searched
from spladelite.transfer.engine import Batch

FLAVOURS = ("opensearch", "elasticsearch")
FILE_BYTES = 50_000_000  # a request may have 100 MB
BATCH = 500


def index_body(flavour: str) -> dict[str, Any]:
    """Settings and mapping: the body of ``PUT /kb``."""
    # Elasticsearch would drop frequent and weak terms by default.
    sparse = (
        {"type": "rank_features"}
        if flavour == "opensearch"
        else {"type": "sparse_vector", "index_options": {"prune": False}}
    )
    keyword = {"type": "keyword"}
    return {
        "mappings": {
            "dynamic": False,
            "properties": {
                "id": keyword,
                "number": {"type": "long"},
                "ordinal": {"type": "integer"},
                "start": {"type": "integer"},
                "end": {"type": "integer"},
                "text": {"type": "text", "index": False},
                "document": {"type": "text", "index": False},
                "metadata": {"type": "object", "enabled": False},
                "has": keyword,
                "set": keyword,
                "eq": keyword,
                "splade": sparse,
            },
        }
    }


def search_body(
    flavour: str, query: Mapping[int, float], k: int = 10, where: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The body of ``POST /kb/_search`` for a query's weights by term id (``hit.query``, or an encoder's).

    The best passage of each document, best first, then as stored.

    Raises:
        Unsupported: a filter with an order; equality, ``$in``, ``$exists`` and their complements work.
    """
    tokens = {f"t{term}": weight for term, weight in query.items()}
    asked: dict[str, Any] = (
        {"neural_sparse": {"splade": {"query_tokens": tokens}}}
        if flavour == "opensearch"
        else {"sparse_vector": {"field": "splade", "query_vector": tokens, "prune": False}}
    )
    condition = parse(where)
    if condition is not None:
        asked = {"bool": {"must": [asked], "filter": [_filter(condition)]}}
    return {
        "size": k,
        "query": asked,
        "collapse": {"field": "id"},
        "sort": [{"_score": "desc"}, {"number": "asc"}, {"ordinal": "asc"}],
        "_source": {"excludes": ["splade", "has", "set", "eq"]},
    }


def _filter(condition: Condition) -> dict[str, Any]:
    match condition:
        case All(parts):
            return {"bool": {"filter": [{"match_all": {}}, *map(_filter, parts)]}}
        case AnyOf(parts):
            if not parts:
                return {"match_none": {}}
            return {"bool": {"should": list(map(_filter, parts)), "minimum_should_match": 1}}
        case Not(part):
            return {"bool": {"must_not": [_filter(part)]}}
        case Test(path, operator, value):
            if path == TEXT_PATH:
                raise Unsupported("where: $text: these files have equality of metadata only; see docs/scale.md")
            name = path_key(path)
            if operator == "exists":
                return {"term": {"has": digest(name)}}
            if operator != "eq":
                raise Unsupported(f"where: ${operator}: these files have equality only; see docs/scale.md")
            if value is None:
                return {"bool": {"must_not": [{"term": {"set": digest(name)}}]}}
            return {"term": {"eq": digest(name, value)}}


def export(source: Source, folder: str, flavour: str, advance: Callable[[int], object]) -> int:
    """Write ``index.json`` and ``bulk-0001.ndjson``, … to a new folder; returns how many documents.

    The folder has another name until it is complete.

    Raises:
        InvalidInput: it exists.
    """
    if os.path.exists(folder):
        raise InvalidInput(f"{folder} exists; give a folder that does not")
    unfinished = Path(f"{folder}.moving")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / "index.json").write_text(json.dumps(index_body(flavour), indent=1) + "\n", "utf-8")
    documents, after, number, size = 0, -1, 1, 0
    file = (unfinished / "bulk-0001.ndjson").open("w", encoding="utf-8", newline="\n")
    try:
        while len(batch := source.batch(after, BATCH)):
            for action, entry in entries(batch):
                lines = f"{json.dumps(action)}\n{json.dumps(entry, ensure_ascii=False)}\n"
                if size and size + len(lines) > FILE_BYTES:
                    file.close()
                    number, size = number + 1, 0
                    file = (unfinished / f"bulk-{number:04}.ndjson").open("w", encoding="utf-8", newline="\n")
                file.write(lines)
                size += len(lines)
            documents += len(batch)
            after = int(batch.numbers[-1])
            advance(len(batch))
    finally:
        file.close()
    rename(unfinished, folder)
    return documents


def entries(batch: Batch) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Action and source of each passage of a batch."""
    vectors, place = batch.encoded.vectors, 0
    weights = vectors.impacts * np.repeat(vectors.scales, np.diff(vectors.indptr))
    for number, document, spans in zip(
        batch.numbers.tolist(), batch.encoded.documents, batch.encoded.spans, strict=True
    ):
        metadata = read_metadata(document.id, document.metadata or "{}")
        digests = {key: value for key, value in searched(document.id, metadata).items() if key != "num"}
        for ordinal, (start, end) in enumerate(spans):
            row = slice(vectors.indptr[place], vectors.indptr[place + 1])
            place += 1
            entry = {
                "id": document.id,
                "number": number,
                "ordinal": ordinal,
                "start": start,
                "end": end,
                "text": document.text[start:end],
                "metadata": metadata,
                **digests,
                "splade": {
                    f"t{term}": weight
                    for term, weight in zip(vectors.terms[row].tolist(), weights[row].tolist(), strict=True)
                },
            }
            if ordinal == 0 and len(spans) > 1:
                entry["document"] = document.text
            yield {"index": {"_id": point_id(document.id, ordinal)}}, entry
