"""The short way to an endpoint, before the middleware that stands in front of everything else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware

from serving.straight import Straight, answer_json


class Counting:
    """Middleware as BentoML puts before ours."""

    passed = 0

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        type(self).passed += 1
        await self._app(scope, receive, send)


async def ours(_scope: Any, _receive: Any, send: Any) -> None:
    await answer_json(send, b'{"short":true}')


@pytest.fixture
def ready() -> list[bool]:
    return [True]


@pytest.fixture
def app(ready: list[bool]) -> Starlette:
    Counting.passed = 0
    straight = Middleware(
        Straight, answers={"/decide": ours, "/v1/track": ours}, json=("/decide",), ready=lambda: ready[0]
    )
    return Starlette(middleware=[Middleware(Counting), straight])


def status(app: Starlette, path: str = "/decide", method: str = "POST", kind: bytes = b"application/json") -> int:
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [(b"content-type", kind)], "root_path": ""}
    asyncio.run(app(scope, receive, send))
    return int(said[0]["status"])


def test_from_the_second_question_on_nothing_stands_before_it(app: Starlette) -> None:
    assert [status(app) for _ in range(4)] == [200] * 4
    assert Counting.passed == 1


def test_all_else_passes_what_stands_before(app: Starlette) -> None:
    assert status(app) == 200
    others = [status(app, "/other"), status(app, method="GET"), status(app, kind=b"text/plain")]
    assert (others, Counting.passed) == ([404] * 3, 4)


def test_json_is_demanded_only_where_it_is_needed(app: Starlette) -> None:
    assert [status(app, "/v1/track", kind=b"text/plain") for _ in range(3)] == [200] * 3
    assert Counting.passed == 1


def test_while_nobody_is_there_to_answer_it_goes_on_as_all_else(app: Starlette, ready: list[bool]) -> None:
    ready[0] = False
    assert [status(app), status(app)] == [404, 404]
    ready[0] = True
    assert (status(app), Counting.passed) == (200, 2)
