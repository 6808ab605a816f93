"""What customers do with offers, as shops say it: by `/respond`, Segment's promotions and coupons, and orders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count, permutations
from typing import Any

import orjson
import pytest

from features import reactions
from features.budgets import Used
from features.driver import NotAtOnce
from features.vocabulary import DAY_S
from features.workspace import Workspace
from serving.engine import Engine
from serving.ports import Arrived
from serving.problems import Problem
from serving.question import Question
from serving.schemas import RespondRequest
from tests.homes import at_home

NOW = 1_790_000_000.0 // DAY_S * DAY_S + DAY_S / 2
VALID = "valid_from: 2020-01-01, valid_until: 2099-01-01"
OFFERS = f"""\
offers:
  - {{offer_id: voucher, kind: promotion, product_ids: [table], channels: [web], {VALID},
     value: {{margin: 9, discount: 5}}, budget: {{total: 2}}}}
  - {{offer_id: endless, kind: promotion, product_ids: [chair], channels: [web], {VALID}, value: {{margin: 1}}}}
  - {{offer_id: desk-5, kind: promotion, product_ids: [desk], channels: [web], {VALID},
     value: {{margin: 19, discount: 5}}}}
  - {{offer_id: desk-9, kind: promotion, product_ids: [desk], channels: [call_centre], {VALID},
     value: {{margin: 19, discount: 9}}}}
  - {{offer_id: shoes, kind: promotion, product_ids: [shoe-42], channels: [web], {VALID}, value: {{margin: 8}}}}
  - {{offer_id: sofas, kind: promotion, product_ids: [sofa-1, sofa-2], channels: [web], {VALID}, value: {{margin: 8}}}}
  - {{offer_id: lamps, kind: promotion, category: lamps, channels: [web], {VALID}, value: {{margin: 8}}}}
  - {{offer_id: club, kind: loyalty, channels: [app], {VALID}, value: {{margin: 3}}}}
"""
PRODUCTS = """\
product_id,name,price,category,parent_id
table,Table,90,tables,
chair,Chair,40,chairs,
desk,Desk,90,desks,
shoe-42,Shoe,90,shoes,shoe
shoe-43,Shoe,90,shoes,shoe
sofa-1,Sofa,90,sofas,
sofa-2,Other sofa,90,other sofas,
lamp-1,Lamp,20,lamps,
lamp-2,Other lamp,20,lamps,
vase,Vase,10,vases,
"""
numbers = count(1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    path = tmp_path_factory.mktemp("responses") / "home"
    path.mkdir()
    (path / "offers.yaml").write_text(OFFERS)
    (path / "products.csv").write_text(PRODUCTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with at_home(Workspace(path)) as workspace:
            yield workspace


@pytest.fixture(scope="module")
def engine(home: Workspace) -> Iterator[Engine]:
    """One worker; every product is there."""
    opened = Engine.open(home)
    for product_id in opened.policy.catalog.products:
        say(opened, "Stock Updated", None, product_id=product_id, location_id="online", quantity=50)
    yield opened
    opened.close()
    opened.store.close()


@pytest.fixture
def customer(request: pytest.FixtureRequest) -> str:
    """A customer of the test's own."""
    return str(request.node.name)


def say(engine: Engine, event: str, who: str | None, at: float = NOW, **properties: Any) -> str:
    """A message of a shop's server, taken in; its id."""
    message_id = properties.pop("message_id", f"m{next(numbers)}")
    context = {"channel": properties.pop("via")} if "via" in properties else {}
    said = {"type": "track", "event": event, "messageId": message_id, "properties": properties, "context": context}
    said |= {"userId": who} if who else {}
    (receipt,) = engine.ingest([said], at, None)
    assert receipt.problem is None
    return str(message_id)


def decide(engine: Engine, who: str, at: float = NOW, channel: str = "web", limit: int = 9) -> dict[str, Any]:
    """Asked while every feed has just been heard of."""
    for signal in ("stock", "profile"):
        say(engine, "Feed Alive", None, at, signal=signal)
    placement = {"call_centre": "agent"}.get(channel, "home")
    return dict(engine.decision(Question(who, channel, placement, limit=limit), at))


