"""Files for the bulk interface of OpenSearch and Elasticsearch, searched as Lucene would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from remotes import QUERIES, fill

from spladelite import SpladeLite
from spladelite.errors import (
    InvalidInput,
    Unsupported,
)
from spladelite.transfer.bulk import search_body
from spladelite.transfer.move import move


def nine_bits(weight: float) -> float:
    """What Lucene's FeatureField keeps of a weight: the upper 17 bits of a float32 below its sign."""
    bits = np.float32(weight).view(np.int32)
    return float(np.int32((bits >> 15) << 15).view(np.float32))


def matches(source: dict[str, Any], condition: dict[str, Any]) -> bool:
    """A filter of the query language, for the few clauses that are written."""
    ((kind, body),) = condition.items()
    if kind == "term":
        ((field, value),) = body.items()
        return value in source[field]
    if kind in ("match_all", "match_none"):
        return bool(kind == "match_all")
    return (
        all(matches(source, part) for part in body.get("filter", []))
        and not any(matches(source, part) for part in body.get("must_not", []))
        and ("should" not in body or any(matches(source, part) for part in body["should"]))
    )


def lucene(rows: list[dict[str, Any]], body: dict[str, Any], keep: Callable[[float], float]) -> list[str]:
    """The ids that a search body finds, by its definition."""
    query = body["query"]
    condition: dict[str, Any] = {"match_all": {}}
    if "bool" in query:
        (condition,) = query["bool"]["filter"]
        (query,) = query["bool"]["must"]
    tokens = (
        query["neural_sparse"]["splade"]["query_tokens"]
        if "neural_sparse" in query
        else query["sparse_vector"]["query_vector"]
    )
    scored = [
        (-sum(weight * keep(row["splade"].get(token, 0.0)) for token, weight in tokens.items()), row["number"],
         row["ordinal"], row["id"])
        for row in rows if matches(row, condition)
    ]  # fmt: skip
    return list(dict.fromkeys(id for score, _, _, id in sorted(scored) if score < 0))[: body["size"]]


@pytest.mark.parametrize("flavour", ["opensearch", "elasticsearch"])
def test_bulk_files_hold_what_a_search_needs(flavour: str, tmp_path: Path, db: SpladeLite) -> None:
    """Never run against a server: the entries are searched here, by what the query language means."""
    fill(db)
    db.add([f"{word} and water" for word in ("river", "bread", "car", "road", "tree")])
    folder = tmp_path / "export"
    moved = move(db.path, f"{flavour}://{folder}")
    assert (moved.documents, moved.left) == (11, ("bm25",))
    mapping = json.loads((folder / "index.json").read_text())["mappings"]["properties"]
    lines = [json.loads(line) for line in (folder / "bulk-0001.ndjson").read_text().splitlines()]
    rows = lines[1::2]
    assert len({action["index"]["_id"] for action in lines[::2]}) == len(rows) == db.stats().passages
    assert all(row.keys() <= mapping.keys() for row in rows)
    assert not any("." in token for row in rows for token in row["splade"])
    for query in QUERIES:
        for where in (
            None,
            {"year": 2020},
            {"year": {"$nin": [2020, "2020"]}},
            {"a.b": {"$exists": True}},
            {"a": None},
        ):
            hits = db.search(query, 5, where=where, mode="splade")
            if hits:
                body = search_body(flavour, hits[0].query, 5, where)
                assert lucene(rows, body, float) == [hit.id for hit in hits]
                assert len(lucene(rows, body, nine_bits)) == len(hits)
    with pytest.raises(Unsupported, match="equality"):
        search_body(flavour, {1: 1.0}, where={"year": {"$gt": 1}})
    with pytest.raises(InvalidInput, match="exists"):
        move(db.path, f"{flavour}://{folder}")
