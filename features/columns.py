"""The entries of a profile as columns: how they are stored, and how a decision reads hundreds of them at once.

An entry is a list (its positions are in `entries`), and a fold changes a few of them. Stored, and for sums over all of
a customer's history, they are one array per position, so that nothing is made of an entry that nobody asks for, not
even its key: a catalog finds what it knows by `mark_of` the keys. `Items` is both: a mapping of entries over the
columns that they are in. What is summed is the business of `affinity`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from features.entries import (
    DECAYED_SPEND,
    DECAYED_TRIPS,
    FIRST,
    KEEP_S,
    LAST,
    LAST_ID,
    RETURN_ID,
    RETURN_REASON,
    RETURNED,
    TRIPS,
)

NUMBERS = (LAST, FIRST, TRIPS, DECAYED_TRIPS, DECAYED_SPEND, RETURNED)
TEXTS = (LAST_ID, RETURN_ID, RETURN_REASON)
_ROW = {position: row for row, position in enumerate(NUMBERS)}
_COUNT_BYTES = 8
_BYTES_AN_ENTRY = 8 + 8 * len(NUMBERS) + 4 * len(TEXTS)

Marks = NDArray[np.uint64]


@lru_cache(maxsize=2**16)
def mark_of(key: str) -> int:
    """A number for a key of an entry, the same everywhere; that two keys share one is not to be expected (64 bits)."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")


class Columns:
    """Entries in the order of their marks. `marks`: uint64, one an entry; `numbers`: a row per position of NUMBERS."""

    def __init__(self, marks: Marks, numbers: NDArray[np.float64], texts: NDArray[np.uint32], named: bytes):
        self.marks, self.numbers = marks, numbers
        self.places = texts
        """A row per position of TEXTS: the place of the text in `texts`, since many entries come of one message."""
        self._named = named

    def __len__(self) -> int:
        return len(self.marks)

    @cached_property
    def _names(self) -> tuple[list[str], list[str]]:
        keys, texts = orjson.loads(self._named)
        return keys, texts

    @property
    def keys(self) -> list[str]:
        return self._names[0]

    @property
    def texts(self) -> list[str]:
        return self._names[1]

    @cached_property
    def rows(self) -> dict[int, int]:
        """Where each mark is."""
        return dict(zip(self.marks.tolist(), range(len(self.marks)), strict=True))

    def of(self, position: int) -> NDArray[np.float64]:
        """One position, a number, of every entry."""
        row: NDArray[np.float64] = self.numbers[_ROW[position]]
        return row

    def entry(self, row: int) -> list[Any]:
        last, first, trips, decayed_trips, decayed_spend, returned = self.numbers[:, row].tolist()
        last_id, return_id, reason = (self.texts[place] for place in self.places[:, row].tolist())
        return [last, first, int(trips), decayed_trips, decayed_spend, last_id, returned, return_id, reason]

    def packed(self) -> bytes:
        return b"".join(
            (
                len(self).to_bytes(_COUNT_BYTES, "little"),
                self.marks.astype("<u8", copy=False).tobytes(),
                self.numbers.astype("<f8", copy=False).tobytes(),
                self.places.astype("<u4", copy=False).tobytes(),
                self._named,
            )
        )


class Items(Mapping[str, list[Any]]):
    """Entries by key over their columns. One that is got is a copy: what changes it puts it back."""

    def __init__(self, columns: Columns):
        self._columns = columns
        self._put: dict[str, list[Any]] = {}

    def get(self, key: str, default: Any = None) -> Any:
        if key in self._put:
            return self._put[key]
        row = self._columns.rows.get(mark_of(key))
        return default if row is None else self._columns.entry(row)

    def __getitem__(self, key: str) -> list[Any]:
        found: list[Any] | None = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, entry: list[Any]) -> None:
        self._put[key] = entry

    def __contains__(self, key: object) -> bool:
        return key in self._put or mark_of(str(key)) in self._columns.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns().keys)

    def __len__(self) -> int:
        return len(self.columns())

    def columns(self) -> Columns:
        """All entries, those put back among them."""
        if self._put:
            self._columns, self._put = _with(self._columns, self._put), {}
        return self._columns