def respond(engine: Engine, decision: dict[str, Any], offer_id: str, kind: str, at: float = NOW, **more: Any) -> None:
    ids = {"decision_id": decision["decision_id"], "offer_id": offer_id, "response_id": f"r{next(numbers)}"}
    engine.respond(RespondRequest(**{**ids, "kind": kind, **more}), at)


def used(engine: Engine, offer_id: str, at: float = NOW) -> Used:
    engine.signals.refresh()
    return engine.signals.used(offer_id, at)


def responses(engine: Engine, who: str, at: float = NOW) -> list[dict[str, Any]]:
    """What the story tells of the customer's responses, the latest first."""
    story = orjson.loads(engine.customers.story(who, at + 60, "call_centre", None) or b"")
    found: list[dict[str, Any]] = story["contacts"]["responses"]
    return found


def body_of(engine: Engine, message_id: str, who: str) -> dict[str, Any]:
    """The properties of a message as they are kept."""
    export = orjson.loads(b"".join(engine.customers.export(who, NOW) or ()))
    (found,) = [each["properties"] for each in export["events"] if each["message_id"] == message_id]
    return dict(found)


def offered(decision: dict[str, Any]) -> list[str]:
    return [each["offer_id"] for each in decision["offers"]]


# -------------------------------------------------------------------------------- one redemption, one use


Steps = list[Callable[[], Any]]


def taken_up(engine: Engine, who: str, decision: dict[str, Any], offer: str, product: str, at: float = NOW) -> Steps:
    """All that may say that an offer of a decision was taken up, one a minute; what it says is the same each time."""
    of = {"decision_id": decision["decision_id"]}
    bought = {**of, "order_id": f"o-{who}", "products": [{"product_id": product}]}
    name = f"{who}-{offer}"
    said = {"decision_id": of["decision_id"], "offer_id": offer, "kind": "accepted", "response_id": f"r-{name}"}
    return [
        lambda: say(engine, "Coupon Applied", who, at, coupon_id=offer, **of, message_id=f"applied-{name}"),
        lambda: engine.respond(RespondRequest(**said), at + 60),
        lambda: say(engine, "Order Completed", who, at + 120, **bought, message_id=f"bought-{name}"),
    ]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_coupon_order_and_respond_of_one_decision_are_one_use_in_whatever_order(
    home: Workspace, engine: Engine, customer: str, order: tuple[int, ...]
) -> None:
    """Said by turns to two workers, and all of it again to a third that has just started."""
    other, answer, before = Engine.open(home), decide(engine, customer), used(engine, "endless")
    for turn, step in enumerate(order):
        taken_up((engine, other)[turn % 2], customer, answer, "endless", "chair")[step]()
        assert used(engine, "endless") == Used(before.total + 1, before.today + 1)
    other.close()
    again = Engine.open(home)
    for step in taken_up(again, customer, answer, "endless", "chair"):
        step()
    assert used(again, "endless") == used(engine, "endless") == Used(before.total + 1, before.today + 1)
    again.close()
    assert [(each["offer_id"], each["response"]) for each in responses(engine, customer)] == [("endless", "accepted")]
    seen = engine.store.read(customer)
    assert seen is not None
    assert seen.profile.state["responses"]["promotion"]["accepted"] == [1.0, NOW]
    export = orjson.loads(b"".join(engine.customers.export(customer, NOW) or ()))
    assert [each["response"] for each in export["responses"]] == ["accepted"]
    assert len([each for each in export["events"] if each["name"] == "Offer Responded"]) == 3


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_what_an_order_took_up_may_be_taken_up_again_once_the_order_is_cancelled(
    engine: Engine, customer: str, order: tuple[int, ...]
) -> None:
    """Whatever arrives first of coupon, `/respond`, order and cancellation; the use of the budget stays counted."""
    answer, before = decide(engine, customer), used(engine, "endless").total
    cancelled = {"order_id": f"o-{customer}", "message_id": f"cancelled-{customer}"}
    steps = [
        *taken_up(engine, customer, answer, "endless", "chair"),
        lambda: say(engine, "Order Cancelled", customer, NOW + 180, **cancelled),
    ]
    for turn in order:
        steps[turn]()
    seen = engine.store.read(customer)
    assert seen is not None
    assert not reactions.accepted(seen.profile)
    assert used(engine, "endless").total == before + 1


