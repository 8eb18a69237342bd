"""The MCP server in a process of its own, asked by the official client over standard input and output."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from spladelite import SpladeLite


@pytest.fixture
def kb(path: str) -> str:
    with SpladeLite(path) as db:
        db.add(
            ["A car crashed into a tree. " * 40, "Let the bread cool for an hour."],
            ["car", "bread"],
            [{"year": 2021}, {}],
        )
    return path


def ask(path: str, questions: Callable[[Client], Awaitable[None]], *options: str) -> None:
    code = "from spladelite.cli.main import main; main(prog_name='spladelite')"
    parameters = StdioServerParameters(command=sys.executable, args=["-c", code, "mcp", path, *options])

    async def main() -> None:
        async with Client(stdio_client(parameters)) as client:
            await questions(client)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_the_tools_over_standard_input_and_output(kb: str) -> None:
    async def questions(client: Client) -> None:
        assert "local search index" in str(client.instructions)
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == {"search", "get", "explain", "stats", "add"}
        for tool in tools.values():
            assert tool.description
            assert tool.output_schema
        assert tools["search"].input_schema["required"] == ["query"]

        async def call(name: str, **arguments: Any) -> Any:
            result = await client.call_tool(name, arguments)
            assert not result.is_error, result.content
            return result.structured_content

        (hit,) = (await call("search", query="automobile accident", k=1))["hits"]
        assert hit["id"] == "car"
        assert hit["metadata"] == {"year": 2021}
        assert "car crashed" in hit["passage"]
        assert 0 < hit["relevance"] < 1
        assert len(hit["passage"]) == hit["end"] - hit["start"] < 1080
        assert (await call("search", query="automobile accident", where={"year": {"$lt": 2000}}))["hits"] == []
        bread, nothing = (await call("get", ids=["bread", "nowhere"]))["documents"]
        assert bread["text"] == "Let the bread cool for an hour."
        assert nothing == {"id": "nowhere", "text": None, "metadata": None}
        reasons = await call("explain", query="automobile accident", id="car")
        assert any(reason["term"] == "car" for reason in reasons["terms"])
        stored = await call("add", texts=["The cat sleeps."], ids=["cat"], metadata=[{"x": 1}])
        assert stored == {"ids": ["cat"], "new": ["cat"], "replaced": []}
        assert (await call("stats"))["documents"] == 3

    ask(kb, questions)
    with SpladeLite(kb) as db:
        assert "cat" in db
    assert not Path(kb + "-wal").exists()


def test_errors_are_the_tools_answer_and_the_server_goes_on(kb: str) -> None:
    async def questions(client: Client) -> None:
        assert {tool.name for tool in (await client.list_tools()).tools} == {"search", "get", "explain", "stats"}
        for name, arguments, message in [
            ("search", {"query": "x", "where": {"year": {"$about": 1}}}, "unknown operator '$about'"),
            ("search", {"query": "x", "k": 0}, "k is 0"),
            ("explain", {"query": "x", "id": "nowhere"}, "no document has the id 'nowhere'"),
            ("search", {"k": 3}, "query"),
        ]:
            result = await client.call_tool(name, arguments)
            assert result.is_error
            assert message in str(result.content[0])
        assert not (await client.call_tool("stats", {})).is_error

    ask(kb, questions, "--read-only")
