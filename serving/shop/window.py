"""One browser window of the demo shop: the device that it plays and the anonymous id that it goes by.

It travels in the address (`w=phone.k3j9x2`) and in no cookie, so that two windows of one browser are two devices.
Who is behind it is not kept here: that is asked of Onestory, which knows whose the anonymous id is.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any

DEVICES = ("phone", "laptop")
"""The devices that a window may play; both look at the website."""
CHANNEL = "web"
_NAME = re.compile(r"(phone|laptop)\.([a-z0-9]{6,32})")


@dataclass(frozen=True, slots=True)
class Window:
    """A device and a random name: whoever does not know the name cannot be this visitor."""

    device: str
    visitor: str

    @property
    def name(self) -> str:
        """As it stands in an address."""
        return f"{self.device}.{self.visitor}"

    @property
    def anonymous_id(self) -> str:
        return f"shop-{self.device}-{self.visitor}"

    @property
    def channel(self) -> str:
        return CHANNEL

    @property
    def context(self) -> dict[str, Any]:
        """The `context` of every message from here."""
        return {"channel": self.channel, "device": {"type": self.device}}


def device_of(anonymous_id: str | None) -> str | None:
    """The device of the window that goes by this anonymous id; None where it is none of the shop's."""
    found = re.match(r"shop-(phone|laptop)-", anonymous_id or "")
    return found[1] if found else None


def window_of(name: str) -> Window | None:
    """The window of that name; None for what is no name."""
    found = _NAME.fullmatch(name)
    return Window(found[1], found[2]) if found else None


def fresh(device: str | None) -> Window:
    """A window that nobody has had: a new visitor."""
    return Window(device if device in DEVICES else "laptop", secrets.token_hex(8))
