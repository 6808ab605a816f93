"""Segment messages into records: types, times, names, personal data, and what is said of bad ones."""

from __future__ import annotations

from typing import Any

import pytest

from features.events import check
from features.pii import hasher, normalised
from features.segment import parse
from features.vocabulary import Event, EventProblem

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
HASH = hasher(b"k" * 32)


def track(name: str, properties: dict[str, Any] | None = None, **message: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": name,
        "userId": "7",
        "messageId": "m1",
        "properties": properties or {},
        **message,
    }


def record(message: dict[str, Any], sent_at: str | None = None) -> dict[str, Any]:
    return parse(message, NOW, sent_at, HASH)


def event(message: dict[str, Any]) -> Event:
    return check(record(message), NOW)


def problem(message: dict[str, Any], sent_at: str | None = None) -> str:
    with pytest.raises(EventProblem) as raised:
        check(record(message, sent_at), NOW)
    return str(raised.value)


# ------------------------------------------------------------------------------------------- messages


def test_an_order_comes_out_as_it_was_sent() -> None:
    found = event(
        track(
            "Order Completed",
            {"order_id": "o1", "products": [{"product_id": "p1", "quantity": 2, "price": 1.5, "colour": "red"}]},
            anonymousId="a1",
            context={"channel": "store", "location_id": 330, "device": {"type": "till"}},
        )
    )
    assert found == Event(
        "m1",
        "Order Completed",
        NOW,
        NOW,
        "7",
        "a1",
        "store",
        "330",
        {
            "order_id": "o1",
            "products": [{"product_id": "p1", "quantity": 2, "price": 1.5, "colour": "red"}],
            "device": "till",
        },
    )


@pytest.mark.parametrize(
    ("message", "name", "body"),
    [
        ({"type": "identify", "traits": {"age": 3}}, "$identify", {"traits": {"age": 3}}),
        ({"type": "identify", "context": {"traits": {"a": 1}}}, "$identify", {"traits": {"a": 1}}),
        ({"type": "alias", "previousId": "a9"}, "$alias", {"previous_id": "a9"}),
        ({"type": "group", "groupId": "g", "traits": {"x": 1}}, "$group", {"group_id": "g", "traits": {"x": 1}}),
        ({"type": "page", "name": "Home", "properties": {"path": "/"}}, "$page", {"name": "Home", "path": "/"}),
        ({"type": "screen", "name": "Home"}, "$screen", {"name": "Home"}),
    ],
)  # fmt: skip
def test_every_type_of_message_is_read(message: dict[str, Any], name: str, body: dict[str, Any]) -> None:
    found = event({"userId": "7", "messageId": "m", **message})
    assert (found.name, found.body, found.user_id) == (name, body, "7")


def test_an_alias_keeps_the_previous_id_as_it_is() -> None:
    found = event({"type": "alias", "userId": "7", "previousId": "jo@example.com", "messageId": "m"})
    assert (found.user_id, found.anonymous_id, found.body) == ("7", None, {"previous_id": "jo@example.com"})
    assert event({"type": "alias", "previousId": "a9", "messageId": "m"}).anonymous_id == "a9"


def test_the_device_a_message_came_from_is_kept() -> None:
    body = event(track("X", context={"device": {"id": 77, "type": "ios"}})).body
    assert body == {"device_id": "77", "device": "ios"}


@pytest.mark.parametrize("name", ["$identify", "$unlink"])
def test_a_name_of_our_own_cannot_be_sent(name: str) -> None:
    assert problem(track(name)) == f"event: is `{name}`, a name of our own; expected another one"


@pytest.mark.parametrize("traits", [{"email": ""}, {"email": "none"}, {"phone": "n/a"}, {"phone": "000"}])
def test_a_form_that_was_left_empty_gives_no_key(traits: dict[str, str]) -> None:
    (value,) = event({"type": "identify", "userId": "7", "traits": traits, "messageId": "m"}).body["traits"].values()
    assert value == "none"


