"""The demo's feeds: a voice for every signal that no source of the demo data keeps alive. *Made up.*

A real feed sends `Feed Alive` when it has nothing new; without one, a signal counts as stale after the
rulebook's `max_age_s`. Nothing else is said here: stock itself was loaded with the data.
"""

from __future__ import annotations

from uuid import uuid4

import httpx

from features.vocabulary import SIGNALS

EVERY_S = 10.0


def alive() -> list[dict[str, object]]:
    """One `Feed Alive` per signal, each for all locations."""
    return [
        {"type": "track", "event": "Feed Alive", "messageId": f"feed-{uuid4()}", "properties": {"signal": signal}}
        for signal in SIGNALS
    ]


def beat(client: httpx.Client) -> str | None:
    """Let every feed be heard once; what the service had against it, in one sentence, or None."""
    try:
        answer = client.post("/v1/batch", json={"batch": alive()})
    except httpx.HTTPError as error:
        return f"feeds: no answer from the service ({type(error).__name__})"
    if answer.status_code != 200:
        return f"feeds: refused with {answer.status_code}: {answer.text[:200]}"
    rejected = answer.json()["rejected"]
    return f"feeds: {rejected[0]['problem']}" if rejected else None
