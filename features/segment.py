"""Segment's Tracking API: one message into the record of an event. The only place that knows that format.

`parse` reads track, identify, alias, group, page and screen; corrects the time as Segment's spec says;
brings names and keys of spec v1 to v2; turns responses to promotions into `Offer Responded`; and lets no
e-mail address or phone number through (`pii`). Whether the record makes a good event is checked by
`events.check`, its properties by `commerce`. HTTP, batches and keys are the service's.

Of `context` only channel, location and device type are kept. A message without `messageId` gets one from
its content, so that sending it again is a duplicate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from features.commerce import CONTROL, LONGEST_ID, moment_of
from features.links import UNLINK
from features.pii import Hasher, hasher, without_pii
from features.vocabulary import CHANNELS, EventProblem

__all__ = ["hasher", "parse"]

TYPES = ("track", "identify", "alias", "group", "page", "screen")
OURS = frozenset({*(f"${kind}" for kind in TYPES), UNLINK})
NEEDS_NOBODY = frozenset({"Stock Updated", "Stock Reserved", "Stock Released", "Feed Alive"})
TRANSIT_S = 2.0
"""A clock that differs from ours by no more is taken to be right: the difference is what the message was under way.
Browsers send each message by itself; corrected by its own time under way, one would overtake the other."""
RESPONSES = {"Promotion Viewed": "shown", "Promotion Clicked": "clicked", "Coupon Applied": "accepted"}

_NAMES = (
    "Products Searched", "Product List Viewed", "Product List Filtered", "Promotion Viewed", "Promotion Clicked",
    "Product Clicked", "Product Viewed", "Product Added", "Product Removed", "Cart Viewed", "Checkout Started",
    "Checkout Step Viewed", "Checkout Step Completed", "Payment Info Entered", "Order Updated", "Order Completed",
    "Order Refunded", "Order Cancelled", "Coupon Entered", "Coupon Applied", "Coupon Denied", "Coupon Removed",
    "Product Added to Wishlist", "Product Removed from Wishlist", "Wishlist Product Added to Cart",
    "Product Shared", "Cart Shared", "Product Reviewed", "Stock Updated", "Stock Reserved", "Stock Released",
    "Feed Alive", "Support Case Opened", "Support Case Resolved", "Promise Made", "Promise Kept",
    "Checkout Failed", "Consent Updated", "Return Requested",
)  # fmt: skip
_FORMER = {
    "Viewed Product Category": "Product List Viewed",
    "Viewed Product List": "Product List Viewed",
    "Searched Products": "Products Searched",
    "Viewed Product": "Product Viewed",
    "Clicked Product": "Product Clicked",
    "Added Product": "Product Added",
    "Removed Product": "Product Removed",
    "Viewed Cart": "Cart Viewed",
    "Started Checkout": "Checkout Started",
    "Started Order": "Checkout Started",
    "Viewed Checkout Step": "Checkout Step Viewed",
    "Completed Checkout Step": "Checkout Step Completed",
    "Entered Payment Info": "Payment Info Entered",
    "Completed Order": "Order Completed",
    "Updated Order": "Order Updated",
    "Refunded Order": "Order Refunded",
    "Cancelled Order": "Order Cancelled",
    "Canceled Order": "Order Cancelled",
    "Order Canceled": "Order Cancelled",
    "Viewed Promotion": "Promotion Viewed",
    "Clicked Promotion": "Promotion Clicked",
    "Entered Coupon": "Coupon Entered",
    "Applied Coupon": "Coupon Applied",
    "Removed Coupon": "Coupon Removed",
}
_SPELLINGS = {name.lower(): name for name in _NAMES} | {old.lower(): name for old, name in _FORMER.items()}
_OWNERS = ("order", "product", "promotion", "coupon", "decision", "location", "cart", "checkout", "case", "promise")
_KEYS = {f"{word}Id": f"{word}_id" for word in _OWNERS}
_CHANNELS = {channel: channel for channel in CHANNELS} | {
    "browser": "web",
    "mobile": "app",
    "ios": "app",
    "android": "app",
}


def parse(
    message: Mapping[str, Any],
    received_at: float | None,
    sent_at: str | None = None,
    hash_pii: Hasher | None = None,
) -> dict[str, Any]:
    """The record that `events.check` takes, of a message received at `received_at` (None: of a history, unknown).

    `sent_at` is that of the batch; the message's own goes first. Without `hash_pii` addresses and numbers are
    dropped to a fixed word. Raises EventProblem for what cannot be read.
    """
    kind = message.get("type") or ("track" if message.get("event") else None)
    if kind not in TYPES:
        came = "is missing" if kind is None else f"is `{str(kind)[:40]}`"
        raise EventProblem("type", f"{came}; expected one of {', '.join(TYPES)}")
    context = _object(message.get("context"), "context")
    body = _clean(kind, _content(kind, message, context), hash_pii or (lambda *_: "withheld"))
    name = _name(message.get("event")) if kind == "track" else f"${kind}"
    if kind == "track" and name in OURS:
        raise EventProblem("event", f"is `{name}`, a name of our own; expected another one")
    if kind == "track":
        name, body = _commerce(name, body)
    user_id, anonymous_id = _id(message.get("userId")), _id(message.get("anonymousId"))
    if kind == "alias":
        body["previous_id"] = _previous_id(message)  # an id as it is, for `links`
        anonymous_id = anonymous_id or (None if user_id else body["previous_id"])
    if not (user_id or anonymous_id or name in NEEDS_NOBODY):
        raise EventProblem("userId", "is missing; expected a userId or an anonymousId")
    device = context.get("device")
    if isinstance(device, Mapping) and isinstance(device.get("type"), str):
        body.setdefault("device", device["type"])
    if isinstance(device, Mapping) and _id(device.get("id")) is not None:
        body["device_id"] = _id(device["id"])  # which device, for `links`
    return {
        "message_id": _id(message.get("messageId")) or _made_id(message, received_at),
        "name": name,
        "occurred_at": _occurred_at(message, received_at, message.get("sentAt") or sent_at),
        "user_id": user_id,
        "anonymous_id": anonymous_id,
        "channel": _channel(kind, message, context, body),
        "location_id": _id(context.get("location_id") or context.get("locationId")),
        "body": body,
    }


def _clean(kind: str, content: dict[str, Any], hash_pii: Hasher) -> dict[str, Any]:
    try:
        return dict(without_pii(content, hash_pii))
    except ValueError as problem:
        raise EventProblem("traits" if kind in ("identify", "group") else "properties", str(problem)) from None


def _object(value: Any, field: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise EventProblem(field, f"is `{str(value)[:40]}`; expected an object")
    return value


def _id(value: Any) -> Any:
    """An id as text; whole numbers are ids that somebody did not quote, and a blank is none.

    What is no id at all is refused later.
    """
    if isinstance(value, str):
        return value if value.strip() else None
    return str(value) if type(value) is int else value or None


def _name(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise EventProblem("event", f"`{str(value)[:40]}` is no text; expected 1 to 255 characters")
    name = " ".join(value.split())
    return _SPELLINGS.get(name.lower(), name)


# --------------------------------------------------------------------------------------------- times


def _occurred_at(message: Mapping[str, Any], received_at: float | None, sent_at: Any) -> float:
    """When it happened by our clock: the sender's clock may be wrong, but not what it measured until sending."""
    field = "originalTimestamp" if message.get("originalTimestamp") else "timestamp"
    if message.get(field) is None:
        if received_at is None:
            raise EventProblem("timestamp", "is missing; a history needs the time of each message")
        return received_at
    at = moment_of(message[field], field)
    if received_at is None or sent_at is None:
        return at
    ahead_s = moment_of(sent_at, "sentAt") - received_at
    return at if abs(ahead_s) <= TRANSIT_S else at - ahead_s