def test_an_alias_of_the_user_to_itself_joins_nothing() -> None:
    """As analytics.js sends it for who is logged in already."""
    found = event({"type": "alias", "userId": "7", "previousId": "7", "messageId": "m"})
    assert (found.user_id, found.anonymous_id, found.body) == ("7", None, {"previous_id": None})
    in_a_browser = event({"type": "alias", "userId": "7", "previousId": "7", "anonymousId": "a1", "messageId": "m"})
    assert in_a_browser.anonymous_id == "a1"


def test_null_ids_are_as_good_as_none() -> None:
    found = event(track("Anything", userId=None, anonymousId="a", context=None, timestamp=None))
    assert (found.user_id, found.anonymous_id, found.occurred_at) == (None, "a", NOW)


def test_whole_numbers_are_ids_that_somebody_did_not_quote() -> None:
    found = event(track("Product Viewed", {"product_id": 12}, userId=7))
    assert (found.user_id, found.body["product_id"]) == ("7", "12")


def test_stock_needs_nobody() -> None:
    body = {"product_id": "p", "location_id": "online", "quantity": 0}
    assert event(track("Stock Updated", body, userId=None)).body == body


def test_a_message_without_an_id_gets_the_same_one_each_time_it_is_sent() -> None:
    message = track("Anything", {"a": 1, "b": 2}, messageId=None, timestamp="2027-01-15T07:00:00Z")
    again = {**message, "sentAt": "2027-01-15T07:30:00Z", "properties": {"b": 2, "a": 1}}
    assert record(message)["message_id"] == parse(again, NOW + 5, None, HASH)["message_id"]
    other = {**message, "timestamp": "2027-01-15T07:00:01Z"}
    assert record(message)["message_id"] != record(other)["message_id"]


def test_without_a_time_the_made_id_depends_on_when_it_was_received() -> None:
    message = track("Anything", messageId=None)
    assert record(message)["message_id"] != parse(message, NOW + 1, None, HASH)["message_id"]


# ----------------------------------------------------------------------------------------------- times


def test_the_senders_clock_is_corrected_by_when_it_sent() -> None:
    """An hour fast, and ten minutes between what happened and the sending."""
    message = track("Anything", timestamp="2027-01-15T08:50:00Z")
    assert record(message, "2027-01-15T09:00:00Z")["occurred_at"] == NOW - 600


@pytest.mark.parametrize("under_way_s", [0.0, 0.3, 2.0])
def test_a_clock_that_is_right_but_for_the_way_is_left_alone(under_way_s: float) -> None:
    """Two messages sent one after the other must not change places because the first took longer."""
    message = track("Anything", timestamp="2027-01-15T07:59:50Z")
    assert parse(message, NOW + under_way_s, "2027-01-15T08:00:00Z", HASH)["occurred_at"] == NOW - 10


def test_the_messages_own_sent_at_and_original_timestamp_go_first() -> None:
    message = track(
        "Anything",
        timestamp="2020-01-01T00:00:00Z",
        originalTimestamp="2027-01-15T07:59:00Z",
        sentAt="2027-01-15T08:00:00Z",
    )
    assert record(message, "2027-01-15T09:00:00Z")["occurred_at"] == NOW - 60


@pytest.mark.parametrize("text", ["2027-01-15T07:00:00", "2027-01-15T08:00:00+01:00", "2027-01-15T07:00:00.000Z"])
def test_a_time_is_read_in_any_iso_spelling_and_is_utc_unless_it_says_otherwise(text: str) -> None:
    assert record(track("Anything", timestamp=text))["occurred_at"] == NOW - 3600


def test_a_history_counts_as_it_stands() -> None:
    message = track("Anything", timestamp="2011-01-01T00:00:00Z", sentAt="2027-01-01T00:00:00Z")
    assert parse(message, None, None, HASH)["occurred_at"] == 1_293_840_000
    with pytest.raises(EventProblem, match="timestamp: is missing"):
        parse(track("Anything"), None, None, HASH)


