"""What every request passes on its way in and out: keys, CORS, and the one shape of errors.

A plain ASGI middleware: an answer that is no error leaves untouched but for its CORS header. BentoML and
Starlette tell errors in shapes of their own; they are told anew here, by their status only, so that
nothing internal gets out. Bodies are not read here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect

from serving.keys import Keys, needed, refusal
from serving.problems import MEDIA_TYPE, Problem, shown

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

logger = logging.getLogger("onestory.http")

BENTOML_PAGE = "/"
"""BentoML's own page calls third parties from the reader's browser; `/docs.json` describes the service."""
CORS: tuple[Header, ...] = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"retry-after"),
)
PREFLIGHT: tuple[Header, ...] = (
    *CORS,
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding, x-retry-count, anonymousid"),
    (b"access-control-max-age", b"600"),
)
LONGEST_PATH = 200
"""Characters of a path that an error repeats: the ids of our own calls whole."""
TOO_LONG = "the answer took too long; try again in a second"
_PROBLEM = MEDIA_TYPE.encode()
_TOLD = (_PROBLEM, b"text/html")
_REMADE = frozenset({b"content-type", b"content-length"})


class Gate:
    """Wraps the whole application of a worker."""

    def __init__(self, app: App, keys: Keys):
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"]
        cors = CORS if path in ("/decide", "/respond") or path.startswith("/v1/") else ()
        if cors and scope["method"] == "OPTIONS":
            return await _send(send, 204, PREFLIGHT, b"")
        if path == BENTOML_PAGE or path.startswith("/static_content"):
            return await _send_problem(send, scope, _told(404, scope), cors)
        try:
            self._admit(scope, path)
        except Problem as problem:
            return await _send_problem(send, scope, problem, cors)
        exit_ = _Exit(send, scope, cors)
        try:
            await self._app(scope, receive, exit_)
        except ClientDisconnect:
            logger.info("%s: the caller hung up", path)
        except Exception:
            logger.exception("%s: unexpected error", path)
            if exit_.started:
                raise  # half an answer is out: the server must cut the connection
            await _send_problem(send, scope, _told(500, scope), cors)

    def _admit(self, scope: Scope, path: str) -> None:
        """Let the caller through, noting in the scope what they may do, or raise the 401."""
        if needed(path) is None:
            return
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        client = scope.get("client")
        caller = self._keys.caller(authorization, client[0] if client else None)
        scope["onestory.caller"] = caller
        # A browser may bring its write key inside the message: `http_events` looks there.
        if not (caller is None and path.startswith("/v1/")) and (problem := refusal(path, caller)):
            raise problem


class _Exit:
    """`send` for one request: passes answers on, and tells errors that are no problem+json anew."""

    __slots__ = ("_cors", "_held", "_scope", "_send", "started")

    def __init__(self, send: Send, scope: Scope, cors: Iterable[Header]):
        self._send, self._scope, self._cors = send, scope, cors
        self._held: Message | None = None
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] >= 400 and not _is_told(message):
                self._held = message
                return
            if self._cors:
                message["headers"] = [*message["headers"], *self._cors]
            self.started = True
        elif self._held is not None:
            if message.get("more_body"):
                return  # the old text goes nowhere
            held, self._held, self.started = self._held, None, True
            kept = [(name, value) for name, value in held["headers"] if name.lower() not in _REMADE]
            problem = _told(held["status"], self._scope, kept)
            await _send_problem(self._send, self._scope, problem, (*kept, *self._cors))
            return
        await self._send(message)


def _is_told(message: Message) -> bool:
    """Whether an error is told in our own words already: as a problem, or as a page for people."""
    return any(name.lower() == b"content-type" and value.startswith(_TOLD) for name, value in message["headers"])


def _told(status: int, scope: Scope, headers: Iterable[Header] = ()) -> Problem:
    """What a status means here."""
    path = shown(scope["path"], LONGEST_PATH)
    if status == 405:
        allowed = next((value.decode() for name, value in headers if name.lower() == b"allow"), "another method")
        return Problem(405, None, f"{path} does not answer {shown(scope['method'])}; expected {allowed}")
    details = {
        400: "the request cannot be read",
        404: f"there is nothing at {path}; `/docs.json` lists what there is",
        415: "the body's content type is not accepted; expected application/json",
        429: "too many requests at once; try again in a second",
        503: "the service is not ready; try again in a second",
        504: TOO_LONG,
    }
    retry = {"Retry-After": "1"} if status in (429, 503, 504) else {}
    fallback = "something unexpected went wrong; the server's log says what" if status >= 500 else "not accepted"
    return Problem(status, None, details.get(status, fallback), headers=retry)


async def _send_problem(send: Send, scope: Scope, problem: Problem, headers: Iterable[Header]) -> None:
    body = problem.body_for_clients() if scope["path"].startswith("/v1/") else problem.body()
    own = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    named = {name for name, _ in own}
    rest = [header for header in headers if header[0].lower() not in named]
    await _send(send, problem.status, [*own, *rest, (b"content-type", _PROBLEM)], orjson.dumps(body))


async def _send(send: Send, status: int, headers: Iterable[Header], body: bytes) -> None:
    sized = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})