def test_a_budget_of_two_is_spent_by_two_customers_and_by_the_second_time_of_one(engine: Engine, customer: str) -> None:
    for who in ("first", "second"):
        answer = decide(engine, f"{customer}-{who}")
        assert "voucher" in offered(answer)
        for step in taken_up(engine, f"{customer}-{who}", answer, "voucher", "table"):
            step()
    held = {each["offer_id"]: each["reasons"] for each in decide(engine, f"{customer}-third")["suppressed"]}
    assert [(each["code"], each["observed"]) for each in held["voucher"]] == [("offer_budget_spent", 2)]


def test_two_decisions_and_coupons_without_a_decision_are_each_a_use(engine: Engine, customer: str) -> None:
    before = used(engine, "endless").total
    for answer in [decide(engine, customer) for _ in range(2)]:
        respond(engine, answer, "endless", "accepted")
    say(engine, "Coupon Applied", customer, coupon_id="endless")
    say(engine, "Coupon Applied", customer, coupon_id="endless")
    assert used(engine, "endless").total == before + 4


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_what_was_taken_up_about_midnight_counts_for_the_first_day_whenever_we_hear_of_it(
    engine: Engine, customer: str, order: tuple[int, ...]
) -> None:
    late = NOW + DAY_S / 2 - 90
    answer, before, days = decide(engine, customer, late), used(engine, "endless", late), (late, late + DAY_S)
    steps = taken_up(engine, customer, answer, "endless", "chair", late)
    tomorrow = used(engine, "endless", late + DAY_S).today
    for step in order:
        steps[step]()
    first, second = (used(engine, "endless", day) for day in days)
    assert (first.total, first.today, second.today) == (before.total + 1, before.today + 1, tomorrow)


def test_what_an_erased_customer_took_up_stays_counted_once_and_tells_of_nobody(
    home: Workspace, engine: Engine, customer: str
) -> None:
    answer, before = decide(engine, customer), used(engine, "endless").total
    steps = taken_up(engine, customer, answer, "endless", "chair")
    steps[0]()
    engine.customers.erase(customer, NOW + 1)
    assert used(engine, "endless").total == before + 1
    say(engine, "Coupon Applied", "friend", coupon_id="endless", decision_id=answer["decision_id"])
    assert used(engine, "endless").total == before + 1
    engine.customers.erase("friend", NOW + 1)
    words = answer["decision_id"].encode(), customer.encode()
    assert not [path for path in home.home.glob("onestory.db*") for word in words if word in path.read_bytes()]


# ------------------------------------------------------- a promotion's message says no less than /respond


def promises(engine: Engine, who: str, at: float) -> dict[str, list[str]]:
    """Why the call centre must not offer what it has, by offer."""
    answer = decide(engine, who, at, "call_centre")
    return {each["offer_id"]: [reason["code"] for reason in each["reasons"]] for each in answer["suppressed"]}


@pytest.mark.parametrize("event", ["Promotion Viewed", "Promotion Clicked", "Offer Responded"])
def test_a_promotion_with_a_decision_binds_other_channels_as_respond_does(
    engine: Engine, customer: str, event: str
) -> None:
    answer = decide(engine, customer)
    assert "desk-5" in offered(answer)
    names = {"offer_id": "desk-5", "response": "shown"} if event == "Offer Responded" else {"promotion_id": "desk-5"}
    message_id = say(engine, event, customer, NOW + 60, **names, decision_id=answer["decision_id"])
    assert "terms_conflict" in promises(engine, customer, NOW + DAY_S)["desk-9"]
    (told,) = responses(engine, customer)
    assert (told["channel"], told["offer_id"]) == ("web", "desk-5")
    assert body_of(engine, message_id, customer) == {
        **(names if event == "Offer Responded" else {**names, "offer_id": "desk-5", "response": told["response"]}),
        "decision_id": answer["decision_id"],
        "product_id": "desk",
        "discount": 5.0,
        "offer_kind": "promotion",
    }


