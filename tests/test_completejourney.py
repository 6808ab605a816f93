"""The Complete Journey into a workspace: what is kept, what is dropped, what is made up, and doing it again."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from features import database
from features.catalog import load_catalog
from features.events import EventLog, check
from features.sources import files, made_up
from features.sources.completejourney import count_events, events, ingest, renew
from features.sources.journey import Journey, load, read
from features.vocabulary import DAY_S, Event
from features.workspace import Workspace

NOON = 1_483_272_000.0  # 2017-01-01T12:00:00Z
LATE = 1_483_326_000.0  # 2017-01-02T03:00:00Z, the evening of the 1st in the shops
END = 1_484_000_000.0  # 2017-01-09T22:13:20Z
MILK, BREAD, CARD, GAS, PUMP, NOWHERE = 1, 2, 3, 4, 5, 6


def at(*times: float) -> list[pd.Timestamp]:
    return [pd.Timestamp(time, unit="s") for time in times]


def tables() -> dict[str, pd.DataFrame]:
    """As published, but small: two households, three baskets with goods and one with fuel alone."""
    bought = [  # household store basket product quantity sales_value retail coupon match time
        (7, 30, 100, MILK, 2, 5.0, 1.0, 0.5, 0.25, NOON),
        (7, 30, 100, BREAD, 1, 2.0, 0.0, 0.0, 0.0, NOON),
        (7, 30, 100, GAS, 9000, 20.0, 0.0, 0.0, 0.0, NOON),
        (7, 30, 101, MILK, 1, 2.5, 0.0, 0.0, 0.0, LATE),
        (7, 30, 101, CARD, 0, 0.0, 0.0, 0.0, 0.0, LATE),
        (8, 40, 102, PUMP, 8000, 15.0, 0.0, 0.0, 0.0, LATE),
        (8, 40, 103, NOWHERE, 1, 1.0, 0.0, 0.0, 0.0, END),
        (8, 40, 103, MILK, 3, 6.0, 0.0, 0.0, 0.0, END),
    ]
    names = "household_id store_id basket_id product_id quantity sales_value retail_disc coupon_disc coupon_match_disc"
    goods = [
        (MILK, 9, "GROCERY", "National", "FLUID MILK PRODUCTS", "FLUID MILK WHITE ONLY", "1 GA"),
        (BREAD, 9, "GROCERY", "Private", "BREAD", "MAINSTREAM", None),
        (CARD, 9, "DRUG GM", "National", None, None, None),
        (GAS, 9, "FUEL", "National", "FUEL", "GASOLINE-REG UNLEADED", None),
        (PUMP, 9, "MISCELLANEOUS", "National", "COUPON/MISC ITEMS", "GASOLINE-REG UNLEADED", None),
    ]
    columns = "product_id manufacturer_id department brand product_category product_type package_size"
    coupons = [(51, BREAD, 1), (51, MILK, 1), (51, MILK, 1), (52, CARD, 2), (52, NOWHERE, 2)]
    return {
        "transactions": pd.DataFrame(bought, columns=[*names.split(), "at"]).assign(
            transaction_timestamp=lambda frame: at(*frame.pop("at")), week=1
        ),
        "products": pd.DataFrame(goods, columns=columns.split()),
        "coupons": pd.DataFrame(coupons, columns=["coupon_upc", "product_id", "campaign_id"]),
        "campaign_descriptions": pd.DataFrame(
            {
                "campaign_id": [1, 2],
                "campaign_type": ["Type A", "Type B"],
                "start_date": pd.to_datetime(["2016-12-31", "2017-01-08"]),
                "end_date": pd.to_datetime(["2017-01-05", "2017-01-12"]),
            }
        ),
        "campaigns": pd.DataFrame({"campaign_id": [1, 2], "household_id": [7, 8]}),
        "coupon_redemptions": pd.DataFrame(
            {
                "household_id": [7, 7, 8],
                "coupon_upc": [51, 51, 52],
                "campaign_id": [1, 1, 2],
                "redemption_date": pd.to_datetime(["2017-01-01", "2017-01-04", "2017-01-09"]),
            }
        ),
    }


@pytest.fixture
def journey() -> Journey:
    return read(tables())


def named(journey: Journey, name: str) -> list[Event]:
    return [event for event in events(journey, 0.0) if event.name == name]


def into(workspace: Workspace, ending: float | None = None) -> dict[str, Any]:
    return ingest(workspace, ending, tables=tables)


# ------------------------------------------------------------------------------------------- kept


def test_a_basket_is_an_order_at_its_time_in_its_store(journey: Journey) -> None:
    order = named(journey, "Order Completed")[0]
    milk = {"product_id": "1", "quantity": 2, "price": 2.5, "discount": 1.75, "category": "FLUID MILK PRODUCTS"}
    bread = {"product_id": "2", "quantity": 1, "price": 2.0, "category": "BREAD"}
    body = {"order_id": "100", "products": [{**milk, "coupon": True}, bread]}
    assert order == Event("basket-100", "Order Completed", NOON, NOON, "7", None, "store", "30", body)


def test_fuel_and_lines_without_quantity_are_dropped_and_counted(journey: Journey) -> None:
    assert journey.dropped == {"fuel": 2, "no quantity": 1}
    assert [order.body["order_id"] for order in named(journey, "Order Completed")] == ["100", "101", "103"]


def test_a_product_that_the_products_table_lacks_is_bought_without_a_category(journey: Journey) -> None:
    (_, line) = named(journey, "Order Completed")[-1].body["products"]
    assert line == {"product_id": "6", "quantity": 1, "price": 1.0}


def test_a_redemption_is_at_the_purchase_of_its_day_or_at_that_days_end(journey: Journey) -> None:
    """The second basket lies in the shops' evening, which is the next day in UTC."""
    found = {event.message_id: event.occurred_at for event in named(journey, "Offer Responded")}
    assert found == {
        "redeemed-campaign-1-coupon-51-7-20170101": LATE,
        "redeemed-campaign-1-coupon-51-7-20170104": 1_483_592_399.0,  # 2017-01-04 23:59:59 in New York
        "redeemed-campaign-2-coupon-52-8-20170109": END,
    }


