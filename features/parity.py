"""The check that training and serving see the same: every feature online against as known at this moment offline.

First everything is brought up to the log: the offline files that lack something are made, and customers whom a file
added to, or whom a crash left behind, are put online; what the online store holds of all others, right or wrong, is
only read. Then, customer by customer, what Feast's front doors give: the stored state, every feature that `derive`
makes of it, and every entry of last-seen, on the one side by `get_online_features`, on the other by
`get_historical_features`. Values are equal or they are not; there is no tolerance. Whatever the online store holds is
an answer, never an error.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow.parquet as pq
import sqlalchemy as sa

from features import arrears, columns, database, driver, history, last_seen, profiles
from features.build import Progress, build_lacking
from features.levelling import Levelling
from features.offline import part_of, part_path
from features.profiles import Profile
from features.store import ProfileStore
from features.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

AT_ONCE = 250
"""Customers compared in one go: 250 × 500 entries are 130,000 rows in Feast's join, in about 600 MB."""
STOCK_AT_ONCE = 2_000
ROUNDS = 3
SHOWN = 120
"""Characters of a value that a difference shows."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that is not the same online and offline; of stock, `customer_id` is `<product> at <location>`."""

    customer_id: str
    feature: str
    online: str
    historical: str

    def __str__(self) -> str:
        return f"`{self.customer_id}` differs in `{self.feature}`: online {self.online}, historical {self.historical}"


Found = dict[Any, list[Difference]]


def parity(
    workspace: Workspace,
    sample: int | None = None,
    progress: Progress = lambda what, done, total: None,
    store: ProfileStore | None = None,
) -> list[Difference]:
    """Every difference among all customers, or `sample` of them (the same ones every time), and in all stock."""
    store = store or ProfileStore(workspace)
    _brought_up(workspace, store, progress)
    customers = _customers(workspace)
    if sample is not None:
        customers = sorted(random.Random(0).sample(customers, min(sample, len(customers))))
    found = _lasting(workspace, store, customers, partial(_compared, workspace, store, progress))
    if sample is None:
        shelves = _shelves(workspace)
        found += _lasting(workspace, store, shelves, partial(_stock_compared, workspace, store, progress))
    return found


def _brought_up(workspace: Workspace, store: ProfileStore, progress: Progress = lambda *_: None) -> int:
    """Make what is lacking: customers the log is ahead of, online rows behind our database, offline files; how much."""
    engine = database.connect(workspace)
    writer = driver.Writer(engine)
    try:
        count = arrears.settle(workspace, store) + Levelling(writer, store).everything(engine)
    finally:
        writer.close()
    return count + build_lacking(workspace, progress).parts


def _lasting(
    workspace: Workspace, store: ProfileStore, keys: list[Any], compare: Callable[[list[Any]], Found]
) -> list[Difference]:
    """The differences that are still there on a second look.

    While the service runs, or a file is taken in, news may come between the two sides of a comparison: what
    differs is compared again, with all news on both sides, as long as there are any.
    """
    found = compare(keys)
    for _ in range(ROUNDS):
        if not found:
            break
        news = _brought_up(workspace, store)
        found = compare(sorted(found))
        if not news:
            break
    return [difference for key in sorted(found) for difference in found[key]]


def _customers(workspace: Workspace) -> list[str]:
    with database.reading(database.connect(workspace)) as connection:
        known = connection.scalars(sa.select(database.profiles.c.customer_id)).all()
        return sorted({*known, *history.counts(connection)})


def _now(workspace: Workspace) -> float:
    """Now, or when the last event was known, should the clock have been put back since."""
    with database.reading(database.connect(workspace)) as connection:
        newest = connection.scalar(sa.select(sa.func.max(database.events.c.known_at)))
    return max(time.time(), newest or 0.0)


def _compared(workspace: Workspace, store: ProfileStore, progress: Progress, customers: list[str]) -> Found:
    found: Found = {}
    as_of = _now(workspace)
    by_part = sorted(customers, key=lambda customer_id: (part_of(customer_id), customer_id))
    for start in range(0, len(by_part), AT_ONCE):
        chunk = by_part[start : start + AT_ONCE]
        for difference in _chunk_differences(workspace, store, chunk, as_of):
            found.setdefault(difference.customer_id, []).append(difference)
        progress("customers compared", start + len(chunk), len(by_part))
    return found


def _chunk_differences(
    workspace: Workspace, store: ProfileStore, customers: list[str], as_of: float
) -> Iterator[Difference]:
    import pandas as pd

    online, unreadable = _readable(customers, lambda ids: store.online(ids, "decision", as_of))
    seqs = _sequences(workspace, customers)
    known = store.historical_by_feast(pd.DataFrame({"customer_id": customers, "as_of": as_of}), "churn")
    entries = _historical_entries(workspace, store, customers, as_of)
    for there in known.to_dict("records"):
        customer_id = there["customer_id"]
        state = bytes(there["state"] or b"{}")
        items = profiles.pack(Profile(orjson.loads(state), entries.get(customer_id, {})))[1]
        if customer_id in unreadable:
            views = {"profile": state, "last_seen": orjson.dumps(dict(columns.unpack(items)))}
            bad = [view for view in views if _readable([customer_id], partial(store.online_view, view))[1]]
            for view in bad or views:
                yield Difference(customer_id, view, f"unreadable: {unreadable[customer_id]}", _shown(views[view]))
            continue
        here = online[customer_id]
        if (_bytes(here["state"]) or b"{}") != state:
            yield Difference(customer_id, "state", *_shown_apart(_bytes(here["state"]), state))
        for name in profiles.FEATURES:
            if not _same(here[name], there[name]):
                yield Difference(customer_id, name, _shown(here[name]), _shown(there[name]))
        for name in ("seq", "items_seq"):
            if not _same(here[name], seqs.get(customer_id)):
                yield Difference(customer_id, name, _shown(here[name]), _shown(seqs.get(customer_id)))
        yield from _entry_differences(customer_id, _bytes(here["items"]) or columns.NO_ENTRIES, items)


