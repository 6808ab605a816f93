"""Decisions for an audience file, by the same engine as `/decide`: one row per offer, or one without any."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.terminal import drafted
from serving.problems import Problem, bad_input, shown
from serving.question import Question
from serving.schemas import AN_ID, is_id

ROWS_AT_ONCE = 20_000
CUSTOMERS_AT_ONCE = 100
UNPACKED: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""How to open a csv that is packed."""
PARQUET = b"PAR1"
"""How every parquet file begins, whatever it is called."""
SCHEMA = pa.schema(
    [
        ("decision_id", pa.string()),
        ("customer_id", pa.string()),
        ("rank", pa.int64()),
        ("offer_id", pa.string()),
        ("product_id", pa.string()),
        ("priority", pa.float64()),
        ("propensity", pa.float64()),
        ("selection_probability", pa.float64()),
        ("error", pa.string()),
    ]
)


class AudienceProblem(ValueError):
    """An audience file that cannot be used, in one sentence."""


Decide = Callable[[Sequence[Question], float], Iterable[Mapping[str, Any] | Problem]]
"""One answer, or its problem, to each question, in order."""


@dataclass(slots=True)
class Summary:
    customers: int = 0
    offers: int = 0
    without_offer: int = 0
    errors: int = 0
    held_back: Counter[str] = field(default_factory=Counter)
    """Of customers without an offer: how many had candidates held back by each reason code."""
    seconds: float = field(default=0.0)


def read_audience(path: Path) -> list[str]:
    """The customer ids in a csv or parquet file with a column `customer_id`, in its order."""
    if not path.exists():
        raise AudienceProblem(f"audience: `{path}` does not exist; expected a csv or parquet file")
    try:
        if path.is_dir() or _magic(path) == PARQUET:
            return _of_parquet(path)
        if path.suffix.lower() in (".parquet", ".pq"):
            raise AudienceProblem(f"audience: `{path}` is no parquet file; expected csv or parquet")
        return _of_csv(path)
    except AudienceProblem:
        raise
    except UnicodeDecodeError:
        raise AudienceProblem(
            f"audience: `{path}` is neither parquet nor text in UTF-8; expected one of them"
        ) from None
    except (ValueError, OSError, EOFError, csv.Error, lzma.LZMAError, zlib.error, pa.ArrowException) as error:
        said = " ".join(str(error).split())[:200]
        raise AudienceProblem(f"audience: `{path}` cannot be read; expected csv or parquet ({said})") from None


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(PARQUET))


def _of_csv(path: Path) -> list[str]:
    opened = UNPACKED.get(path.suffix.lower(), open)
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        names = [name.strip() for name in next(rows, [])]
        place = _column(path, names)
        found = []
        for cells in rows:
            if len(cells) > len(names) and (len(cells) > len(names) + 1 or cells[-1]):
                told = f"has {len(cells)} cells in line {rows.line_num}, but {len(names)} columns"
                raise AudienceProblem(f"audience: `{path}` {told}; expected quotes around what holds a comma")
            if cells:
                found.append(cells[place] if place < len(cells) else "")
    return found


def _of_parquet(path: Path) -> list[str]:
    """Read by the file's own columns: what pandas notes of an index beside them is none of ours."""
    if path.is_dir():
        table = pq.read_table(path)
        column = table.column(_column(path, table.column_names))
    else:
        with pq.ParquetFile(path) as file:
            _column(path, file.schema_arrow.names)
            column = file.read(columns=["customer_id"], use_pandas_metadata=False).column(0)
    found = []
    for row, value in enumerate(column.to_pylist(), 1):
        try:
            found.append(_id(value))
        except (TypeError, UnicodeDecodeError):
            told = f"has in row {row} the customer_id {shown(value)}"
            raise AudienceProblem(f"audience: `{path}` {told}; expected text or a whole number") from None
    return found


def _column(path: Path, names: Sequence[str]) -> int:
    """Where the column of the ids is."""
    if names.count("customer_id") == 1:
        return names.index("customer_id")
    if "customer_id" in names:
        raise AudienceProblem(f"audience: `{path}` has the column `customer_id` twice; expected it once")
    told = ", ".join(f"`{' '.join(name.split())[:60]}`" for name in names[:20]) or "none"
    raise AudienceProblem(f"audience: `{path}` has the columns {told}; expected `customer_id`")


def decide_audience(
    decide: Decide,
    customer_ids: list[str],
    ask: Callable[[str], Question],
    clock: Callable[[], float],
    out: Path,
    progress: Callable[[int], None],
    customer_of: Callable[[str], str] = lambda customer_id: customer_id,
) -> Summary:
    """Write the decisions for `customer_ids` to the parquet file `out`; it appears whole or not at all.

    Of several ids of one customer, as `customer_of` knows them, and of an id that stands there twice, only the first
    is decided for.
    """
    summary = Summary()
    named: dict[str, str] = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    with drafted(out) as draft, pq.ParquetWriter(draft, SCHEMA) as writer:
        rows: list[dict[str, Any]] = []
        for start in range(0, len(customer_ids), CUSTOMERS_AT_ONCE):
            some: list[tuple[Question, str | None]] = []
            for customer_id in customer_ids[start : start + CUSTOMERS_AT_ONCE]:
                whose = customer_of(customer_id)
                some.append((ask(customer_id), named.get(whose)))
                named.setdefault(whose, customer_id)
            rows.extend(_rows(decide, some, clock(), summary))
            progress(len(some))
            if len(rows) >= ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows.clear()
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    return summary


def _rows(
    decide: Decide, questions: Sequence[tuple[Question, str | None]], now: float, summary: Summary
) -> Iterator[dict[str, Any]]:
    """The rows of each question of `(question, the id above of the same customer)`."""
    refused = [_refused(question.customer_id, above) for question, above in questions]
    answers = iter(decide([question for (question, _), no in zip(questions, refused, strict=True) if no is None], now))
    for (question, _), no in zip(questions, refused, strict=True):
        summary.customers += 1
        decided = next(answers) if no is None else no
        if isinstance(decided, Problem):
            summary.errors += 1
            yield {"customer_id": question.customer_id, "error": str(decided)}
        else:
            yield from _told(question.customer_id, decided, summary)


def _refused(customer_id: str, above: str | None) -> Problem | None:
    """Why nothing is decided for an id of the file."""
    if above is not None:
        return bad_input("customer_id", f"is the same customer as {shown(above)} above; expected each once")
    if not is_id(customer_id):
        return bad_input("customer_id", f"is {shown(customer_id)}; expected {AN_ID}")
    return None


def _told(customer_id: str, decided: Mapping[str, Any], summary: Summary) -> Iterator[dict[str, Any]]:
    row = {"decision_id": decided["decision_id"], "customer_id": customer_id}
    summary.offers += len(decided["offers"])
    if not decided["offers"]:
        summary.without_offer += 1
        summary.held_back.update({reason["code"] for each in decided["suppressed"] for reason in each["reasons"]})
        yield row
    for offer in decided["offers"]:
        yield {**row, **{name: offer[name] for name in SCHEMA.names if name in offer}}


def _id(value: Any) -> str:
    """An id as text; whole numbers that a table holds as floats or decimals keep no `.0`. TypeError for no id."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float | Decimal):
        return "" if value != value else str(int(value)) if value == value // 1 else str(value)
    if value is None or isinstance(value, str) or type(value) is int:
        return "" if value is None else str(value)
    raise TypeError
