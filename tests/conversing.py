"""A shop's traffic against a service that runs: decisions in every channel, singly and in batches, with events between.

`Caller` is one of several at once, each with a connection and a seed of its own. It keeps every decision that it was
told, so that what a replay makes of the log can be held against what went over the wire.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx

CUSTOMERS = 80
SHOP = ["chair-oak", "chair-woven", "coffee-beans-1kg", "gas-230", "socks-merino", "table-oak-180", "tent-two"]
SHOP += ["trail-shoe-41", "trail-shoe-42", "trail-shoe-43"]
PLACES = [("web", "home"), ("web", "product"), ("app", "cart"), ("app", "home"), ("email", "newsletter")]
PLACES += [("sms", "message"), ("push", "message"), ("call_centre", "agent"), ("store", "agent")]
SHELVES = ("online", "berlin-mitte", "hamburg")
IN_A_BATCH = 25


class Caller:
    """One of several callers at once: asks, and tells what happened."""

    def __init__(self, url: str, name: str):
        self._client = httpx.Client(base_url=url, timeout=60)
        self._random, self._name, self._number = random.Random(name), name, 0
        self._last: dict[str, str] = {}
        self.told: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        self._client.close()

    def until(self, decisions: int) -> None:
        """Go on until so many decisions were told in all."""
        while len(self.told) < decisions:
            self._number += 1
            if self._number % 2 == 0:
                self._happens()
            if self._number % 6 == 0:
                self._asks_for_many()
            else:
                self._asks()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Ask, keep what was answered."""
        answer = self._posted("/decide", question)
        self.told[answer["decision_id"]] = answer
        return answer

    def _posted(self, path: str, body: Any) -> Any:
        response = self._client.post(path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def _asks(self) -> None:
        draw = self._random
        customer_id, (channel, placement) = _customer(draw), draw.choice(PLACES)
        question: dict[str, Any] = {"channel": channel, "placement": placement, "limit": draw.randint(1, 5)}
        question |= {"anonymous_id": customer_id[2:]} if customer_id.startswith("a-") else {"customer_id": customer_id}
        if channel == "store":
            question["location_id"] = "berlin-mitte"
        if placement in ("product", "cart"):
            question |= {"product_id": draw.choice(SHOP), "cart": draw.sample(SHOP, draw.randint(0, 2))}
        if draw.random() < 0.2:
            question["request_id"] = f"{self._name}-{self._number}"
        if draw.random() < 0.1 and customer_id in self._last:
            question["continue_from"] = self._last[customer_id]
        question |= {"explain": draw.random() < 0.1, "preview": draw.random() < 0.05}
        answer = self.ask(**question)
        if "request_id" in question and draw.random() < 0.5:  # the first answer was lost: the same one again
            assert self.ask(**question) == answer
        self._last[customer_id] = answer["decision_id"]
        if answer["offers"] and not question["preview"] and draw.random() < 0.3:
            self._responds(answer)

    def _asks_for_many(self) -> None:
        channel, placement = self._random.choice(PLACES[:-1])
        customers = [{"customer_id": f"c{number}"} for number in self._random.sample(range(CUSTOMERS), IN_A_BATCH)]
        answers = self._posted("/decide_batch", {"customers": customers, "channel": channel, "placement": placement})
        self.told |= {answer["decision_id"]: answer for answer in answers["decisions"]}

    def _responds(self, answer: dict[str, Any]) -> None:
        said = {"decision_id": answer["decision_id"], "offer_id": self._random.choice(answer["offers"])["offer_id"]}
        kind = self._random.choice(["shown", "shown", "clicked", "accepted", "dismissed"])
        self._posted("/respond", {**said, "kind": kind, "response_id": f"r-{answer['decision_id']}-{kind}"})

    def _happens(self) -> None:
        """Up to four messages at once; every one is taken in."""
        messages = [message for _ in range(self._random.randint(1, 4)) for message in self._message()]
        messages = [{**message, "messageId": f"{self._name}-{self._number}-{n}"} for n, message in enumerate(messages)]
        assert self._posted("/v1/batch", {"batch": messages})["rejected"] == []

    def _message(self) -> Iterator[dict[str, Any]]:
        draw, order_id = self._random, f"o-{self._name}-{self._number}"
        customer_id = _customer(draw)
        who = {"anonymousId": customer_id[2:]} if customer_id.startswith("a-") else {"userId": customer_id}

        def track(event: str, **properties: Any) -> dict[str, Any]:
            return {"type": "track", "event": event, **who, "properties": properties}

        lines = [{"product_id": product_id, "quantity": draw.randint(1, 3)} for product_id in draw.sample(SHOP, 2)]
        some: list[Callable[[], list[dict[str, Any]]]] = [
            lambda: [track("Order Completed", order_id=order_id, products=lines)],
            lambda: [track("Order Completed", order_id=order_id, products=lines[:1]),
                     track("Order Refunded", order_id=order_id, products=lines[:1], reason=draw.choice(["", "size"]))],
            lambda: [track("Return Requested", order_id=order_id, products=lines)],
            lambda: [track("Product Added", cart_id=customer_id, product_id=draw.choice(SHOP))],
            lambda: [track("Product Viewed", product_id=draw.choice(SHOP))],
            lambda: [track("Consent Updated", purpose="marketing", granted=draw.random() < 0.8)],
            lambda: [track("Consent Updated", purpose="personalisation", granted=draw.random() < 0.7)],
            lambda: [track("Support Case Opened", case_id=customer_id, reason="broken")],
            lambda: [track("Support Case Resolved", case_id=customer_id)],
            lambda: [track("Checkout Failed", reason="card declined")],
            lambda: [{"type": "identify", **who, "traits": {"store_id": draw.choice(SHELVES[1:])}}],
            lambda: [{"type": "identify", "anonymousId": f"{draw.randrange(40)}", "userId": f"c{draw.randrange(40)}"}],
        ]  # fmt: skip
        yield from draw.choice(some)()
        stock = {"product_id": draw.choice(SHOP), "location_id": draw.choice(SHELVES), "quantity": draw.randint(0, 3)}
        yield {"type": "track", "event": "Stock Updated", "properties": stock}


def opening() -> list[dict[str, Any]]:
    """Everything in stock everywhere, and most customers agree to be written to."""
    shelves = [
        {"product_id": product_id, "location_id": place, "quantity": 2} for product_id in SHOP for place in SHELVES
    ]
    messages = [{"type": "track", "event": "Stock Updated", "properties": shelf} for shelf in shelves]
    agreed = {"purpose": "marketing", "granted": True}
    messages += [
        {"type": "track", "event": "Consent Updated", "userId": f"c{number}", "properties": agreed}
        for number in range(CUSTOMERS)
        if number % 5
    ]
    return [{**message, "messageId": f"opening-{number}"} for number, message in enumerate(messages)]


def at_once(callers: list[Caller], decisions: int) -> None:
    """All callers go on, each to its share of that many decisions; what one of them raises is raised here."""
    raised: list[BaseException] = []

    def run(caller: Caller) -> None:
        try:
            caller.until(decisions // len(callers))
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(caller,)) for caller in callers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def _customer(draw: random.Random) -> str:
    return f"a-{draw.randrange(40)}" if draw.random() < 0.15 else f"c{draw.randrange(CUSTOMERS)}"
