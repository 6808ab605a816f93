"""What was known at past moments: the point-in-time join of Feast's definitions, and whole profiles rebuilt.

Read-only; `store.ProfileStore` is the door to it. A moment is `as_of` in epoch seconds; rows are joined at
the microsecond (`history.micros`), features are derived at `as_of` itself.

`joined` gives what Feast's `get_historical_features` gives, by Feast's registry: it says which view, keys, time, file
and on-demand features. Feast's own join carries every earlier row of a key through a window, states and all. Here
DuckDB finds by keys and times alone which rows are wanted, and then reads the fields of those.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import last_seen
from features.columns import NO_ENTRIES
from features.history import micros
from features.offline import files_for, part_of, part_path
from features.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

FEAST_AT_ONCE, NARROW_AT_ONCE = 5_000, 200_000
"""Rows given to Feast's join in one go: it carries every earlier row of each key through a window, states and all."""
DERIVED_AT_ONCE = 10_000
"""Rows whose states Feast turns into Python objects in one go."""
_ROW = "entity_row"
_STAMP = "event_timestamp"


def joined(feast: Any, entity_df: pd.DataFrame, features: Any) -> pd.DataFrame:
    """`entity_df` with `features`, references or a feature service, as known at each `as_of`; rows keep their order.

    Views have no TTL and no created timestamps (`definitions`), so neither is looked at.
    """
    rows = _stamped(entity_df)
    views, derived = _asked(feast, features)
    found = rows
    for view, fields in views.items():
        found = found.join(_known(view, fields, rows, derived))
    return found


def by_feast(feast: Any, entity_df: pd.DataFrame, features: Any, at_once: int = FEAST_AT_ONCE) -> pd.DataFrame:
    """The same by Feast's own `get_historical_features`, in slices: what `parity` compares with."""
    import pandas as pd

    rows = _stamped(entity_df)
    rows = rows.assign(**{_ROW: range(len(rows))})
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in range(0, max(len(rows), 1), at_once):
            part = rows.iloc[start : start + at_once].reset_index(drop=True)
            found.append(feast.get_historical_features(entity_df=part, features=features).to_df())
    whole = pd.concat(found, ignore_index=True) if len(found) > 1 else found[0]
    return whole.sort_values(_ROW, ignore_index=True).drop(columns=_ROW)


def _stamped(entity_df: pd.DataFrame) -> pd.DataFrame:
    """The rows with the time at which Feast looks, made of `as_of` where they have none."""
    import pandas as pd

    rows = entity_df.reset_index(drop=True)
    if _STAMP not in rows:
        stamps = pd.to_datetime([micros(as_of) for as_of in rows["as_of"]], unit="us", utc=True)
        rows = rows.assign(**{_STAMP: stamps.as_unit("us")})
    return rows.assign(as_of=rows["as_of"].astype("float64"))


def _asked(feast: Any, features: Any) -> tuple[dict[Any, list[str]], list[Any]]:
    """Which fields of which stored views are wanted, and the on-demand views over them."""
    if isinstance(features, list):
        wanted = [tuple(reference.split(":")) for reference in features]
    else:
        wanted = [(each.name, field.name) for each in features.feature_view_projections for field in each.features]
    on_demand = {view.name: view for view in feast.list_on_demand_feature_views()}
    derived = [on_demand[name] for name in dict.fromkeys(name for name, _ in wanted) if name in on_demand]
    for view in derived:
        sources = view.source_feature_view_projections.values()
        wanted += [(source.name, field.name) for source in sources for field in source.features]
    fields: dict[str, list[str]] = {}
    for name, field in dict.fromkeys(wanted):
        if name not in on_demand:
            fields.setdefault(name, []).append(field)
    return {feast.get_feature_view(name): names for name, names in fields.items()}, derived


def _known(view: Any, fields: Sequence[str], rows: pd.DataFrame, derived: Sequence[Any]) -> pd.DataFrame:
    """The `fields` of one view and what is derived of them, a row per row of `rows`."""
    keys, source = list(view.join_keys), view.batch_source
    names = [*keys, _STAMP, "as_of"]
    asked = pa.table({_ROW: np.arange(len(rows))} | {name: pa.array(rows[name]) for name in names})
    stamps = asked[_STAMP].cast(pa.timestamp("us", "UTC"), safe=False)  # whatever the caller's are kept in
    asked = asked.set_column(asked.schema.get_field_index(_STAMP), _STAMP, stamps)
    files = files_for(Path(source.path), rows["customer_id"] if len(rows) and "customer_id" in keys else None)
    whole = _latest(asked, files, keys, source.timestamp_field, fields)
    for on_demand in derived:
        if view.name in {each.name for each in on_demand.source_feature_view_projections.values()}:
            slices = [whole.slice(start, DERIVED_AT_ONCE) for start in range(0, max(len(whole), 1), DERIVED_AT_ONCE)]
            made = pa.concat_tables(map(on_demand.transform_arrow, slices), promote_options="permissive")
            for name, column in zip(made.column_names, made.columns, strict=True):
                whole = whole.append_column(name, column)
    return whole.drop(["as_of"]).to_pandas().set_index(_ROW).sort_index()


_LATEST = """
WITH known AS (SELECT {keys}, {stamp} AS known_at, file_index, file_row_number FROM read_parquet($files)),
     found AS (SELECT asked.entity_row, asked.as_of, known.file_index, known.file_row_number
               FROM asked ASOF LEFT JOIN known ON {same} AND asked.event_timestamp >= known.known_at)
SELECT found.entity_row, found.as_of, {fields}
FROM found LEFT JOIN (SELECT file_index, file_row_number, {fields} FROM read_parquet($files)) AS rows
     USING (file_index, file_row_number)
"""


def _latest(asked: pa.Table, files: Sequence[str], keys: Sequence[str], stamp: str, fields: Sequence[str]) -> pa.Table:
    """The `fields` of the newest row of the same keys that is not later, for each row of `asked`, in any order."""
    import duckdb

    def named(names: Sequence[str]) -> str:
        return ", ".join(f'"{name}"' for name in names)

    same = " AND ".join(f'asked."{key}" = known."{key}"' for key in keys)
    query = _LATEST.format(keys=named(keys), stamp=f'"{stamp}"', same=same, fields=named(fields))
    with duckdb.connect() as connection:
        connection.register("asked", asked)
        table: pa.Table = connection.sql(query, params={"files": list(files)}).to_arrow_table()
    return table


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
