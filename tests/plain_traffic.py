"""A shop's random traffic in one process, by a clock that is told: questions in all channels, and what happens between.

Everything that a rule looks at happens now and then, some of it told late. Who decides what about it is the business
of the tests that use it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from features.vocabulary import DAY_S, RESPONSES
from serving.engine import Engine
from serving.schemas import DecideRequest, RespondRequest

PLACES = [("web", "home"), ("web", "home"), ("web", "product"), ("app", "cart"), ("app", "home"), ("web", "newsletter")]
PLACES += [
    ("email", "newsletter"),
    ("sms", "message"),
    ("push", "message"),
    ("call_centre", "agent"),
    ("store", "agent"),
]
STEPS_S = [0.5, 5.0, 60.0, 300.0, 900.0]
LONG_S = [3_600.0, 5 * 3_600.0, DAY_S]
ANONYMOUS = 20
REASONS = ["", "wrong size", "a gift", "broken"]
REMEMBERED = 200
"""Decisions that customers may come back to; some of them were made before offers and rulebook changed."""


class Traffic:
    """`products`: those that are bought, looked at and counted; `shops`: where; `customers`: logins that come often.

    `pauses`: how often hours pass in which nobody asks.
    """

    def __init__(
        self,
        seed: str,
        now: float,
        products: Sequence[str],
        shops: Sequence[str],
        customers: Sequence[str],
        pauses: float,
    ):
        self._pauses = pauses
        self.draw, self.now, self._seed, self._number = random.Random(seed), now, seed, 0
        self.products, self.shops, self.customers = products, shops, customers
        self._asked: list[tuple[dict[str, str], str]] = []

    def opening(self, engine: Engine) -> None:
        """Everything on its shelf; most customers agree to be written to, and many have a shop of their own."""
        draw = self.draw.random
        some = [
            self._track("Stock Updated", product_id=each, location_id=place, quantity=2)
            for each in self.products
            for place in ("online", *self.shops)
        ]
        agreed = {"purpose": "marketing", "granted": True}
        some += [self._track("Consent Updated", {"userId": each}, **agreed) for each in self.customers if draw() < 0.7]
        shops = [({"userId": each}, {"store_id": self.draw.choice(self.shops)}) for each in self.customers]
        some += [self._identify(*each) for each in shops if draw() < 0.5]
        for start in range(0, len(some), 500):
            self._tell(engine, some[start : start + 500])

    def go_on(self, engine: Engine) -> None:
        """Time passes, and up to three things happen."""
        self.now = round(self.now + self.draw.choice(LONG_S if self.draw.random() < self._pauses else STEPS_S), 3)
        messages = [message for _ in range(self.draw.randint(0, 3)) for message in self._happens()]
        alive = [place for place in ("online", *self.shops) if self.draw.random() < 0.7]
        messages += [self._track("Feed Alive", signal="stock", location_id=place) for place in alive]
        if self.draw.random() < 0.5:
            messages.append(self._track("Feed Alive", signal=self.draw.choice(["cases", "consent"])))
        self._tell(engine, messages)

    def question(self) -> DecideRequest:
        draw = self.draw
        channel, placement = draw.choice(PLACES)
        again, before = draw.choice(self._asked[-REMEMBERED:]) if draw.random() < 0.2 and self._asked else (None, "")
        if again is None and self._asked and draw.random() < 0.2:
            again = self._asked[-1][0]
        who = again or self._somebody()
        asked: dict[str, Any] = {"channel": channel, "placement": placement, "limit": draw.randint(1, 10), **who}
        if channel == "store" and draw.random() < 0.9:
            asked["location_id"] = draw.choice([*self.shops, "nowhere"])
        if draw.random() < 0.4:
            asked["product_id"] = draw.choice(self.products)
        if draw.random() < 0.3:
            asked["cart"] = draw.sample(self.products, draw.randint(1, 3))
        if before and draw.random() < 0.5:
            asked["continue_from"] = before
        asked["preview"] = draw.random() < 0.05
        return DecideRequest(**asked)

    def told(self, engine: Engine, ask: DecideRequest, answer: Mapping[str, Any]) -> None:
        """The customer may do something with what is offered."""
        who = {"customer_id": ask.customer_id} if ask.customer_id else {"anonymous_id": ask.anonymous_id}
        self._asked.append((who, answer["decision_id"]))
        if not answer["offers"] or ask.preview or self.draw.random() < 0.4:
            return
        offer, kind = self.draw.choice(answer["offers"]), self.draw.choice(RESPONSES)
        id_ = {"decision_id": answer["decision_id"], "offer_id": offer["offer_id"]}
        engine.respond(RespondRequest(**id_, kind=kind, response_id=f"r-{kind}"), self.now)
        if offer["product_id"] and self.draw.random() < 0.2:
            lines = [{"product_id": offer["product_id"], "quantity": 1}]
            body = {"order_id": f"by-{answer['decision_id']}", "products": lines, "decision_id": answer["decision_id"]}
            ids = {"userId": ask.customer_id} if ask.customer_id else {"anonymousId": ask.anonymous_id}
            self._tell(engine, [self._track("Order Completed", ids, **body)])

    # ------------------------------------------------------------------------------------------- messages

    def _somebody(self) -> dict[str, str]:
        if self.draw.random() < 0.15:
            return {"anonymous_id": f"v{self.draw.randrange(2 * ANONYMOUS)}"}
        return {"customer_id": "never-heard-of" if self.draw.random() < 0.03 else self.draw.choice(self.customers)}

    def _tell(self, engine: Engine, messages: Sequence[dict[str, Any]]) -> None:
        receipts = engine.ingest(messages, self.now, None)
        assert all(each.stored for each in receipts), receipts

    def _track(self, event: str, who: Mapping[str, str] | None = None, **properties: Any) -> dict[str, Any]:
        self._number += 1
        at = self.now - (self.draw.uniform(0, 3 * DAY_S) if self.draw.random() < 0.05 and who else 0.0)
        place = {"channel": self.draw.choice(["web", "app", "store"]), "location_id": self.draw.choice(self.shops)}
        return {
            "type": "track",
            "event": event,
            "messageId": f"{self._seed}-{self._number}",
            "timestamp": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
            "context": place if event == "Order Completed" and place["channel"] == "store" else {"channel": "web"},
            "properties": properties,
            **(who or {}),
        }

    def _happens(self) -> list[dict[str, Any]]:
        draw, number = self.draw, self._number
        who = {"userId": draw.choice(self.customers)}
        if draw.random() < 0.1:
            who = {"anonymousId": f"v{draw.randrange(2 * ANONYMOUS)}"}
        id_ = next(iter(who.values()))
        lines = [{"product_id": each, "quantity": draw.randint(1, 3)} for each in draw.sample(self.products, 2)]
        order = {"order_id": f"o-{self._seed}-{number}", "products": lines}
        back = {**order, "products": lines[:1], "reason": draw.choice(REASONS)}
        due = datetime.fromtimestamp(self.now + draw.choice([60.0, 3_600.0, DAY_S]), UTC).isoformat()
        promise, case = {"promise_id": f"p-{id_}"}, {"case_id": f"c-{id_}"}

        def track(event: str, **properties: Any) -> dict[str, Any]:
            return self._track(event, who, **properties)

        def shelf() -> dict[str, Any]:
            place = draw.choice(["online", "online", *self.shops])
            return {"product_id": draw.choice(self.products), "location_id": place}

        some: list[Callable[[], list[dict[str, Any]]]] = [
            lambda: [track("Order Completed", **order)],
            lambda: [track("Order Completed", **order), track("Order Refunded", **back)],
            lambda: [track("Return Requested", **back)],
            lambda: [track("Return Requested", **back), track("Order Refunded", **back)],
            lambda: [track("Product Added", product_id=draw.choice(self.products), quantity=1)],
            lambda: [track("Product Removed", product_id=draw.choice(self.products))],
            lambda: [track("Product Viewed", product_id=draw.choice(self.products))],
            lambda: [track("Consent Updated", purpose="marketing", granted=draw.random() < 0.8)],
            lambda: [track("Consent Updated", purpose="personalisation", granted=draw.random() < 0.7)],
            lambda: [track("Consent Updated", purpose="profiling", granted=draw.random() < 0.7)],
            lambda: [track("Consent Updated", purpose="personalisation", granted=True, channel="email")],
            lambda: [track("Support Case Opened", **case, reason="broken")],
            lambda: [track("Support Case Resolved", **case), track("Support Case Resolved", **case)],
            lambda: [track("Promise Made", **promise, text="we call you", due=due)],
            lambda: [track("Promise Kept", **promise)],
            lambda: [track("Checkout Failed", reason="card declined")],
            lambda: [self._track("Stock Updated", **shelf(), quantity=draw.choice([0, 0, 1, 3]))],
            lambda: [self._track("Stock Updated", **{**shelf(), "location_id": "online"}, quantity=0)],
            lambda: [self._track("Stock Reserved", **shelf(), quantity=1)],
            lambda: [self._track("Stock Released", **shelf(), quantity=1)],
            lambda: [
                self._identify(who, {"store_id": draw.choice(self.shops), "tier": draw.choice(["gold", "basic"])})
            ],
            lambda: [self._login()],
        ]
        return draw.choice(some)()

    def _identify(self, who: Mapping[str, str], traits: Mapping[str, Any]) -> dict[str, Any]:
        message = self._track("", who)
        return {**message, "type": "identify", "traits": dict(traits)}

    def _login(self) -> dict[str, Any]:
        """A visitor turns out to be somebody; always the same one."""
        number = self.draw.randrange(ANONYMOUS)
        return self._identify({"anonymousId": f"v{number}", "userId": self.customers[number]}, {})
