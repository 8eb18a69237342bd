"""The application: requests to endpoints, answers to JSON, and the files of the page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from spladelite import (
    Busy,
    DatabaseError,
    DocumentNotFound,
    Interrupted,
    InvalidInput,
    ReadOnly,
    SpladeLiteError,
    WrongType,
)
from spladelite.serve import openapi
from spladelite.serve.access import Access, refused
from spladelite.serve.changes import LARGEST, WRITING
from spladelite.serve.endpoints import READING, Library
from spladelite.serve.openapi import Endpoint

STATIC = Path(__file__).parent / "static"
AT_ONCE = 4  # requests that are worked on; each thread has a connection of its own

# The first that fits counts.
STATUS: tuple[tuple[type[SpladeLiteError], int], ...] = (
    (DocumentNotFound, 404),
    (InvalidInput, 400),
    (WrongType, 400),
    (ReadOnly, 403),
    (Busy, 503),
    (Interrupted, 503),
    (DatabaseError, 500),
    (SpladeLiteError, 500),
)


def create_app(library: Library, port: int, token: str) -> Starlette:
    """The ASGI application that serves one database.

    Args:
        library: from :func:`~spladelite.serve.endpoints.open_library`.
        port: where it will listen.
        token: what every request of the API must know.
    """
    endpoints = (*READING, *WRITING) if library.writable else READING
    places = anyio.CapacityLimiter(AT_ONCE)
    specification = openapi.document(endpoints)

    async def describe(_: Request) -> Response:
        return JSONResponse(specification)

    return Starlette(
        routes=[
            *(Route(one.path, _handler(one, library, places), methods=[one.method]) for one in endpoints),
            Route("/openapi.json", describe),
            Mount("/", StaticFiles(directory=STATIC, html=True)),
        ],
        middleware=[Middleware(Access, port=port, token=token)],
        exception_handlers={404: _not_found, 405: _not_allowed},
    )


def _handler(
    endpoint: Endpoint, library: Library, places: anyio.CapacityLimiter
) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        try:
            body = await _body(request, endpoint)
        except ClientDisconnect:
            return Response(status_code=499)
        if body is None:
            return refused(413, "TooLarge", f"a request may have {LARGEST:,} bytes")
        async with places:
            if await request.is_disconnected():  # the next key was pressed while this one waited
                return Response(status_code=499)
            return await run_in_threadpool(_answer, endpoint, library, dict(request.query_params), body)

    return handle


async def _body(request: Request, endpoint: Endpoint) -> bytes | None:
    """The request's body; None if it is too large."""
    content = bytearray()
    if endpoint.method == "POST":
        async for chunk in request.stream():
            content += chunk
            if len(content) > LARGEST:
                return None
    return bytes(content)


def _answer(endpoint: Endpoint, library: Library, query: dict[str, str], content: bytes) -> Response:
    try:
        body: object = content
        if endpoint.method == "POST" and endpoint.body is None:
            try:
                body = json.loads(content)
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"the body is not JSON: {error}") from None
        result = endpoint.answer(library, **endpoint.arguments(query, body))
    except SpladeLiteError as error:
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        return refused(status, type(error).__name__, str(error))
    try:
        written = json.dumps(result, default=_fields, allow_nan=False)
    except (ValueError, RecursionError) as error:  # what a stranger's file may hold
        return refused(500, "NotJson", f"the answer cannot be written as JSON: {error}")
    return Response(written, media_type="application/json")


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


async def _not_found(request: Request, _: Exception) -> Response:
    return refused(404, "NoSuchPage", f"there is no {request.url.path}; /openapi.json lists what can be asked")


async def _not_allowed(request: Request, _: Exception) -> Response:
    message = f"{request.method} {request.url.path} is not possible; `spladelite serve --write` allows changes"
    return refused(405, "NotAllowed", message)
