"""The page of ``optenvs rank``: a person sees the pictures of a round and says which are the best.

Starlette, uvicorn and Jinja2: three small libraries that download nothing, for a page that is nothing but
forms. Every click is a form that states the moment at which its page was made, so that whatever comes from an
old tab, or twice, is refused by the session; a reload shows what holds now.
"""

from __future__ import annotations

import base64
import io
import secrets
import socket
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

from .session import OutOfDate, Session
from .store import FILE, SessionError

try:
    import uvicorn
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from PIL import Image
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import RedirectResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp
except ModuleNotFoundError as error:
    raise ImportError(f"{error}; the page needs: pip install 'optenvs[human]'") from error

from .guard import HOST, Guard
from .rounds import Pictures

_HISTORY = 12  # thumbnails of earlier rounds
_LONGEST = 1000  # bytes of a form
_STATIC = {"rank.css": "text/css", "rank.js": "text/javascript"}


class Form(dict[str, str]):
    """The fields of a form; one that is missing, or no whole number, is the sender's mistake."""

    def whole(self, name: str) -> int:
        """A field that is a whole number."""
        text = self.get(name, "")
        if not (text.isascii() and text.isdigit()):
            raise SessionError(f"{name}: expected a whole number, got {text!r}")
        return int(text)


_CHANGES: dict[str, Callable[[Session, Form], None]] = {
    "click": lambda session, form: session.choose(form.whole("picture"), form.whole("moment")),
    "none": lambda session, form: session.none_better(form.whole("moment")),
    "undo-click": lambda session, form: session.undo_click(form.whole("moment")),
    "undo-round": lambda session, form: session.undo_round(form.whole("moment")),
}


def make_app(session: Session, port: int, secret: str) -> ASGIApp:
    """The page of a session as an application, for a server at ``port``."""
    loader = PackageLoader("optenvs.human", "web")
    templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    template = templates.get_template("rank.html")

    def page(message: str = "", status: int = 200) -> Response:
        text = template.render(message=message, **view(session))
        return Response(text, status, media_type="text/html")

    async def show(request: Request) -> Response:
        return page()

    def changing(change: Callable[[Session, Form], None]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                form = await _form(request)
                change(session, form)  # nothing else runs meanwhile: there is one thread, and no await
            except OutOfDate as error:
                return page(str(error), 409)
            except SessionError as error:
                return page(str(error), 400)
            except ClientDisconnect:
                return Response("the form did not come whole\n", 400)  # which nobody is there to read
            except OSError as error:
                return page(f"the answer could not be kept, and so it does not count: {error}", 500)
            return RedirectResponse(f"/{secret}/", 303)

        return handle

    async def export(request: Request) -> Response:
        name = f'attachment; filename="{FILE}"'
        text = session.record.to_json()
        return Response(text, media_type="application/json", headers={"Content-Disposition": name})

    def static(name: str, kind: str) -> Route:
        content = (resources.files("optenvs.human") / "web" / name).read_bytes()

        async def handle(request: Request) -> Response:
            return Response(content, media_type=kind)

        return Route(f"/{secret}/{name}", handle)

    routes = [Route(f"/{secret}/", show), Route(f"/{secret}/{FILE}", export)]
    routes += [
        Route(f"/{secret}/{name}", changing(change), methods=["POST"]) for name, change in _CHANGES.items()
    ]
    routes += [static(name, kind) for name, kind in _STATIC.items()]
    return Guard(Starlette(routes=routes), port, secret)


async def _form(request: Request) -> Form:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST:
            raise SessionError(f"form: expected at most {_LONGEST} bytes")
    fields = parse_qs(body.decode("latin-1"), keep_blank_values=True)
    return Form({name: values[0] for name, values in fields.items()})


def view(session: Session) -> dict[str, Any]:
    """What the page shows, as the template's names."""
    turn, state = session.round, session.round.state
    ranks = {index: rank for rank, index in enumerate(session.clicks, 1)}
    pictures = [
        {"slot": slot, "image": png(turn.pictures[index]), "rank": ranks.get(index)}
        for slot, index in enumerate(turn.display)
    ]
    best = session.best()
    first = max(0, len(best) - _HISTORY)
    limits, answered = session.env.limits, len(session.record.said)
    rounds = limits["ranking"] - 1 if "ranking" in limits else None
    seen, most = int(state.calls["points"][0]), limits.get("points")
    shares = [part / whole for part, whole in ((answered, rounds), (seen, most)) if whole]
    return {
        "question": session.settings.question,
        "title": session.settings.environment,
        "over": session.over,
        "moment": session.moment,
        "number": turn.number,
        "answered": answered,
        "rounds": rounds,
        "seen": seen,
        "most": most,
        "share": max(shares, default=None),
        "named": turn.named,
        "left": turn.named - len(session.clicks),
        "pictures": pictures,
        "clicked": bool(session.clicks),
        "best": png(best[-1]),
        "history": [{"number": i, "image": png(best[i])} for i in range(first, len(best))],
        "export": FILE,
    }


def png(picture: Pictures) -> str:
    """A picture as the address of an image."""
    file = io.BytesIO()
    Image.fromarray(picture.numpy()).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def serve(session: Session, port: int = 0, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve the page on this machine until the process is interrupted.

    Args:
        session: the session.
        port: where; 0 for any that is free.
        ready: called with the page's address when a browser can open it.

    Raises:
        OSError: the port is taken.
    """
    with PageServer(session, port) as server:
        ready(server.address)
        server.run()


class PageServer:
    """The server of a page.

    Args:
        session: the session.
        port: where; 0 for any that is free.

    Attributes:
        address: of the page, with its secret.
    """

    def __init__(self, session: Session, port: int = 0) -> None:
        try:
            self._socket = socket.create_server((HOST, port))
        except OSError as error:
            raise OSError(f"port {port} of {HOST} cannot be used ({error.strerror or error})") from error
        port = self._socket.getsockname()[1]
        secret = secrets.token_urlsafe(16)
        self.address = f"http://{HOST}:{port}/{secret}/"
        # neither a protocol nor a line of log that is not needed: the log would show the secret,
        # and what a stranger sends is nothing to tell
        config = uvicorn.Config(
            make_app(session, port, secret), ws="none", lifespan="off", access_log=False, log_level="error",
            server_header=False,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until the process is interrupted, or :meth:`stop` is called by another thread."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._server.should_exit = True

    def __enter__(self) -> PageServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
