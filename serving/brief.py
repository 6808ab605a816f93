"""A decision in brief: what a customer's story tells of it, so that nobody reads a long trace for it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def brief(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The decision of that answer as `story_answers.StoryDecision` has it."""
    return {
        "decision_id": answer["decision_id"],
        "decided_at": answer["decided_at"],
        "channel": answer["channel"],
        "placement": answer["placement"],
        "fallback": answer["fallback"],
        "offers": [
            {
                "offer_id": offer["offer_id"],
                "product_id": offer["product_id"],
                "title": offer["treatment"].get("title"),
            }
            for offer in answer["offers"]
        ],
        "held_back": len(answer["suppressed"]),
    }