def columns_of(items: Mapping[str, list[Any]]) -> Columns:
    """The columns of any entries."""
    return items.columns() if isinstance(items, Items) else _with(_NONE, items)


def _with(columns: Columns, put: Mapping[str, Sequence[Any]]) -> Columns:
    """`columns` with the entries of `put` in them."""
    if not put:
        return columns
    rows, count = columns.rows, len(columns)
    new = [key for key in put if mark_of(key) not in rows]
    keys, texts = [*columns.keys, *new], {text: place for place, text in enumerate(columns.texts)}
    place_of = {key: count + number for number, key in enumerate(new)}
    at = [place_of[key] if key in place_of else rows[mark_of(key)] for key in put]
    marks = np.append(columns.marks, np.array([mark_of(key) for key in new], np.uint64))
    numbers, places = (np.zeros((len(each), len(keys)), each.dtype) for each in (columns.numbers, columns.places))
    numbers[:, :count], places[:, :count] = columns.numbers, columns.places
    entries = put.values()
    numbers[:, at] = [[entry[position] for entry in entries] for position in NUMBERS]
    places[:, at] = [[texts.setdefault(entry[position], len(texts)) for entry in entries] for position in TEXTS]
    order = np.argsort(marks, kind="stable")
    named = orjson.dumps([[keys[place] for place in order.tolist()], list(texts)])
    return Columns(marks[order], numbers[:, order], places[:, order], named)


def _kept(columns: Columns, at: float) -> Columns:
    """Without entries idle for more than 730 days at `at`; the texts that are used in their alphabetical order."""
    kept = (at - np.maximum(columns.of(LAST), columns.of(RETURNED)) <= KEEP_S).nonzero()[0]
    places = columns.places[:, kept]
    used = np.unique(places).tolist()
    texts = sorted(columns.texts[place] for place in used)
    place_of = {text: place for place, text in enumerate(texts)}
    again = np.zeros(len(columns.texts), np.uint32)
    again[used] = [place_of[columns.texts[place]] for place in used]
    keys = columns.keys if len(kept) == len(columns) else [columns.keys[row] for row in kept.tolist()]
    return Columns(columns.marks[kept], columns.numbers[:, kept], again[places], orjson.dumps([keys, texts]))


def pack(items: Mapping[str, list[Any]], at: float) -> bytes:
    """The entries as bytes, the same ones for the same entries; without those idle for more than 730 days at `at`."""
    return _kept(columns_of(items), at).packed()


def unpack(data: bytes) -> Items:
    """The entries that `pack` gave these bytes for. Raises ValueError where it gave no such."""
    count = int.from_bytes(data[:_COUNT_BYTES], "little")
    named = _COUNT_BYTES + count * _BYTES_AN_ENTRY
    if not _COUNT_BYTES <= named < len(data):
        raise ValueError(f"packed entries of {len(data)} bytes; expected more than {named}")
    marks = np.frombuffer(data, "<u8", count, _COUNT_BYTES)
    numbers = np.frombuffer(data, "<f8", count * len(NUMBERS), _COUNT_BYTES + 8 * count)
    places = np.frombuffer(data, "<u4", count * len(TEXTS), named - 4 * count * len(TEXTS))
    return Items(Columns(marks, numbers.reshape(len(NUMBERS), count), places.reshape(len(TEXTS), count), data[named:]))


_NONE = Columns(np.empty(0, np.uint64), np.empty((len(NUMBERS), 0)), np.empty((len(TEXTS), 0), np.uint32), b"[[],[]]")
NO_ENTRIES = _NONE.packed()
"""What `pack` gives for none."""
