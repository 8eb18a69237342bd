"""Who may ask: programs of this machine that know the token, and no page of another origin.

========================  =============================================================================================
a page elsewhere          its requests carry its ``Origin``: refused. It cannot set our token's header without asking
                          first (CORS), and that is never granted; it cannot frame us either
DNS rebinding             a foreign name that is made to point here arrives as the ``Host``: refused
other users, other ports  need the token. It stands in the printed address after ``#``, which browsers send to no
                          server and write in no ``Referer``; there is no cookie
a hostile document        is shown as text. Should a hole be found, the Content-Security-Policy runs no script that is
                          not a file of ours, turns no string into HTML (Trusted Types), and reaches no other host
========================  =============================================================================================
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Access:
    """Middleware: refuses what is not for us, and adds the headers that keep a browser in its place.

    Args:
        app: what answers.
        port: where this server listens; only its own names are accepted as ``Host``.
        token: what ``Authorization: Bearer`` has to say for ``/api/``.
    """

    def __init__(self, app: ASGIApp, port: int, token: str) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
        if port == 80:
            self._hosts |= {"127.0.0.1", "localhost"}
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket: there are none
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers["Cache-Control"] = "no-store" if scope["path"].startswith("/api/") else "no-cache"
            await send(message)

        refusal = self._refusal(scope["path"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        if headers.get("host", "") not in self._hosts:
            return refused(421, "WrongHost", f"this server answers to {' and '.join(sorted(self._hosts))} only")
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self._hosts}:
            return refused(403, "WrongOrigin", "pages of other origins may not ask this server")
        if path.startswith("/api/") and not self._knows_token(headers.get("authorization", "")):
            return refused(
                401,
                "NoToken",
                "send the token of the address that `spladelite serve` printed: Authorization: Bearer TOKEN",
            )
        return None

    def _knows_token(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), self._token.encode())


def refused(status: int, error: str, message: str) -> JSONResponse:
    """An error as JSON: its kind, and what to do."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": error, "message": message}, status, headers)