def test_a_time_far_in_the_future_is_refused() -> None:
    text = "timestamp: `2027-03-01T00:00:00Z` lies in the future; expected at most 2027-01-15T08:05:00Z"
    assert problem(track("Anything", timestamp="2027-03-01T00:00:00Z")) == text


@pytest.mark.parametrize("field", ["timestamp", "originalTimestamp", "sentAt"])
def test_what_is_no_time_is_named(field: str) -> None:
    message = {**track("Anything", timestamp="2027-01-15T07:00:00Z"), field: "yesterday"}
    assert problem(message) == f"{field}: is `yesterday`; expected a time in RFC 3339 such as 2026-11-20T10:00:00Z"


# ----------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("Completed Order", "Order Completed"),
        ("Added Product", "Product Added"),
        ("Viewed Product Category", "Product List Viewed"),
        ("Order Canceled", "Order Cancelled"),
        ("order  completed", "Order Completed"),
        ("My Own Event", "My Own Event"),
    ],
)
def test_names_of_spec_v1_are_those_of_v2(sent: str, name: str) -> None:
    assert record(track(sent, {"order_id": "o", "product_id": "p"}))["name"] == name


def test_keys_of_spec_v1_are_those_of_v2() -> None:
    sent = {"orderId": "o", "products": [{"id": "p1"}, {"productId": "p2"}, {"sku": "p3"}]}
    body = event(track("Completed Order", sent)).body
    assert body["order_id"] == "o"
    assert [line["product_id"] for line in body["products"]] == ["p1", "p2", "p3"]
    assert event(track("Viewed Product", {"id": "p4"})).body["product_id"] == "p4"


@pytest.mark.parametrize(
    ("name", "response"),
    [("Promotion Viewed", "shown"), ("Promotion Clicked", "clicked"), ("Coupon Applied", "accepted")],
)
def test_a_promotion_is_an_offer_and_what_happens_to_it_a_response(name: str, response: str) -> None:
    found = event(track(name, {"promotion_id": "of1", "decision_id": "d1"}))
    assert (found.name, found.body["offer_id"], found.body["response"]) == ("Offer Responded", "of1", response)
    assert found.body["decision_id"] == "d1"


def test_a_coupon_of_ours_is_accepted_and_a_shops_own_changes_nothing() -> None:
    assert event(track("Coupon Applied", {"coupon_id": "of1"})).body["response"] == "accepted"
    assert event(track("Coupon Applied", {"coupon_name": "WELCOME"})).name == "Coupon Applied"


def test_an_order_keeps_its_decision() -> None:
    found = event(track("Order Completed", {"order_id": "o", "decision_id": "d1"}))
    assert (found.name, found.body["decision_id"]) == ("Order Completed", "d1")


@pytest.mark.parametrize(
    ("message", "channel"),
    [
        (track("X", context={"channel": "email"}), "email"),
        (track("X", {"channel": "call_centre"}), "call_centre"),
        (track("X", channel="mobile"), "app"),
        (track("X", context={"device": {"type": "ios"}}), "app"),
        (track("X", context={"library": {"name": "analytics.js"}}), "web"),
        (track("X", context={"page": {"path": "/"}}), "web"),
        ({"type": "page", "userId": "7", "messageId": "m"}, "web"),
        ({"type": "screen", "userId": "7", "messageId": "m"}, "app"),
        (track("X", channel="server"), None),
    ],
)
def test_the_channel_is_said_or_follows_from_the_client(message: dict[str, Any], channel: str | None) -> None:
    assert record(message)["channel"] == channel


# --------------------------------------------------------------------------------------- personal data


