"""Cases, promises and failed checkouts: what a customer waits for from us, in any order of events."""

from __future__ import annotations

import math

from histories import HOUR_S, T0, event, lines

from features import care
from features.profiles import derive, fold_all
from features.vocabulary import DAY_S, Event


def opened(message_id: str = "m1", at: float = T0, reason: str = "late", **more: str) -> Event:
    return event("Support Case Opened", message_id, at, case_id="c", reason=reason, **more)


def resolved(message_id: str = "m2", at: float = T0 + 60) -> Event:
    return event("Support Case Resolved", message_id, at, case_id="c")


def test_a_case_is_open_until_it_is_resolved() -> None:
    (case,) = care.open_cases(fold_all([opened(channel="call_centre", order_id="o")]))
    assert (case.case_id, case.opened_at, case.reason, case.order_id) == ("c", T0, "late", "o")
    assert (case.channel, case.evidence) == ("call_centre", "m1")
    assert care.open_cases(fold_all([resolved(), opened()])) == ()


def test_a_case_opened_again_after_it_was_resolved_is_open() -> None:
    profile = fold_all([opened(), resolved(), opened("m3", T0 + 120, "late again")])
    assert [(case.opened_at, case.reason) for case in care.open_cases(profile)] == [(T0 + 120, "late again")]
    assert derive(profile, T0 + 120)["open_cases"] == 1.0


def test_a_case_opened_twice_stays_as_old_as_it_is() -> None:
    (case,) = care.open_cases(fold_all([opened(order_id="o"), opened("m2", T0 + 60, "worse")]))
    assert (case.opened_at, case.reason, case.order_id, case.evidence) == (T0, "worse", "o", "m1")


def test_the_last_contact_is_the_last_case_opened_or_resolved() -> None:
    profile = fold_all([opened(channel="store"), resolved()])
    assert care.last_contact(profile) == care.Contact(T0 + 60, "web", "late", "c")
    assert derive(profile, T0 + 60 + DAY_S)["days_since_contact"] == 1.0
    assert care.last_contact(fold_all([event("Product Viewed", product_id="a")])) is None


def test_a_long_reason_is_cut_in_the_profile() -> None:
    (case,) = care.open_cases(fold_all([opened(reason="x" * 2_000)]))
    assert case.reason == "x" * 199 + "…"


def promised(message_id: str = "m1", at: float = T0, due: str = "2023-11-15T00:00:00Z", text: str = "call") -> Event:
    return event("Promise Made", message_id, at, promise_id="p", text=text, due=due)


def kept(message_id: str = "m2", at: float = T0 + 60) -> Event:
    return event("Promise Kept", message_id, at, promise_id="p")


DUE = 1_700_006_400.0


def test_a_promise_is_open_then_overdue_then_kept() -> None:
    (promise,) = care.promises(fold_all([promised()]))
    assert (promise.text, promise.made_at, promise.due_at, promise.kept_at) == ("call", T0, DUE, None)
    assert (promise.is_overdue(DUE), promise.is_overdue(DUE + 1)) == (False, True)
    late = derive(fold_all([promised()]), DUE + 1)
    assert (late["open_promises"], late["promises_overdue"]) == (1.0, 1.0)
    (promise,) = care.promises(fold_all([promised(), kept()]))
    assert (promise.kept_at, promise.is_overdue(DUE + 1)) == (T0 + 60, False)
    assert derive(fold_all([promised(), kept()]), DUE + 1)["open_promises"] == 0.0


def test_a_promise_stays_kept_however_the_times_lie() -> None:
    (promise,) = care.promises(fold_all([kept(at=T0 - 60), promised()]))
    assert (promise.kept_at, promise.text) == (T0 - 60, "call")
    assert care.promises(fold_all([kept()])) == ()


def test_a_promise_made_anew_has_the_later_text_and_date() -> None:
    again = promised("m2", T0 + 60, "2023-11-16T00:00:00Z", "call tomorrow")
    (promise,) = care.promises(fold_all([promised(), again]))
    assert (promise.text, promise.made_at, promise.due_at) == ("call tomorrow", T0, DUE + DAY_S)


def test_open_promises_are_all_kept_of_those_kept_only_the_latest() -> None:
    made = [
        event("Promise Made", f"m{n:03}", T0 + n, promise_id=f"p{n:03}", text="call", due="2023-11-15T00:00:00Z")
        for n in range(100)
    ]
    done = [event("Promise Kept", f"k{n}", T0 + 200 + n, promise_id=f"p{n:03}") for n in range(50)]
    told = care.promises(fold_all([*made, *done]))
    assert sum(one.kept_at is None for one in told) == 50
    assert [one.promise_id for one in told if one.kept_at] == [f"p{n:03}" for n in range(30, 50)]


def test_a_failed_checkout_is_told_until_any_order_is_completed() -> None:
    failed = event("Checkout Failed", reason="card refused", cart_id="k")
    told = care.failed_checkout(fold_all([failed]))
    assert told == care.CheckoutFailure(T0, "card refused", "web", None, "k", "m1")
    assert derive(fold_all([failed]), T0 + HOUR_S)["checkout_failed_hours"] == 1.0
    before = event("Order Completed", "m0", T0 - 60, order_id="o", products=lines("a"))
    assert care.failed_checkout(fold_all([failed, before])) is not None
    after = event("Order Completed", "m2", T0 + 60, order_id="another", products=lines("a"))
    assert care.failed_checkout(fold_all([failed, after])) is None
    assert math.isnan(derive(fold_all([failed, after]), T0 + HOUR_S)["checkout_failed_hours"])
