"""``spladelite serve``."""

from __future__ import annotations

import os
import secrets
import socket
from typing import TYPE_CHECKING

import click

from spladelite.cli.common import database, model_option, open_database
from spladelite.errors import InvalidInput

if TYPE_CHECKING:
    import uvicorn

PORT = 8765
PATIENCE = 3  # seconds that requests have when Ctrl-C was pressed


@click.command()
@database
@click.option("--write", is_flag=True, help="Allow adding and deleting documents.")
@click.option("--port", type=click.IntRange(1, 65535), help=f"By default {PORT}, or a free one if that is taken.")
@model_option
def serve(database: str, write: bool, port: int | None, model: str | None) -> None:
    """Explore a database in the browser.

    Only programs on this machine reach the page, and only with the token in the printed address. The same address
    serves a JSON API: /openapi.json describes it. Ctrl-C ends it.

    \b
    Examples:
      spladelite serve kb.db
      spladelite serve kb.db --write --port 9000
    """
    try:
        import uvicorn

        from spladelite.serve.app import create_app
        from spladelite.serve.endpoints import open_library
    except ModuleNotFoundError as error:
        raise InvalidInput(f"{error.name} is not installed; run: pip install 'spladelite[serve]'") from None

    with open_database(database, model, write=write) as db, listen(port) as listening:
        chosen = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        library = open_library(db, os.path.basename(database), write)
        app = create_app(library, chosen, token)
        click.echo(f"{database}: {len(db):,} documents, {'writable' if write else 'read-only'}")
        click.echo(f"Open   http://127.0.0.1:{chosen}/#token={token}")
        click.echo(f"API    http://127.0.0.1:{chosen}/openapi.json with the header Authorization: Bearer {token}")
        click.echo("Ctrl-C ends it.")
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", lifespan="off", server_header=False, timeout_graceful_shutdown=PATIENCE
            )
        )
        _run(server, listening)


def listen(port: int | None) -> socket.socket:
    """A socket on the loopback interface: no other machine reaches it."""
    if port is None:
        try:
            return _bound(PORT)
        except OSError:
            return _bound(0)
    try:
        return _bound(port)
    except OSError as error:
        raise InvalidInput(f"port {port} cannot be used ({error.strerror}); choose another --port") from None


def _bound(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # there it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(1024)  # before the address is printed: whoever comes early waits
    except OSError:
        listening.close()
        raise
    return listening


def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        return  # the way to end it