def _made_id(message: Mapping[str, Any], received_at: float | None) -> str:
    content = {key: value for key, value in message.items() if key not in ("sentAt", "receivedAt", "messageId")}
    if not (content.get("timestamp") or content.get("originalTimestamp")):
        content["receivedAt"] = received_at
    try:
        written = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except TypeError as problem:  # nested too deeply, or no JSON
        raise EventProblem("messageId", f"is missing, and the message gives none: {problem}") from None
    return f"content-{hashlib.sha256(written).hexdigest()[:32]}"


# ------------------------------------------------------------------------------------------- content


def _content(kind: str, message: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """What a message of this kind says, before it is cleaned."""
    if kind == "track":
        return dict(_object(message.get("properties"), "properties"))
    traits = dict(_object(message.get("traits"), "traits"))
    if kind == "identify":
        return {"traits": {**_object(context.get("traits"), "context.traits"), **traits}}
    if kind == "alias":
        return {}
    if kind == "group":
        return {"group_id": _id(message.get("groupId")), "traits": traits}
    named = {key: message[key] for key in ("name", "category") if isinstance(message.get(key), str)}
    return {**named, **_object(message.get("properties"), "properties")}


def _previous_id(message: Mapping[str, Any]) -> str | None:
    """The id that an alias joins; none where it is the user's own, as the browser says it of who is logged in."""
    previous_id = _id(message.get("previousId"))
    if previous_id is not None and not isinstance(previous_id, str):
        raise EventProblem("previousId", f"`{str(previous_id)[:40]}` is no text; expected 1 to 255 characters")
    if previous_id and (len(previous_id) > LONGEST_ID or CONTROL.search(previous_id)):
        raise EventProblem("previousId", f"has {len(previous_id)} characters; expected at most 255, no control ones")
    return None if previous_id == _id(message.get("userId")) else previous_id


def _commerce(name: Any, body: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Name and properties of a track message by spec v2, with responses to promotions as our own event."""
    body = _respelt(body)
    if isinstance(name, str) and name.startswith("Product ") and "product_id" not in body and "id" in body:
        body["product_id"] = body["id"]  # spec v1
    lines = body.get("products")
    if isinstance(lines, list):
        body["products"] = [_line(line) for line in lines]
    response = RESPONSES.get(name) if isinstance(name, str) else None
    if response is None:
        return name, body
    offer_id = body.get("promotion_id") or (body.get("coupon_id") if response == "accepted" else None)
    if offer_id not in (None, ""):
        return "Offer Responded", {**body, "offer_id": offer_id, "response": response}
    if response == "accepted":
        return name, body  # a coupon of the shop's own, which is no offer of ours
    raise EventProblem("properties.promotion_id", "is missing; expected the `offer_id` of the offer")


def _respelt(body: Mapping[str, Any]) -> dict[str, Any]:
    """Keys in snake case; where both spellings came, the right one counts."""
    respelt = dict(body)
    for old, key in _KEYS.items():
        if old in respelt:
            value = respelt.pop(old)
            respelt.setdefault(key, value)
    return respelt


def _line(line: Any) -> Any:
    if not isinstance(line, Mapping):
        return line
    line = _respelt(line)
    if line.get("product_id") is None and line.get("id") is not None:
        line["product_id"] = line["id"]  # spec v1
    return line


def _channel(kind: str, message: Mapping[str, Any], context: Mapping[str, Any], body: Mapping[str, Any]) -> str | None:
    """Said by context, properties or (RudderStack) the message; else guessed from what kind of client sent it."""
    device, library = context.get("device"), context.get("library")
    said = [context.get("channel"), body.get("channel"), message.get("channel")]
    said += [device.get("type")] if isinstance(device, Mapping) else []
    for channel in said:
        if isinstance(channel, str) and channel.lower() in _CHANNELS:
            return _CHANNELS[channel.lower()]
    if kind == "screen":
        return "app"
    in_a_browser = isinstance(library, Mapping) and str(library.get("name")).startswith("analytics.js")
    return "web" if kind == "page" or in_a_browser or context.get("page") else None
