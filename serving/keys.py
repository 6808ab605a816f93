"""Who is asking: which kind of key a request carries, and what each path asks for.

No request is read here beyond its headers and address; `gate` turns the verdict into an answer.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode
from functools import lru_cache
from ipaddress import ip_address

from serving.problems import Problem
from serving.settings import Settings

WRITE, SERVER = "write", "server"
OPEN_PATHS = frozenset(
    {"/healthz", "/readyz", "/livez", "/widget.js", "/shop", "/shop/", "/shop/search", "/shop/labels"}
)
OPEN_BELOW = ("/shop/p/", "/shop/static/", "/v1/projects/")
WRITE_PATHS = frozenset({"/decide", "/respond"})


def needed(path: str) -> str | None:
    """The least key that `path` asks for: None, `write` (either kind does), or `server`."""
    if path in OPEN_PATHS or path.startswith(OPEN_BELOW):
        return None
    if path in WRITE_PATHS or path.startswith("/v1/"):
        return WRITE
    return SERVER


class Keys:
    """The configured keys, and what a caller who shows one of them may do."""

    def __init__(self, settings: Settings):
        self._open = settings.is_open
        self._kinds = [(key.encode(), SERVER) for key in settings.server_keys]
        self._kinds += [(key.encode(), WRITE) for key in settings.write_keys]

    def kind(self, key: bytes) -> str | None:
        """The kind of `key`. Compares with every key in constant time, so that timing tells nothing."""
        found = None
        for known, kind in self._kinds:
            if hmac.compare_digest(known, key) and found is None:
                found = kind
        return found

    def caller(self, authorization: bytes | None, host: str | None) -> str | None:
        """What the caller may do: `server`, `write`, or None for one who shows no key. Raises a 401 for a wrong one."""
        if self._open:
            if is_loopback(host):
                return SERVER
            raise unauthorised(
                "no key is configured, so only this machine is answered; "
                "set ONESTORY_SERVER_KEYS and ONESTORY_WRITE_KEYS to serve others"
            )
        if authorization is None:
            return None
        key = _shown_key(authorization)
        kind = self.kind(key) if key else None
        if kind is None:
            raise unauthorised("the key is not known; expected Basic auth with one of the configured keys as user")
        return kind


def unauthorised(detail: str) -> Problem:
    return Problem(401, None, detail, headers={"WWW-Authenticate": 'Basic realm="onestory", charset="UTF-8"'})


def refusal(path: str, caller: str | None) -> Problem | None:
    """The 401 for a caller whose key, or lack of one, is not enough for `path`."""
    least = needed(path)
    if least is None or caller == SERVER or (least == WRITE and caller == WRITE):
        return None
    if caller == WRITE:
        return unauthorised("a write key does not open this; expected a server key as user of Basic auth")
    kind = "a write key or a server key" if least == WRITE else "a server key"
    return unauthorised(f"no key came; expected {kind} as user of Basic auth")


def _shown_key(authorization: bytes) -> bytes | None:
    """The key in an Authorization header: the user of Basic auth, or a Bearer token (BentoML's clients send those)."""
    scheme, _, rest = authorization.strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if scheme.lower() != b"basic":
        return None
    try:
        return b64decode(rest.strip(), validate=True).partition(b":")[0]
    except (binascii.Error, ValueError):
        return None


@lru_cache(maxsize=1024)
def is_loopback(host: str | None) -> bool:
    """Is this address the machine's own? What is no address, or unknown, is not."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
