"""Rules on a customer who waits for us: with a problem open, selling comes later; making good is let through."""

from __future__ import annotations

from features.vocabulary import Offer
from serving.facts import later, moment
from serving.rules.case import Case, Reason, Reasons


def open_case(case: Case, offer: Offer) -> Reasons:
    """Until every support case is resolved."""
    if offer.kind in case.book.open_case.lets_through:
        return ()
    return [
        Reason("open_case", "case", moment(each.opened_at), f"case {each.case_id} resolved", None, each.evidence)
        for each in case.open_cases
    ]


def broken_promise(case: Case, offer: Offer) -> Reasons:
    """Until what was promised and is overdue is kept, or promised for a later date."""
    if offer.kind in case.book.promise_broken.lets_through:
        return ()
    return [
        Reason(
            "promise_broken",
            "promise",
            moment(each.due_at),
            f"promise {each.promise_id} kept",
            None,
            each.evidence,
        )
        for each in case.broken_promises
    ]


def failed_checkout(case: Case, offer: Offer) -> Reasons:
    """For some hours after a checkout that failed, unless an order came through since."""
    failed, rule = case.failed_checkout, case.book.checkout_failed
    if failed is None or offer.kind in rule.lets_through:
        return ()
    gone = later(failed.at, rule.hours * 3600.0)
    if case.facts.now >= gone:
        return ()
    limit = f"{rule.hours:g} hours"
    return (Reason("checkout_failed", "checkout", moment(failed.at), limit, gone, failed.evidence),)
