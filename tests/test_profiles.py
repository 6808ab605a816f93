"""The laws of the fold and what single events do to a profile."""

import math
from dataclasses import replace
from itertools import permutations

import pytest
from histories import OF_ORDERS, histories
from hypothesis import given
from hypothesis import strategies as st

from features import browsing, care, cart, consent, habits, orders, profiles, reactions, returns
from features.corrections import VOID
from features.events import check
from features.history import Span, micros, replay
from features.profiles import LAST, RETURN_REASON, RETURNED, TRIPS, derive, fold, fold_all, must_refold, pack, unpack
from features.vocabulary import DAY_S, KEEP_DAYS, Event, EventProblem

T0 = 1_700_000_000.0


def order(message_id="m1", at=T0, product="table", category="tables", price=10.0, quantity=1, known_at=None, **body):
    line = {"product_id": product, "category": category, "price": price, "quantity": quantity}
    return event("Order Completed", message_id, at, known_at, order_id=f"o-{message_id}", products=[line], **body)


def event(name, message_id="m1", at=T0, known_at=None, **body):
    return Event(message_id, name, at, known_at or at, user_id="1", channel="web", body=body)


def live(history):
    """The profile of events that come in so, one by one."""
    profile, seen = profiles.empty(), []
    for arrived in history:
        seen.append(arrived)
        profile = fold_all(seen) if must_refold(profile, arrived) else fold(profile, arrived)
        profile = unpack(*pack(profile))  # as if every event met another worker
    return pack(profile)


@given(st.one_of(histories(), histories(names=OF_ORDERS)), st.randoms())
def test_same_events_in_any_order_of_arrival_give_the_same_bytes(history, random):
    expected = pack(fold_all(history))
    random.shuffle(history)
    assert live(history) == expected


def told_of_an_order(*, named):
    """A cancelled order with everything that may be told of one, and an offer that it took up; in the order of time."""
    line = [{"product_id": "table", "category": "tables", "quantity": 1, "price": 10.0}]
    said = {"offer_id": "x", "offer_kind": "promotion", "response": "accepted", "decision_id": "d"}
    lines = {"products": line} if named else {}
    return [
        order("m1"),
        event("Order Cancelled", "m2", T0 + 60, order_id="o-m1"),
        event("Order Refunded", "m3", T0 + 120, order_id="o-m1", **lines),
        event("Return Requested", "m4", T0 + 180, order_id="o-m1", **lines),
        event("Offer Responded", "m5", T0 + 240, **said, order_id="o-m1"),
        event("Offer Responded", "m6", T0 + 300, **said),
    ]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("another", [False, True])
def test_what_is_told_of_a_cancelled_order_means_the_same_in_any_order_of_time_and_arrival(named, another):
    story = told_of_an_order(named=named)
    if another:  # an order that stands takes the same offer of the same decision up
        story[2] = replace(story[4], message_id="m3", occurred_at=T0 + 360, body={**story[4].body, "order_id": "o-2"})
    for arrived in permutations(story):
        profile = fold_all(arrived)
        assert set(reactions.accepted(profile)) == ({"x"} if another else set())
        assert not returns.under_way(profile) and not profile.items
        assert live(arrived) == pack(profile)
    for number, turned in enumerate(permutations(story)):  # and whatever was the first to happen
        happened = [replace(each, occurred_at=T0 + 60 * place) for place, each in enumerate(turned)]
        profile = fold_all(happened)
        values = derive(profile, T0 + 900)
        assert (values["orders"], values["returned_units_365d"], values["open_returns"]) == (0.0, 0.0, 0.0)
        assert values["promotion_accepted"] == pytest.approx(float(another), rel=1e-3)
        if number % 7 == 0:
            assert live(happened) == pack(profile)


def test_refunds_of_one_order_mean_the_same_in_any_order_of_arrival():
    line = {"product_id": "table", "category": "tables", "quantity": 1, "price": 10.0}
    story = [
        order("m1", quantity=3),
        event("Order Refunded", "m2", T0 + 60, order_id="o-m1", products=[line]),
        event("Order Refunded", "m3", T0 + 120, order_id="o-m1", products=[{**line, "quantity": 2}]),
        event("Order Refunded", "m4", T0 + 180, order_id="o-m1", products=[line]),
        event("Order Refunded", "m5", T0 + 240, order_id="o-m1"),
    ]
    for arrived in permutations(story):
        assert live(arrived) == pack(fold_all(story))
    assert fold_all(story).items["p:table"][RETURNED] == T0 + 120


def test_an_unknown_customer_has_every_feature_unknown():
    assert all(math.isnan(value) for value in derive(None, T0).values())
    assert all(math.isnan(value) for value in derive(profiles.empty(), T0).values())