def test_what_a_promotions_message_says_itself_is_kept(engine: Engine, customer: str) -> None:
    of = {"promotion_id": "desk-5", "decision_id": decide(engine, customer)["decision_id"]}
    say(engine, "Promotion Viewed", customer, NOW + 60, **of, product_id="chair", discount=0, via="store")
    (told,) = responses(engine, customer)
    assert told["channel"] == "store"
    assert "desk-9" not in promises(engine, customer, NOW + DAY_S)


@pytest.mark.parametrize("wrong", ["of somebody else", "in no log", "of another offer"])
def test_a_promotion_is_not_completed_from_a_decision_that_did_not_show_it_to_the_customer(
    engine: Engine, customer: str, wrong: str
) -> None:
    decision_id = decide(engine, f"{customer}-2" if wrong == "of somebody else" else customer)["decision_id"]
    decision_id = "20260921-0-0-0" if wrong == "in no log" else decision_id
    offer_id = "desk-9" if wrong == "of another offer" else "desk-5"
    message_id = say(engine, "Promotion Viewed", customer, promotion_id=offer_id, decision_id=decision_id)
    assert "product_id" not in body_of(engine, message_id, customer)
    assert responses(engine, customer)[0]["channel"] is None


def test_what_an_anonymous_id_was_shown_is_completed_for_the_login_that_it_became(
    engine: Engine, customer: str
) -> None:
    answer = decide(engine, f"anonymous:{customer}")
    join = {"type": "identify", "userId": customer, "anonymousId": customer, "messageId": f"i-{customer}"}
    engine.ingest([join], NOW + 1, None)
    of = {"promotion_id": "desk-5", "decision_id": answer["decision_id"]}
    message_id = say(engine, "Promotion Viewed", customer, NOW + 60, **of)
    assert body_of(engine, message_id, customer)["product_id"] == "desk"


def test_a_refused_message_completes_and_accepts_nothing(engine: Engine, customer: str) -> None:
    decision_id = decide(engine, customer)["decision_id"]
    bad = [
        {"event": "Promotion Viewed", "properties": {"promotion_id": ["desk-5"], "decision_id": decision_id}},
        {"event": "Promotion Viewed", "properties": {"promotion_id": "desk-5", "decision_id": [decision_id]}},
        {"event": "Order Completed", "properties": {"decision_id": decision_id, "products": [{"product_id": "desk"}]}},
        {"event": "Order Completed", "properties": {"decision_id": decision_id, "order_id": "o", "products": [{}]}},
    ]
    sent = [{"type": "track", "userId": customer, "messageId": f"b{n}", **each} for n, each in enumerate(bad)]
    fine = {"type": "track", "userId": customer, "messageId": "fine", "event": "Cart Viewed"}
    receipts = engine.ingest([*sent, fine], NOW, None)
    assert [each.problem is None for each in receipts] == [False, False, False, False, True]
    assert responses(engine, customer) == []


# ------------------------------------------------------------------------- which offers an order takes up


def test_an_export_holds_the_profile_of_who_was_anonymous_before(engine: Engine, customer: str) -> None:
    device = {"anonymousId": f"device-of-{customer}"}
    view = {"type": "track", "event": "Product Viewed", "properties": {"product_id": "chair"}}
    known = {"type": "identify", "userId": customer}
    engine.ingest([{**view, **device, "messageId": f"{customer}-v"}], NOW, None)
    engine.ingest([{**known, **device, "messageId": f"{customer}-i"}], NOW + 1, None)
    export = orjson.loads(b"".join(engine.customers.export(customer, NOW + 2) or ()))
    assert export["profile"]["state"]["browsing"]


