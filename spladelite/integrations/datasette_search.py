"""The process that searches for the Datasette plugin: a line of JSON in, a line of JSON out, until the input ends.

The input ends with Datasette, however that ends, so this process never outlives it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from spladelite import SpladeLite, SpladeLiteError

MARKS = ("\ue000", "\ue001")
"""Around the words of a passage that match: characters of private use, which pages make ``<mark>`` of."""
SECONDS = 10.0

_open: dict[str, SpladeLite] = {}


def search(db: SpladeLite, question: str, k: int, where: dict[str, Any]) -> list[dict[str, Any]]:
    """The hits as plain values, best first."""
    hits = db.search(question, k, where, timeout=SECONDS)
    return [
        {
            "id": hit.id,
            "score": hit.score,
            "relevance": hit.relevance,
            "place": hit.place,
            "passage": db.highlight(hit, *MARKS),
            "metadata": hit.metadata,
        }
        for hit in hits
    ]


def explain(db: SpladeLite, question: str, id: str) -> dict[str, Any]:
    """An explanation as plain values."""
    found = db.explain(question, id)
    return asdict(found) | {"passage": found.passage.text, "note": found.note}


_CALLS: dict[str, Callable[..., Any]] = {"search": search, "explain": explain}


def answer(name: str, path: str, immutable: bool, *arguments: Any) -> dict[str, Any]:
    """``{"result": …}``, or ``{"error": …}`` with a message for the person who asked."""
    try:
        if path not in _open:
            _open[path] = SpladeLite(path, read_only=True, immutable=immutable)
        return {"result": _CALLS[name](_open[path], *arguments)}
    except (SpladeLiteError, OSError) as error:
        return {"error": str(error)}
    except Exception:  # noqa: BLE001 - the next question may be answered
        traceback.print_exc()
        return {"error": "The search failed; the log of Datasette says why."}


def main() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for Datasette, whose end ends the input
    output = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever else is printed here is no answer
    try:
        for line in sys.stdin:
            output.write(json.dumps(answer(*json.loads(line))) + "\n")
            output.flush()
    except BrokenPipeError:
        pass
    finally:
        for db in _open.values():
            db.close()


if __name__ == "__main__":
    main()