def test_a_decayed_sum_halves_with_its_half_life():
    profile = fold_all([order(price=8.0)])
    assert derive(profile, T0)["spend_30d"] == 8.0
    assert derive(profile, T0 + 30 * DAY_S)["spend_30d"] == 4.0
    assert derive(profile, T0 + 7 * DAY_S)["orders_7d"] == 0.5


def test_recency_and_interval_are_in_days():
    profile = fold_all([order(f"m{i}", T0 + i * 10 * DAY_S) for i in range(4)])
    values = derive(profile, T0 + 45 * DAY_S)
    assert values["days_since_order"] == 15.0
    assert values["gap_mean_days"] == 10.0
    assert values["gap_cv"] == 0.0
    assert values["gaps_overdue"] == 1.5


def test_what_to_expect_starts_at_one_order_in_90_days_and_follows_the_customers_own_pace():
    day = DAY_S
    once = fold_all([order()])
    assert derive(once, T0)["expected_orders_90d"] == 1.0
    assert derive(once, T0)["silence_chance_90d"] == 0.5
    assert derive(once, T0 + 90 * day)["expected_orders_90d"] == 0.5
    often = fold_all([order(f"m{week}", T0 + 7 * week * day) for week in range(14)])
    told = [derive(often, T0 + (91 + quiet) * day) for quiet in (0, 30, 90)]
    assert told[0]["expected_orders_90d"] > 5.0
    chances = [values["silence_chance_90d"] for values in told]
    assert chances[0] < 0.1 and chances == sorted(chances) and chances[-1] < 1.0


def test_the_chance_of_silence_stays_one_however_many_orders_there_were():
    many = fold_all([order(f"m{number}", T0 + number) for number in range(300)])
    assert 0.99 < derive(many, T0 + 3_000 * DAY_S)["silence_chance_90d"] <= 1.0


def test_a_trip_counts_once_however_many_lines_it_has():
    lines = [{"product_id": "a", "category": "x", "price": 1.0, "quantity": 1}] * 3
    profile = fold_all([event("Order Completed", products=lines, order_id="o")])
    assert profile.items["p:a"][TRIPS] == 1
    assert derive(profile, T0)["lines_7d"] == 3.0


def test_a_return_may_arrive_before_its_purchase():
    bought, returned = order("m1", T0), event("Order Refunded", "m2", T0 + DAY_S, order_id="o-m1", reason="quality")
    late = fold_all([returned])
    assert must_refold(late, bought)
    profile = fold_all([returned, bought])
    assert profile.items["p:table"][RETURNED] == T0 + DAY_S
    assert profile.items["p:table"][RETURN_REASON] == "quality"
    assert derive(profile, T0 + DAY_S)["return_rate"] == pytest.approx(1.0, rel=0.01)


def test_a_cancelled_order_was_never_bought():
    profile = fold_all([order("m1"), event("Order Cancelled", "m2", T0 + 60, order_id="o-m1")])
    assert "p:table" not in profile.items
    assert derive(profile, T0 + 60)["orders"] == 0.0


@given(histories(names=OF_ORDERS))
def test_a_cancelled_order_counts_as_if_it_had_never_been(history):
    """Nothing that is told of it counts: refunds, returns, and the offers that nothing but it took up."""
    history = [each for each in history if each.body.get("reason") != "correction"]
    gone = {each.body["order_id"] for each in history if each.name == "Order Cancelled"}

    def one(each):
        return each.body.get("decision_id") or each.message_id

    def counts(each):
        if each.name != "Offer Responded":
            return each.body["order_id"] not in gone
        said = [other for other in history if each.body["response"] == "accepted" == other.body.get("response")]
        by = {other.body.get("order_id") for other in said if one(other) == one(each)} - {None}
        return not by or bool(by - gone)

    profile, other = fold_all(history), fold_all(each for each in history if counts(each))
    at = T0 + 1_000 * DAY_S
    values, others = derive(profile, at), derive(other, at)
    if other.state:
        del values["days_since_seen"], others["days_since_seen"]  # what a customer did was done
        assert values == pytest.approx(others, nan_ok=True)
    assert profile.items == other.items
    for read in (reactions.accepted, reactions.dismissed, reactions.terms, returns.under_way, returns.share):
        assert read(profile) == read(other)


