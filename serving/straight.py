"""The short way of one endpoint: JSON posted to its path is answered before BentoML's own machinery begins.

The same code answers either way, and the endpoint stays BentoML's for its clients and its description; what is spared
is an unused context, a choice of codecs, a task and a timer for each request and some middleware, which together cost
more than a third of a decision (docs/decisions/0020). Anything but a POST of JSON goes on as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from serving.gate import App, Receive, Scope, Send


class Straight:
    """Wraps what is behind it, and from the first request on all that BentoML puts before it.

    `answer` is the endpoint with its own gate; it is asked once somebody is there to answer (`ready`).
    """

    def __init__(self, app: App, path: str, answer: App, ready: Callable[[], bool]):
        self._app, self._path, self._answer, self._ready = app, path, answer, ready
        self._foremost = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not self._foremost:
                self._go_before(scope["app"])
            if scope["path"] == self._path and scope["method"] == "POST" and _is_json(scope) and self._ready():
                await self._answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _go_before(self, whole: Any) -> None:
        """Stand before the middleware that is BentoML's own: there is no other place to ask it for."""
        self._foremost = True
        whole.middleware_stack = before = Straight(whole.middleware_stack, self._path, self._answer, self._ready)
        before._foremost = True


async def answer_json(send: Send, body: bytes) -> None:
    """200 with this JSON."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_json(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return bool(value.startswith(b"application/json"))
    return True
