"""The whole fast path against a plain one, decision by decision: the same JSON, to the last digit of every number."""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import pytest
import sqlalchemy as sa
import yaml
from champions import promote_blend, promote_trees
from plain_path import Answered, Log, Plain
from plain_traffic import Traffic
from typer.testing import CliRunner

from benchmarks import stand
from features import build, database, history
from features.catalog import load_catalog
from features.sources import completejourney
from features.vocabulary import DAY_S, FALLBACKS, REASONS
from features.workspace import PROJECT, Workspace, open_workspace
from serving.engine import Engine
from serving.rulebook import RecentlyPurchased
from training.__main__ import app

NOW = 1_795_000_000.0
SHOPS = ("berlin-mitte", "hamburg", "wien")
CANNOT = {"control_arm", "rule_error"}
"""No arm is a control arm yet, and no rule fails."""
BOOKS: tuple[Mapping[str, Any], ...] = (
    {
        "contact_policy": {
            "limits": [
                {"channel": "email", "at_most": 1, "days": 7},
                {"channel": "sms", "at_most": 0, "days": 7},
                {"channel": "push", "kind": "loyalty", "at_most": 1, "days": 2},
                {"kind": "cross_sell", "at_most": 2, "days": 1},
                {"at_most": 2, "days": 7},
            ]
        },
        "too_many_returns": {"share": 0.15, "orders": 2},
        "arbitration": {"exploration": 0.3},
    },
    {
        "consent": {"personalisation": "until_refused", "profiling": "when_granted"},
        "signals": {
            "profile": {"max_age_s": 3_000, "on_stale": "suppress"},
            "cases": {"max_age_s": 1_800, "on_stale": "suppress"},
            "consent": {"max_age_s": 1_800, "on_stale": "suppress"},
        },
        "recently_purchased": {"same_product": {"days": 2}, "same_style": {"days": 1}, "same_category": {"days": 0}},
        "contact_policy": {"quiet_after": {"dismissals": 1, "within_days": 30, "quiet_days": 1}},
        "arbitration": {"per_category": 1, "propensity_exponent": 0.5},
    },
    {
        "signals": {"cases": {"max_age_s": 600, "on_stale": "degrade"}},
        "quiet_hours": {"start": "23:30", "end": "5:00", "rest_days": ["sunday"]},
        "recently_purchased": {"same_product": {"days": 7, "kinds": {"cross_sell": 9}}},
        "arbitration": {"exploration": 0.1},
    },
)


RULES = {
    *("valid_from", "valid_until", "channel", "placement", "channel_of_placement", "market", "eligibility", "total"),
    *("daily", "same_offer", "profile", "stock", "cases", "consent", "marketing", "personalisation", "night_or_rest"),
    *("case", "promise", "checkout", "share", "same_product", "same_style", "same_category", "usual_interval", "cart"),
    *("products", "location", "earned", "per_customer", "per_email"),
    *("dismissals", "discount", "floor", "exclusive_group"),
}
"""Every rule that is to be met; the limits of a kind of offer are met too rarely to be asked for."""

EVERY = 8
"""Of the journey's own offers every so manieth: the plain path takes a millisecond and more for each."""


@dataclass
class Proof:
    """What was compared, and what was met on the way."""

    decisions: int = 0
    offers: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)

    def count(self, answer: Mapping[str, Any]) -> None:
        self.decisions += 1
        self.offers += len(answer["offers"])
        held = [reason for each in (*answer["suppressed"], *answer["passed_over"]) for reason in each["reasons"]]
        self.reasons.update((reason["code"], reason["rule"]) for reason in held)
        self.met.update([f"fallback {answer['fallback']}", f"channel {answer['channel']}"])
        self.met["carried on"] += answer["continued_from"] is not None
        for each in answer["offers"]:
            self.met["set aside"] += each["fulfilment"] is not None
            self.met["drawn"] += each["selection_probability"] < 1.0
            self.met["return risk"] += each["worth"]["return_risk"] is not None
            self.met["baseline"] += bool(each["worth"]["baseline_propensity"])


