"""A `spladelite serve` child process for tests, and requests to it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

COMMAND = [sys.executable, "-c", "from spladelite.cli.main import main; main(prog_name='spladelite')", "serve"]


@dataclass(frozen=True, slots=True)
class Server:
    """``url`` is what was printed to be opened: with the token."""

    url: str
    port: int
    token: str

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and JSON (or bytes) of the answer. The token goes along unless ``headers`` say otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            address = f"{path}?{urlencode(query)}" if query else path
            connection.request(method, address, body, {"Authorization": f"Bearer {self.token}", **(headers or {})})
            response = connection.getresponse()
            content = response.read()
            if (response.getheader("content-type") or "").startswith("application/json"):
                return response.status, json.loads(content)
            return response.status, content
        finally:
            connection.close()

    def get(self, name: str, **query: object) -> Any:
        """The answer of an endpoint; it must be one."""
        status, answer = self.send("GET", f"/api/{name}", query)
        assert status == 200, answer
        return answer


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """Run ``spladelite serve`` until the block ends; it must end well, and without a word on standard error."""
    child = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        lines = []
        for line in child.stdout:
            lines.append(line)
            found = re.match(r"Open\s+(http://127\.0\.0\.1:(\d+)/#token=(\S+))", line)
            if found:
                yield Server(found[1], int(found[2]), found[3])
                break
        else:
            raise AssertionError("".join(lines) + (child.stderr.read() if child.stderr else ""))
    finally:
        child.send_signal(signal.SIGINT)
        try:
            _, errors = child.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise
    assert child.returncode == 0, errors
    assert errors == ""
