"""Online Retail into a workspace: what is kept, what a cancellation means, and the same history as messages."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest
import sqlalchemy as sa
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from features import database, profiles
from features.__main__ import app
from features.catalog import load_catalog
from features.events import EventLog, check
from features.sources import SourceProblem, cancellations, files, onlineretail, retail, segment
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace
from tests import retail_messages

DAY = pd.Timestamp("2011-03-01 10:00")
AT = DAY.timestamp()
ANN, BEN = 17850.0, 12346.0


def line(
    invoice: str,
    code: str | None = "22423",
    quantity: int = 1,
    days: float = 0.0,
    customer: float | None = ANN,
    price: float = 2.5,
    description: str | None = "CAKE STAND",
) -> tuple[Any, ...]:
    at = DAY + pd.Timedelta(days=days)
    return (invoice, code, description, quantity, at, price, customer, "United Kingdom")


def table(*lines: tuple[Any, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(lines, columns=[*retail.COLUMNS, "country"])
    return frame.astype({"quantity": "int32", "customer_id": float, "invoice_ts": "datetime64[us]"})


def history(*lines: tuple[Any, ...]) -> list[Event]:
    return told(retail.read(table(*lines)))


def told(cleaned: retail.Retail) -> list[Event]:
    return onlineretail.events(cleaned, cancellations.match(cleaned.sales, cleaned.cancelled))


def said(event: Event) -> tuple[str, str, str | None, list[tuple[str, int]]]:
    body = event.body
    units = [(each["product_id"], each["quantity"]) for each in body["products"]]
    return event.name, body["order_id"], body.get("reason"), units


def stored(workspace: Workspace) -> list[Any]:
    """The table of events without the numbers that only say in which order they came."""
    columns = [column for column in database.events.c if column.name != "seq"]
    with database.reading(database.connect(workspace)) as connection:
        return list(connection.execute(sa.select(*columns).order_by(database.events.c.message_id)).all())


def packed(workspace: Workspace) -> dict[str, tuple[bytes, bytes]]:
    with database.reading(database.connect(workspace)) as connection:
        everybody = EventLog().all_by_customer(connection)
        return {who: profiles.pack(profiles.fold_all(event for _, event in known)) for who, known in everybody}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def written(path: Path, *lines: tuple[Any, ...]) -> Path:
    table(*lines).to_parquet(path)
    return path


# -------------------------------------------------------------------------------------------- the lines


def test_every_line_that_is_no_customers_sale_is_dropped_and_counted() -> None:
    cleaned = retail.read(
        table(
            line("1"),
            line("1"),
            line("1", code=" 85123A "),
            line("1", code="DCGS0003"),
            line("1", code="B"),
            line("1", code="POST"),
            line("1", code="gift_0001_20"),
            line("1", code=None),
            line("2", quantity=-5, customer=None, price=0.0),
            line("2", price=0.0),
            line("2", customer=None),
            line("A3", code="B", price=-11062.06),
        )
    )
    dropped = {"duplicate": 1, "no product": 4, "write-off": 1, "no price": 1, "no customer": 1}
    assert cleaned.dropped == {**dropped, "unreadable": 0}
    assert cleaned.published == 12
    assert list(cleaned.sales["product_id"]) == ["22423", "85123A", "DCGS0003", "B"]
    assert list(cleaned.sales["customer_id"]) == ["17850"] * 4


def test_an_invoice_is_an_order_through_the_web() -> None:
    (order,) = history(line("1", quantity=6), line("1", code="85123A", price=1.25, quantity=2))
    assert order == Event(
        message_id="invoice-1",
        name="Order Completed",
        occurred_at=AT,
        known_at=AT,
        user_id="17850",
        channel="web",
        location_id="online",
        body={
            "order_id": "1",
            "products": [
                {"product_id": "22423", "quantity": 6, "price": 2.5},
                {"product_id": "85123A", "quantity": 2, "price": 1.25},
            ],
        },
    )


def test_an_invoice_of_two_customers_is_two_orders() -> None:
    found = history(line("1"), line("1", customer=BEN))
    assert [(event.message_id, event.user_id) for event in found] == [
        ("invoice-1-12346", "12346"),
        ("invoice-1-17850", "17850"),
    ]


def test_an_invoice_written_over_two_minutes_is_complete_with_its_last_line() -> None:
    (order,) = history(line("1", code="22424", days=1 / 1440), line("1"))
    assert order.occurred_at == AT + 60
    assert len(order.body["products"]) == 2


def test_a_product_has_its_most_frequent_description_and_the_median_price_of_known_customers() -> None:
    cleaned = retail.read(
        table(
            line("1", price=2.0, description="CAKE  STAND "),
            line("2", price=3.0, description="CAKE STAND"),
            line("3", price=8.0, description="wrong", customer=None),
            line("4", code="10002", price=4.0, description=None, customer=None),
        )
    )
    assert cleaned.products.to_dict("records") == [
        {"product_id": "10002", "name": "Product 10002", "price": 4.0},
        {"product_id": "22423", "name": "CAKE STAND", "price": 2.5},
    ]


# -------------------------------------------------------------------------------------- cancellations


def test_a_cancellation_is_a_return_of_the_most_recent_purchase_with_enough_left() -> None:
    *_, back = history(
        line("1", quantity=9), line("2", quantity=5, days=3), line("3", days=4), line("C4", quantity=-5, days=9)
    )
    assert said(back) == ("Order Refunded", "2", "return", [("22423", 5)])
    assert back.message_id == "invoice-C4-of-2"


def test_a_unit_goes_back_once() -> None:
    found = history(
        line("1", quantity=2), line("2", quantity=2, days=3), line("C3", quantity=-2, days=9),
        line("C4", quantity=-2, days=10), line("C5", quantity=-2, days=11),
    )  # fmt: skip
    assert [event.body["order_id"] for event in found[2:]] == ["2", "1", "C5"]


def test_a_cancellation_larger_than_any_purchase_is_split_and_the_rest_has_no_order() -> None:
    *_, one, two, rest = history(line("1", quantity=2), line("2", quantity=3, days=3), line("C4", quantity=-9, days=9))
    assert [said(event)[1:] for event in (one, two, rest)] == [
        ("C4", "return", [("22423", 4)]),
        ("1", "return", [("22423", 2)]),
        ("2", "return", [("22423", 3)]),
    ]


@pytest.mark.parametrize(("days", "reason"), [(1.0, "correction"), (1.0 + 1 / 1440, "return")])
def test_within_24_hours_a_cancellation_is_a_correction(days: float, reason: str) -> None:
    *_, back = history(line("1", quantity=2), line("C2", quantity=-1, days=days))
    assert said(back) == ("Order Refunded", "1", reason, [("22423", 1)])


def test_corrections_that_leave_nothing_of_an_order_cancel_it() -> None:
    *_, one, two = history(
        line("1", quantity=2), line("1", code="85123A"), line("C2", quantity=-2, days=0.1),
        line("C3", code="85123A", quantity=-1, days=0.2),
    )  # fmt: skip
    assert said(one) == ("Order Refunded", "1", "correction", [("22423", 2)])
    assert said(two) == ("Order Cancelled", "1", "cancellation", [("85123A", 1)])


def test_a_purchase_of_somebody_else_of_another_product_or_of_later_is_not_taken_back() -> None:
    found = history(
        line("1", customer=BEN), line("2", code="85123A"), line("C3", quantity=-1, days=2), line("4", days=3)
    )
    (back,) = (event for event in found if event.name == "Order Refunded")
    assert said(back) == ("Order Refunded", "C3", "return", [("22423", 1)])


def lines_of(starts: str) -> st.SearchStrategy[pd.DataFrame]:
    """Up to eight invoices of one customer, of a line each, in the order of time."""
    names = ["product_id", "quantity", "at"]
    rows = st.tuples(st.sampled_from(["22423", "85123A"]), st.integers(1, 4), st.integers(0, 12))
    frames = st.lists(rows, max_size=8).map(lambda found: pd.DataFrame(sorted(found, key=itemgetter(2)), columns=names))
    return frames.map(
        lambda frame: frame.assign(
            order_id=[f"{starts}{number}" for number in frame.index],
            customer_id="1",
            price=1.0,
            quantity=frame["quantity"].astype("int64"),
            at=frame["at"].astype("int64") * 43_200,
        )
    )


@given(lines_of("S"), lines_of("C"), st.integers(0, 12))
def test_what_happens_later_changes_no_earlier_cancellation(
    sales: pd.DataFrame, cancelled: pd.DataFrame, half_days: int
) -> None:
    until = half_days * 43_200
    early = [each for each in cancellations.match(sales, cancelled) if each.at <= until]
    assert early == cancellations.match(sales[sales["at"] <= until], cancelled[cancelled["at"] <= until])


@given(lines_of("S"), lines_of("C"))
def test_every_cancelled_unit_goes_back_and_none_twice(sales: pd.DataFrame, cancelled: pd.DataFrame) -> None:
    bought = dict(zip(zip(sales["order_id"], sales["product_id"], strict=True), sales["quantity"], strict=True))
    back: Counter[tuple[str | None, str]] = Counter()
    for each in cancellations.match(sales, cancelled):
        for units in each.lines:
            back[each.order_id, units.product_id] += units.quantity
    assert sum(back.values()) == cancelled["quantity"].sum()
    assert all(count <= bought[of] for of, count in back.items() if of[0] is not None)


def test_every_event_is_one_that_the_log_would_accept() -> None:
    for event in history(line("1", quantity=3), line("C2", quantity=-1, days=0.1), line("C3", quantity=-4, days=5)):
        record = {name: getattr(event, name) for name in Event.__slots__}
        assert check(record, event.known_at) == event


# --------------------------------------------------------------------------------------- the workspace


def test_doing_it_again_stores_nothing_and_keeps_the_shift(workspace: Workspace, tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", line("1", quantity=2), line("C2", quantity=-1, days=5))
    first = onlineretail.ingest(workspace, path, ending=AT + 100 * DAY_S)
    events = stored(workspace)
    again = onlineretail.ingest(workspace, path, ending=AT + 200 * DAY_S)
    assert (first["stored"], again["stored"], again["duplicates"]) == (2, 0, 2)
    assert first["last_event_at"] == again["last_event_at"] == AT + 100 * DAY_S
    assert stored(workspace) == events
    assert max(row.occurred_at for row in events) == AT + 100 * DAY_S


def test_the_catalog_has_real_products_one_place_and_offers_that_say_they_are_made_up(
    workspace: Workspace, tmp_path: Path
) -> None:
    lines = [line("1"), line("2", code="85123A", description="T-LIGHT HOLDER"), line("3", code="85123A")]
    onlineretail.ingest(workspace, written(tmp_path / "r.parquet", *lines))
    catalog = load_catalog(workspace)
    assert list(catalog.locations) == ["online"]
    product = catalog.products["22423"]
    assert (product.name, product.price, product.category, product.margin) == ("CAKE STAND", 2.5, None, None)
    assert not product.replenishable
    assert sorted(catalog.offers) == ["cross-sell-22423", "cross-sell-85123A"]
    offer = catalog.offers["cross-sell-22423"]
    assert offer.valid_from < AT < offer.valid_until
    assert "made-up" in offer.treatments["web"]["body"]
    assert (workspace.home / files.OFFERS).read_text().startswith("# Offers written by `python -m features ingest onl")


def test_offers_are_renewed_and_those_that_somebody_changed_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", line("1"))
    onlineretail.ingest(workspace, path)
    later = AT + 1000 * DAY_S
    assert files.renew(workspace, later) == 1
    assert load_catalog(workspace).offers["cross-sell-22423"].valid_until > later
    theirs = workspace.home / files.OFFERS
    theirs.write_text("offers: []\n")
    assert files.renew(workspace, later) == 0
    assert onlineretail.ingest(workspace, path)["left_alone"] == [files.OFFERS]
    assert theirs.read_text() == "offers: []\n"


def test_the_files_of_another_source_are_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    other = files.Written("completejourney", 0.0)
    files.write_ours(workspace, other, {files.OFFERS: b"offers: []\n"})
    found = onlineretail.ingest(workspace, written(tmp_path / "r.parquet", line("1")))
    assert found["left_alone"] == [files.OFFERS]


def test_the_command_prints_what_was_dropped_and_kept(workspace: Workspace, tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", line("1", quantity=2), line("1", code="DOT"), line("C2", quantity=-1))
    shown = run("ingest", "onlineretail", "--path", path)
    assert shown.exit_code == 0
    printed = {cells[1].strip(): cells[2].strip() for row in shown.stdout.splitlines() if (cells := row.split("│"))[1:]}
    assert printed["dropped: no product"] == "1"
    assert printed["corrected within 24 hours"] == "1"
    assert printed["events stored now"] == "2"
    assert orjson.loads(run("ingest", "onlineretail", "--path", path, "--json").stdout)["duplicates"] == 2


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (None, "ingest onlineretail needs a file; add `--path FILE.parquet`"),
        ("nowhere.parquet", "nowhere.parquet` cannot be read: no such file or directory; expected the Online Retail"),
        ("text.parquet", "text.parquet` cannot be read: no Parquet; expected the Online Retail table"),
        (
            "other.parquet",
            "other.parquet` has no column `invoice`; expected the Online Retail table as Parquet with in",
        ),
        ("empty.parquet", "no line of the file is a customer's purchase of goods (no customer: 1); expected some"),
    ],
)
def test_a_file_that_is_none_is_exit_code_2_and_a_sentence(
    workspace: Workspace, tmp_path: Path, path: str | None, sentence: str
) -> None:
    (tmp_path / "text.parquet").write_text("invoice,stock_code\n")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    written(tmp_path / "empty.parquet", line("1", customer=None))
    result = run("ingest", "onlineretail", *(("--path", tmp_path / path) if path else ()))
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.output


def frame(**changes: list[Any]) -> pd.DataFrame:
    """Four sales, the columns of the first ones as given."""
    made = table(*(line(str(number), days=number) for number in range(1, 5))).astype(object)
    for name, values in changes.items():
        made[name] = pd.Series([*values, *made[name][len(values) :]], dtype=object)
    return made


@pytest.mark.parametrize(
    "changes",
    [
        {"unit_price": [float("inf"), 1e12]},
        {"unit_price": [float("-inf")]},
        {"quantity": [None, float("inf"), 1.5]},
        {"quantity": [2e9]},
        {"quantity": ["many"]},
        {"invoice_ts": [pd.NaT, None]},
        {"invoice_ts": ["yesterday", pd.Timestamp("1823-01-01")]},
        {"invoice": [None, "x" * 300, "a\x00b"]},
        {"customer_id": ["9" * 300]},
    ],
    ids=str,
)
def test_a_line_that_cannot_be_read_is_left_out_and_counted(changes: dict[str, list[Any]]) -> None:
    (bad,) = changes.values()
    cleaned = retail.read(frame(**changes))
    assert (cleaned.dropped["unreadable"], len(cleaned.sales)) == (len(bad), 4 - len(bad))
    assert cleaned.ends_at == AT + 4 * DAY_S
    assert cleaned.products["price"].tolist() == [2.5]
    assert [event.body["products"][0]["price"] for event in told(cleaned)] == [2.5] * (4 - len(bad))


def test_numbers_and_times_as_text_are_read() -> None:
    texts = frame().astype({"quantity": str, "unit_price": str, "invoice_ts": str})
    pd.testing.assert_frame_equal(retail.read(texts).sales, retail.read(frame()).sales)


def test_lists_are_refused_where_they_are_read_and_ignored_elsewhere(workspace: Workspace, tmp_path: Path) -> None:
    lists = [[1]] * 4
    frame(unit_price=lists).astype({"quantity": int}).to_parquet(tmp_path / "lists.parquet")
    result = run("ingest", "onlineretail", "--path", tmp_path / "lists.parquet")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].endswith(
        "has lists or objects in its column `unit_price`; expected the Online Retail table as Parquet with plain values"
    )
    table(*(line(str(number)) for number in range(4))).assign(tags=lists).to_parquet(tmp_path / "more.parquet")
    assert run("ingest", "onlineretail", "--path", tmp_path / "more.parquet").exit_code == 0


def test_nothing_left_is_a_problem_of_the_source() -> None:
    with pytest.raises(SourceProblem, match="no line of the file is a customer's"):
        retail.read(table(line("1", code="POST")))


# -------------------------------------------------------------------------------------- the whole file


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return retail.load(retail_messages.data_file())


@pytest.fixture(scope="module")
def cleaned(published: pd.DataFrame) -> retail.Retail:
    return retail.read(published)


@pytest.mark.parametrize("day", ["2011-06-01", "2011-09-01"])
def test_an_order_is_an_order_for_churn_as_the_file_itself_says(
    published: pd.DataFrame, cleaned: retail.Retail, day: str
) -> None:
    as_of = pd.Timestamp(day)

    def churned(customers: pd.Series, at: pd.Series) -> dict[str, bool]:
        before = (at >= as_of - pd.Timedelta(days=180)) & (at < as_of)
        after = set(customers[(at >= as_of) & (at < as_of + pd.Timedelta(days=90))])
        return {customer: customer not in after for customer in set(customers[before])}

    sales = published[
        published["customer_id"].notna()
        & ~published["invoice"].str.startswith("C")
        & (published["quantity"] > 0)
        & (published["unit_price"] > 0)
        & published["stock_code"].str.match(r"\d{5}")
    ]
    orders = [event for event in told(cleaned) if event.name == "Order Completed"]
    told_at = pd.to_datetime(pd.Series([event.occurred_at for event in orders]), unit="s")
    by_event = churned(pd.Series([event.user_id for event in orders]), told_at)
    by_line = churned(sales["customer_id"].astype(int).astype(str), sales["invoice_ts"])
    assert by_event == by_line
    assert len(by_event) == {"2011-06-01": 2658, "2011-09-01": 2768}[day]


def test_nine_cancelled_lines_of_ten_find_their_purchase(cleaned: retail.Retail) -> None:
    assert cleaned.dropped["duplicate"] == 5_268
    found = cancellations.match(cleaned.sales, cleaned.cancelled)
    lost = sum(len(each.lines) for each in found if each.order_id is None)
    assert 1 - lost / len(cleaned.cancelled) == pytest.approx(0.87, abs=0.01)


def test_the_same_history_as_segment_messages_gives_the_same_events_and_profiles(
    workspace: Workspace, published: pd.DataFrame, tmp_path: Path
) -> None:
    few = retail_messages.some_customers(published, 200)
    few.to_parquet(tmp_path / "few.parquet")
    onlineretail.ingest(workspace, tmp_path / "few.parquet")
    other = Workspace(tmp_path / "other")
    other.home.mkdir()
    found = segment.ingest(other, retail_messages.write(few, tmp_path / "few.ndjson"), AT + 1000 * DAY_S)
    try:
        assert found["rejected"] == 0
        assert {"Order Completed", "Order Refunded", "Order Cancelled"} == {row.name for row in stored(other)}
        assert stored(other) == stored(workspace)
        assert len(packed(other)) == 200
        assert packed(other) == packed(workspace)
    finally:
        database.connect(other).dispose()
