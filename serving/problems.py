"""What went wrong, in the one shape that every error answer has (RFC 9457, `application/problem+json`).

Raise a `Problem` anywhere below the HTTP face; `problem_of` makes one of any other exception without
letting its text out. Which bytes are wrong and how that is said is the business of `wire`.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy.exc
from starlette.responses import Response

logger = logging.getLogger("onestory.http")

MEDIA_TYPE = "application/problem+json"
SHOWN = 40
"""How much of what came in is ever repeated in an answer."""

TITLES: Mapping[int, tuple[str, str]] = {
    400: ("bad_input", "Bad input"),
    401: ("no_key", "No key, or the wrong one"),
    404: ("not_found", "Not found"),
    405: ("wrong_method", "Wrong method"),
    413: ("too_large", "Too large"),
    415: ("unsupported", "Unsupported encoding"),
    429: ("too_many", "Too many requests"),
    500: ("internal", "Unexpected error"),
    503: ("not_now", "Not now"),
    504: ("not_now", "Not in time"),
}


class Problem(Exception):
    """An answer that is an error. `errors` says per field what is wrong: `{"field", "problem"}`."""

    def __init__(
        self,
        status: int,
        title: str | None,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, [dict(error) for error in errors]
        self.kind, usual_title = TITLES.get(status, ("error", "Error"))
        self.title = title or usual_title
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON object of the answer; also what stands for a refused customer in `/decide_batch`."""
        return {
            "type": f"urn:onestory:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "errors": self.errors,
        }

    def body_for_clients(self) -> dict[str, Any]:
        """The same on `/v1`, with the two keys that Segment's and RudderStack's Python clients look for.

        RudderStack's takes an answer without them for a broken line, and sends what was refused ten times again.
        """
        return {**self.body(), "code": self.kind, "message": self.detail}

    def response(self, to_clients: bool = False) -> Response:
        body = self.body_for_clients() if to_clients else self.body()
        return Response(orjson.dumps(body), self.status, self.headers, MEDIA_TYPE)


def bad_input(field: str, problem: str) -> Problem:
    """400 for one field."""
    return bad_inputs([(field, problem)])


def bad_inputs(problems: Sequence[tuple[str, str]]) -> Problem:
    """400 for one or more fields, each with its sentence; the detail is the first."""
    errors = [{"field": field, "problem": problem} for field, problem in problems]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(400, None, f"{problems[0][0]}: {problems[0][1]}{more}", errors)


def not_found(detail: str) -> Problem:
    return Problem(404, None, detail)


def not_now(detail: str, retry_after_s: int = 1) -> Problem:
    """503: asking again after `retry_after_s` seconds may well work."""
    return Problem(503, None, detail, headers={"Retry-After": str(retry_after_s)})


def too_many(detail: str, retry_after_s: int = 1) -> Problem:
    """429: nothing was kept, and asking again after `retry_after_s` seconds will be answered."""
    return Problem(429, None, detail, headers={"Retry-After": str(retry_after_s)})


def problem_of(error: Exception, doing: str) -> Problem:
    """The Problem that `error` is; an unforeseen one is logged with its traceback and told without details."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, sqlalchemy.exc.OperationalError | sqlite3.OperationalError | sqlalchemy.exc.TimeoutError):
        logger.warning("%s: the database did not answer: %s", doing, str(error).splitlines()[0])
        return not_now("the database is busy; try again in a second")
    if isinstance(error, ConnectionError):
        logger.warning("%s: %s", doing, str(error).splitlines()[0])
        return not_now("the profile store does not answer; try again in a second")
    logger.error("%s: unexpected error", doing, exc_info=error)
    return Problem(500, None, "something unexpected went wrong; the server's log says what")


def shown(value: object, most: int = SHOWN) -> str:
    """What came in, short enough to repeat, in backticks: at most so many characters of it."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool | None) or (isinstance(value, float) and value != value):
        text = {True: "true", False: "false", None: "null"}.get(value, "NaN")  # type: ignore[arg-type]
    elif isinstance(value, Mapping):
        text = "{…}" if value else "{}"
    elif isinstance(value, list | tuple):
        text = "[…]" if value else "[]"
    else:
        text = str(value)
    return f"`{text[:most]}…`" if len(text) > most else f"`{text}`"
