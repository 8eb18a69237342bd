"""What the adapters share: a database that is given open or as a path, fields and values, and what is not installed."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spladelite import SpladeLite


def opened(database: SpladeLite | str | os.PathLike[str]) -> SpladeLite:
    """The database itself, or the file at a path, opened or created."""
    from spladelite import SpladeLite  # here: Datasette needs the functions below and nothing of the engine

    return database if isinstance(database, SpladeLite) else SpladeLite(database)


def escaped(field: str) -> str:
    """A metadata field for a filter: ``id``, ``text``, ``doc.…`` and ``$…`` mean the metadata here."""
    return f"\\{field}" if re.match(r"(id|text)$|doc\.|\$", field) else field


def with_lists(value: Any) -> Any:
    """Metadata with lists in the place of tuples, which frameworks put there and JSON does not have."""
    if isinstance(value, dict):
        return {key: with_lists(one) for key, one in value.items()}
    return [with_lists(one) for one in value] if isinstance(value, list | tuple) else value


def missing(package: str, extra: str) -> str:
    """The message of an ImportError: which extra installs a package."""
    return f"this needs the package {package}: pip install 'spladelite[{extra}]'"