def test_money_back_for_a_cancelled_order_is_no_return_and_none_is_open():
    cancelled = event("Order Cancelled", "m2", T0 + 60, order_id="o-m1")
    line = [{"product_id": "table", "category": "tables", "quantity": 1, "price": 10.0}]
    for at in (T0 + 30, T0 + 90):
        for said in ({}, {"products": line}):
            back = event("Order Refunded", "m3", at, order_id="o-m1", **said)
            asked = event("Return Requested", "m4", at + 1, order_id="o-m1", **said)
            profile = fold_all([order("m1"), cancelled, back, asked])
            values = derive(profile, T0 + 100)
            assert (values["returned_units_365d"], values["open_returns"], profile.items) == (0.0, 0.0, {})


def test_an_offer_that_a_cancelled_order_took_up_may_be_taken_up_again():
    said = {"offer_id": "x", "offer_kind": "promotion", "response": "accepted", "decision_id": "d"}
    coupon, bought = (
        event("Offer Responded", "m2", T0, **said),
        event("Offer Responded", "m3", T0 + 1, **said, order_id="o-m1"),
    )
    story = [order("m1"), coupon, bought]
    assert set(reactions.accepted(fold_all(story))) == {"x"}
    story.append(event("Order Cancelled", "m4", T0 + 60, order_id="o-m1"))
    assert not reactions.accepted(fold_all(story))
    assert derive(fold_all(story), T0 + 60)["promotion_accepted"] == 0.0
    again = event("Offer Responded", "m5", T0 + 90, **said, order_id="o-2")
    assert set(reactions.accepted(fold_all([*story, again]))) == {"x"}


def test_no_more_of_a_line_comes_back_than_it_held_and_what_came_back_first_keeps_its_date():
    lines = [{"product_id": each, "category": "x", "price": 10.0, "quantity": 2} for each in ("a", "b")]
    bought = event("Order Completed", "m1", T0, order_id="o", products=lines)
    part = event("Order Refunded", "m2", T0 + DAY_S, order_id="o", products=lines[:1])
    whole = event("Order Refunded", "m3", T0 + 60 * DAY_S, order_id="o")
    profile = fold_all([bought, part, whole])
    assert [profile.items[key][RETURNED] - T0 for key in ("p:a", "p:b")] == [DAY_S, 60 * DAY_S]
    weights = 2 * 2 ** (-59 / 365) + 2
    assert derive(profile, whole.occurred_at)["returned_units_365d"] == pytest.approx(weights)
    assert derive(profile, whole.occurred_at)["returned_spend_365d"] == pytest.approx(10.0 * weights)
    many = event("Order Refunded", "m2", T0, order_id="o", products=[{**lines[0], "quantity": 9}])
    assert derive(fold_all([bought, many]), T0)["returned_units_365d"] == 2.0


def test_a_whole_refund_after_one_in_part_closes_all_of_the_return():
    lines = [{"product_id": each, "quantity": 1, "price": 10.0} for each in ("a", "b")]
    story = [
        event("Order Completed", "m1", T0, order_id="o", products=lines),
        event("Order Refunded", "m2", T0 + 60, order_id="o", products=lines[:1]),
        event("Return Requested", "m3", T0 + 120, order_id="o"),
        event("Order Refunded", "m4", T0 + 180, order_id="o"),
    ]
    assert returns.under_way(fold_all(story[:3])) and not returns.under_way(fold_all(story))


def test_a_correction_un_buys_and_returns_nothing():
    fewer = [{"product_id": "table", "quantity": 2, "price": 10.0}]
    corrected = event("Order Refunded", "m2", T0 + 60, order_id="o-m1", products=fewer, reason="correction")
    assert must_refold(fold_all([order("m1", quantity=3)]), corrected)
    values = derive(fold_all([order("m1", quantity=3), corrected]), T0 + 60)
    assert values["units_7d"] == pytest.approx(1.0, rel=1e-3)
    assert values["spend_7d"] == pytest.approx(10.0, rel=1e-3)
    assert (values["orders"], values["return_rate"]) == (1.0, 0.0)
    nothing_left = fold_all([order("m1", quantity=2), corrected])
    assert "p:table" not in nothing_left.items
    assert derive(nothing_left, T0 + 60)["orders"] == 0.0


def test_a_requested_return_is_open_until_it_is_refunded():
    asked = event("Return Requested", "m2", T0 + 60, order_id="o-m1")
    profile = fold_all([order("m1"), asked])
    assert profile.state["open_returns"]["o-m1"]["products"] == ["table"]
    assert profile.state["open_returns"]["o-m1"]["categories"] == ["tables"]
    closed = fold_all([order("m1"), asked, event("Order Refunded", "m3", T0 + 120, order_id="o-m1")])
    assert closed.state["open_returns"] == {}