def test_a_send_is_at_the_start_of_its_campaign_even_before_the_data(journey: Journey) -> None:
    sent = named(journey, "Campaign Sent")
    assert [(event.message_id, event.body) for event in sent] == [
        ("campaign-1-sent-7", {"group": "campaign-1"}),
        ("campaign-2-sent-8", {"group": "campaign-2"}),
    ]
    assert sent[0].occurred_at == pd.Timestamp("2016-12-31", tz=made_up.ZONE).timestamp() < NOON


def test_events_come_in_the_order_of_time_and_as_if_checked(journey: Journey) -> None:
    found = [*events(journey, 5.0), *made_up.stock_events(made_up.stock_levels(journey, []), END + 5)]
    assert [event.occurred_at for event in found] == sorted(event.occurred_at for event in found)
    assert len({event.message_id for event in found}) == len(found)
    for event in found:
        record = {field.name: getattr(event, field.name) for field in fields(event)}
        assert check(record, event.known_at) == event


# --------------------------------------------------------------------------------- into a workspace


def test_everything_lands_in_the_log_and_the_catalog(workspace: Workspace) -> None:
    summary = into(workspace)
    assert summary["events"] == {"Order Completed": 3, "Campaign Sent": 2, "Offer Responded": 3, "Stock Updated": 5}
    assert (summary["stored"], summary["duplicates"]) == (13, 0)
    catalog, all_of_it = load_catalog(workspace), load_catalog(workspace, ended=True)
    assert [*catalog.offers] == ["campaign-2-coupon-52", "cross-sell-1", "cross-sell-2"]
    over = all_of_it.offers["campaign-1-coupon-51"]
    assert (over.kind, over.group, over.product_ids) == ("promotion", "campaign-1", ("1", "2"))
    assert catalog.offers["campaign-2-coupon-52"].product_ids == ("3",)
    assert catalog.products["1"].name == "Fluid milk white only 1 ga"
    assert (catalog.products["1"].price, catalog.products["1"].margin) == (2.5, 0.62)
    assert catalog.products["3"].name == "Product 3"
    assert sorted(catalog.locations) == ["30", "40", "online"]


def test_feeds_and_stock_are_as_of_the_last_event(workspace: Workspace) -> None:
    into(workspace)
    with database.reading(database.connect(workspace)) as connection:
        feeds = {(row.signal, row.location_id): row.last_at for row in connection.execute(sa.select(database.feeds))}
        shelves = connection.execute(sa.select(database.stock)).all()
    places = [("profile", ""), ("stock", "online"), ("stock", "30"), ("stock", "40")]
    assert feeds == dict.fromkeys(places, END)
    assert {(row.product_id, row.location_id): row.quantity for row in shelves}[("1", "online")] == 3
    assert all(row.seq > row.online_seq == 0 for row in shelves)


def test_a_second_time_stores_nothing_and_keeps_the_first_shift(workspace: Workspace) -> None:
    first = into(workspace, ending=2_000_000_000.4)
    assert first["last_event_at"] == 2_000_000_000
    offers = (workspace.home / "offers.yaml").read_bytes()
    again = into(workspace, ending=2_100_000_000)
    assert (again["stored"], again["duplicates"], again["shift_s"]) == (0, first["stored"], first["shift_s"])
    assert again["shift_kept"]
    assert (workspace.home / "offers.yaml").read_bytes() == offers
    with database.reading(database.connect(workspace)) as connection:
        assert max(event.occurred_at for event in EventLog().of_customer(connection, "8")) == 2_000_000_000


def test_offers_are_shifted_with_the_events(workspace: Workspace) -> None:
    shift_s = into(workspace, ending=2_000_000_000)["shift_s"]
    offer = load_catalog(workspace).offers["campaign-2-coupon-52"]
    assert offer.valid_from == pd.Timestamp("2017-01-08", tz=made_up.ZONE).timestamp() + shift_s
    assert offer.valid_until == pd.Timestamp("2017-01-13", tz=made_up.ZONE).timestamp() - 1 + shift_s


