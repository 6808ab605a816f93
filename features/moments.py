"""What was known at past moments: Feast's point-in-time join, and whole profiles rebuilt from the offline files.

Read-only; `store.ProfileStore` is the door to it. A moment is `as_of` in epoch seconds; rows are joined at
the microsecond (`history.micros`), features are derived at `as_of` itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import last_seen
from features.columns import NO_ENTRIES
from features.history import micros
from features.offline import part_of, part_path
from features.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

JOIN_AT_ONCE = 5_000
"""Rows given to Feast's join in one go: it carries every earlier row of each key through a window, states and all."""
NARROW_AT_ONCE = 200_000
_ROW = "entity_row"


def joined(feast: Any, entity_df: pd.DataFrame, features: Any, at_once: int = JOIN_AT_ONCE) -> pd.DataFrame:
    """`get_historical_features` in slices, rows kept in the order of `entity_df`."""
    import pandas as pd

    rows = entity_df.reset_index(drop=True)
    if "event_timestamp" not in rows:
        stamps = pd.to_datetime([micros(as_of) for as_of in rows["as_of"]], unit="us", utc=True)
        rows = rows.assign(event_timestamp=stamps.as_unit("us"))
    rows = rows.assign(as_of=rows["as_of"].astype("float64"), **{_ROW: range(len(rows))})
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in range(0, max(len(rows), 1), at_once):
            part = rows.iloc[start : start + at_once].reset_index(drop=True)
            found.append(feast.get_historical_features(entity_df=part, features=features).to_df())
    whole = pd.concat(found, ignore_index=True) if len(found) > 1 else found[0]
    return whole.sort_values(_ROW, ignore_index=True).drop(columns=_ROW)


def profiles_at(feast: Any, workspace: Workspace, pairs: pd.DataFrame) -> pd.DataFrame:
    """`pairs` with the packed `state` (Feast's join) and `items` (the narrow rows) as known at each `as_of`."""
    found = joined(feast, pairs[["customer_id", "as_of"]], ["profile:state"])
    states: list[bytes | None] = [bytes(state) if state else None for state in found["state"]]
    items: list[bytes | None] = [None] * len(pairs)
    wanted = [
        (part_of(customer_id), customer_id, micros(as_of), row)
        for row, (customer_id, as_of) in enumerate(zip(pairs["customer_id"], pairs["as_of"], strict=True))
        if states[row] is not None
    ]
    for number, share in groupby(sorted(wanted), key=itemgetter(0)):
        asked = {customer_id: list(rows) for customer_id, rows in groupby(share, key=itemgetter(1))}
        for customer_id, rows in _narrow_rows(part_path(workspace, "last_seen_history", number), list(asked)):
            theirs = asked.pop(customer_id)
            packed = last_seen.items_as_of(rows, [(moment, states[row] or b"") for *_, moment, row in theirs])
            for (*_, row), entries in zip(theirs, packed, strict=True):
                items[row] = entries
        for theirs in asked.values():
            for *_, row in theirs:
                items[row] = NO_ENTRIES
    return pairs.assign(state=states, items=items)


def _narrow_rows(path: Path, customer_ids: list[str]) -> Iterator[tuple[str, Iterator[last_seen.Row]]]:
    """The narrow rows of those of `customer_ids` that have any, in order of time; `build` wrote them in that order."""
    table = pq.read_table(path, schema=last_seen.SCHEMA)
    table = table.filter(pc.is_in(table["customer_id"], value_set=pa.array(customer_ids, type=pa.string())))
    moments = table["event_timestamp"].cast(pa.int64())
    table = table.set_column(table.schema.get_field_index("event_timestamp"), "event_timestamp", moments)
    columns = [column.to_pylist() for column in table.columns]
    for customer_id, rows in groupby(zip(*columns, strict=True), key=itemgetter(0)):
        yield customer_id, (row[1:] for row in rows)
