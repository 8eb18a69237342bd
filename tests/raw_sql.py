"""Raw SQL on an open database: the one place where tests go behind the facade."""

from __future__ import annotations

from spladelite import SpladeLite
from spladelite.file.connection import Connections


def connections_of(db: SpladeLite) -> Connections:
    """The connections that a handle uses, for statements that no method of it would run: damage, locks, pragmas."""
    return db._session.connections
