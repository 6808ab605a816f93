"""What the page of a decision says, as plain values: why these offers, and why none of the others. Pure.

Every rule's word is grouped by its reason, so that a trace of hundreds of candidates stays readable. Texts are left as
they are: escaping is the template's business. How it looks stands in `web/decision.html`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from features.placeholders import HTML_CHANNELS

FACTORS = ("propensity", "context_weight", "value", "lever")
"""Of the priority, in the order in which they are multiplied."""
OPEN_AT_MOST = 3
"""A reason with more rows than this is folded up at first."""
NAMED_AT_MOST = 3

MEANING: Mapping[str, str] = {
    "outside_validity": "it is not valid yet, or no longer",
    "wrong_channel": "it is not meant for this channel",
    "wrong_placement": "it, or the channel, has no business in this placement",
    "wrong_market": "it is not meant for this market",
    "not_eligible": "it may never go to this customer",
    "recently_purchased": "the customer has bought the product, its style or category within the window",
    "too_soon_to_replenish": "what was bought cannot be used up yet",
    "recently_returned": "the customer has returned it within the window",
    "open_return": "a return of it is under way",
    "too_many_returns": "the customer returns too much for this offer",
    "out_of_stock": "there is not enough left to sell",
    "stock_unknown": "nobody has said how much there is",
    "signal_stale": "a feed it depends on is older than allowed",
    "signal_missing": "a feed it depends on has never said anything",
    "open_case": "the customer waits for support",
    "promise_broken": "we owe the customer something",
    "checkout_failed": "the customer could not pay a moment ago",
    "no_consent": "the customer has not agreed",
    "contact_limit": "we have made contact often enough",
    "quiet_hours": "it is night, or a day of rest, where the customer is",
    "recently_dismissed": "the customer has just waved it away",
    "in_cart": "it is in the cart already",
    "already_redeemed": "the customer has used it",
    "offer_budget_spent": "it has been given as often as was meant",
    "below_margin": "it would earn too little",
    "below_floor": "its priority is too low to be worth showing",
    "mutually_exclusive": "another offer of its exclusive group ranks higher",
    "terms_conflict": "another channel has shown this customer other terms",
    "control_arm": "the customer is in the arm that gets none",
    "rule_error": "a rule failed, and in doubt nothing is shown",
}
"""Per reason code, why the offer is held back: the words of docs/glossary.md."""
LESS: Mapping[str, str] = {
    "unknown_customer": "Nothing is known of this customer, or may be used: everybody's propensity counted.",
    "no_model": "No propensity model is promoted: ordered by value.",
    "no_profile": "The profile could not be read: only offers whose rules need none.",
    "stale_signal": "A feed was older than allowed, and the rulebook says to decide all the same.",
    "placement_default": "Nothing else was left, so the placement's own default is shown.",
}
_DECISION = re.compile(r"\d{8}-[0-9a-f]{8}-[0-9a-f]{1,12}-[0-9a-f]{8}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def product_ids(record: Mapping[str, Any]) -> set[str]:
    """The products that a record speaks of, to be named."""
    answer = record.get("answer", {})
    ids = {offer["product_id"] for offer in answer.get("offers", ())}
    ids |= {each["product_id"] for each in answer.get("passed_over", ())}
    for reason in (reason for held in _held(answer) for reason in held["reasons"]):
        ids |= {reason["product_id"], *(reason["product_ids"] or ())}
    ids |= {record.get("request", {}).get("product_id"), *record.get("request", {}).get("cart", ())}
    return ids - {None}


def page_of(record: Mapping[str, Any], names: Mapping[str, str], now: float) -> dict[str, Any]:
    """All that the template shows of a logged decision, looked at `now`; `names` of products, as far as known."""
    answer, request = record["answer"], record["request"]
    groups = list(_groups(answer, names))
    return {
        "decision_id": record["decision_id"],
        "customer_id": answer["customer_id"],
        "where": f"{answer['channel'].replace('_', ' ')} · {answer['placement']}",
        "decided_at": time_told(answer["decided_at"]),
        "ago": lasting(max(0.0, now - record["facts"]["now"])),
        "arm": answer["arm"],
        "less": LESS.get(answer["fallback"] or "", answer["fallback"]),
        "preview": request["preview"],
        "continued_from": answer["continued_from"],
        "asked": _asked(request, names),
        "offers": [_offer(offer, answer, names) for offer in answer["offers"]],
        "held_count": len(answer["suppressed"]),
        "groups": groups,
        "passed_count": len(answer["passed_over"]),
        "signals": [_signal(name, signal) for name, signal in answer["signals"].items()],
        "versions": {"engine": record["engine"], **record["versions"]},
    }


# -------------------------------------------------------------------------------------------- shown


def _offer(offer: Mapping[str, Any], answer: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    plain = text_of if answer["channel"] in HTML_CHANNELS else str
    texts = {name: plain(text) for name, text in offer["treatment"].items()}
    return {
        "rank": offer["rank"],
        "offer_id": offer["offer_id"],
        "kind": offer["kind"].replace("_", " "),
        "title": texts["title"],
        "body": texts.get("body"),
        "product": _named(offer["product_id"], names) if offer["product_id"] else None,
        "fulfilment": offer["fulfilment"] and offer["fulfilment"]["location_id"],
        "priority": number(offer["priority"]),
        "factors": [_factor(name, offer, answer["offers"]) for name in (*FACTORS, "priority")],
        "parts": [(name.replace("_", " "), number(value)) for name, value in (*offer["worth"].items(),)],
        "context": [(name.replace("_", " "), number(value)) for name, value in offer["context"].items()],
        "selection_probability": number(offer["selection_probability"]),
        "valid_until": time_told(offer["valid_until"]),
    }


def _factor(name: str, offer: Mapping[str, Any], offers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A factor of the priority, as long as it is beside the same of the other offers: the largest fills its bar."""
    largest = max(float(each[name] or 0) for each in offers)
    value = offer[name]
    share = max(0.0, float(value or 0) / largest) if largest > 0 else 0.0
    return {"name": name.replace("_", " "), "value": number(value), "percent": round(100 * share, 1)}


