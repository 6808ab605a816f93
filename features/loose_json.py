"""JSON as clients really write it: Python's `NaN`, and half an emoji where JavaScript cut a text in two.

Neither is worth losing a batch of a hundred messages for. `NaN`, the infinities and numbers too large for a
double come out as floats that are not finite, which whoever checks a field refuses there, and which are stored
as null where nobody looks; a lone surrogate comes out as U+FFFD, as browsers send it in every other text. All
else that is no JSON stays an error. Nothing here knows what is in the text.
"""

from __future__ import annotations

import json

import orjson

__all__ = ["JSONError", "loads"]

JSONError = orjson.JSONDecodeError
LONGEST_WHOLE = 18


def loads(raw: bytes) -> object:
    """The value that `raw` holds. Raises JSONError, in orjson's words, for what cannot be read even so."""
    try:
        return orjson.loads(raw)
    except JSONError:
        try:
            text = raw.decode()
            value = json.loads(text, parse_int=_whole)
            if "\\u" in text:
                text = json.dumps(value, ensure_ascii=False)
                value = json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), parse_int=_whole)
            return value
        except (ValueError, RecursionError):
            pass
        raise


def _whole(digits: str) -> int | float:
    """Beyond what an integer of 64 bits holds a float, as orjson has it."""
    return int(digits) if len(digits) <= LONGEST_WHOLE else float(digits)
