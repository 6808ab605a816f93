"""A decision as it was asked for: with its trace or without, and to whom it may be told. Its record keeps all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from features.vocabulary import ANONYMOUS
from serving.problems import Problem
from serving.question import Ask
from serving.schemas import DecideRequest, Refused


def explained(ask: Ask, decided: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer to one question."""
    if not ask.explain:
        decided = {name: value for name, value in decided.items() if name not in ("suppressed", "passed_over")}
    if discreet(ask):  # a page that may show an id learns no login by it
        decided = {**decided, "customer_id": f"{ANONYMOUS}{ask.anonymous_id}", **_without_evidence(decided)}
    return decided


def discreet(ask: Ask) -> bool:
    """Whether whoever asked may be anybody, with an id that was guessed."""
    return isinstance(ask, DecideRequest) and ask.discreet


def _without_evidence(decided: Mapping[str, Any]) -> dict[str, Any]:
    """The trace, if it is told, without what was seen: the key may be anybody's, and the id guessed."""

    def bare(held: Mapping[str, Any]) -> dict[str, Any]:
        return {**held, "reasons": [{**each, "observed": None, "evidence": None} for each in held["reasons"]]}

    return {part: [bare(held) for held in decided[part]] for part in ("suppressed", "passed_over") if part in decided}


def of_many(
    entry: DecideRequest | Refused, answers: Iterator[tuple[DecideRequest, Mapping[str, Any] | Problem]]
) -> Mapping[str, Any]:
    """What stands for one entry of a batch: its answer, taken from the next of `answers`, or its error."""
    if isinstance(entry, Refused):
        return entry.body()
    ask, decided = next(answers)
    return Refused(ask.customer_id, decided).body() if isinstance(decided, Problem) else explained(ask, decided)