def accepted(engine: Engine, who: str) -> dict[str, str | None]:
    """What the customer has taken up: offer and product, of all decisions."""
    export = orjson.loads(b"".join(engine.customers.export(who, NOW) or ()))
    bodies = [each["properties"] for each in export["events"] if each["name"] == "Offer Responded"]
    assert {body["response"] for body in bodies} <= {"accepted"}
    return {body["offer_id"]: body.get("product_id") for body in bodies}


def lines(*product_ids: str) -> dict[str, Any]:
    return {"products": [{"product_id": each} for each in product_ids]}


@pytest.mark.parametrize(
    ("order", "taken"),
    [
        (lines("desk", "chair", "vase"), {"desk-5": "desk", "endless": "chair"}),
        (lines("shoe-43"), {"shoes": "shoe-43"}),
        (lines("sofa-1"), {"sofas": "sofa-1"}),
        (lines("sofa-2"), {"sofas": "sofa-2"}),
        (lines("lamp-1"), {"lamps": "lamp-1"}),
        (lines("lamp-2"), {"lamps": "lamp-2"}),
        ({**lines("vase"), "coupon": "desk-5"}, {"desk-5": "desk"}),
        ({"coupon": "desk-5"}, {"desk-5": "desk"}),
        ({"products": [{"product_id": "vase", "coupon": "desk-5"}]}, {"desk-5": "vase"}),
        ({"products": [{"sku": "chair"}]}, {"endless": "chair"}),
        ({**lines("vase"), "coupon": "SUMMER"}, {}),
        ({**lines("vase"), "coupon": True}, {}),
        (lines("vase"), {}),
        ({}, {}),
    ],
)
def test_of_several_offers_an_order_takes_up_those_that_it_holds_a_product_or_a_coupon_of(
    engine: Engine, customer: str, order: dict[str, Any], taken: dict[str, str]
) -> None:
    answer = decide(engine, customer)
    assert {"endless", "desk-5", "shoes", "sofas", "lamps"} <= set(offered(answer))
    say(engine, "Order Completed", customer, NOW + 60, order_id="o", decision_id=answer["decision_id"], **order)
    assert accepted(engine, customer) == taken


@pytest.mark.parametrize(
    ("channel", "order", "is_taken"),
    [
        ("app", lines("vase"), True),
        ("app", {}, True),
        ("web", {}, True),
        ("web", lines("vase"), False),
    ],
)
def test_a_single_offer_is_taken_up_by_an_order_that_can_mean_nothing_else(
    engine: Engine, customer: str, channel: str, order: dict[str, Any], is_taken: bool
) -> None:
    """In the app an offer over no product, on the site one with a product."""
    answer = decide(engine, customer, channel=channel, limit=1)
    (offer,) = answer["offers"]
    say(engine, "Order Completed", customer, NOW + 60, order_id="o", decision_id=answer["decision_id"], **order)
    assert accepted(engine, customer) == ({offer["offer_id"]: offer["product_id"]} if is_taken else {})


def test_a_line_that_names_a_decision_is_what_is_taken_up_of_it(engine: Engine, customer: str) -> None:
    web, app = decide(engine, customer), decide(engine, customer, channel="app")
    chair = {"product_id": "chair", "decisionId": web["decision_id"]}
    vase = {"product_id": "vase", "decision_id": app["decision_id"]}
    say(engine, "Order Completed", customer, NOW + 60, order_id="o", products=[chair, {"product_id": "desk"}, vase])
    assert accepted(engine, customer) == {"endless": "chair", "club": None}


def test_a_line_of_another_decision_is_not_of_the_orders(engine: Engine, customer: str) -> None:
    one, other = decide(engine, customer), decide(engine, customer)
    desk = {"product_id": "desk", "decision_id": other["decision_id"]}
    order = {"order_id": "o", "decision_id": one["decision_id"], "products": [{"product_id": "chair"}, desk]}
    say(engine, "Order Completed", customer, NOW + 60, **order)
    assert {(each["offer_id"], each["decision_id"]) for each in responses(engine, customer)} == {
        ("endless", one["decision_id"]),
        ("desk-5", other["decision_id"]),
    }


