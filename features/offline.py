"""The offline files: where they lie, what is in them, and how one is written.

A view is a folder of parquet parts under `ONESTORY_HOME/offline`. A customer's rows all lie in one part, in
order of time. A part is replaced as a whole by a rename, so that memory stays flat and a reader never sees
half a file; it carries what it was made of. What goes into the rows is the business of `build`.
"""

from __future__ import annotations

import fcntl
import hashlib
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import (
    browsing,
    care,
    cart,
    columns,
    consent,
    corrections,
    decay,
    entries,
    habits,
    history,
    last_seen,
    links,
    orders,
    partition,
    profiles,
    reactions,
    returns,
    steps,
)
from features.workspace import Workspace

PARTS = 16
GROUP_ROWS = 100_000
_STAMP = pa.timestamp("us", tz="UTC")
_MADE_OF = b"onestory"

SCHEMAS = {
    "profile": pa.schema(
        [("customer_id", pa.string()), ("event_timestamp", _STAMP), ("state", pa.binary()), ("seq", pa.int64())]
    ),
    "last_seen": pa.schema(
        [("customer_id", pa.string()), ("event_timestamp", _STAMP), ("items", pa.binary()), ("items_seq", pa.int64())]
    ),
    "last_seen_history": last_seen.SCHEMA,
    "stock": pa.schema(
        [
            ("product_id", pa.string()),
            ("location_id", pa.string()),
            ("event_timestamp", _STAMP),
            ("quantity", pa.int64()),
        ]
    ),
}

_MAKERS = (
    *(profiles, columns, corrections, steps, decay, entries, history, last_seen, links, partition),
    *(returns, orders, cart, browsing, care, consent, habits, reactions),
)
"""The modules that say what is in a part."""


class NotBuilt(ValueError):
    """The workspace has no offline files yet."""


def part_of(customer_id: str) -> int:
    """The part that a customer's rows lie in."""
    return zlib.crc32(customer_id.encode()) % PARTS


def part_path(workspace: Workspace, view: str, number: int) -> Path:
    return workspace.offline / f"{view}.parquet" / f"{number:02}.parquet"


def files_for(folder: Path, customer_ids: Iterable[str] | None) -> list[str]:
    """The files of a view that can hold rows of these customers; all of them where it is not kept by customer."""
    if customer_ids is None:
        return sorted(map(str, folder.glob("*.parquet")))
    return [str(folder / f"{number:02}.parquet") for number in sorted(set(map(part_of, set(customer_ids))))]


def demand_built(workspace: Workspace) -> None:
    if not part_path(workspace, "profile", PARTS - 1).exists():
        raise NotBuilt(
            f"`{workspace.offline}` holds no profiles as known at past moments; run `python -m features build`"
        )


class Part:
    """One part in the making: rows are added in any number, the file appears when it is whole."""

    def __init__(self, workspace: Workspace, view: str, number: int, made_of: bytes):
        self._path = part_path(workspace, view, number)
        self._draft = workspace.offline / f".{view}-{self._path.name}"  # not where Feast looks
        self._schema = SCHEMAS[view].with_metadata({_MADE_OF: made_of})
        self._rows: list[tuple[Any, ...]] = []

    def __enter__(self) -> Part:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._draft, self._schema, compression="zstd")
        return self

    def add(self, row: tuple[Any, ...]) -> None:
        """Add one row, its values in the order of the view's schema, the time in µs."""
        self._rows.append(row)
        if len(self._rows) == GROUP_ROWS:
            self._flush()

    def keep(self, without: Collection[str]) -> None:
        """Take over the rows of the old file, but for those of some customers. Before any row is added."""
        gone = pa.array(sorted(without), type=pa.string())
        with pq.ParquetFile(self._path) as old:
            for batch in old.iter_batches(GROUP_ROWS):
                rows = pa.Table.from_batches([batch])
                kept = rows.filter(pc.invert(pc.is_in(rows["customer_id"], value_set=gone)))
                self._writer.write_table(kept.cast(self._schema))

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=self._schema))
        self._rows.clear()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._draft.replace(self._path)
        else:
            self._draft.unlink()


@dataclass(frozen=True, slots=True)
class Mark:
    """What a part is made of: the log up to an event, the changes of past moments up to one, and by which code."""

    seq: int
    touched: int

    def packed(self) -> bytes:
        return f"{code()} {self.seq} {self.touched}".encode()


def mark_of(workspace: Workspace, view: str, number: int) -> Mark | None:
    """What the part was made of; None where it is not there, or other code made it."""
    try:
        metadata = pq.read_schema(part_path(workspace, view, number)).metadata or {}
        by, seq, touched = metadata.get(_MADE_OF, b"").decode().split(" ")
    except (OSError, ValueError):
        return None
    return Mark(int(seq), int(touched)) if by == code() else None


@cache
def code() -> str:
    """A hash of the code that makes rows."""
    return hashlib.sha256(b"".join(Path(module.__file__ or "").read_bytes() for module in _MAKERS)).hexdigest()


def forget(workspace: Workspace, customer_ids: Collection[str]) -> int:
    """Write the customers' parts anew without them, and clear away what a killed build left; how many rows went.

    The caller is `alone`. A part keeps its mark: it still holds all that was known by then of everybody else.
    """
    for draft in workspace.offline.glob(".*.parquet"):
        draft.unlink()
    count = 0
    named = pa.array(sorted(customer_ids), pa.string())
    for view in ("last_seen_history", "last_seen", "profile"):
        for number in sorted(set(map(part_of, customer_ids))):
            path = part_path(workspace, view, number)
            if path.exists():
                count += _without(path, workspace.offline / f".{view}-{path.name}", named)
    return count


def _without(path: Path, draft: Path, customer_ids: pa.Array) -> int:
    with pq.ParquetFile(path) as file:
        count = 0
        with pq.ParquetWriter(draft, file.schema_arrow, compression="zstd") as writer:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                kept = table.filter(pc.invert(pc.is_in(table["customer_id"], customer_ids)))
                count += len(table) - len(kept)
                writer.write_table(kept)
    if count:
        draft.replace(path)
    else:
        draft.unlink()
    return count


@contextmanager
def alone(workspace: Workspace) -> Iterator[None]:
    """One build at a time in a workspace; a second one waits."""
    workspace.offline.mkdir(parents=True, exist_ok=True)
    with (workspace.offline / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
