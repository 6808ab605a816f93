"""The catalog files that a source writes into a workspace, and what it remembers of them.

A file that somebody changed since we wrote it is theirs and is left alone, and so is another source's. What
was written is remembered beside the files, in `completejourney.json` or `onlineretail.json`: their hashes, by
how much times were shifted, and how long each offer that was open at the data's end was open still; by that,
`renew` keeps a demo's offers open. Of Segment messages, in `segment.json`, the shift alone.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from features.vocabulary import DAY_S, Offer
from features.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Written", "after", "offers_text", "parquet", "remember", "remembered", "renew", "write_ours"]

SOURCES = ("completejourney", "onlineretail")
OFFERS = "offers.yaml"
ENDED = "offers_ended.yaml"
LEAST_OPEN_S = 7 * DAY_S
HEAD = """\
# Offers of the demo, written by `python -m features ingest completejourney`.
# Real: the coupons of Complete Journey's campaigns, their products and their validity (its open ones are
# renewed at each `make demo`). Made up: every value and treatment, and all `cross_sell` offers.
# Change what you like: a changed file is left alone from then on; delete it and ingest again to start over.
offers:
"""
HEAD_ENDED = """\
# Offers of the demo that are over for good: no decision looks at them, training learns from them.
# Written by `python -m features ingest completejourney` in the form of offers.yaml, and made up as said there.
offers:
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What a source wrote into a workspace."""

    source: str
    shift_s: float
    sha256: dict[str, list[str]] = field(default_factory=dict)
    remaining_s: dict[str, float] = field(default_factory=dict)
    renewed_at: float | None = None


def remembered(workspace: Workspace, source: str) -> Written | None:
    """What `source` wrote before; None in a workspace without it."""
    try:
        return Written(**{"source": source, **orjson.loads((workspace.home / f"{source}.json").read_bytes())})
    except FileNotFoundError:
        return None


def after(before: Written | None, source: str, shift_s: float, remaining_s: dict[str, float]) -> Written:
    """What `source` is about to write, with what it remembers of the last time."""
    if before is None:
        return Written(source, shift_s, {}, remaining_s)
    return replace(before, shift_s=shift_s, remaining_s=remaining_s)


def remember(workspace: Workspace, written: Written) -> None:
    _replace(workspace.home / f"{written.source}.json", orjson.dumps(asdict(written), option=orjson.OPT_INDENT_2))


def write_ours(workspace: Workspace, written: Written, contents: Mapping[str, bytes]) -> list[str]:
    """Write the files that are absent or still as we left them, and remember; the names of those left alone."""
    theirs = [name for name in contents if not _ours(workspace, written, name)]
    ours = {name: content for name, content in contents.items() if name not in theirs}
    remember(workspace, _with(written, ours))
    for name, content in ours.items():
        _replace(workspace.home / name, content)
    return theirs


def _ours(workspace: Workspace, written: Written, name: str) -> bool:
    try:
        return _hash((workspace.home / name).read_bytes()) in written.sha256.get(name, ())
    except FileNotFoundError:
        return True


def _with(written: Written, contents: Mapping[str, bytes]) -> Written:
    """The memory with new contents. It also keeps the last hash, for we may be killed before the file is replaced."""
    hashes = dict(written.sha256)
    for name, content in contents.items():
        hashes[name] = list(dict.fromkeys([_hash(content), *hashes.get(name, ())]))[:2]
    return replace(written, sha256=hashes)


def renew(workspace: Workspace, now: float) -> int:
    """Keep open, from `now`, each offer that was open at the data's end, for as long as it was open then.

    At least for a week. Returns how many; 0 where offers.yaml is somebody's own or not there.
    """
    path = workspace.home / OFFERS
    known = [written for source in SOURCES if (written := remembered(workspace, source))]
    writer = next((written for written in known if path.exists() and _ours(workspace, written, OFFERS)), None)
    if writer is None:
        return 0
    written = replace(writer, renewed_at=now)
    renewed = renewed_text(path.read_text(encoding="utf-8"), written).encode()
    remember(workspace, _with(written, {OFFERS: renewed}))
    _replace(path, renewed)
    return len(written.remaining_s)


def renewed_text(text: str, written: Written) -> str:
    """The text of our offers.yaml with the validity of open offers moved on, if it ever was."""
    if written.renewed_at is None:
        return text
    lines = text.split("\n")
    until: str | None = None
    for number, line in enumerate(lines):
        if line.startswith("- offer_id: "):
            left = written.remaining_s.get(line.removeprefix("- offer_id: "))
            until = _moment(written.renewed_at + max(left, LEAST_OPEN_S)) if left is not None else None
        elif until is not None and line.startswith("  valid_until: "):
            lines[number] = f"  valid_until: {until}"
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------- content


def offers_text(offers: Iterable[Offer], shift_s: float, head: str = HEAD) -> str:
    """The offers as YAML that a person can read and edit, their validity `shift_s` later."""
    return head + "".join(_entry(offer, number, shift_s) for number, offer in enumerate(offers, start=1))


def _entry(offer: Offer, number: int, shift_s: float) -> str:
    value = ", ".join(f"{name}: {amount}" for name, amount in asdict(offer.value).items())
    lines = [
        f"- offer_id: {offer.offer_id}",
        f"  kind: {offer.kind}",
        *([f"  group: {offer.group}"] if offer.group else []),
        f"  product_ids: {_json(offer.product_ids)}",
        f"  valid_from: {_moment(offer.valid_from + shift_s)}",
        f"  valid_until: {_moment(offer.valid_until + shift_s)}",
        f"  value: {{{value}}}",
        "  treatments:",
        *_treatments(offer, number),
    ]
    return "\n".join(lines) + "\n"


def _treatments(offer: Offer, number: int) -> list[str]:
    """The content by channel; what is the same in several channels is said once, and meant by `*name` after it."""
    names: dict[bytes, str] = {}
    lines = []
    for channel, treatment in offer.treatments.items():
        content = orjson.dumps(treatment)
        if content in names:
            lines.append(f"    {channel}: *{names[content]}")
            continue
        names[content] = f"{channel}-{number}"
        said = ", ".join(f"{name}: {_json(text)}" for name, text in treatment.items())
        lines.append(f"    {channel}: &{names[content]} {{{said}}}")
    return lines


def _json(value: Any) -> str:
    return orjson.dumps(value).decode().replace('","', '", "')


def _moment(at: float) -> str:
    return datetime.fromtimestamp(round(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)