@pytest.mark.parametrize(
    "coupon", [{}, {"coupon_id": "SUMMER"}, {"coupon_id": ""}, {"coupon_name": "SUMMER", "response": "?"}]
)
def test_a_coupon_of_a_decision_with_a_single_offer_is_that_one(
    engine: Engine, customer: str, coupon: dict[str, str]
) -> None:
    answer = decide(engine, customer, limit=1)
    (offer,) = answer["offers"]
    before = used(engine, offer["offer_id"]).total
    say(engine, "Coupon Applied", customer, NOW + 60, **coupon, decision_id=answer["decision_id"])
    say(engine, "Order Completed", customer, NOW + 90, order_id="o", decision_id=answer["decision_id"])
    assert accepted(engine, customer) == {offer["offer_id"]: offer["product_id"]}
    assert [each["channel"] for each in responses(engine, customer)] == ["web"]
    assert used(engine, offer["offer_id"]).total == before + 1


@pytest.mark.parametrize(("limit", "coupon"), [(9, {}), (1, {"coupon_id": "desk-9"})])
def test_a_coupon_of_a_decision_is_none_of_ours_where_it_may_mean_another(
    engine: Engine, customer: str, limit: int, coupon: dict[str, str]
) -> None:
    """Several offers were shown; or the coupon is that of an offer which was not."""
    answer = decide(engine, customer, limit=limit)
    say(engine, "Coupon Applied", customer, NOW + 60, **coupon, decision_id=answer["decision_id"])
    assert not {each["offer_id"] for each in responses(engine, customer)} & set(offered(answer))


def test_a_coupon_with_a_decision_is_not_taken_in_at_once_since_the_log_is_read_for_it(engine: Engine) -> None:
    def arrived(**properties: Any) -> Arrived:
        content = {"type": "track", "event": "Coupon Applied", "userId": "at-once", "messageId": f"m{next(numbers)}"}
        return Arrived({**content, "properties": properties}, NOW, None)

    receipts, _ = engine.ingest_at_once([arrived(decision_id="d"), arrived(coupon_name="SUMMER")], NOW)
    assert [each is None for each in receipts] == [True, False]
    with pytest.raises(NotAtOnce):
        engine.ingest_at_once([arrived(decision_id="d")], NOW)


def test_a_message_with_the_longest_id_there_may_be_accepts_too(engine: Engine, customer: str) -> None:
    answer = decide(engine, customer)
    order = {"order_id": "o", "decision_id": answer["decision_id"], **lines("chair"), "message_id": "x" * 255}
    say(engine, "Order Completed", customer, NOW + 60, **order)
    respond(engine, answer, "desk-5", "accepted", response_id="y" * 255)
    assert accepted(engine, customer) == {"endless": "chair", "desk-5": "desk"}


# ------------------------------------------------------------------------------------ clocks that differ


def clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


@pytest.mark.parametrize("ahead_s", [0.001, 300.0])
def test_a_response_a_little_ahead_of_our_clock_is_of_now(engine: Engine, customer: str, ahead_s: float) -> None:
    answer = decide(engine, customer)
    respond(engine, answer, "endless", "accepted", NOW + 60, occurred_at=clock(NOW + 60 + ahead_s))
    assert [each["at"] for each in responses(engine, customer)] == [clock(NOW + 60).replace("+00:00", "Z")]


def test_a_response_further_ahead_is_refused_and_so_is_one_from_before_its_decision(
    engine: Engine, customer: str
) -> None:
    answer = decide(engine, customer)
    for off_s, problem in ((300.001, "in the future; expected at most 5 minutes"), (-300.001, "before the decision")):
        with pytest.raises(Problem, match=problem) as caught:
            respond(engine, answer, "endless", "clicked", NOW, occurred_at=clock(NOW + off_s))
        assert caught.value.status == 400
    respond(engine, answer, "endless", "clicked", NOW, occurred_at=clock(NOW - 300))
    assert [each["response"] for each in responses(engine, customer)] == ["clicked"]
