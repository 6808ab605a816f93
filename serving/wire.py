"""From the bytes of a request to checked values, or to a Problem that names the field.

Bodies are read here and nowhere else: bounded, unpacked where they are gzipped, and never trusted.
What the fields are stands in `schemas`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from serving.problems import SHOWN, Problem, bad_input, bad_inputs, shown

KB = 1024
SMALL_BODY = 64 * KB
MOST_ERRORS = 20

Model = TypeVar("Model", bound=BaseModel)


async def body(request: Request, limit: int = SMALL_BODY) -> bytes:
    """The whole body, unpacked, of at most `limit` bytes; a larger one is a 413 before it is held in memory."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        chunks.append(chunk)
    raw = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    encoding = request.headers.get("content-encoding")
    return raw if encoding is None else _unpacked(raw, encoding.strip().lower(), limit)


def _unpacked(raw: bytes, encoding: str, limit: int) -> bytes:
    if encoding in ("", "identity"):
        return raw
    if encoding not in ("gzip", "x-gzip"):
        raise Problem(415, None, f"the body's encoding is {shown(encoding)}; expected gzip or none")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(raw, limit + 1)  # stops there: a bomb stays small
    except zlib.error:
        raise bad_input("body", "is said to be gzip but does not unpack; expected gzip or no Content-Encoding") from None
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
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
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


def problem_of(
    error: ValidationError, expected: Mapping[str, str], known: Sequence[str], prefix: str = ""
) -> Problem:
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
    field = prefix + _path(where)
    wanted = expected.get(_path(where[:1]) + ("[]" if len(where) > 1 else ""), "another value")
    if kind == "extra_forbidden":
        return field, f"is no known field; {_meant(str(where[-1]), known) or 'expected ' + ', '.join(known)}"
    if kind == "missing":
        return field, f"is missing; expected {wanted}"
    if kind == "string_too_long":
        return field, f"got {shown(value)} of {len(value)} characters; expected {wanted}"
    if kind == "too_long":
        return field, f"got {len(value)} entries; expected {wanted}"
    meant = _meant(value, wanted.removeprefix("one of ").split(", ")) if kind == "literal_error" else ""
    return field, f"got {shown(value)}; expected {wanted}" + (f"; {meant}" if meant else "")


def _path(where: Sequence[int | str]) -> str:
    """`("cart", 0)` as `cart[0]`; no longer than what may be repeated."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{_short(step)}" if text else _short(step)
    return text


def _short(name: str) -> str:
    return name if len(name) <= SHOWN else name[:SHOWN] + "…"


def _meant(given: object, known: Sequence[str]) -> str:
    near = get_close_matches(given[:SHOWN], known, n=1) if isinstance(given, str) else []
    return f"did you mean `{near[0]}`?" if near else ""


def _why(text: str) -> str:
    """A parser's sentence in our style: `Unexpected …` starts lower-case, `EOF …` stays."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
