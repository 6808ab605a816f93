"""What one message says about which ids belong together: links, as plain values. Pure.

A node is one id with its kind, as text: `user:1042` (a login), `anonymous:a-7`, `email:<hmac>`, `phone:<hmac>`,
`loyalty:<number>`, `device:<id>`. `links_of` reads one message; what a set of links means for who is the same
customer is the business of `partition`, keeping them that of `identity`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from features.commerce import CONTROL, LONGEST_ID
from features.vocabulary import ANONYMOUS, Event

__all__ = [
    "ALIAS", "DEVICE", "KEYS", "LOGIN", "LOGIN_SEEN", "UNLINK", "USER",
    "Link", "Pair", "links_of", "node_of", "owned_by", "whose",
]  # fmt: skip

UNLINK = "$unlink"
"""The name of the event that takes links back; it is about nobody, so that no profile shows it."""
USER, DEVICE, LOGIN, ALIAS, LOGIN_SEEN = "user:", "device", "login", "alias", "login_seen"
KEYS = ("email", "phone", "loyalty")
"""What a person has and says: two logins with the same one are the same customer."""

_TRAITS = {
    **dict.fromkeys(("email", "emailaddress", "mail"), "email"),
    **dict.fromkeys(("phone", "phonenumber", "mobile", "mobilenumber", "mobilephone", "telephone", "msisdn"), "phone"),
}
_LOYALTY = frozenset({"loyaltynumber", "loyaltyid", "loyaltycard", "loyaltycardnumber"})
_NOBODYS = frozenset({"none", "null", "nil", "n/a", "na", "nan", "unknown", "undefined", "test"})
_HASH = re.compile(r"[0-9a-f]{64}")


class Pair(NamedTuple):
    """Two ids that belong together, and in which way. An id of a customer comes first, or the device's owner."""

    kind: str
    one: str
    other: str


@dataclass(frozen=True, slots=True)
class Link:
    """One message's word that a pair belongs together; `undone`: that everything said so far does not count."""

    pair: Pair
    occurred_at: float
    message_id: str
    known_at: float
    seq: int
    undone: bool = False

    @property
    def key(self) -> tuple[float, str]:
        return (self.occurred_at, self.message_id)

    @property
    def known(self) -> tuple[int, int]:
        """When we knew it, in the order and the grain of `history`."""
        return (round(self.known_at * 1e6), self.seq)


def node_of(customer_id: str) -> str:
    """The id itself that a customer is called by, as a node."""
    return customer_id if customer_id.startswith(ANONYMOUS) else USER + customer_id


def owned_by(node: str) -> str:
    """The customer whom a login or anonymous id is as long as nothing else is known."""
    return node.removeprefix(USER)


def whose(user_id: str | None, anonymous_id: str | None) -> str | None:
    """The id that decides whose a message is: its login before its anonymous id."""
    if user_id:
        return USER + user_id
    return ANONYMOUS + anonymous_id if anonymous_id else None


def links_of(event: Event, seq: int) -> list[Link]:
    """The links that one message states, or takes back."""
    if event.name == UNLINK:
        at = math.inf if event.body.get("for_good") else event.occurred_at
        taken = (Pair(*map(str, pair)) for pair in event.body.get("links") or ())
        return [Link(pair, at, event.message_id, event.known_at, seq, undone=True) for pair in taken]
    return [
        Link(pair, event.occurred_at, event.message_id, event.known_at, seq) for pair in dict.fromkeys(_pairs(event))
    ]


def _pairs(event: Event) -> Iterator[Pair]:
    mine = whose(event.user_id, event.anonymous_id)
    if mine is None:
        return
    if event.user_id and event.anonymous_id:
        yield Pair(LOGIN, ANONYMOUS + event.anonymous_id, USER + event.user_id)
    previous = event.body.get("previous_id")
    if event.name == "$alias" and event.user_id and isinstance(previous, str) and previous not in ("", event.user_id):
        yield Pair(LOGIN, ANONYMOUS + previous, USER + event.user_id)
        yield Pair(ALIAS, USER + event.user_id, USER + previous)  # counts once that is known as a login
    device = event.body.get("device_id")
    if isinstance(device, str) and _names_one(device):
        yield from (Pair(DEVICE, node, f"{DEVICE}:{device}") for node in _both(event))
    if event.name == "$identify" and isinstance(event.body.get("traits"), Mapping):
        yield from (Pair(kind, mine, f"{kind}:{value}") for kind, value in _keys(event.body["traits"]))


def _both(event: Event) -> Iterator[str]:
    if event.user_id:
        yield USER + event.user_id
    if event.anonymous_id:
        yield ANONYMOUS + event.anonymous_id


def _names_one(value: str) -> bool:
    """Whether this can be somebody's number or device: what stands where there is none joins nobody."""
    if not 0 < len(value) <= LONGEST_ID or CONTROL.search(value):
        return False
    return value.lower() not in _NOBODYS and value.strip("0-. ") != ""


def _keys(traits: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in traits.items():
        plain = name.lower().replace("_", "").replace("-", "")
        for each in value if isinstance(value, list) else [value]:
            given = plain in _LOYALTY and isinstance(each, str | int) and not isinstance(each, bool)
            if given and _names_one(number := str(each).strip()):
                yield "loyalty", number
            kind = _TRAITS.get(plain.removesuffix("hmac")) if plain.endswith("hmac") else None
            if kind and isinstance(each, str) and _HASH.fullmatch(each):  # an empty or impossible one is no key
                yield kind, each
