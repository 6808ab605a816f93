"""Online Retail for tests: where the file is, a few customers of it, and its history as Segment messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest

from features.sources import cancellations, retail
from features.sources.onlineretail import events
from features.vocabulary import Event
from features.workspace import PROJECT

FILE = "online_retail_2010_2011.parquet"


def data_file(name: str = FILE) -> Path:
    """The data file for tests, from ONESTORY_TEST_DATA or beside the project; skips, by its name, where it is not."""
    folder = Path(os.environ.get("ONESTORY_TEST_DATA") or PROJECT.parent / "shared" / "data")
    if not (folder / name).is_file():
        pytest.skip(f"needs the data file {name}; ONESTORY_TEST_DATA may name its folder")
    return folder / name


def some_customers(published: pd.DataFrame, count: int) -> pd.DataFrame:
    """The lines of `count` customers: those who cancelled most, so that every kind of event is met."""
    cancelled = published[published["invoice"].str.startswith("C")].groupby("customer_id").size()
    chosen = sorted(cancelled.index, key=lambda customer: (-cancelled[customer], customer))[:count]
    return published[published["customer_id"].isin(chosen)]


def messages(published: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The history as a shop would have sent it to Segment, with the message ids that the source gives."""
    cleaned = retail.read(published)
    taken_back = cancellations.match(cleaned.sales, cleaned.cancelled)
    return map(message, events(cleaned, taken_back))


def write(published: pd.DataFrame, path: Path) -> Path:
    """`messages` as NDJSON."""
    path.write_bytes(b"".join(orjson.dumps(each) + b"\n" for each in messages(published)))
    return path


def message(event: Event) -> dict[str, Any]:
    """An event of the source as the shop would have told it."""
    context = {"channel": event.channel, "location_id": event.location_id}
    return {
        "type": "track",
        "messageId": event.message_id,
        "userId": event.user_id,
        "event": event.name,
        "timestamp": datetime.fromtimestamp(event.occurred_at, UTC).isoformat(),
        "context": {key: value for key, value in context.items() if value},
        "properties": event.body,
    }
