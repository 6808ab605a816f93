"""Consent, and habits: the customer's word per purpose and channel; channels, hours, shops, tier and home."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from histories import HOUR_S, T0, event, lines

from features import consent, habits
from features.profiles import derive, fold_all, pack
from features.vocabulary import DAY_S, Event


def word(granted: bool, message_id: str = "m1", at: float = T0, channel: str | None = None) -> Event:
    said = event("Consent Updated", message_id, at, channel="call_centre", purpose="marketing", granted=granted)
    return replace(said, body={**said.body, "channel": channel} if channel else said.body)


def granted(*events: Event) -> dict[str, bool | None]:
    profile = fold_all(events)
    return {channel: consent.granted(profile, "marketing", channel) for channel in ("email", "sms")}


def test_nothing_said_is_neither_yes_nor_no() -> None:
    assert consent.granted(None, "marketing", "email") is None
    assert consent.granted(fold_all([word(True)]), "profiling", "email") is None


def test_the_latest_word_in_time_counts() -> None:
    assert granted(word(True, "m2", T0 + 1), word(False)) == {"email": True, "sms": True}
    assert granted(word(False, "m2"), word(True, "m1")) == {"email": False, "sms": False}


def test_a_word_for_one_channel_stands_beside_the_one_for_all() -> None:
    assert granted(word(True), word(False, "m2", T0 + 1, "email")) == {"email": False, "sms": True}
    assert granted(word(True, channel="email")) == {"email": True, "sms": None}


def test_a_later_word_for_all_channels_replaces_those_of_each() -> None:
    profile = fold_all([word(True, channel="email"), word(False, "m2", T0 + 1)])
    assert consent.consents(profile) == (consent.Consent("marketing", None, False, T0 + 1, "m2"),)
    assert consent.granted(profile, "marketing", "email") is False


def test_a_word_is_told_with_its_time_and_evidence() -> None:
    profile = fold_all([word(True), word(False, "m2", T0 + 1, "email")])
    assert consent.of(profile, "marketing", "email") == consent.Consent("marketing", "email", False, T0 + 1, "m2")
    assert consent.of(profile, "marketing", "sms") == consent.Consent("marketing", None, True, T0, "m1")
    assert [(one.channel, one.granted) for one in consent.consents(profile)] == [(None, True), ("email", False)]


# ------------------------------------------------------------------------------------------------- habits


def viewed(message_id: str, at: float, channel: str | None = "web") -> Event:
    return event("Product Viewed", message_id, at, channel=channel, product_id="a")


def test_the_preferred_channel_and_hour_are_those_used_most_of_late() -> None:
    often = [viewed(f"m{n}", T0 + n * DAY_S, "app") for n in range(3)]
    profile = fold_all([*often, viewed("w", T0 + 5 * HOUR_S)])
    assert habits.preferred_channel(profile, T0 + 3 * DAY_S) == "app"
    assert habits.preferred_hour(profile, T0 + 3 * DAY_S) == 22  # T0 is 22:13 UTC
    assert habits.last_seen(profile) == {"app": T0 + 2 * DAY_S, "web": T0 + 5 * HOUR_S}
    later = [viewed(f"l{n}", T0 + 400 * DAY_S + n, "web") for n in range(2)]
    assert habits.preferred_channel(fold_all([*often, *later]), T0 + 401 * DAY_S) == "web"


def test_what_we_do_is_no_act_of_the_customer() -> None:
    ours = [
        event("Campaign Sent", "m1", channel="email", group="spring"),
        event("Offer Responded", "m2", channel="email", offer_id="x", offer_kind="promotion", response="shown"),
        event("Order Updated", "m3", channel="web", order_id="o", status="shipped"),
        event("Promise Made", "m4", channel="call_centre", promise_id="p", text="call", due="2026-01-01T00:00:00Z"),
        word(True, "m5"),
        event("Something Else", "m6", channel="sms"),
    ]
    profile = fold_all(ours)
    assert habits.preferred_channel(profile, T0) is None
    assert habits.preferred_hour(profile, T0) is None
    assert math.isnan(derive(profile, T0)["days_since_seen"])
    clicked = event("Offer Responded", "m7", T0, channel="email", offer_id="x", response="clicked")
    assert habits.last_seen(fold_all([*ours, clicked])) == {"email": T0}


def identified(message_id: str = "m1", at: float = T0, **traits: object) -> Event:
    return event("$identify", message_id, at, traits=traits)


def test_the_tier_is_the_one_told_last_and_an_empty_one_takes_it_back() -> None:
    gold = identified(loyalty_tier="Gold", email_hmac="0a", plan="other")
    assert habits.loyalty_tier(fold_all([gold])) == "Gold"
    assert habits.loyalty_tier(fold_all([gold, identified("m2", T0 + 1, city="Bonn")])) == "Gold"
    assert habits.loyalty_tier(fold_all([gold, identified("m2", T0 + 1, loyalty_tier=None)])) is None
    assert b"0a" not in pack(fold_all([gold]))[0]


@pytest.mark.parametrize(
    ("tier", "rank"), [("gold", 3.0), (" Bronze ", 1.0), (7, 7.0), ("4", 4.0), ("vip", math.nan), ({"a": 1}, math.nan)]
)
def test_a_tier_has_a_rank_where_its_name_says_one(tier: object, rank: float) -> None:
    value = derive(fold_all([identified(tier=tier)]), T0)["loyalty_tier"]
    assert value == rank or (math.isnan(value) and math.isnan(rank))


def test_home_is_the_shop_that_was_named_else_the_one_used_most() -> None:
    def bought(message_id: str, at: float, shop: str) -> Event:
        return event("Order Completed", message_id, at, order_id=message_id, location=shop, products=lines("a"))

    trips = [bought(f"m{n}", T0 + n * DAY_S, shop) for n, shop in enumerate(["bonn", "berlin", "berlin", "online"])]
    assert habits.home(fold_all(trips), T0 + 4 * DAY_S) == habits.Home("berlin", False)
    named = identified("i", T0 + 1, store_id="koeln")
    assert habits.home(fold_all([*trips, named]), T0 + 4 * DAY_S) == habits.Home("koeln", True)
    assert habits.home(None, T0) is None
    many = [bought(f"n{n:02}", T0 + n, f"shop-{n:02}") for n in range(30)]
    assert len(fold_all(many).state["habits"]["shops"]) == habits.MOST_SHOPS