def compared(engine: Engine, plain: Plain, traffic: Traffic, decisions: int, proof: Proof) -> None:
    """So many questions, with what happens between them; every answer is what the plain path says."""
    for _ in range(decisions):
        traffic.go_on(engine)
        ask, now = traffic.question(), traffic.now
        told = orjson.loads(orjson.dumps(engine.decision(ask, now)))
        record = orjson.loads(engine.record(told["decision_id"]) or b"")
        assert record["answer"] == told
        expected = plain.answer(ask, now, record["facts"]["seed"], told["decision_id"])
        found = list(differences(in_order(told), in_order(orjson.loads(orjson.dumps(expected)))))
        assert not found, "\n".join(found)
        plain.note(ask, told, now)
        proof.count(told)
        traffic.told(engine, ask, told)


def in_order(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with the reasons of each offer sorted: in which order rules are asked says nothing."""
    held = {
        part: [{**each, "reasons": sorted(each["reasons"], key=orjson.dumps)} for each in answer[part]]
        for part in ("suppressed", "passed_over")
    }
    return {**answer, **held}


def differences(ours: Any, plain: Any, where: str = "") -> Iterator[str]:
    """Where the two differ, in words."""
    if isinstance(ours, dict) and isinstance(plain, dict) and ours.keys() == plain.keys():
        for name in ours:
            yield from differences(ours[name], plain[name], f"{where}.{name}")
    elif isinstance(ours, list) and isinstance(plain, list) and len(ours) == len(plain):
        for number, (one, other) in enumerate(zip(ours, plain, strict=True)):
            yield from differences(one, other, f"{where}[{number}]")
    elif ours != plain or type(ours) is not type(plain):
        yield f"{where}: we say {ours}, the plain path says {plain}"


def offers(products: Sequence[str], category: str, now: float, part: int) -> str:
    """Offers with what others lack: dates, budgets, conditions, groups, no margin, a last resort, other terms later."""
    a, b, c, d, *_ = products
    soon, day = (datetime.fromtimestamp(now + days * DAY_S, UTC).isoformat() for days in (1, 2))
    always = {"valid_from": "2020-01-01", "valid_until": "2099-12-31"}
    lately = {"field": "days_since_order", "operator": ">=", "value": 2}
    often = {"any": [{"field": "orders_90d", "operator": "<", "value": 3}, {"not": lately}]}
    made: list[dict[str, Any]] = [
        {"kind": "promotion", "product_ids": [a, b], "value": {"margin": 9, "discount": 3 - part}, "valid_from": soon},
        {"kind": "promotion", "product_ids": [c, a], "value": {"margin": 9, "discount": 2}, "valid_until": day},
        {"kind": "promotion", "product_ids": [b, c], "value": {"discount": 0.7}, "exclusive_group": "x"},
        {"kind": "cross_sell", "product_ids": [d, c, b], "value": {"margin": 9}, "exclusive_group": "x"},
        {
            "kind": "win_back",
            "value": {"margin": 6, "discount": 4 - part},
            "eligibility": lately,
            "exclusive_group": "y",
        },
        {"kind": "win_back", "category": category, "value": {"margin": 5, "cost": 0.1}, "eligibility": often},
        {"kind": "loyalty", "value": {"margin": 4}, "budget": {"total": 2}, "lever": 1.5},
        {"kind": "loyalty", "value": {"margin": 5}, "budget": {"daily": 1}, "exclusive_group": "y"},
        {"kind": "loyalty", "value": {"margin": 1, "discount": 2}, "placements": ["home", "agent"]},
        {"kind": "cross_sell", "category": "nothing of ours", "value": {"margin": 3}},
        {"kind": "cross_sell", "category": category, "markets": ["at", "north-east"], "value": {"margin": 2}},
        {
            "kind": "cart_recovery",
            "product_ids": products[:12],
            "value": {"margin": 8},
            "valid_until": f"{2099 - part}-12-31",
        },
        {"kind": "replenishment", "product_ids": products[4:16], "value": {"margin": 2}},
        {"kind": "service_recovery", "value": {"margin": 0.1}, "fallback": True},
        {"kind": "service_recovery", "value": {"margin": 0.01}, "channels": ["email", "call_centre"]},
        {"kind": "reserve_in_store", "product_ids": [a], "value": {"margin": 0.2}, "fallback": ["home"]},
        {
            "kind": "promotion",
            "product_ids": products[3:9],
            "value": {"margin": 70, "discount": 1 + part},
            "exclusive_group": "y",
        },
    ]
    text = {"title": "{product.name}", "body": "until {offer.valid_until}, {customer.loyalty_tier}, {location.name}"}
    for number, each in enumerate(made):
        each["offer_id"] = f"made-up-{number:02}"
        over = "product_ids" in each or "category" in each
        each["treatments"] = {"web": text if over else {"title": "For {customer.loyalty_tier}"}}
    return "\n".join("- " + line for line in (orjson.dumps({**always, **each}).decode() for each in made)) + "\n"


def book(number: int, floor: float) -> str:
    """The shipped rulebook with other numbers; in the first of them an offer must be worth so much."""
    content = yaml.safe_load((PROJECT / "serving/rulebook.yaml").read_text())
    content["quiet_hours"] |= {"start": "21:00", "end": "08:00"}  # which plain YAML takes for numbers to the base of 60
    for section, changes in BOOKS[number].items():
        content[section] = {**content[section], **changes}
    content["arbitration"]["floor"] = 0.0 if number else floor
    return yaml.safe_dump(content)


@dataclass(frozen=True)
class Shop:
    """A workspace that is made and built, with the offers that it has of its own and what its traffic is about."""

    workspace: Workspace
    offers: str
    category: str
    traffic: Traffic
    began: float = NOW
    floor: float = 0.5
    told: list[Answered] = field(default_factory=list, repr=False)

    @cached_property
    def log(self) -> Log:
        return Log(database.connect(self.workspace))

    def plain(self) -> Plain:
        return Plain(self.workspace, self.log, self.told)

    def write(self, part: int) -> None:
        """The files of one part of the proof."""
        (self.workspace.home / "rulebook.yaml").write_text(book(part, self.floor))
        more = offers(self.traffic.products, self.category, self.began, part)
        (self.workspace.home / "offers.yaml").write_text(self.offers + more)


def proven(shop: Shop, decisions: int, proof: Proof) -> None:
    """A part under each rulebook, each with an engine of its own; what was told before, the plain path remembers."""
    for part in range(len(BOOKS)):
        shop.write(part)
        engine = Engine.open(shop.workspace)
        try:
            if not proof.decisions:
                shop.traffic.opening(engine)
            compared(engine, shop.plain(), shop.traffic, decisions // len(BOOKS), proof)
        finally:
            engine.close()


def of_every_kind(proof: Proof) -> None:
    assert {code for code, _ in proof.reasons} == set(REASONS) - CANNOT
    assert {name for name, count in proof.met.items() if not count} == set()
    assert {f"fallback {each}" for each in (None, *FALLBACKS) if each != "no_profile"} <= set(proof.met)


@pytest.fixture(autouse=True)
def _the_same_draws_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision ids, and the seeds of what is explored, are dealt out in order."""
    dealt = random.Random(1)
    monkeypatch.setattr("secrets.token_hex", lambda count: dealt.randbytes(count).hex())


def differs_under_other_numbers(shop: Shop, proof: Proof) -> None:
    """Had the plain path another rulebook, it would be seen."""
    engine, plain = Engine.open(shop.workspace), shop.plain()
    plain.book = plain.book.model_copy(update={"recently_purchased": RecentlyPurchased()})
    with pytest.raises(AssertionError, match=r"we say .*, the plain path says"):
        compared(engine, plain, shop.traffic, 50, proof)
    engine.close()


def test_a_decision_is_what_the_plain_path_makes_of_the_same_world(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "home")
    products = [line.split(",")[0] for line in (PROJECT / "features/products.csv").read_text().splitlines()[1:]]
    shipped = re.sub("^  ", "", (PROJECT / "features/offers.yaml").read_text(), flags=re.MULTILINE)
    customers = [f"c{number}" for number in range(24)]
    traffic = Traffic("small", NOW, [*products[6:], *products[:6]], SHOPS, customers, pauses=0.06)
    shop, proof = Shop(workspace, shipped, "shoes", traffic), Proof()
    proven(shop, 45, proof)
    build.build(workspace)
    promote_blend(workspace, "1", {"kind": "beta", "a": 0.9, "b": 1.1, "c": -0.2})
    promote_blend(workspace, "1", {"kind": "isotonic", "x": [0.1, 0.2, 0.5], "y": [0.1, 0.3, 0.4]}, task="churn")
    promote_trees(workspace, "1", task="returns")
    proven(shop, 165, proof)
    of_every_kind(proof)
    differs_under_other_numbers(shop, proof)


@pytest.mark.prove
def test_ten_thousand_decisions_are_what_the_plain_path_makes_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over all of Complete Journey with models trained on it, but for return risk: in it nothing comes back."""
    workspace = open_workspace(tmp_path / "home")
    completejourney.ingest(workspace, time.time())
    build.build(workspace)
    for task in ("propensity", "churn"):
        for command in ("train", "promote"):
            done = CliRunner().invoke(app, [command, task])
            assert done.exit_code == 0, done.output
    promote_trees(workspace, "1", task="returns")
    shop, proof, began = journey(workspace), Proof(), time.process_time()
    workspace.champions.rename(workspace.home / "not-promoted-yet")
    proven(shop, 402, proof)
    (workspace.home / "not-promoted-yet").rename(workspace.champions)
    for _ in range(4):
        proven(shop, 2_400, proof)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{proof.decisions:,} decisions, {proof.offers:,} offers, {time.process_time() - began:.0f} s\n"
        )
        for name, count in (*proof.reasons.most_common(), *proof.met.most_common()):
            sys.stdout.write(f"{count:>9,}  {name if isinstance(name, str) else ' '.join(name)}\n")
    of_every_kind(proof)
    assert {rule for _, rule in proof.reasons} >= RULES


def journey(workspace: Workspace) -> Shop:
    """Complete Journey, made and built, and customers who come often; some of its products get a style in common."""
    catalog = load_catalog(workspace)
    over = [list(catalog.products_of(each)) for each in catalog.offers.values()]
    products = list(dict.fromkeys(each for several in over for each in several[:2]))[:60]
    table = pd.read_parquet(workspace.home / "products.parquet")
    style = "style of " + table["category"].astype(str)
    table["parent_id"] = style.where(table["product_id"].isin(products[::2]), None)
    table.to_parquet(workspace.home / "products.parquet")
    shops = [each.location_id for each in catalog.locations.values() if each.kind == "shop"][:3]
    with database.reading(database.connect(workspace)) as connection:
        known = sorted(history.counts(connection))
        now = connection.scalar(sa.select(sa.func.max(database.events.c.known_at)))
    customers = random.Random(2).sample(known, 150)
    category = catalog.products[products[0]].category or ""
    traffic = Traffic("journey", round(now + 60.0, 3), products, shops, customers, pauses=0.01)
    some = yaml.dump({"offers": stand.offers_of(workspace)[::EVERY]}, Dumper=yaml.CSafeDumper)
    return Shop(workspace, some, category, traffic, now, 0.000_5)
