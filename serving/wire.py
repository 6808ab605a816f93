"""From the bytes of a request to checked values, or to a Problem that names the field.

Bodies are read here and nowhere else: bounded, unpacked where they are gzipped, and never trusted.
What the fields are stands in `schemas`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from features import loose_json
from features.sentences import path_of, suggestion
from serving.problems import SHOWN, Problem, bad_input, bad_inputs, shown

KB = 1024
SMALL_BODY = 64 * KB
MOST_ERRORS = 20

Model = TypeVar("Model", bound=BaseModel)


async def body(request: Request, limit: int = SMALL_BODY) -> bytes:
    """The whole body, unpacked, of at most `limit` bytes; a larger one is a 413 before it is held in memory."""
    encoding = ""
    for name, value in request.scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise too_large(limit)
        if name == b"content-encoding":
            encoding = value.decode("latin-1").strip().lower()
    raw = b""
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        raw += message.get("body", b"")
        if len(raw) > limit:
            raise too_large(limit)
        more = message.get("more_body", False)
    return _unpacked(raw, encoding, limit) if encoding else raw


def _unpacked(raw: bytes, encoding: str, limit: int) -> bytes:
    if encoding == "identity":
        return raw
    if encoding not in ("gzip", "x-gzip"):
        raise Problem(415, None, f"the body's encoding is {shown(encoding)}; expected gzip or none")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(raw, limit + 1)  # stops there: a bomb stays small
    except zlib.error:
        raise bad_input(
            "body", "is said to be gzip but does not unpack; expected gzip or no Content-Encoding"
        ) from None
    if len(unpacked) > limit:
        raise too_large(limit)
    if not unpacker.eof or unpacker.unused_data:
        raise bad_input("body", "holds an incomplete gzip stream, or more than one; expected exactly one")
    return unpacked


def too_large(limit: int) -> Problem:
    return Problem(413, None, f"the body is larger than {limit // KB} kB; send less at once")


def json_object(raw: bytes) -> dict[str, Any]:
    """The JSON object that `raw` holds; for bodies whose fields are checked later, such as events."""
    try:
        value = loose_json.loads(raw)
    except loose_json.JSONError as error:
        raise bad_input("body", f"is no JSON: {_why(str(error))}") from None
    if not isinstance(value, dict):
        raise bad_input("body", f"got {shown(value)}; expected a JSON object")
    return value


def checked(model: type[Model], raw: bytes, expected: Mapping[str, str]) -> Model:
    """`raw` as a `model`; whatever is wrong is told per field, with what `expected` says of it."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise problem_of(error, expected, tuple(model.model_fields)) from None


def problem_of(error: ValidationError, expected: Mapping[str, str], known: Sequence[str], prefix: str = "") -> Problem:
    """A 400 with one sentence per error that pydantic found. `known` are the names a field may have."""
    found = error.errors(include_url=False)
    return bad_inputs([_sentence(one, expected, known, prefix) for one in found[:MOST_ERRORS]])


def _sentence(
    error: Mapping[str, Any], expected: Mapping[str, str], known: Sequence[str], prefix: str
) -> tuple[str, str]:
    kind, value, where = error["type"], error["input"], error["loc"]
    if kind == "json_invalid":
        return "body", f"is no JSON: {_why(str(error['ctx']['error']))}"
    if kind == "nobody":
        return prefix + "customer_id", "is missing; expected `customer_id` or `anonymous_id`"
    if not where:
        return prefix.rstrip(".") or "body", f"got {shown(value)}; expected a JSON object"
    where = [step if isinstance(step, int) else _short(step) for step in where]
    field = prefix + path_of(where)
    wanted = expected.get(str(where[0]) + ("[]" if len(where) > 1 else ""), "another value")
    if kind == "extra_forbidden":
        return field, f"is no known field; {suggestion(str(where[-1]), known)}"
    if kind == "missing":
        return field, f"is missing; expected {wanted}"
    if kind == "string_too_long":
        return field, f"got {shown(value)} of {len(value)} characters; expected {wanted}"
    if kind == "too_long":
        return field, f"got {len(value)} entries; expected {wanted}"
    if kind == "literal_error" and isinstance(value, str):
        return field, f"got {shown(value)}; {suggestion(value[:SHOWN], wanted.removeprefix('one of ').split(', '))}"
    return field, f"got {shown(value)}; expected {wanted}"


def _short(name: str) -> str:
    return name if len(name) <= SHOWN else name[:SHOWN] + "…"


def _why(text: str) -> str:
    """A parser's sentence in our style: `Unexpected …` starts lower-case, `EOF …` stays."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
