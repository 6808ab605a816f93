"""What the service counts, for Prometheus under `/metrics`.

`decided` is called by the engine, which alone knows what was held back; the rest by the HTTP face.
`bentoml serve` gives its workers a common folder (`PROMETHEUS_MULTIPROC_DIR`), so that one worker's
`/metrics` adds up all of them; without it, as in tests, a process counts for itself. Counts start
anew when the server does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["CONTENT_TYPE_LATEST", "answered", "decided", "policy", "received", "rendered"]

_SHARED = bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
"""As prometheus_client finds it when it is imported; Feast sets one of its own later, where there was none."""
_OWN = CollectorRegistry()
_DECISIONS = Counter("onestory_decisions", "Decisions made.", ["channel", "fallback"], registry=_OWN)
_SUPPRESSED = Counter("onestory_suppressed", "Offers held back, once per reason.", ["reason"], registry=_OWN)
_EVENTS = Counter("onestory_events", "Messages received.", ["outcome"], registry=_OWN)
_SECONDS = Histogram(
    "onestory_answer_seconds",
    "Time from the checked request to its answer.",
    ["call"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=_OWN,
)


_POLICIES = Counter("onestory_policy_changes", "Changed policies.", ["outcome"], registry=_OWN)

# Looking up a child by its labels costs more than counting; the labels' values are closed lists.
_decisions = cache(_DECISIONS.labels)
_suppressed = cache(_SUPPRESSED.labels)
_events = cache(_EVENTS.labels)
_seconds = cache(_SECONDS.labels)


def decided(channel: str, fallback: str | None, suppressed: Mapping[str, int]) -> None:
    """One decision in `channel`; `suppressed` is how many offers each reason code held back."""
    _decisions(channel, fallback or "").inc()
    for reason, count in suppressed.items():
        _suppressed(reason).inc(count)


def received(outcome: str, count: int = 1) -> None:
    """Messages that were `stored`, a `duplicate`, or `rejected`; requests that were `postponed`."""
    if count:
        _events(outcome).inc(count)


def policy(outcome: str) -> None:
    """A changed rulebook, catalog or model was `swapped` in by this worker, or `refused`."""
    _POLICIES.labels(outcome).inc()


def answered(call: str, seconds: float) -> None:
    """One answer to `call` (`decide`, `decide_batch`, `respond`, `events`, `story`) took so long."""
    _seconds(call).observe(seconds)


def rendered() -> bytes:
    """All counts in Prometheus' text format."""
    if not _SHARED:
        return generate_latest(_OWN)
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return generate_latest(shared)
