"""The whole decision log, read again: every record with the profile it saw, and what is not as it was written.

A byte that was altered costs the decisions that need it, and no other: a record says by its id where it begins, so
also what hides in another line is told. Nothing is decided here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from serving import packing
from serving.decision_log import ERASED

_TOLD = re.compile(rb'"decision_id":"([0-9a-f-]+)"')


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands in the log and is not what was written there, and whose record it was, if that can still be told."""

    place: str
    problem: str
    decision_id: str | None = None


def records(folder: Path, since: float = 0.0, on_erased: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
    """As `read`, of a log of which nothing is unreadable; else ValueError."""
    for each in read(folder, since, on_erased):
        if isinstance(each, Unreadable):
            raise ValueError(f"{each.place}: {each.problem}")
        yield each


def read(
    folder: Path, since: float = 0.0, on_erased: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Any] | Unreadable]:
    """Every record decided at or after `since`, each with the profile it saw under `profile`, and all that is altered.

    A last line cut short by a crash belongs to a decision that was never answered, and is passed over. So are
    the decisions of erased customers, of the days from `since` on, for each of which `on_erased` is called.
    """
    first_day = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d")
    for path in packing.files(folder):
        if path.parent.name >= first_day:
            yield from _read(path, since, on_erased)


def _read(path: Path, since: float, on_erased: Callable[[], None]) -> Iterator[dict[str, Any] | Unreadable]:
    profiles: dict[int, Any] = {}
    damaged: list[Unreadable] = []

    def on_damage(at: int, error: Exception) -> None:
        damaged.append(Unreadable(_place(path, at), f"cannot be unpacked from here on ({error})"))

    try:
        for at, line in packing.lines(path, on_damage):
            try:
                record = _record(path, at, line, profiles, on_erased)
                if record is not None and record["facts"]["now"] >= since:
                    yield record
            except (ValueError, LookupError, TypeError) as error:
                said = f"lacks `{error.args[0]}`" if isinstance(error, KeyError) else str(error)
                whose: list[str | None] = [*_begun(path, at, line)]
                damaged += [Unreadable(_place(path, at), said, each) for each in whose or [None]]
            yield from damaged
            damaged.clear()
    except FileNotFoundError:  # past retention meanwhile
        return
    except OSError as error:
        on_damage(0, error)
    yield from damaged


def _record(
    path: Path, at: int, line: bytes, profiles: dict[int, Any], on_erased: Callable[[], None]
) -> dict[str, Any] | None:
    """The record in a line; None where there is none, and a profile is kept. ValueError for a line nobody wrote so."""
    if line.startswith(ERASED):
        if _begun(path, at, line):
            raise ValueError("stands in the line of an erased customer")
        if b'"decision_id"' in line:
            on_erased()
        return None
    if not line.endswith(b"\n"):
        if _goes_on(line):
            raise ValueError("has no end of the line")
        return None
    content = orjson.loads(line)
    if not isinstance(content, dict) or not content.keys() & {"profile", "decision_id", "brief"}:
        raise ValueError("is no line of the log; expected a profile, a decision or one in brief")
    if "profile" in content:
        profiles[at] = content["profile"]
    if "decision_id" not in content:
        return None
    if not str(content["decision_id"]).startswith(_prefix(path, at)):
        raise ValueError(f"calls itself `{content['decision_id']}`; expected `{_prefix(path, at)}…` here")
    seen = content["facts"]["profile_at"]
    if seen is not None and seen not in profiles:
        raise ValueError(f"saw a profile that cannot be read at byte {seen}")
    content["profile"] = profiles.get(seen)
    return content


def _goes_on(line: bytes) -> bool:
    """Whether something comes after the object in a line without end; what a crash cut short is no whole object."""
    text = line.decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return False
    return bool(text[end:].strip())


def _begun(path: Path, at: int, line: bytes) -> list[str]:
    """The decisions whose records begin in this line, each at the place that its id names."""
    hits = ((match[1].decode(), at + match.start() - 1) for match in _TOLD.finditer(line))
    return [decision_id for decision_id, begin in hits if decision_id.startswith(_prefix(path, begin))]


def _prefix(path: Path, at: int) -> str:
    """How the id of a decision begins whose record is there."""
    return f"{path.parent.name.replace('-', '')}-{path.stem}-{at:x}-"


def _place(path: Path, at: int) -> str:
    return f"log `{path.parent.name}/{path.name}`, byte {at}"
