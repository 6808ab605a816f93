"""Browsing and wishes: what was looked at lately, how often, and how much of it is kept."""

from __future__ import annotations

from histories import T0, event, lines

from features import browsing
from features.profiles import derive, fold_all, pack
from features.vocabulary import DAY_S, Event


def viewed(product_id: str, message_id: str = "m1", at: float = T0, category: str = "x") -> Event:
    return event("Product Viewed", message_id, at, product_id=product_id, category=category)


def test_the_products_and_categories_looked_at_last_come_first_with_their_decayed_views() -> None:
    profile = fold_all([viewed("a"), viewed("a", "m2", T0 + 1), viewed("b", "m3", T0 + 30 * DAY_S, category="y")])
    products = browsing.products(profile, T0 + 30 * DAY_S)
    assert [one.id for one in products] == ["b", "a"]
    assert [round(one.views, 3) for one in products] == [1.0, 1.0]
    assert [one.id for one in browsing.categories(profile, T0 + 30 * DAY_S)] == ["y", "x"]


def test_a_click_is_among_the_latest_and_counts_nothing() -> None:
    profile = fold_all([event("Product Clicked", product_id="a")])
    assert [(one.id, one.views) for one in browsing.products(profile, T0)] == [("a", 0.0)]
    assert derive(profile, T0)["viewed_30d"] == 0.0


def test_views_searches_and_lists_are_counted_apart_and_fade() -> None:
    profile = fold_all(
        [
            viewed("a"),
            event("Products Searched", "m2", T0, query="a table"),
            event("Product List Viewed", "m3", T0, category="y", products=lines("b")),
        ]
    )
    values = derive(profile, T0 + 30 * DAY_S)
    assert [values[name] for name in ("viewed_30d", "searches_30d", "lists_30d")] == [0.5, 0.5, 0.5]
    assert values["days_since_view"] == 30.0
    assert "b" not in profile.state["browsing"]["products"]
    assert b"a table" not in pack(profile)[0]


def test_a_wish_is_gone_when_it_is_taken_off_put_in_the_cart_or_bought() -> None:
    wish = event("Product Added to Wishlist", product_id="a")
    assert browsing.wishlist(fold_all([wish])) == (("a", T0),)
    assert derive(fold_all([wish]), T0)["wishlist_products"] == 1.0
    for name in ("Product Removed from Wishlist", "Wishlist Product Added to Cart"):
        assert browsing.wishlist(fold_all([wish, event(name, "m2", T0 + 1, product_id="a")])) == ()
    bought = event("Order Completed", "m2", T0 + 1, order_id="o", products=lines("a"))
    assert browsing.wishlist(fold_all([wish, bought])) == ()


def test_a_heavy_browser_has_a_small_profile_of_the_latest() -> None:
    events = [
        viewed(f"product-{number % 700:08}", f"message-{number}", T0 + number * 600, category=f"category-{number % 40}")
        for number in range(5_000)
    ]
    events += [
        event("Product Added to Wishlist", f"w{number}", T0 + number * 900, product_id=f"product-{number:08}")
        for number in range(300)
    ]
    profile = fold_all(events)
    held = profile.state["browsing"]
    assert [len(held[part]) for part in ("products", "categories", "wishlist")] == [50, 20, 100]
    assert browsing.products(profile, T0)[0].id == "product-00000099"
    assert len(pack(profile)[0]) < 12_000
