"""The point-in-time dataset: our join of Feast's definitions, beside a plain DuckDB `ASOF JOIN` and Feast's own.

The states are simulated: the demo's own states and moments under as many other customers' ids as it takes, in files as
`build` writes them. Whom it is asked of is drawn from the states, each up to ten days later. All give every row the
state as known then; ours also with the features derived of it, in Python, which is what training reads. Feast's own
join carries all earlier states of each row through a window, so it gets slices of 5,000 rows, and not the largest size.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks import sizes
from benchmarks.sizes import Work
from benchmarks.verdicts import Verdict
from features import moments
from features.offline import PARTS, SCHEMAS, part_of, part_path
from features.store import ProfileStore
from features.workspace import Workspace

SIZES = {20_000: 150_000, 60_000: 450_000, 200_000: 1_500_000}
QUICK_SIZES = {5_000: 37_500, 20_000: 150_000}
"""Rows asked for, and of how many states."""
ROUNDS = 1
FEAST_AT_ONCE, FEAST_AT_MOST, CHECKED = 5_000, 20_000, 2_000
LATER_S = 10 * 86_400
PLAIN = "plain ASOF JOIN"
STATE = ["profile:state"]


def main(workspace: Workspace, console: Console, quick: bool) -> list[Verdict]:
    with tempfile.TemporaryDirectory(prefix="onestory-bench-") as folder:
        homes = {}
        for rows, states in (QUICK_SIZES if quick else SIZES).items():
            homes[rows] = Workspace(Path(folder) / str(rows))
            simulate(workspace, homes[rows], rows, states)
        for rows in list(homes)[:1] if quick else homes:
            sizes.run(homes[rows], __name__, "checked", CHECKED)

        def run(name: str, rows: int) -> sizes.Run:
            if name == "Feast" and rows > FEAST_AT_MOST:
                return sizes.NOT_RUN
            return sizes.run(homes[rows], __name__, name, rows)

        ways = [PLAIN, "ours", "ours, features derived", "Feast"]
        compared = {name: lambda rows, name=name: run(name, rows) for name in ways}
        found = sizes.in_turns(compared, homes, ROUNDS)
    most = max(QUICK_SIZES.items() if quick else SIZES.items())
    title = f"what was known then: up to {most[0]:,} rows of {most[1]:,} simulated states; equal to Feast's in a sample"
    console.print(sizes.table(title, "rows", found, PLAIN))
    join, derived, plain = (found[name][-1].seconds for name in ("ours", "ours, features derived", PLAIN))
    what = f"{most[0]:,} rows of {most[1]:,} states"
    return [
        Verdict(f"{what}: our join against a plain ASOF JOIN", 3.0, join / plain),
        Verdict(f"{what}: with all features derived", 3.0, derived / plain),
    ]


# ------------------------------------------------------------------------------------------ simulation


def simulate(workspace: Workspace, other: Workspace, rows: int, states: int) -> None:
    """In `other` a profile view of `states` states, and `rows` moments to ask for."""
    parts = [part_path(workspace, "profile", number) for number in range(PARTS)]
    total = sum(pq.read_metadata(part).num_rows for part in parts)
    keys = []
    for number, part in enumerate(parts):
        copies = _copies(pq.read_table(part), number, states / total)
        path = part_path(other, "profile", number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, SCHEMAS["profile"], compression="zstd") as writer:
            for table in copies:
                writer.write_table(table)
                keys.append(table.select(["customer_id", "event_timestamp"]))
    found, chance = pa.concat_tables(keys), np.random.default_rng(1)
    drawn = found.take(chance.integers(0, len(found), rows)).to_pandas()
    stamps = drawn["event_timestamp"] + pd.to_timedelta(chance.integers(0, LATER_S, rows), unit="s")
    pairs = drawn.assign(event_timestamp=stamps.dt.as_unit("us"))
    pairs.assign(as_of=pairs["event_timestamp"].astype("int64") / 1e6).to_parquet(other.home / "pairs.parquet")


def _copies(table: pa.Table, number: int, times: float) -> Iterator[pa.Table]:
    """The rows of a part so many times, under ids that belong in the same part; the last time as many as it takes."""
    table = table.cast(SCHEMAS["profile"])
    codes = table["customer_id"].combine_chunks().dictionary_encode()
    spare = {name: _ids(name, number) for name in codes.dictionary.to_pylist()}
    for copy in range(int(np.ceil(times))):
        ids = pa.array([next(spare[name]) for name in codes.dictionary.to_pylist()], pa.string())
        other = table.set_column(0, table.schema.field(0), pc.take(ids, codes.indices))
        yield other.slice(0, round(len(table) * min(1.0, times - copy)))


def _ids(customer_id: str, number: int) -> Iterator[str]:
    """Ids made of this one that belong in that part."""
    made = (f"{customer_id}~{count}" for count in range(1_000_000))
    return (each for each in made if part_of(each) == number)


# ------------------------------------------------------------------------------------------------ jobs


def _pairs(workspace: Workspace, rows: int) -> pd.DataFrame:
    return pd.read_parquet(workspace.home / "pairs.parquet").iloc[:rows]


def ours(workspace: Workspace, rows: int) -> Work:
    store, pairs = ProfileStore(workspace), _pairs(workspace, rows)
    return lambda: len(moments.joined(store.feast, pairs, STATE))


def derived(workspace: Workspace, rows: int) -> Work:
    store, pairs = ProfileStore(workspace), _pairs(workspace, rows)
    return lambda: len(store.historical(pairs, "churn"))


def plain(workspace: Workspace, rows: int) -> Work:
    """The same files and the same column, as DuckDB's documentation has it."""
    import duckdb

    pairs, files = pa.Table.from_pandas(_pairs(workspace, rows)), str(workspace.offline / "profile.parquet" / "*")
    connection = duckdb.connect()
    connection.register("pairs", pairs)
    query = (
        "SELECT pairs.*, states.state FROM pairs ASOF LEFT JOIN read_parquet($files) AS states "
        "ON pairs.customer_id = states.customer_id AND pairs.event_timestamp >= states.event_timestamp"
    )
    return lambda: len(connection.sql(query, params={"files": files}).to_arrow_table().to_pandas())


def official(store: ProfileStore, pairs: pd.DataFrame, features: Any) -> pd.DataFrame:
    """Feast's own answer, in the order asked."""
    asked = pairs.assign(place=range(len(pairs)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = store.feast.get_historical_features(entity_df=asked, features=features).to_df()
    return found.sort_values("place", ignore_index=True).drop(columns="place")


def feast(workspace: Workspace, rows: int) -> Work:
    store, pairs = ProfileStore(workspace), _pairs(workspace, rows)
    slices = [pairs.iloc[start : start + FEAST_AT_ONCE] for start in range(0, rows, FEAST_AT_ONCE)]
    return lambda: sum(len(official(store, each.reset_index(drop=True), STATE)) for each in slices)


def checked(workspace: Workspace, rows: int) -> Work:
    """Ours and Feast's on a sample, state and features; AssertionError where they differ."""
    store, pairs = ProfileStore(workspace), _pairs(workspace, rows)

    def compare() -> int:
        for features in (STATE, store.feast.get_feature_service("churn")):
            here = moments.joined(store.feast, pairs, features)
            pd.testing.assert_frame_equal(here, official(store, pairs, features)[list(here)])
        return rows

    return compare


JOBS = {PLAIN: plain, "ours": ours, "ours, features derived": derived, "Feast": feast, "checked": checked}