@pytest.mark.parametrize(("days", "kept"), [(KEEP_DAYS, True), (KEEP_DAYS + 1, False)])
def test_a_purchase_is_remembered_for_730_days(days, kept):
    later = T0 + days * DAY_S
    _, items = pack(fold_all([order("m1", T0), order("m2", later, product="chair", category="chairs")]))
    assert (b'"p:table"' in items) is kept


def test_a_purchase_after_730_days_starts_its_entry_anew():
    again = T0 + (KEEP_DAYS + 1) * DAY_S
    profile = fold_all([order("m1", T0), order("m2", again)])
    assert profile.items["p:table"][TRIPS] == 1
    assert profile.items["p:table"][LAST] == again


def test_an_event_out_of_order_is_refused_by_fold():
    profile = fold_all([order("m2", T0)])
    with pytest.raises(ValueError, match="event `m1` cannot be folded in order; fold the whole history"):
        fold(profile, order("m1", T0))


def test_responses_are_counted_by_kind_of_offer():
    shown = event("Offer Responded", "m1", offer_id="x", offer_kind="promotion", response="shown")
    taken = event("Offer Responded", "m2", offer_id="x", offer_kind="promotion", response="accepted")
    values = derive(fold_all([shown, taken]), T0)
    assert values["promotion_shown"] == 1.0
    assert values["promotion_accepted"] == 1.0
    assert values["promotion_accept_rate"] == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("decisions", "times"),
    [(["d1"] * 3, 1), (["d1", "d2"], 2), (["d1", None, "d1"], 2), (["d1", "d2", "d1"], 2), ([None, None], 2)],
)
def test_an_offer_of_one_decision_is_accepted_once_however_many_messages_say_so(decisions, times):
    said = {"offer_id": "x", "offer_kind": "promotion", "response": "accepted"}
    of = [{"decision_id": each} if each else {} for each in decisions]
    story = [event("Offer Responded", f"m{number}", **said, **each) for number, each in enumerate(of)]
    story.insert(1, event("Offer Responded", "m0-y", **{**said, "offer_id": "y", "offer_kind": "loyalty"}))
    for events in (story, story[::-1]):
        assert derive(fold_all(events), T0)["promotion_accepted"] == times
    profile = profiles.empty()
    for each in story:
        fold(profile, each)
    assert pack(profile) == pack(fold_all(story))


@given(histories(), st.lists(st.tuples(st.sampled_from(["Gizmo Frobbed", "Coupon Denied"]), st.integers(0, 9**8))))
def test_a_name_that_nobody_knows_leaves_no_trace(history, unheard_of):
    strange = [event(name, f"strange-{n}", T0 + at, product_id="a") for n, (name, at) in enumerate(unheard_of)]
    assert pack(fold_all([*strange, *history])) == pack(fold_all(history))


@given(histories())
def test_an_event_changes_nothing_before_the_moment_it_is_known(history):
    spans = [Span(one, (micros(one.known_at), number)) for number, one in enumerate(history)]
    for change in replay(spans):
        known = fold_all(one for one in history if micros(one.known_at) <= change.moment)
        assert pack(change.profile) == pack(known)
        as_of = change.moment / 1e6
        assert repr(derive(unpack(*pack(change.profile)), as_of)) == repr(derive(unpack(*pack(known)), as_of))


@given(histories())
def test_every_feature_has_a_value_and_every_reader_an_answer_whatever_the_history(history):
    profile = unpack(*pack(fold_all(history)))
    now = T0 + 1000 * DAY_S
    values = derive(profile, now)
    assert list(values) == list(profiles.FEATURES)
    assert all(isinstance(value, float) for value in values.values())
    for told in (cart.of, browsing.products, browsing.categories, habits.home, habits.preferred_hour):
        told(profile, now)
    for told in (orders.latest, returns.under_way, care.open_cases, care.promises, care.last_contact):
        told(profile)
    assert care.failed_checkout(profile) is None or care.failed_checkout(profile).at <= now
    assert consent.granted(profile, "marketing", "email") in (True, False, None)


def test_a_profile_of_another_version_is_folded_anew_with_its_next_event():
    profile = fold_all([order("m1")])
    profile.state["v"] = 1
    assert profiles.outdated(profile)
    assert must_refold(profile, order("m2", T0 + 1))
    assert not profiles.outdated(profiles.empty())


def test_a_sender_cannot_claim_that_an_order_was_corrected():
    claimed = event("Order Completed", "m2", T0 + 1, order_id="o-m2", products=[], corrects=["o-m1"])
    assert fold_all([order("m1"), claimed]).state["corrected"] == {}
    with pytest.raises(EventProblem, match="control character"):
        check({"message_id": "m", "name": VOID, "occurred_at": T0, "body": {}}, T0)
