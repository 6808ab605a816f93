"""LightGBM's trees for a few rows at once, to the last bit as LightGBM has it, without its way there.

QuickScorer (Lucchese et al., SIGIR 2015): a leaf is a bit, and a column's value strikes out the leaves that it makes
impossible, in all trees at once; the first leaf left over is the one reached. What strikes out what is a table per
column, made once. A column that is alike in all rows, as the customer's are in a decision, is looked up once.

Each model is tried against LightGBM when it is opened; one that differs, or has what is not told here (categories,
zeros as missing, linear leaves, more than 64 leaves), is scored by LightGBM, and so are many rows.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEW_ROWS = 1_000
LARGEST_TABLE_BYTES = 2**26
TRIED_ROWS = 40
_LEFT = 2
_MISSING, _NONE, _NAN = 12, 0, 8
"""Of a split's `decision_type`: missing goes left; what counts as missing."""
_ZERO = float(np.float32(1e-35))
_KINDS: tuple[Any, ...] = (np.uint8, np.uint16, np.uint32, np.uint64)


def opened(text: str) -> Callable[[Floats], Floats]:
    """The scores of a model from LightGBM's text for rows of its columns."""
    import lightgbm

    booster = lightgbm.Booster(model_str=text)

    def by_lightgbm(rows: Floats) -> Floats:
        return np.asarray(booster.predict(rows, num_threads=1), np.float64)

    read = _read(text)
    if read is None:
        return by_lightgbm
    quick = _Quick(*read)
    tried = quick.rows_to_try(booster.num_feature())
    if quick(tried).tobytes() != by_lightgbm(tried).tobytes():
        return by_lightgbm
    return lambda rows: quick(rows) if len(rows) <= FEW_ROWS else by_lightgbm(rows)


Tree = Mapping[str, Sequence[float]]
_INTEGERS = frozenset({"split_feature", "decision_type", "left_child", "right_child"})


def _read(text: str) -> tuple[list[Tree], float] | None:
    """The trees and the sigmoid's factor; None for a model that is not told here."""
    head, *parts = text.partition("end of trees")[0].split("\nTree=")
    said = dict(line.partition("=")[::2] for line in head.splitlines())
    objective = said.get("objective", "").split()
    factor = next((each.partition(":")[2] for each in objective if each.startswith("sigmoid:")), "")
    if objective[:1] != ["binary"] or not factor or said.get("num_tree_per_iteration") != "1" or not parts:
        return None
    if "average_output" in head:
        return None
    trees: list[Tree] = []
    for part in parts:
        lines = dict(line.partition("=")[::2] for line in part.splitlines())
        if lines.get("num_cat") != "0" or lines.get("is_linear", "0") != "0":
            return None
        tree: Tree = {
            name: [int(each) if name in _INTEGERS else float(each) for each in lines.get(name, "").split()]
            for name in ("leaf_value", "threshold", *_INTEGERS)
        }
        if len(tree["leaf_value"]) > 64 or any(
            int(kind) & _MISSING not in (_NONE, _NAN) for kind in tree["decision_type"]
        ):
            return None
        trees.append(tree)
    return trees, float(factor)


