"""``connect(url)``: the same collection, wherever it is kept."""

from __future__ import annotations

import os
from types import EllipsisType
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from spladelite.database import SpladeLite
from spladelite.errors import InvalidInput, WrongType
from spladelite.transfer.engine import Engine
from spladelite.transfer.remote import Remote

SCHEMES = ("clickhouse", "qdrant", "postgresql", "postgres")


def connect(
    url: str | os.PathLike[str],
    model: object = None,
    *,
    bm25: bool | None = None,
    language: str | EllipsisType | None = ...,
    read_only: bool = False,
) -> SpladeLite | Remote:
    """Open a collection by its URL, or create it.

    ======================================================  =========================================================
    ``kb.db``                                               a file: :class:`~spladelite.database.SpladeLite`
    ``clickhouse://user:password@host:9000/database``       a ClickHouse server; ``?cluster=name`` for a
                                                            ``Distributed`` table over its shards, ``?secure=1`` for TLS
    ``clickhouse:///folder``                                ClickHouse in this process (chdb)
    ``qdrant://host:6333/collection``                       Qdrant; ``?api_key=…``, ``?secure=1``
    ``qdrant:///folder``                                    Qdrant in this process (qdrant-edge)
    ``postgresql://user:password@host:5432/database``       PostgreSQL; ``?schema=name`` (by default ``spladelite``)
    ======================================================  =========================================================

    Args:
        url: where it is.
        model, bm25, language: as for :class:`~spladelite.database.SpladeLite`.
        read_only: refuse to change it, and to create it.

    Raises:
        InvalidInput: a URL of an unknown kind, or one without what it needs; the collection has another ``bm25`` or
            ``language``.
        Unsupported: ``bm25=True``, and the engine has no BM25.
        ServerError: the server is down, refuses the login, is too old; or the engine's client is not installed.
        ModelMismatch: ``model`` is not the one that the collection was built with.
    """
    if not isinstance(url, str | os.PathLike):
        raise WrongType(f"url is of type {type(url).__name__}; give a path or a URL such as 'qdrant://host:6333/name'")
    if not is_url(url):
        return SpladeLite(url, model, bm25=bm25, language=language, read_only=read_only)
    engine = open_engine(str(url))
    try:
        return Remote(engine, model, bm25=bm25, language=language, read_only=read_only)
    except BaseException:
        engine.close()
        raise


def is_url(url: str | os.PathLike[str]) -> bool:
    """Whether it names another engine, and not a file."""
    return isinstance(url, str) and "://" in url


def without_password(url: str) -> str:
    """How a URL may be shown."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def open_engine(url: str) -> Engine:
    """The engine that a URL names. Nothing is created there yet."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"{without_password(url)} is not a URL: {error}") from None
    options = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    name = unquote(parts.path.strip("/"))
    match parts.scheme:
        case "clickhouse":
            from spladelite.transfer import clickhouse

            if not parts.hostname:
                _options(url, options)
                return clickhouse.open_folder(_folder(parts))
            _options(url, options, "cluster", "secure")
            return clickhouse.open_server(
                parts.hostname,
                port or (9440 if _on(options) else 9000),
                user or "default",
                password,
                _on(options),
                _name(url, name, "database"),
                options.get("cluster", ""),
            )
        case "qdrant":
            from spladelite.transfer import qdrant

            if not parts.hostname:
                _options(url, options)
                return qdrant.open_folder(_folder(parts))
            _options(url, options, "api_key", "secure")
            return qdrant.open_server(
                parts.hostname, port or 6333, options.get("api_key"), _on(options), _name(url, name, "collection")
            )
        case "postgresql" | "postgres":
            from spladelite.transfer import postgres

            _options(url, options, "schema", "sslmode", "host")
            return postgres.open_server(
                {
                    "host": options.get("host", parts.hostname),
                    "port": port,
                    "user": user or None,
                    "password": password or None,
                    "dbname": _name(url, name, "database"),
                    "sslmode": options.get("sslmode"),
                },
                options.get("schema", "spladelite"),
            )
        case "opensearch" | "elasticsearch":
            raise InvalidInput(
                f"{parts.scheme} is written to, not connected to: `spladelite move kb.db {parts.scheme}:///folder` "
                f"makes files for a bulk import, and docs/scale.md shows how to load and to search them"
            )
    raise InvalidInput(
        f"{without_password(url)}: unknown scheme {parts.scheme!r}; give a path, or one of "
        f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}"
    )


def _name(url: str, name: str, what: str) -> str:
    if not name or "/" in name:
        raise InvalidInput(f"{without_password(url)} must end with the name of the {what}: …host:port/{what}")
    return name


def _folder(parts: SplitResult) -> str:
    folder = unquote(parts.path)
    if folder in ("", "/"):
        raise InvalidInput(f"{parts.scheme}:// needs a host and a name, or three slashes and a folder")
    return folder


def _options(url: str, options: dict[str, Any], *known: str) -> None:
    for option in options:
        if option not in known:
            raise InvalidInput(
                f"{without_password(url)}: unknown option {option!r}; known here: {', '.join(known) or 'none'}"
            )


def _on(options: dict[str, Any]) -> bool:
    return options.get("secure", "0") not in ("", "0", "false")
