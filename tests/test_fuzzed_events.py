"""Whatever comes in as an event is stored or refused by name: never an error of ours, and never a broken neighbour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from fakes import Face
from hypothesis import given, settings
from hypothesis import strategies as st

from features import commerce
from features.segment import TYPES
from features.workspace import Workspace
from tests.homes import at_home

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8)
    | st.sampled_from(["", "\x00", "1e999", "2026-11-20T10:00:00Z", "9999-12-31T23:59:59Z", "anonymous:x", "p"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
PROPERTIES = ("product_id", "products", "order_id", "quantity", "price", "location_id", "signal", "decision_id",
              "promotion_id", "coupon_id", "coupon", "status", "purpose", "granted", "due", "text", "case_id",
              "cart_id", "reason", "orderId", "id", "channel", "email", "phone", "category", "discount")  # fmt: skip


def maybe(keys: tuple[str, ...], value: st.SearchStrategy[Any] = ANYTHING) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys), value, max_size=5)


LINE = maybe(("product_id", "sku", "id", "quantity", "price", "discount", "category", "coupon", "reason"))
BODY = maybe(PROPERTIES) | st.fixed_dictionaries(
    {"order_id": st.just("o") | ANYTHING, "product_id": st.just("p") | ANYTHING}, optional={"products": st.lists(LINE)}
)
MESSAGE = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES) | ANYTHING, "event": st.sampled_from(sorted(commerce._CHECKS)) | ANYTHING},
    optional={
        "userId": st.sampled_from(["u", "v"]) | ANYTHING,
        "anonymousId": st.just("a") | ANYTHING,
        "previousId": st.just("a") | ANYTHING,
        "messageId": st.text(max_size=3) | ANYTHING,
        "groupId": ANYTHING,
        "timestamp": st.just("2026-01-01T00:00:00Z") | ANYTHING,
        "sentAt": ANYTHING,
        "properties": BODY | ANYTHING,
        "traits": maybe(PROPERTIES) | ANYTHING,
        "context": maybe(("channel", "location_id", "device", "library", "page", "traits", "ip")) | ANYTHING,
        "channel": ANYTHING,
        "writeKey": ANYTHING,
    },
)


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    with at_home(Workspace(tmp_path_factory.mktemp("fuzzed"))) as workspace:
        from serving.engine import Engine

        with Face(Engine.open(workspace)) as made:
            yield made


@settings(max_examples=200)
@given(st.lists(MESSAGE | ANYTHING, max_size=4), st.integers(0, 2**62))
def test_a_batch_of_anything_is_answered_for_each_of_its_messages(face: Face, messages: list[Any], number: int) -> None:
    fine = {"type": "track", "event": "X", "userId": "fine", "messageId": f"fine-{number}"}
    answer = face.post("/v1/batch", orjson.dumps({"batch": [*messages, fine]}))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["stored"] + told["duplicates"] + len(told["rejected"]) == len(messages) + 1
    assert len(messages) not in [one["index"] for one in told["rejected"]]
    assert all(one["problem"] for one in told["rejected"])


@settings(max_examples=100)
@given(st.sampled_from([*TYPES, "batch"]), MESSAGE | ANYTHING)
def test_anything_on_any_route_is_stored_or_bad_input(face: Face, route: str, body: Any) -> None:
    answer = face.post(f"/v1/{route}", orjson.dumps(body))
    assert answer.status_code in (200, 400), answer.text
