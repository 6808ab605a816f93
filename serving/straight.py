"""The short way of one endpoint: JSON posted to its path is answered before BentoML's own machinery begins.

The same code answers either way, and the endpoint stays BentoML's for its clients and its description; what is spared
is an unused context, a choice of codecs and some middleware, which together cost more than half a decision
(docs/decisions/0020). Anything but a POST of JSON goes on as before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from serving.gate import App, Receive, Scope, Send

Answer = Callable[[Request], Awaitable[Response] | None]
"""The answer to come; None while nobody is there to give it."""


class Straight:
    """Wraps what is behind the gate."""

    def __init__(self, app: App, path: str, answer: Answer):
        self._app, self._path, self._answer = app, path, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == self._path and scope["method"] == "POST" and _is_json(scope):
            coming = self._answer(Request(scope, receive))
            if coming is not None:
                await (await coming)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_json(scope: Scope) -> bool:
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"application/json")
    return bool(kind.startswith(b"application/json"))
