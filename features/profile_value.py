"""One customer at one moment, as a value. What events make of it, and features of it, is the business of `profiles`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from features.columns import Items


@dataclass(slots=True)
class Profile:
    """One customer at one moment. `state` is plain JSON, `items` are entries by key; never share them when folding."""

    state: dict[str, Any] = field(default_factory=dict)
    items: Items | dict[str, list[Any]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[float, str]:
        """The key of the newest event folded in."""
        return (self.state["at"], self.state["id"]) if self.state else (0.0, "")
