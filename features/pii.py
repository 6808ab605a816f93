"""E-mail addresses and phone numbers out of what is stored: only their HMAC is kept, under the workspace's key.

`without_pii` replaces `email` and `phone`, however spelt (`workEmail`, `phone_number`), by `<key>_hmac`
at any depth, and an address inside any other text by its hash. Ids are not looked at: who uses addresses
as ids has them in the log.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["Hasher", "hasher", "normalised", "without_pii"]

Hasher = Callable[[str, str], str]
"""From the kind (`email`, `phone`) and the normalised value to its hash."""

DEEPEST = 50
NONE = "none"
"""Kept in place of a hash where there is no address or number in it."""
_ADDRESS = re.compile(r"[\w.+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_LAST_WORDS = {
    ("email",): "email",
    ("mail",): "email",
    ("email", "address"): "email",
    ("phone",): "phone",
    ("telephone",): "phone",
    ("mobile",): "phone",
    ("msisdn",): "phone",
    ("phone", "number"): "phone",
    ("mobile", "number"): "phone",
}


def hasher(key: bytes) -> Hasher:
    """HMAC-SHA256 under `key`; the kind is part of what is hashed."""

    def hash_pii(kind: str, value: str) -> str:
        return hmac.new(key, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()

    return hash_pii


def normalised(kind: str, value: str) -> str:
    """The same text for the same mailbox or line: addresses in small letters, numbers as digits without `00` or `+`."""
    if kind == "email":
        return value.strip().lower().replace("%40", "@")
    return re.sub(r"\D", "", value).removeprefix("00")


def without_pii(value: Any, hash_pii: Hasher, deep: int = 0) -> Any:
    """`value` (JSON) as it may be stored. ValueError where it is nested deeper than anybody means."""
    if deep > DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} levels deep; expected at most that")
    if isinstance(value, Mapping):
        kept: dict[str, Any] = {}
        for key, inner in value.items():
            kind = _kind(key)
            if kind and isinstance(inner, str | int | float) and not isinstance(inner, bool):
                plain = normalised(kind, str(inner))
                kept[f"{key}_hmac"] = hash_pii(kind, plain) if _is_one(kind, plain) else NONE
            elif kind and isinstance(inner, list):  # several numbers under one key
                each = [without_pii({key: one}, hash_pii, deep + 1) for one in inner]
                kept[f"{key}_hmac"] = [next(iter(one.values())) for one in each]
            else:
                kept[without_pii(key, hash_pii)] = without_pii(inner, hash_pii, deep + 1)
        return kept
    if isinstance(value, list):
        return [without_pii(inner, hash_pii, deep + 1) for inner in value]
    if isinstance(value, str) and ("@" in value or "%40" in value):
        return _ADDRESS.sub(lambda found: hash_pii("email", normalised("email", found[0])), value)
    return value


def _is_one(kind: str, plain: str) -> bool:
    """Whether this can be anybody's address or number: a form that was left empty must not make two people one."""
    return bool(_ADDRESS.fullmatch(plain)) if kind == "email" else any(digit != "0" for digit in plain)


def _kind(key: str) -> str | None:
    words = tuple(word.lower() for word in _WORDS.findall(key))
    return _LAST_WORDS.get(words[-1:]) or _LAST_WORDS.get(words[-2:])
