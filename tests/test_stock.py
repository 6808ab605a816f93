"""Whatever the order in which messages about stock arrive, what can be sold ends the same."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from features import database, history
from features.events import check
from features.intake import Intake
from features.signals import ABOUT_STOCK, Signals
from features.sources.bulk import append_history
from features.workspace import Workspace
from tests.people import NOTHING_SOLD, Online

NOW = 1_790_000_000.0
UPDATED, RESERVED, RELEASED = "Stock Updated", "Stock Reserved", "Stock Released"
_products = (f"p{number}" for number in count())


class Shop:
    """One workspace that is told of stock live, and in files."""

    def __init__(self, workspace: Workspace):
        self.engine, self.online = database.connect(workspace), Online()
        self.intake, self.signals = Intake(self.engine, self.online, NOTHING_SOLD), Signals(self.engine)

    def close(self) -> None:
        self.intake.close()
        self.signals.close()

    def sellable(self, product: str) -> int | None:
        self.signals.refresh()
        level = self.signals.stock_at("online").get(product)
        return None if level is None else level.quantity

    def offline(self) -> dict[str, int]:
        """What the file of stock for training says at the end."""
        columns = database.events.c
        statement = sa.select(database.events).where(columns.name.in_(sorted(ABOUT_STOCK)))
        with database.reading(self.engine) as connection:
            rows = connection.execute(statement.order_by(columns.known_at, columns.seq)).all()
        return {product: sellable for product, _, _, sellable in history.shelf_changes(rows)}

    def kept(self) -> int:
        with database.reading(self.engine) as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(database.stock_moves)) or 0


@pytest.fixture
def shop(workspace: Workspace) -> Iterator[Shop]:
    opened = Shop(workspace)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def one_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    workspace = Workspace(tmp_path_factory.mktemp("shop"))
    opened = Shop(workspace)
    yield opened
    opened.close()
    opened.engine.dispose()


Message = tuple[str, str, int, int]
"""Its id, its name, when it was, how many."""


def told(product: str, message: Message) -> dict[str, Any]:
    id_, name, at, quantity = message
    body = {"product_id": product, "location_id": "online", "quantity": quantity}
    return {"message_id": f"{product}-{id_}", "name": name, "occurred_at": NOW + at, "body": body}


def expected(messages: list[Message]) -> int | None:
    """The latest count, of two at once that with the later id, and what was moved after its moment."""
    counts = [(at, id_, quantity) for id_, name, at, quantity in messages if name == UPDATED]
    if not counts:
        return None
    counted, _, level = max(counts)
    for _, name, at, quantity in messages:
        if name != UPDATED and at > counted:
            level += quantity if name == RELEASED else -quantity
    return level


_messages = st.lists(
    st.tuples(st.sampled_from([UPDATED, RESERVED, RELEASED]), st.integers(0, 5), st.integers(1, 9)), max_size=8
).map(lambda drawn: [(f"m{number}", *each) for number, each in enumerate(drawn)])


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[list[Message], list[list[Message]]]:
    """Messages, and how they arrive: in any order, some twice, a few at a time."""
    messages = draw(_messages)
    again = draw(st.lists(st.sampled_from(messages), max_size=3)) if messages else []
    rest, batches = draw(st.permutations(messages + again)), []
    while rest:
        size = draw(st.integers(1, len(rest)))
        batches.append(rest[:size])
        rest = rest[size:]
    return messages, batches


@settings(max_examples=150, deadline=None)
@given(arrivals())
def test_stock_messages_in_any_order_end_as_in_order_of_time(
    one_shop: Shop, drawn: tuple[list[Message], list[list[Message]]]
) -> None:
    messages, batches = drawn
    live, file = next(_products), next(_products)
    for number, batch in enumerate(batches):
        one_shop.intake.many([told(live, message) for message in batch], NOW + 100 + number)
        append_history(one_shop.engine, [check(told(file, message), NOW + 100 + number) for message in batch])
    sellable = expected(messages)
    assert (one_shop.sellable(live), one_shop.sellable(file)) == (sellable, sellable)
    assert one_shop.online.stock.get((live, "online")) == sellable
    offline = one_shop.offline()
    assert (offline.get(live), offline.get(file)) == (sellable, sellable)


def test_a_late_count_leaves_the_reservation_that_came_after_it_in_force(shop: Shop) -> None:
    for message in (("a", UPDATED, 0, 5), ("c", RESERVED, 50, 3), ("b", UPDATED, 20, 3)):
        shop.intake.one(told("p", message), NOW + 100)
    assert shop.sellable("p") == 0


def test_a_reservation_of_what_was_never_counted_counts_from_the_first_count_on(shop: Shop) -> None:
    shop.intake.one(told("p", ("b", RESERVED, 50, 3)), NOW + 100)
    assert shop.sellable("p") is None
    shop.intake.one(told("p", ("a", UPDATED, 0, 5)), NOW + 100)
    assert shop.sellable("p") == 2


def test_moves_are_kept_no_longer_than_until_a_later_count(shop: Shop) -> None:
    for number in range(5):
        shop.intake.one(told("p", (f"m{number}", RESERVED, number, 1)), NOW + 100)
    shop.intake.one(told("p", ("a", UPDATED, 2, 9)), NOW + 100)
    assert (shop.kept(), shop.sellable("p")) == (2, 7)
    shop.intake.one(told("p", ("b", UPDATED, 9, 9)), NOW + 100)
    assert (shop.kept(), shop.sellable("p")) == (0, 9)


def test_a_workspace_from_before_moves_were_kept_goes_on(workspace: Workspace) -> None:
    engine = database.connect(workspace)
    database.stock_moves.drop(engine)
    level = {"product_id": "p", "location_id": "online", "quantity": 9, "reserved": 2, "occurred_at": NOW}
    with database.transaction(engine) as connection:
        connection.execute(sa.insert(database.stock).values(**level, message_id="1", seq=0, online_seq=0))
    database.connect.cache_clear()
    engine.dispose()
    shop = Shop(workspace)
    assert shop.sellable("p") == 7
    shop.intake.one(told("p", ("b", RESERVED, 5, 1)), NOW + 100)
    assert shop.sellable("p") == 6
    shop.close()
