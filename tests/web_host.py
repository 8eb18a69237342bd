"""A static file server for tests: with range requests, or with one of the ways in which hosts get them wrong."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

Kind = Literal["ranges", "whole", "compressing"]

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
}


@contextmanager
def host(folder: Path, kind: Kind = "ranges") -> Iterator[str]:
    """Serve ``folder``; gives its address, with a slash at the end.

    ``"ranges"`` answers range requests as they should be, ``"whole"`` with the whole file, and ``"compressing"``
    with the whole file, gzipped.
    """
    root = folder.resolve()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = root / unquote(urlsplit(self.path).path).lstrip("/")
            path = path / "index.html" if path.is_dir() else path
            if not path.resolve().is_relative_to(root) or not path.is_file():
                self._answer(404, b"", {})
                return
            content = path.read_bytes()
            headers = {"Content-Type": TYPES.get(path.suffix, "application/octet-stream")}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if kind == "compressing" and path.suffix == ".bin":
                self._answer(200, gzip.compress(content, 1), headers | {"Content-Encoding": "gzip"})
            elif kind != "ranges" or wanted is None:
                self._answer(200, content, headers)
            elif int(wanted[1]) >= len(content):
                self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            else:
                start, end = int(wanted[1]), min(int(wanted[2]) + 1, len(content))
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
                self._answer(206, content[start:end], headers)

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A browser that breaks off is no error here."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