# ---------------------------------------------------------------------------------------- held back


def _held(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from answer.get("suppressed", ())
    yield from answer.get("passed_over", ())


def _groups(answer: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every reason, the one that holds most back first, with what it holds back."""
    groups: dict[tuple[str, str], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for held in _held(answer):
        for reason in held["reasons"]:
            groups.setdefault((reason["code"], reason["rule"]), []).append((held, reason))
    for (code, rule), found in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        rows = list(_rows(found, names))
        yield {
            "code": code,
            "rule": rule.replace("_", " "),
            "meaning": MEANING.get(code, ""),
            "count": len(found),
            "rows": rows,
            "open": len(rows) <= OPEN_AT_MOST,
        }


def _rows(
    found: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], names: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """What was seen once and holds many back, an open case say, is told once with all of them."""
    same: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for held, reason in found:
        seen = [reason[name] for name in ("observed", "limit", "evidence", "retry_after")]
        same.setdefault(repr(seen), []).append((held, reason))
    for each in same.values():
        (_, reason), held_back = each[0], [_held_back(held, why, names) for held, why in each]
        evidence = reason["evidence"]
        pieces = evidence if isinstance(evidence, list) else [] if evidence is None else [evidence]
        yield {
            "first": held_back[:NAMED_AT_MOST],
            "rest": held_back[NAMED_AT_MOST:],
            "observed": told(reason["observed"]),
            "limit": told(reason["limit"]),
            "evidence": [(str(piece), bool(_DECISION.fullmatch(str(piece)))) for piece in pieces],
            "retry_after": reason["retry_after"] and time_told(reason["retry_after"]),
        }


def _held_back(held: Mapping[str, Any], reason: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """An offer or product that a reason holds back; with when it is free of all its reasons, where it has others."""
    ids = reason["product_ids"] or ([reason["product_id"]] if reason["product_id"] else [])
    products = [_named(each, names) for each in ids[:NAMED_AT_MOST]]
    more = len(ids) - len(products)
    gone = held.get("retry_after")
    return {
        "offer_id": held["offer_id"],
        "passed_over": "product_id" in held,  # the offer is shown, with another product
        "products": [*products, *([f"and {more} more products"] if more else [])],
        "others": len({(each["code"], each["rule"]) for each in held["reasons"]}) - 1,
        "free_of_all": gone and time_told(gone),
    }


# ---------------------------------------------------------------------------------------- the rest


def _asked(request: Mapping[str, Any], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the question said beside who and where."""
    said = [("at most", f"{request['limit']} offers")]
    said += [("location", request["location_id"])] if request["location_id"] else []
    said += [("looking at", _named(request["product_id"], names))] if request["product_id"] else []
    cart = [_named(each, names) for each in request["cart"]]
    said += [("in the cart", ", ".join(cart))] if cart else []
    return said


def _signal(name: str, signal: Mapping[str, Any]) -> dict[str, Any]:
    age = "never heard" if signal["age_s"] is None else f"{lasting(signal['age_s'])} old"
    return {"name": name, "age": age, "stale": signal["stale"]}


def _named(product_id: str, names: Mapping[str, str]) -> str:
    name = names.get(product_id)
    return f"{name} ({product_id})" if name else product_id


def text_of(treatment: str) -> str:
    """The text of a treatment that is HTML: what a reader of the site sees."""
    return html.unescape(_TAG.sub("", treatment))


def told(value: Any) -> str:
    """Any value that a rule saw or allows, for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {told(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(told(each) for each in value) or "–"
    text = str(value)
    return _TIME.sub(lambda found: time_told(found.group())[1], text)


def number(value: float | None) -> str:
    """Short, and never `1e-05`."""
    if value is None:
        return "not known"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 10:
        return f"{value:,.2f}"
    return f"{value:.4f}".rstrip("0") if abs(value) >= 1e-4 else f"{value:.7f}"


def time_told(moment: str) -> tuple[str, str]:
    """An instant as the record has it, and for people."""
    at = datetime.fromisoformat(moment).astimezone(UTC)
    return moment, f"{at.day} {at:%b %Y, %H:%M} UTC"


def lasting(seconds: float) -> str:
    """How long, in the two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    units = (("d", 86_400), ("h", 3_600), ("min", 60))
    rest, parts = int(seconds), list[str]()
    for unit, length in units:
        if rest >= length and len(parts) < 2:
            parts.append(f"{rest // length} {unit}")
        rest %= length
    return " ".join(parts)