def test_addresses_and_numbers_are_kept_only_as_hashes() -> None:
    message = track(
        "Anything",
        {
            "email": " Ann@Shop.example ",
            "billing": [{"phone_number": "+49 170 12", "workEmail": None}],
            "note": "ask ann@shop.example, or a%40b.example",
            "email_verified": True,
            "ann@shop.example": 1,
        },
        context={"traits": {"email": "ann@shop.example"}},
    )
    body = record(message)["body"]
    ann = HASH("email", "ann@shop.example")
    assert body == {
        "email_hmac": ann,
        "billing": [{"phone_number_hmac": HASH("phone", "4917012"), "workEmail": None}],
        "note": f"ask {ann}, or {HASH('email', 'a@b.example')}",
        "email_verified": True,
        ann: 1,
    }


def test_the_same_line_is_the_same_however_it_is_written() -> None:
    assert normalised("phone", "+49 (170) 12") == normalised("phone", "0049 170/12") == "4917012"


def test_another_key_gives_another_hash() -> None:
    assert HASH("email", "a@b.example") != hasher(b"x" * 32)("email", "a@b.example") != HASH("phone", "a@b.example")


def test_without_a_hasher_nothing_personal_is_kept_at_all() -> None:
    assert parse(track("X", {"email": "a@b.example"}), NOW)["body"] == {"email_hmac": "withheld"}


# --------------------------------------------------------------------------------------- bad messages


