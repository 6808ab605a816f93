"""Placeholders in treatments, such as `{product.name}`: checked when the file is read, filled when the offer is shown.

Only names of a closed list, no expressions. What is filled in is escaped for where it goes: HTML in web, app and
email, plain text elsewhere, percent-encoding in addresses. A text whose placeholder has no value is left out
rather than shown with a hole. Twice a brace is a brace.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from urllib.parse import quote

from features.sentences import suggestion

PLACEHOLDERS: Mapping[str, str] = {
    "product.product_id": "the id of the product shown",
    "product.name": "its name",
    "product.category": "its category",
    "product.department": "its department",
    "product.brand": "its brand",
    "product.price": "its price, with two decimals",
    "product.url": "its page",
    "product.image_url": "its picture",
    "offer.discount": "the offer's discount, with two decimals",
    "offer.valid_until": "the day on which the offer ends (UTC), such as 2026-12-31",
    "customer.loyalty_tier": "the customer's tier, as it was told",
    "location.name": "the shop: of the decision, or where the product is set aside",
}
"""Every placeholder, and what takes its place."""
HTML_CHANNELS = frozenset({"web", "app", "email"})
ADDRESSES = frozenset({"url", "image_url"})
"""The fields of a treatment that hold an address."""

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
Part = tuple[str, bool]


@lru_cache(maxsize=4096)
def parts_of(text: str) -> tuple[Part, ...]:
    """`text` as literals (False) and names of placeholders (True). A brace that stands alone is the name `{` or `}`."""
    parts: list[Part] = []
    at = 0
    for found in _PART.finditer(text):
        parts.append((text[at : found.start()], False))
        at = found.end()
        whole = found.group()
        parts.append((whole[0], False) if whole in ("{{", "}}") else (found.group(1) or whole, True))
    parts.append((text[at:], False))
    return tuple(part for part in parts if part[0])


def names_in(text: str) -> list[str]:
    """The placeholders of a text, in order."""
    return [name for name, is_name in parts_of(text) if is_name]


def problem_of(text: str) -> str | None:
    """What is wrong with the placeholders of a text, in one sentence; None if nothing is."""
    for name in names_in(text):
        if name in ("{", "}", "{}"):
            brace = name[0] * 2
            return f"has a brace that stands alone; expected one such as `{{product.name}}`, or `{brace}` for a brace"
        if name not in PLACEHOLDERS:
            near = suggestion(name, PLACEHOLDERS)
            near = re.sub(r"`([^`]+)`", r"`{\1}`", near)
            return f"has the unknown placeholder `{{{name}}}`; {near}"
    return None


def filled(field: str, text: str, value_of: Callable[[str], str | None], channel: str) -> str | None:
    """One text of a treatment with its placeholders filled in; None where one of them has no value."""
    if "{" not in text and "}" not in text:
        return text
    escape = _escape_of(field, text, channel)
    made: list[str] = []
    for part, is_name in parts_of(text):
        value = value_of(part) if is_name else part
        if value is None or (is_name and not value):
            return None
        made.append(escape(value) if is_name else part)
    return "".join(made)


def escaped(text: str, channel: str) -> str:
    """A text that is not the marketer's, made safe for the channel."""
    return html.escape(text) if channel in HTML_CHANNELS else _plain(text)


def _escape_of(field: str, text: str, channel: str) -> Callable[[str], str]:
    if field in ADDRESSES:
        whole = len(parts_of(text)) == 1  # an address of the catalog's own keeps its slashes
        return _whole_address if whole else lambda value: quote(value, safe="")
    return lambda value: escaped(value, channel)


def _whole_address(value: str) -> str:
    return quote(value, safe="/:?=&%#~+,;@!$()*[]")


def _plain(value: str) -> str:
    """No control characters: a name must not break a message into two."""
    return _CONTROL.sub(" ", value)
