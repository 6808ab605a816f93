"""How often we may begin: limits over rolling windows, and quiet after dismissals. All of it without a clock."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.vocabulary import DAY_S
from serving.contact import Held, as_json, from_json, held
from serving.facts import Contact, Contacts, Dismissal
from serving.rulebook import ContactLimit, ContactPolicy, Quiet

NOW = 1_790_000_000.0
SHIPPED = ContactPolicy()


def sent(days_ago: float, channel: str = "email", name: str = "d", *kinds: str) -> Contact:
    return Contact(f"{name}{days_ago}", channel, kinds or ("promotion",), NOW - days_ago * DAY_S)


def codes(contacts: Contacts, channel: str = "email", kind: str = "promotion", now: float = NOW) -> list[str]:
    return [each.rule for each in held(SHIPPED, contacts, channel, kind, now)]


def test_a_third_email_in_a_week_is_one_too_many_until_the_first_is_a_week_old() -> None:
    two = Contacts((sent(6), sent(1)))
    (reason,) = held(SHIPPED, two, "email", "promotion", NOW)
    assert reason == Held("per_email", 2, "2 in 7 days", NOW + DAY_S, ("d6", "d1"))
    assert codes(two, now=NOW + DAY_S - 1) == ["per_email"]
    assert codes(two, now=NOW + DAY_S) == []


def test_all_channels_together_have_a_limit_of_their_own() -> None:
    three = Contacts((sent(6, "email"), sent(5, "sms"), sent(4, "push")))
    assert codes(three, "push") == ["per_customer"]
    assert codes(three, "sms") == ["per_sms", "per_customer"]


def test_a_limit_of_one_offer_kind_counts_only_contacts_with_that_kind() -> None:
    policy = ContactPolicy(limits=(ContactLimit(kind="promotion", at_most=1, days=7),), quiet_after=None)
    both = Contacts((sent(1, "email", "d", "loyalty", "promotion"),))
    assert [each.rule for each in held(policy, both, "sms", "promotion", NOW)] == ["per_customer_promotion"]
    assert list(held(policy, both, "sms", "loyalty", NOW)) == []


def test_a_contact_that_is_not_sent_counts_until_it_is_given_back() -> None:
    pending = Contact("p", "sms", ("promotion",), NOW - 60, until=NOW + 60)
    (reason,) = held(SHIPPED, Contacts((pending,)), "sms", "promotion", NOW)
    assert (reason.rule, reason.retry_after) == ("per_sms", NOW + 60)
    assert codes(Contacts((pending,)), "sms", now=NOW + 60) == []


def test_never_is_a_limit_too_and_no_time_lifts_it() -> None:
    policy = ContactPolicy(limits=(ContactLimit(channel="sms", at_most=0, days=7),))
    (reason,) = held(policy, Contacts(), "sms", "promotion", NOW)
    assert (reason.retry_after, reason.evidence) == (None, ())


def waved(*days_ago: float) -> Contacts:
    return Contacts(dismissed=tuple(Dismissal(f"m{each}", NOW - each * DAY_S) for each in days_ago))


def test_three_dismissals_mean_14_days_of_quiet_in_every_channel() -> None:
    for channel in ("email", "sms", "push"):
        (reason,) = held(SHIPPED, waved(20, 10, 2), channel, "loyalty", NOW)
        assert (reason.rule, reason.retry_after, reason.evidence) == (
            "dismissals",
            NOW + 12 * DAY_S,
            ("m20", "m10", "m2"),
        )


@pytest.mark.parametrize("days_ago", [(10, 2), (33, 10, 2), (20, 17, 14)])
def test_two_dismissals_or_three_too_far_apart_or_long_ago_are_no_quiet(days_ago: tuple[float, ...]) -> None:
    assert codes(waved(*days_ago)) == []


CHANNELS = st.sampled_from(["email", "sms", "push"])
KINDS = st.sampled_from(["promotion", "loyalty"])
TIMES = st.integers(-30 * 24, 0).map(lambda hours: NOW + hours * 3600.0)
CONTACTS = st.builds(
    lambda channel, kinds, at, pending, number: Contact(
        f"d{number}", channel, tuple(sorted(kinds)), at, at + 3600 * 24 if pending else None
    ),
    CHANNELS,
    st.sets(KINDS, min_size=1),
    TIMES,
    st.booleans(),
    st.integers(0, 10**6),
)
LIMITS = st.builds(
    ContactLimit,
    channel=st.none() | CHANNELS,
    kind=st.none() | KINDS,
    at_most=st.integers(0, 3),
    days=st.integers(1, 14),
)
POLICIES = st.builds(
    ContactPolicy,
    limits=st.lists(LIMITS, max_size=4).map(tuple),
    quiet_after=st.none() | st.builds(Quiet, dismissals=st.integers(1, 3), within_days=st.integers(1, 30)),
)
HISTORIES = st.builds(
    Contacts,
    st.lists(CONTACTS, max_size=8).map(tuple),
    st.lists(TIMES, max_size=5).map(lambda ts: tuple(Dismissal(f"m{n}", t) for n, t in enumerate(ts))),
)


def naive(policy: ContactPolicy, contacts: Contacts, channel: str, kind: str, now: float) -> list[str]:
    """Which rules hold back, said as plainly as can be."""
    found = []
    for limit in policy.limits:
        if limit.channel not in (None, channel) or limit.kind not in (None, kind):
            continue
        counted = 0
        for each in contacts.made:
            fits = limit.channel in (None, each.channel) and (limit.kind is None or limit.kind in each.kinds)
            given_back = each.until is not None and each.until <= now
            counted += fits and not given_back and each.at + limit.days * DAY_S > now
        if counted >= limit.at_most:
            found.append("per_" + "_".join([limit.channel or "customer", *([limit.kind] if limit.kind else [])]))
    quiet = policy.quiet_after
    times = sorted(each.at for each in contacts.dismissed)
    if quiet and any(
        times[i + quiet.dismissals - 1] - times[i] <= quiet.within_days * DAY_S
        and now < times[i + quiet.dismissals - 1] + quiet.quiet_days * DAY_S
        for i in range(len(times) - quiet.dismissals + 1)
    ):
        found.append("dismissals")
    return found


@given(POLICIES, HISTORIES, CHANNELS, KINDS)
def test_it_says_what_a_naive_count_says_and_each_retry_after_is_exact(
    policy: ContactPolicy, contacts: Contacts, channel: str, kind: str
) -> None:
    reasons = list(held(policy, contacts, channel, kind, NOW))
    assert [each.rule for each in reasons] == naive(policy, contacts, channel, kind, NOW)
    for position, each in enumerate(reasons):
        if each.retry_after is None:
            continue
        alone = naive(policy, contacts, channel, kind, each.retry_after - 1)
        assert each.rule in alone
        if [other.rule for other in reasons].count(each.rule) == 1:
            assert each.rule not in naive(policy, contacts, channel, kind, each.retry_after), position


@given(POLICIES, HISTORIES, CONTACTS, CHANNELS, KINDS)
def test_one_contact_more_never_opens_anything(
    policy: ContactPolicy, contacts: Contacts, more: Contact, channel: str, kind: str
) -> None:
    before = {each.rule for each in held(policy, contacts, channel, kind, NOW)}
    after = {
        each.rule for each in held(policy, Contacts((*contacts.made, more), contacts.dismissed), channel, kind, NOW)
    }
    assert before <= after


@given(HISTORIES)
def test_what_a_record_keeps_of_contacts_is_all_of_them(contacts: Contacts) -> None:
    assert from_json(orjson.loads(orjson.dumps(as_json(contacts)))) == contacts
