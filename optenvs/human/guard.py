"""Who may see the page: a browser on this machine that knows the secret of its address.

Loopback alone keeps no web site out that is open in the same browser: its scripts can send requests to
127.0.0.1, or to a name of its own that resolves to it. Hence three checks: the name under which the page is
asked for (Host), the page that sends a form (Origin), and a secret in the path.
"""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOST = "127.0.0.1"

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    # not no-referrer, with which forms come without their origin
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Let only those requests pass that come from the page itself, or from whoever knows its address.

    Args:
        app: the page.
        port: where it is served.
        secret: the first part of every path.
    """

    def __init__(self, app: ASGIApp, port: int, secret: str) -> None:
        self.app = app
        self.hosts = tuple(f"{name}:{port}" for name in (HOST, "localhost"))
        self.secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # neither sockets nor events of the server's life

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if not scope["path"].startswith("/"):  # OPTIONS *, GET foo: no address of a page
            await PlainTextResponse("expected a path that begins with /\n", 400)(scope, receive, guarded)
            return
        refusal = self._refusal(scope)
        answer = self.app if refusal is None else PlainTextResponse(f"{refusal}\n", 403)
        await answer(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self.hosts:
            return f"this page is served as {self.hosts[0]} only"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return "another site may not use this page"
        given = scope["path"].split("/")[1]
        if not secrets.compare_digest(given.encode(), self.secret.encode()):
            return "no such page; the terminal shows the address, a new one after every start"
        return None