def line(**fields: Any) -> dict[str, Any]:
    return {"order_id": "o", "products": [{"product_id": "p", **fields}]}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            track("Order Completed", line(quantity=-3)),
            "properties.products[0].quantity: is `-3`; expected a whole number of at least 1",
        ),
        (
            track("Order Completed", line(quantity=0)),
            "properties.products[0].quantity: is `0`; expected a whole number of at least 1",
        ),
        (
            track("Order Completed", line(quantity=1.5)),
            "properties.products[0].quantity: is `1.5`; expected a whole number of at least 1",
        ),
        (
            track("Order Completed", line(quantity=True)),
            "properties.products[0].quantity: is `True`; expected a whole number of at least 1",
        ),
        (
            track("Order Completed", line(price="9.99")),
            "properties.products[0].price: is `9.99`; expected an amount of money of at least 0",
        ),
        (
            track("Order Completed", line(price=float("inf"))),
            "properties.products[0].price: is `inf`; expected an amount of money of at least 0",
        ),
        (
            track("Order Completed", line(discount=-1)),
            "properties.products[0].discount: is `-1`; expected an amount of money of at least 0",
        ),
        (
            track("Order Completed", {"order_id": "o", "products": [{}]}),
            "properties.products[0].product_id: is missing; expected a text of 1 to 255 characters",
        ),
        (
            track("Order Completed", {"order_id": "o", "products": ["p"]}),
            "properties.products[0]: is `p`; expected an object with a product_id",
        ),
        (
            track("Order Completed", {"order_id": "o", "products": "p"}),
            "properties.products: is `p`; expected a list of products",
        ),
        (track("Order Completed"), "properties.order_id: is missing; expected a text of 1 to 255 characters"),
        (
            track("Stock Updated", {"product_id": "p", "quantity": -3}),
            "properties.quantity: is `-3`; expected a whole number of at least 0",
        ),
        (
            track("Stock Updated", {"product_id": "p"}),
            "properties.quantity: is missing; expected a whole number of at least 0",
        ),
        (
            track("Stock Reserved", {"product_id": "p", "quantity": 10**12}),
            "properties.quantity: is `1000000000000`; expected a whole number of at least 1 and at most 1000000000",
        ),
        (
            track("Feed Alive", {"signal": "stok"}),
            "properties.signal: is `stok`; expected one of profile, stock, cases, consent, contacts;"
            " did you mean `stock`?",
        ),
        (
            track("Order Updated", {"order_id": "o", "status": "lost"}),
            "properties.status: is `lost`; expected one of placed, packed, shipped, delayed, delivered",
        ),
        (
            track("Consent Updated", {"purpose": "marketing", "granted": "yes"}),
            "properties.granted: is `yes`; expected true or false",
        ),
        (
            track("Promise Made", {"promise_id": "x", "text": "call", "due": "soon"}),
            "properties.due: is `soon`; expected a time in RFC 3339 such as 2026-11-20T10:00:00Z",
        ),
        (
            track("Promotion Viewed"),
            "properties.promotion_id: is missing; expected the `offer_id` of the offer",
        ),
        (
            track("Product Viewed", {"product_id": "x" * 10_240}),
            f"properties.product_id: is `{'x' * 40}…` with 10240 characters; expected at most 255",
        ),
        (
            track("X", userId="u" * 10_240),
            f"userId: `{'u' * 40}…` has 10240 characters; expected at most 255",
        ),
        (
            track("X", userId="a\x00b"),
            "userId: holds the control character U+0000 at position 1; expected a text without control characters",
        ),
        (track("X", userId={"a": 1}), "userId: `{'a': 1}` is no text; expected 1 to 255 characters"),
        (
            track("X", userId="a\nb"),
            "userId: holds the control character U+000A at position 1; expected a text without control characters",
        ),
        (track("X", userId=None), "userId: is missing; expected a userId or an anonymousId"),
        (track("X", userId="  "), "userId: is missing; expected a userId or an anonymousId"),
        (
            {"type": "alias", "userId": "u", "previousId": "k" * 300},
            "previousId: has 300 characters; expected at most 255, no control ones",
        ),
        (
            track("Promise Made", {"promise_id": "1", "text": "t", "due": "9999-12-31T23:59:59-12:00"}),
            "properties.due: is `9999-12-31T23:59:59-12:00`; expected a time from 1990 to 2199",
        ),
        (
            track("Support Case Opened", {"case_id": "a\tb"}),
            "properties.case_id: holds the control character U+0009 at position 1; "
            "expected a text without control characters",
        ),
        (
            {"type": "alias", "userId": "7", "previousId": ["a"]},
            "previousId: `['a']` is no text; expected 1 to 255 characters",
        ),
        (track(""), "event: is missing; expected a text of 1 to 255 characters"),
        ({**track("X"), "properties": [1]}, "properties: is `[1]`; expected an object"),
        ({"type": "trak"}, "type: is `trak`; expected one of track, identify, alias, group, page, screen"),
        ({}, "type: is missing; expected one of track, identify, alias, group, page, screen"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_that_names_the_field(message: dict[str, Any], text: str) -> None:
    assert problem(message) == text


def test_an_event_that_we_do_not_know_is_not_looked_into() -> None:
    body = {"quantity": -3, "products": [{"whatever": 1}, 7], "order_id": ["x"]}
    assert event(track("My Own Event", body)).body == body


def test_a_quantity_left_out_is_one_and_a_whole_decimal_is_whole() -> None:
    body = event(track("Order Completed", {"order_id": "o", "products": [{"product_id": "p"}]})).body
    assert body["products"][0]["quantity"] == 1
    assert event(track("Order Completed", line(quantity=2.0))).body["products"][0]["quantity"] == 2


def test_several_numbers_under_one_key_are_hashed_each() -> None:
    body = record(track("X", {"phone": ["1", "+2"], "email": [{"email": "a@b.example"}]}))["body"]
    assert body == {
        "phone_hmac": [HASH("phone", "1"), HASH("phone", "2")],
        "email_hmac": [{"email_hmac": HASH("email", "a@b.example")}],
    }


@pytest.mark.parametrize("depth", [60, 1_000])
def test_what_is_nested_beyond_reason_is_refused(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    assert problem(track("X", {"a": value})) == (
        "properties: is nested more than 50 levels deep; expected at most that"
    )
    message = track("X", messageId=None, context={"a": value})
    if depth > 254:
        assert problem(message).startswith("messageId: is missing, and the message gives none: ")
