"""The short way of some endpoints: what is posted to their paths is answered before BentoML's own machinery begins.

The same code answers either way, and the endpoint stays where it was for its clients and its description; what is
spared is an unused context, a choice of codecs, a task and a timer for each request and some middleware, which together
cost more than a third of a decision (docs/decisions/0020), and turns of the event loop: while somebody asks for one
decision after the other, each turn is one decision long. Anything but a POST, of JSON where that is demanded, goes on
as before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from serving.gate import App, Receive, Scope, Send


class Straight:
    """Wraps what is behind it, and from the first request on all that BentoML puts before it.

    `answers` are the endpoints by path, with their own gate; they are asked once somebody is there to answer (`ready`).
    Those of `json` are sent JSON.
    """

    def __init__(self, app: App, answers: Mapping[str, App], json: Collection[str], ready: Callable[[], bool]):
        self._app, self._answers, self._json, self._ready = app, answers, json, ready
        self._foremost = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if not self._foremost:
                self._go_before(scope["app"])
            answer = self._answers.get(scope["path"])
            if answer is not None and scope["method"] == "POST" and self._takes(scope) and self._ready():
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _takes(self, scope: Scope) -> bool:
        return scope["path"] not in self._json or _is_json(scope)

    def _go_before(self, whole: Any) -> None:
        """Stand before the middleware that is BentoML's own: there is no other place to ask it for."""
        self._foremost = True
        whole.middleware_stack = before = Straight(whole.middleware_stack, self._answers, self._json, self._ready)
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
