"""What this project is for, as one story over a real server: each channel knows what happened in the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest
from processes import Server, serving

CHAIR, OTHER_CHAIR, OFFER = "chair-oak", "chair-woven", "chairs-for-the-table"
_number = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("seeds") / "home", workers=2) as running:
        for location in ("online", "berlin-mitte", "hamburg"):
            for product_id in (CHAIR, OTHER_CHAIR, "table-oak-180"):
                stock(running, product_id, location, 5)
        yield running


def say(server: Server, kind: str, **message: Any) -> str:
    """One Segment message, on a connection of its own, so to any worker; its id."""
    message_id = f"seeds-{next(_number)}-{time.time()}"
    answer = httpx.post(f"{server.url}/v1/{kind}", json={"messageId": message_id, **message})
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    return message_id


def stock(server: Server, product_id: str, location_id: str, quantity: int) -> None:
    level = {"product_id": product_id, "location_id": location_id, "quantity": quantity}
    say(server, "track", event="Stock Updated", properties=level)


def ask(server: Server, channel: str, placement: str, **who: str) -> dict[str, Any]:
    whom = {} if "anonymous_id" in who else {"customer_id": "ann"}
    body = {"channel": channel, "placement": placement, "limit": 20, "explain": True, **whom, **who}
    answer = httpx.post(f"{server.url}/decide", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def why(decision: dict[str, Any], offer_id: str) -> dict[str, dict[str, Any]]:
    """What holds an offer back, by code; nothing where it is shown."""
    held = [each for each in decision["suppressed"] if each["offer_id"] == offer_id]
    return {reason["code"]: reason for each in held for reason in each["reasons"]}


def shown(decision: dict[str, Any]) -> dict[str, str | None]:
    return {offer["offer_id"]: offer["product_id"] for offer in decision["offers"]}


def story(server: Server) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/customers/ann")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_one_customer_one_story_through_every_channel(server: Server) -> None:
    # On the phone, not logged in: into the cart, then the login.
    app = {"channel": "app", "device": {"id": "d-1", "type": "ios"}}
    added = {"product_id": CHAIR, "quantity": 2}
    say(server, "track", event="Product Added", anonymousId="phone", context=app, properties=added)
    assert ask(server, "app", "cart", anonymous_id="phone")["customer_id"] == "anonymous:phone"
    say(server, "identify", userId="ann", anonymousId="phone", context=app)

    # On the laptop, logged in: the cart is there.
    say(server, "identify", userId="ann", anonymousId="laptop", context={"channel": "web"})
    (line,) = story(server)["cart"]["lines"]
    assert (line["product_id"], line["quantity"], line["channel"]) == (CHAIR, 2, "app")
    assert ask(server, "web", "home", anonymous_id="laptop")["customer_id"] == "ann"

    # Sold out online: not advertised there any more; the shop still has it.
    stock(server, CHAIR, "online", 0)
    online = ask(server, "web", "home")
    assert shown(online).get(OFFER) != CHAIR or online["offers"][0]["fulfilment"] is not None
    in_the_shop = ask(server, "store", "agent", location_id="berlin-mitte")
    assert OFFER in shown(in_the_shop)

    # Bought in the nearest shop: the cart is empty, and the e-mail does not offer it again.
    lines = [{"product_id": CHAIR, "quantity": 2, "price": 149}]
    order = {"order_id": "o-1", "products": lines}
    shop = {"channel": "store", "location_id": "berlin-mitte"}
    bought = say(server, "track", event="Order Completed", userId="ann", context=shop, properties=order)
    yes = {"purpose": "marketing", "channel": "email", "granted": True}
    say(server, "track", event="Consent Updated", userId="ann", context={"channel": "web"}, properties=yes)
    by_mail = ask(server, "email", "newsletter")
    assert why(by_mail, OFFER)["recently_purchased"]["evidence"] == bought
    assert story(server)["cart"]["lines"] == []

    # A return opens: offers of the whole category stop in every channel, until it is closed.
    asked = {"order_id": "o-1", "products": lines, "reason": "quality"}
    opened = say(server, "track", event="Return Requested", userId="ann", context=shop, properties=asked)
    for channel, placement in (("web", "home"), ("app", "product"), ("call_centre", "agent")):
        reasons = why(ask(server, channel, placement), OFFER)
        assert reasons["open_return"]["evidence"] == opened
        assert reasons["open_return"]["retry_after"] is None

    # The agent sees it all at one glance.
    seen = story(server)
    assert {each["id"] for each in seen["ids"]} >= {"ann", "phone", "laptop"}
    last = seen["last_order"]
    assert (last["order_id"], last["channel"], last["location_id"]) == ("o-1", "store", "berlin-mitte")
    (under_way,) = seen["open_returns"]
    assert (under_way["order_id"], under_way["reason"]) == ("o-1", "quality")
    assert [(each["channel"], each["granted"]) for each in seen["consent"]] == [("email", True)]
    assert {each["channel"] for each in seen["recent_decisions"]} >= {"web", "app", "email", "call_centre"}
    assert OFFER not in {each["offer_id"] for each in seen["next_best_offers"]}
