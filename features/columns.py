"""The entries of a profile as columns: how they are stored, and how a decision reads hundreds of them at once.

An entry is a list (its positions are in `entries`), and a fold changes a few of them. Stored, and for sums over all of
a customer's history, they are one array per position, so that nothing is made of an entry that nobody asks for, not
even its key: a catalog finds what it knows by `mark_of` the keys. `Items` is both: a mapping of entries over the
columns that they are in. What is summed is the business of `affinity`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
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
_FORM = 2
"""Of the bytes, told before all else: raise it when they are laid out otherwise."""
_COUNT_BYTES = 8
_HEAD = 3 * _COUNT_BYTES
_BYTES_AN_ENTRY = 8 + 8 * len(NUMBERS)

Marks = NDArray[np.uint64]


@lru_cache(maxsize=2**16)
def mark_of(key: str) -> int:
    """A number for a key of an entry, the same everywhere; that two keys share one is not to be expected (64 bits)."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")


class Columns:
    """Entries in the order of their marks. `marks`: uint64, one an entry; `numbers`: a row per position of NUMBERS.

    `keys` and `texts` (a list per position of TEXTS) are JSON until somebody asks for them.
    """

    def __init__(self, marks: Marks, numbers: NDArray[np.float64], keys: bytes, texts: bytes):
        self.marks, self.numbers = marks, numbers
        self._keys, self._texts = keys, texts

    def __len__(self) -> int:
        return len(self.marks)

    @cached_property
    def keys(self) -> list[str]:
        keys: list[str] = orjson.loads(self._keys)
        return keys

    @cached_property
    def texts(self) -> list[list[str]]:
        texts: list[list[str]] = orjson.loads(self._texts)
        return texts

    def _last_id(self, row: int) -> str:
        """The first of the texts, mostly the only one that says anything. The ids of one system are of one length, and
        then it is found without the hundreds of others."""
        width = self._width
        if width is None:
            return self.texts[0][row]
        begin = 3 + row * (width + 3)
        return self._texts[begin : begin + width].decode()

    @cached_property
    def _width(self) -> int | None:
        """How many bytes each last id has; None where they differ, or anything is escaped.

        As JSON each stands between two quotes: where so many quotes come first, all of them at its distance, it is so.
        """
        texts, quotes = self._texts, b'"' * len(self)
        width = texts.find(b'"', 3) - 3
        step, end = width + 3, 2 + (width + 3) * len(self)
        alike = texts[2:end:step] == texts[3 + width : end : step] == quotes
        return width if alike and texts.count(b'"', 0, end) == 2 * len(self) and b"\\" not in texts else None

    @cached_property
    def rows(self) -> dict[int, int]:
        """Where each mark is."""
        return {mark: row for row, mark in enumerate(self.marks.tolist())}

    def row(self, key: str) -> int | None:
        """Where the entry of that key is, for who asks for a few; None if there is none."""
        mark, marks = mark_of(key), self._sought
        row = bisect_left(marks, mark)
        return row if row < len(marks) and marks[row] == mark else None

    @cached_property
    def _sought(self) -> memoryview:
        """The marks as Python searches them: for one of them that is over before NumPy's search has begun."""
        return self.marks.data

    def of(self, position: int) -> NDArray[np.float64]:
        """One position, a number, of every entry."""
        row: NDArray[np.float64] = self.numbers[_ROW[position]]
        return row

    def text_of(self, position: int) -> list[str]:
        """One position, a text, of every entry."""
        return self.texts[TEXTS.index(position)]

    def entry(self, row: int) -> list[Any]:
        last, first, trips, decayed_trips, decayed_spend, returned = self.numbers[:, row].tolist()
        if returned:
            last_id, return_id, reason = (texts[row] for texts in self.texts)
        else:  # what never came back says nothing of a return
            last_id, return_id, reason = self._last_id(row), "", ""
        return [last, first, int(trips), decayed_trips, decayed_spend, last_id, returned, return_id, reason]

    def kept(self, at: float) -> Columns:
        """Those that are not idle for more than 730 days at `at`."""
        kept = at - np.maximum(self.of(LAST), self.of(RETURNED)) <= KEEP_S
        if kept.all():
            return self
        rows = kept.nonzero()[0]
        keys, *texts = ([each[row] for row in rows.tolist()] for each in (self.keys, *self.texts))
        return Columns(self.marks[rows], self.numbers[:, rows], orjson.dumps(keys), orjson.dumps(texts))

    def packed(self) -> bytes:
        return b"".join(
            (
                (len(self) | _FORM << 32).to_bytes(_COUNT_BYTES, "little"),
                len(self._keys).to_bytes(_COUNT_BYTES, "little"),
                len(self._texts).to_bytes(_COUNT_BYTES, "little"),
                self.marks.astype("<u8", copy=False).tobytes(),
                self.numbers.astype("<f8", copy=False).tobytes(),
                self._keys,
                self._texts,
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
        row = self._columns.row(key)
        return default if row is None else self._columns.entry(row)

    def __getitem__(self, key: str) -> list[Any]:
        found: list[Any] | None = self.get(key)
        if found is None:
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, entry: list[Any]) -> None:
        self._put[key] = entry

    def __contains__(self, key: object) -> bool:
        return key in self._put or self._columns.row(str(key)) is not None

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
    place_of = dict(zip(new, range(count, count + len(new)), strict=True))
    at = [place_of[key] if key in place_of else rows[mark_of(key)] for key in put]
    numbers = np.empty((len(NUMBERS), count + len(new)))
    numbers[:, :count] = columns.numbers
    numbers[:, at] = np.array([[entry[position] for position in NUMBERS] for entry in put.values()]).T
    texts = [[*each, *("" for _ in new)] for each in columns.texts]
    for of_position, position in zip(texts, TEXTS, strict=True):
        for row, entry in zip(at, put.values(), strict=True):
            of_position[row] = entry[position]
    if not new:
        return Columns(columns.marks, numbers, columns._keys, orjson.dumps(texts))
    marks = np.append(columns.marks, np.array([mark_of(key) for key in new], np.uint64))
    order = np.argsort(marks, kind="stable")
    keys, *texts = ([each[place] for place in order.tolist()] for each in ([*columns.keys, *new], *texts))
    return Columns(marks[order], numbers[:, order], orjson.dumps(keys), orjson.dumps(texts))


def pack(items: Mapping[str, list[Any]], at: float) -> bytes:
    """The entries as bytes, the same ones for the same entries; without those idle for more than 730 days at `at`."""
    return columns_of(items).kept(at).packed()


def oldest(items: Mapping[str, list[Any]], at: float) -> float:
    """When the entry that is idle for longest was last touched, of those that are kept `at`: the next to go."""
    kept = columns_of(items).kept(at)
    return float(np.maximum(kept.of(LAST), kept.of(RETURNED)).min()) if len(kept) else math.inf


def unpack(data: bytes) -> Items:
    """The entries that `pack` gave these bytes for. Raises ValueError where it gave no such."""
    head, keys, texts = (int.from_bytes(data[at : at + _COUNT_BYTES], "little") for at in range(0, _HEAD, _COUNT_BYTES))
    form, count = head >> 32, head & 0xFFFF_FFFF
    if form != _FORM:
        raise ValueError(f"packed entries of form `{form}`; expected {_FORM}, as this version writes them")
    named = _HEAD + count * _BYTES_AN_ENTRY
    if len(data) != named + keys + texts:
        raise ValueError(f"packed entries of {len(data)} bytes; expected {named + keys + texts}")
    marks = np.frombuffer(data, "<u8", count, _HEAD)
    numbers = np.frombuffer(data, "<f8", count * len(NUMBERS), _HEAD + 8 * count).reshape(len(NUMBERS), count)
    return Items(Columns(marks, numbers, data[named : named + keys], data[named + keys :]))


_NONE = Columns(np.empty(0, np.uint64), np.empty((len(NUMBERS), 0)), b"[]", orjson.dumps([[] for _ in TEXTS]))
NO_ENTRIES = _NONE.packed()
"""What `pack` gives for none."""