class _Quick:
    """All trees of a model as one table of the leaves left over: a row per column and interval of its values."""

    def __init__(self, trees: Sequence[Tree], factor: float):
        self._factor = factor
        most = max(len(tree["leaf_value"]) for tree in trees)
        self._kind: Any = next(kind for kind in _KINDS if kind().nbytes * 8 >= most)
        self._leaves = np.zeros((len(trees), most))
        splits: dict[int, list[tuple[float, int, int, bool]]] = {}
        for number, tree in enumerate(trees):
            self._walk(number, tree, splits)
        self._used = np.array(sorted(splits), np.int64)
        self._thresholds = [sorted({at for at, *_ in splits[column]}) for column in sorted(splits)]
        self._bases = np.array([0, *accumulate(len(found) + 2 for found in self._thresholds)][:-1], np.int64)
        self._ordered = [np.array([*found, np.inf, np.nan]) for found in self._thresholds]
        rows = [
            row
            for column, thresholds in zip(sorted(splits), self._thresholds, strict=True)
            for row in self._rows(thresholds, splits[column], len(trees))
        ]
        self._table = np.array(rows, self._kind).reshape(len(rows), len(trees))
        self._values = self._leaves.take(_OF_BYTE, axis=1, mode="clip") if self._kind is np.uint8 else self._leaves
        self._starts = np.arange(len(trees)) * self._values.shape[1]

    def _walk(self, number: int, tree: Tree, splits: dict[int, list[tuple[float, int, int, bool]]]) -> None:
        """Number the leaves from left to right, and note what each split strikes out where it sends a row right."""
        values = self._leaves[number]
        left, right = tree["left_child"], tree["right_child"]
        count = 0

        def below(node: int) -> int:
            nonlocal count
            if node < 0 or not left:
                values[count] = tree["leaf_value"][~node if left else 0]
                count += 1
                return 1 << (count - 1)
            struck = below(int(left[node]))
            at, kind = _beside_zero(tree["threshold"][node]), int(tree["decision_type"][node])
            missing_left = bool(kind & _LEFT) if kind & _MISSING == _NAN else at >= 0.0
            splits.setdefault(int(tree["split_feature"][node]), []).append((at, number, struck, missing_left))
            return struck | below(int(right[node]))

        below(0)

    def _rows(
        self, thresholds: Sequence[float], splits: Sequence[tuple[float, int, int, bool]], trees: int
    ) -> list[NDArray[Any]]:
        """What is left over for a value up to each threshold, above all of them, and for none."""
        every = self._kind(~self._kind(0))
        rows = [np.full(trees, every, self._kind) for _ in range(len(thresholds) + 2)]
        place = {at: number for number, at in enumerate(thresholds)}
        for at, tree, struck, missing_left in splits:
            keep = every ^ self._kind(struck)
            for row in rows[place[at] + 1 : -1]:
                row[tree] &= keep
            if not missing_left:
                rows[-1][tree] &= keep
        return rows

    def __call__(self, rows: Floats) -> Floats:
        if not len(rows):
            return np.empty(0)
        columns = np.ascontiguousarray(rows.T, np.float64).take(self._used, axis=0)
        bits = columns.view(np.int64)
        alike, first = (bits == bits[:, :1]).all(axis=1).tolist(), columns[:, 0].tolist()
        same = [column for column, is_alike in enumerate(alike) if is_alike]
        places = self._bases.take(np.array(same, np.int64))
        places += np.array([self._place(column, first[column]) for column in same], np.int64)
        left = np.bitwise_and.reduce(self._table.take(places, axis=0), axis=0)[None]
        others = [column for column, is_alike in enumerate(alike) if not is_alike]
        if others:
            places = np.empty((len(others), len(rows)), np.int64)
            for number, column in enumerate(others):
                places[number] = self._ordered[column].searchsorted(columns[column])
            places += self._bases.take(others)[:, None]
            left = left & np.bitwise_and.reduce(self._table.take(places, axis=0), axis=0)
        reached = self._values.take(_first(left) + self._starts)
        totals = np.add.accumulate(reached, axis=1)[:, -1].tolist()
        scores = [_sigmoid(self._factor * total) for total in totals]
        return np.array(scores * len(rows) if len(scores) < len(rows) else scores)

    def _place(self, column: int, value: float) -> int:
        """The row of the table for a value of a column; no number sorts last, where its place is."""
        thresholds = self._thresholds[column]
        return bisect_left(thresholds, value) if value == value else len(thresholds) + 1

    def rows_to_try(self, columns: int) -> Floats:
        """Rows on, just above and just below the thresholds, without some values, and far from all of them."""
        chance = np.random.default_rng(1)
        rows = chance.normal(scale=1e3, size=(TRIED_ROWS, columns))
        for column, found in zip(self._used.tolist(), self._thresholds, strict=True):
            near = np.array(found)[chance.integers(0, len(found), TRIED_ROWS)]
            near = np.stack([near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf), np.full_like(near, np.nan)])
            some = chance.integers(0, 5, TRIED_ROWS)
            rows[:, column] = np.where(some < 4, near[some % 4, np.arange(TRIED_ROWS)], rows[:, column])
        rows[chance.random(rows.shape) < 0.05] = 0.0
        return rows


def _beside_zero(threshold: float) -> float:
    """The threshold that parts values as this one does once LightGBM has taken the tiniest ones for 0."""
    if -_ZERO <= threshold < 0.0:
        return math.nextafter(-_ZERO, -math.inf)
    return _ZERO if 0.0 <= threshold < _ZERO else threshold


_OF_BYTE = np.array([0, *((byte & -byte).bit_length() - 1 for byte in range(1, 256))], np.int64)


def _first(left: NDArray[Any]) -> NDArray[np.int64]:
    """The lowest bit that is set: the first leaf left over. A byte stays as it is: `_values` are by what is left."""
    if left.dtype == np.uint8:
        return left
    lowest = left & (~left + left.dtype.type(1))
    exponents: NDArray[np.int64] = np.frexp(lowest.astype(np.float64))[1].astype(np.int64)
    return exponents - 1


def _sigmoid(total: float) -> float:
    """As LightGBM has it, in the C library's `exp`."""
    return 1.0 / (1.0 + math.exp(-total)) if total > -700.0 else 1.0 / (1.0 + float(np.exp(np.float64(-total))))
