"""What became of each product: what counts as a line, what as sent back, and what was never bought."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.product_history import HEARD, LINE_FEATURES, Counts, ProductHistory
from features.vocabulary import CORRECTION, DAY_S, Event

T = 1_790_000_000.0


def event(name: str, day: float, order_id: str, *lines: tuple[str, int], reason: str | None = None) -> Event:
    products = [{"product_id": product_id, "quantity": quantity, "price": 2.0} for product_id, quantity in lines]
    body = {"order_id": order_id, "products": products, **({"reason": reason} if reason else {})}
    return Event(f"{name}-{order_id}-{day}", name, T + day * DAY_S, T + day * DAY_S, "c", body=body)


def bought(day: float, order_id: str, *lines: tuple[str, int]) -> Event:
    return event("Order Completed", day, order_id, *lines)


def back(day: float, order_id: str, *lines: tuple[str, int], reason: str | None = None) -> Event:
    return event("Order Refunded", day, order_id, *lines, reason=reason)


def after(*events: Event, customer_id: str = "c") -> ProductHistory:
    history = ProductHistory()
    for each in events:
        history.add(each, customer_id)
    return history


def counts(history: ProductHistory, product_id: str) -> tuple[int, int]:
    found = history.products.get(product_id, Counts())
    return found.lines, found.returned


def test_a_line_is_a_product_in_an_order_and_comes_back_once_however_many_refunds_it_took() -> None:
    history = after(bought(0, "o", ("tea", 3), ("tea", 1)), back(5, "o", ("tea", 1)), back(6, "o", ("tea", 2)))
    assert counts(history, "tea") == (1, 1)
    assert (history.all.lines, history.customers["c"].returned, history.pairs["c", "tea"].lines) == (1, 1, 1)


@pytest.mark.parametrize(
    ("correction", "found"),
    [
        (event("Order Cancelled", 1, "o"), {"tea": (0, 0), "pot": (0, 0)}),
        (back(1, "o", reason=CORRECTION), {"tea": (0, 0), "pot": (0, 0)}),
        (back(1, "o", ("tea", 2), reason=CORRECTION), {"tea": (0, 0), "pot": (1, 0)}),
        (back(1, "o", ("tea", 1), reason=CORRECTION), {"tea": (1, 0), "pot": (1, 0)}),
        (back(1, "o"), {"tea": (1, 1), "pot": (1, 1)}),
    ],
    ids=["cancelled", "all corrected", "a line corrected", "a unit corrected", "a refund of whatever was ordered"],
)
@pytest.mark.parametrize("turn", [1, -1], ids=["order first", "order last"])
def test_what_was_corrected_was_never_a_line(correction: Event, found: dict[str, tuple[int, int]], turn: int) -> None:
    history = after(*[bought(0, "o", ("tea", 2), ("pot", 1)), correction][::turn])
    assert {product_id: counts(history, product_id) for product_id in found} == found


def test_what_comes_back_of_an_unknown_order_counts_for_the_product() -> None:
    assert counts(after(back(0, "before our time", ("tea", 1))), "tea") == (0, 1)


def test_events_of_other_kinds_and_without_an_order_change_nothing() -> None:
    history = after(event("Product Viewed", 0, "o", ("tea", 1)), bought(0, "", ("tea", 1)))
    assert history.all == Counts() and not history.products


def test_a_line_is_asked_about_by_name_and_what_it_leaves_out_is_as_usual() -> None:
    history = after(bought(0, "o", ("tea", 2)), back(5, "o", ("tea", 2)))
    named = dict(zip(LINE_FEATURES, history.line("c", "tea", 3.0), strict=True))
    assert (named["product_lines"], named["own_lines"], named["own_returned"]) == (1.0, 1.0, 1.0)
    assert (named["line_price"], named["line_value"]) == (2.0, 6.0)
    other = dict(zip(LINE_FEATURES, history.line("d", "pot", 1.0, 4.0), strict=True))
    assert other["product_return_rate"] == pytest.approx(2 / 31)  # that of all products, itself kept off 0
    assert named["product_return_rate"] > other["product_return_rate"]
    assert history.line("c", "tea")[-3] == history.line("c", "pot")[-3] == history.line("d", "tea")[-3] == 2.0
    assert history.line("d", "pot")[-3] == 1.0
    assert other["line_price"] == 4.0 and history.line("d", "pot")[-2] != history.line("d", "pot")[-2]


lines = st.lists(st.tuples(st.sampled_from(["tea", "pot"]), st.integers(1, 2)), max_size=2)
histories = st.lists(
    st.builds(
        lambda name, day, order_id, products, reason: event(name, day, order_id, *products, reason=reason),
        st.sampled_from(HEARD),
        st.integers(0, 9),
        st.sampled_from(["o", "p"]),
        lines,
        st.sampled_from([None, CORRECTION]),
    ),
    max_size=8,
    unique_by=lambda each: each.key,
)


@given(histories, st.integers(0, 99))
def test_whatever_the_order_of_arrival_the_counts_come_out_the_same(events: list[Event], seed: int) -> None:
    shuffled = random.Random(seed).sample(events, len(events))
    one, other = after(*events), after(*shuffled)
    assert one.all == other.all
    for name in ("products", "customers", "pairs"):
        found = [{key: each for key, each in getattr(h, name).items() if each != Counts()} for h in (one, other)]
        assert found[0] == found[1]
        assert all(counts.lines >= 0 and counts.returned >= 0 for counts in found[0].values())
