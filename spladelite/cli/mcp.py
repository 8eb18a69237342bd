"""``spladelite mcp``: the database as tools for agents."""

from __future__ import annotations

import os

import click

from spladelite.cli.common import database, model_option, open_database
from spladelite.errors import InvalidInput


@click.command("mcp")
@database
@click.option("--read-only", is_flag=True, help="Without the tool that adds documents.")
@model_option
def mcp(database: str, read_only: bool, model: str | None) -> None:
    """Serve DATABASE to agents by MCP, over standard input and output.

    The tools are search, get, explain, stats and add. Needs pip install 'spladelite[mcp]'. The database is created if
    it does not exist, unless --read-only.

    \b
    Example, in the configuration of a desktop client:
      {"mcpServers": {"notes": {"command": "spladelite", "args": ["mcp", "/home/me/kb.db", "--read-only"]}}}
    """
    try:
        from spladelite.integrations.mcp import server
    except ImportError as error:
        raise InvalidInput(str(error)) from None
    write = not read_only and (os.access(database, os.W_OK) or not os.path.exists(database))
    with open_database(database, model, write=write, create=write) as db:
        server(db, read_only=read_only).run("stdio")
