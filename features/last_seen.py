"""The narrow rows of last-seen: how an entry of a profile's `items` lies in parquet, and back.

One row says what one entry was from one moment on. `columns_of` and `entry_of` are each other's inverse,
to the bit; `items_as_of` walks the rows of a customer and gives the packed entries at any number of
moments. Where the files lie and who writes them is the business of `build`, who asks of `store`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa

from features import profiles
from features.profiles import Profile

ENTRY = pa.schema(
    [
        ("last_at", pa.float64()),
        ("first_at", pa.float64()),
        ("trips", pa.int64()),
        ("decayed_trips", pa.float64()),
        ("decayed_spend", pa.float64()),
        ("last_id", pa.string()),
        ("returned_at", pa.float64()),
        ("return_id", pa.string()),
        ("return_reason", pa.string()),
    ]
)
"""The positions of an entry, in their order (see `profiles.LAST` and those after it)."""
SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("item", pa.string()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
        *ENTRY,
        ("present", pa.bool_()),
    ]
)
GONE = [None] * len(ENTRY)

Row = tuple[Any, ...]


def row_of(customer_id: str, item: str, moment: int, entry: Sequence[Any] | None) -> Row:
    """The narrow row of an entry as it became at `moment` (µs); None where a correction removed it."""
    return (customer_id, item, moment, *(GONE if entry is None else entry), entry is not None)


def items_as_of(rows: Iterable[Row], moments: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
    """The packed items of one customer at each of `moments` (µs, with the state as of then), both in order of time.

    `rows` are the customer's narrow rows without the id: `(item, moment, *entry, present)`.
    """
    items: dict[str, list[Any]] = {}
    coming = iter(rows)
    row = next(coming, None)
    for moment, state in moments:
        while row is not None and row[1] <= moment:
            if row[-1]:
                items[row[0]] = list(row[2:-1])
            else:
                items.pop(row[0], None)
            row = next(coming, None)
        yield profiles.pack(Profile(orjson.loads(state), items))[1]