def _entry_differences(customer_id: str, packed: bytes, expected: bytes) -> Iterator[Difference]:
    if packed == expected:
        return
    there = dict(columns.unpack(expected))
    try:
        found = dict(columns.unpack(packed))
    except (ValueError, LookupError):
        yield Difference(customer_id, "last_seen", *_shown_apart(packed, expected))
        return
    if found == there:  # the same values in other bytes
        yield Difference(customer_id, "last_seen", *_shown_apart(packed, expected))
    for item in sorted(found.keys() | there.keys()):
        one, other = found.get(item), there.get(item)
        if one is not None and other is not None:
            for name, left, right in zip(last_seen.ENTRY.names, one, other, strict=True):
                if left != right:
                    yield Difference(customer_id, f"last_seen {item} {name}", _shown(left), _shown(right))
        elif one != other:
            yield Difference(customer_id, f"last_seen {item}", _shown(one), _shown(other))


def _readable(
    keys: list[Any], read: Callable[[list[Any]], pd.DataFrame]
) -> tuple[dict[Any, dict[str, Any]], dict[Any, str]]:
    """What `read` gives for each key, and what it raises: the half that does so is halved down to single keys."""
    try:
        return dict(zip(keys, read(keys).to_dict("records"), strict=True)), {}
    except Exception as error:  # whatever garbage makes Feast and protobuf raise
        if len(keys) == 1:
            return {}, {keys[0]: str(error).strip() or type(error).__name__}
    middle = len(keys) // 2
    rows, unreadable = _readable(keys[:middle], read)
    more, others = _readable(keys[middle:], read)
    return rows | more, unreadable | others


def _sequences(workspace: Workspace, customers: list[str]) -> dict[str, int]:
    table = database.profiles
    statement = sa.select(table.c.customer_id, table.c.online_seq).where(table.c.customer_id.in_(customers))
    with database.reading(database.connect(workspace)) as connection:
        return {row.customer_id: row.online_seq for row in connection.execute(statement)}


def _historical_entries(
    workspace: Workspace, store: ProfileStore, customers: list[str], as_of: float
) -> dict[str, dict[str, list[Any]]]:
    """Every entry of last-seen as Feast's point-in-time join gives it."""
    keys = _keys(workspace, customers)
    if not len(keys):
        return {}
    rows = store.historical_entries(keys.assign(as_of=as_of))
    rows = rows[rows["present"].eq(True)]
    found: dict[str, dict[str, list[Any]]] = {}
    columns = [rows[name].tolist() for name in ("customer_id", "item", *last_seen.ENTRY.names)]
    for customer_id, item, *entry in zip(*columns, strict=True):
        entry[profiles.TRIPS] = int(entry[profiles.TRIPS])
        found.setdefault(customer_id, {})[item] = entry
    return found


def _keys(workspace: Workspace, customers: list[str]) -> pd.DataFrame:
    """Every (customer_id, item) that there ever was an entry for."""
    names = ["customer_id", "item"]
    files = [str(part_path(workspace, "last_seen_history", number)) for number in sorted(set(map(part_of, customers)))]
    table = pq.ParquetDataset(files, filters=[("customer_id", "in", customers)]).read(columns=names)
    return table.group_by(names).aggregate([]).to_pandas()


# ------------------------------------------------------------------------------------------------ stock


def _shelves(workspace: Workspace) -> list[tuple[str, str]]:
    names = ["product_id", "location_id"]
    table = pq.read_table(part_path(workspace, "stock", 0), columns=names).group_by(names).aggregate([])
    return sorted(zip(*(table[name].to_pylist() for name in names), strict=True))


def _stock_compared(
    workspace: Workspace, store: ProfileStore, progress: Progress, shelves: list[tuple[str, str]]
) -> Found:
    found: Found = {}
    as_of = _now(workspace)
    for start in range(0, len(shelves), STOCK_AT_ONCE):
        chunk = shelves[start : start + STOCK_AT_ONCE]
        online, unreadable = _readable(chunk, store.online_stock)
        for shelf, there in zip(chunk, store.historical_stock(chunk, as_of)["quantity"], strict=True):
            here = online[shelf]["quantity"] if shelf in online else None
            if shelf in unreadable or not _same(here, there):
                shown = f"unreadable: {unreadable[shelf]}" if shelf in unreadable else _shown(here)
                found[shelf] = [Difference("{} at {}".format(*shelf), "stock quantity", shown, _shown(there))]
        progress("stock compared", start + len(chunk), len(shelves))
    return found


# ----------------------------------------------------------------------------------------------- values


def _bytes(value: Any) -> bytes | None:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None


def _missing(value: Any) -> bool:
    return value is None or value != value


def _same(one: Any, other: Any) -> bool:
    """Equal to the last bit; what is unknown equals what is unknown."""
    return (_missing(one) and _missing(other)) or bool(one == other)


def _shown(value: Any) -> str:
    if _missing(value):
        return "absent"
    text = _text(value) if isinstance(value, bytes) else str(value)
    return f"`{text}`" if len(text) <= SHOWN else f"`{text[:SHOWN]}…`"


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


def _shown_apart(one: bytes | None, other: bytes) -> tuple[str, str]:
    """Two long values from shortly before where they part."""
    if one is None:
        return _shown(one), _shown(other)
    left, right = _text(one), _text(other)
    parted = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    start = max(0, parted - SHOWN // 2)
    return _shown(left[start:]), _shown(right[start:])