def test_a_changed_file_is_left_alone_and_a_deleted_one_is_written_anew(workspace: Workspace) -> None:
    into(workspace)
    path = workspace.home / "offers.yaml"
    theirs = path.read_text() + "# mine\n"
    path.write_text(theirs)
    (workspace.home / "products.parquet").unlink()
    assert into(workspace)["left_alone"] == ["offers.yaml"]
    assert renew(workspace, END + 30 * DAY_S) == 0
    assert path.read_text() == theirs
    assert (workspace.home / "products.parquet").exists()


# ------------------------------------------------------------------------------------------- renewal


def test_renewal_gives_each_open_offer_what_it_had_left_but_a_week_at_least(workspace: Workspace) -> None:
    into(workspace)
    before = load_catalog(workspace, ended=True).offers
    now = END + 100 * DAY_S
    assert renew(workspace, now) == 3
    after = load_catalog(workspace, ended=True).offers
    assert after["campaign-2-coupon-52"].valid_until == now + 7 * DAY_S
    assert after["cross-sell-1"].valid_until == now + made_up.HALF_YEAR_DAYS * DAY_S
    assert after["campaign-1-coupon-51"] == before["campaign-1-coupon-51"]
    for offer_id, offer in after.items():
        assert replace(offer, valid_until=before[offer_id].valid_until) == before[offer_id]


def test_renewal_counts_from_the_datas_end_each_time_and_survives_ingesting_again(workspace: Workspace) -> None:
    into(workspace)
    renew(workspace, END + 100 * DAY_S)
    renew(workspace, END + 200 * DAY_S)
    renewed = (workspace.home / "offers.yaml").read_bytes()
    until = load_catalog(workspace).offers["cross-sell-1"].valid_until
    assert until == END + (200 + made_up.HALF_YEAR_DAYS) * DAY_S
    into(workspace)
    assert (workspace.home / "offers.yaml").read_bytes() == renewed


def test_killed_between_memory_and_file_the_file_is_still_ours(workspace: Workspace) -> None:
    into(workspace)
    path = workspace.home / "offers.yaml"
    before = path.read_bytes()
    renew(workspace, END + 100 * DAY_S)
    path.write_bytes(before)
    assert renew(workspace, END + 200 * DAY_S) == 3


def test_without_a_journey_there_is_nothing_to_renew(workspace: Workspace) -> None:
    assert renew(workspace, END) == 0


# ------------------------------------------------------------------------------------- what is made up


def test_what_is_made_up_says_so_wherever_it_shows(journey: Journey) -> None:
    for offer in made_up.offers(journey):
        for treatment in offer.treatments.values():
            assert "made up" in treatment["body"] or "made-up" in treatment["body"]
    assert "Made up: every value and treatment" in files.HEAD
    shops = made_up.locations(journey.stores)
    assert shops["name"].tolist() == ["Online", "Store 30 (place made up)", "Store 40 (place made up)"]
    assert shops.equals(made_up.locations(journey.stores))


@pytest.mark.parametrize(
    ("till", "words"),
    [
        ("FRZN MEAT/MEAT DINNERS", "frozen meat, meat dinners"),
        ("CANDY BARS (SINGLES)(INCLUDING", "candy bars"),
        ("ICE - CRUSHED/CUBED", "ice, crushed, cubed"),
    ],
)
def test_a_tills_abbreviations_are_spelt_out(till: str, words: str) -> None:
    assert made_up.readable(till) == words


def test_the_published_data_give_the_published_numbers() -> None:
    journey = read(load())
    assert journey.dropped == {"fuel": 14_697, "no quantity": 8_869}
    assert len(journey.lines) == 1_469_307 - 14_697 - 8_869
    assert count_events(journey) == {"Order Completed": 141_400, "Campaign Sent": 6_589, "Offer Responded": 2_102}
    assert (len(journey.stores), journey.coupons["coupon_upc"].nunique()) == (457, 981)
    offers = made_up.offers(journey)
    still_open = Counter(offer.kind for offer in made_up.open_at_the_end(journey, offers))
    assert still_open == {"promotion": 81, "cross_sell": 120}
    found = Counter(
        journey.products.at[int(o.product_ids[0]), "product_category"] for o in offers if o.kind != "promotion"
    )
    assert max(found.values()) <= made_up.PER_CATEGORY
    assert len(found) >= 60
    shelves = made_up.stock_levels(journey, offers)
    assert len(shelves) <= 60_000
    assert min(shelf.quantity for shelf in shelves) == 3
    replenished = made_up.replenished(journey.lines)
    assert {"FLUID MILK PRODUCTS", "EGGS", "BAKED BREAD/BUNS/ROLLS", "CHEESE"} <= replenished
    assert not {"GREETING CARDS/WRAP/PARTY SPLY", "SPICES & EXTRACTS", "HAIR CARE PRODUCTS"} & replenished
