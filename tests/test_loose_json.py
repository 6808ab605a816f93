"""What is read although it is no JSON, and what is not."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import loose_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_is_read_as_it_is_beside_what_is_none_too(value: object) -> None:
    value = orjson.loads(orjson.dumps(value))  # infinities are written as null
    written = orjson.dumps(value)
    assert loose_json.loads(written) == value
    nan, same = loose_json.loads(b"[NaN," + written + b"]")
    assert math.isnan(nan)
    assert same == value


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (rb'"half \ud83d"', "half \ufffd"),
        (rb'"\udc00 half"', "\ufffd half"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'["\ud83d", "\ud83d\ude00"]', ["\ufffd", "\U0001f600"]),
        (rb'{"\ud83d": NaN, "b": "\u00e4"}', {"\ufffd": pytest.approx(math.nan, nan_ok=True), "b": "ä"}),
    ],
)
def test_half_a_character_is_the_sign_for_one_that_is_unknown(raw: bytes, text: object) -> None:
    assert loose_json.loads(raw) == text


@pytest.mark.parametrize(("raw", "number"), [(b"1e999", math.inf), (b"-Infinity", -math.inf), (b"9" * 400, math.inf)])
def test_a_number_that_no_double_holds_is_not_finite(raw: bytes, number: float) -> None:
    assert loose_json.loads(raw) == number


def test_a_long_whole_number_is_the_same_beside_what_is_no_json() -> None:
    digits = b"1" * 30
    assert loose_json.loads(b"[NaN, " + digits + b"]")[1] == loose_json.loads(digits)


@pytest.mark.parametrize("raw", [b"", b"{", b"{'a': 1}", b'"\xff"', b"[" * 100_000, b"[NaN" * 100_000, b'"\n"', b"nan"])
def test_all_else_is_no_json(raw: bytes) -> None:
    with pytest.raises(loose_json.JSONError):
        loose_json.loads(raw)
