"""A logged decision is made again, byte for byte, from what its record says it saw."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import orjson
import pytest
from typer.testing import CliRunner

from features import build, columns, profiles
from features.workspace import PROJECT, Workspace, open_workspace
from serving import packing
from serving.__main__ import app
from serving.decision_log import ERASED
from serving.engine import Engine
from serving.log_lines import records
from serving.question import Question
from serving.replay import replay

SHOP = ["chair-oak", "chair-woven", "coffee-beans-1kg", "table-oak-180", "trail-shoe-42"]


def decided(home: Path, decisions: int) -> Workspace:
    """A workspace with so many decisions, and purchases, sold-out products, used offers and consents between them."""
    workspace = open_workspace(home)
    shipped = (PROJECT / "features/offers.yaml").read_text()
    budgeted = shipped.replace("kind: loyalty\n", "kind: loyalty\n    budget: {total: 9, daily: 7}\n")
    (workspace.home / "offers.yaml").write_text(budgeted)
    build.build(workspace)
    engine = Engine.open(workspace)
    started = time.time()
    shops = [_stock(product_id, 5, 0, place) for product_id in SHOP for place in ("online", "berlin-mitte")]
    engine.ingest([*shops, *(_at_home(f"c{number}") for number in range(0, 11, 2))], started, None)
    for number in range(decisions):
        product_id, customer_id = SHOP[number % len(SHOP)], f"c{number % 11}"
        if number % 7 == 0:
            engine.ingest([_order(customer_id, product_id, number)], time.time(), None)
        if number % 13 == 0:
            engine.ingest([_stock(product_id, number % 3, number)], time.time(), None)
        if number % 17 == 0:
            engine.ingest([_consent(customer_id, number)], time.time(), None)
            engine.intake.one(_taken_up(customer_id, number), time.time())
        channel, placement = [("web", "home"), ("app", "cart"), ("email", "newsletter")][number % 3]
        engine.decide(Question(customer_id, channel, placement, limit=1 + number % 5), time.time())
    engine.close()
    return workspace


def _at_home(customer_id: str) -> dict:
    traits = {"store_id": "berlin-mitte"}
    return {"type": "identify", "userId": customer_id, "messageId": f"home-{customer_id}", "traits": traits}


def _consent(customer_id: str, number: int) -> dict:
    properties = {"purpose": "marketing", "granted": number % 2 == 0}
    name = "Consent Updated"
    return {"type": "track", "event": name, "userId": customer_id, "messageId": f"c{number}", "properties": properties}


def _taken_up(customer_id: str, number: int) -> dict:
    body = {"offer_id": "join-the-club", "response": "accepted"}
    told = {"message_id": f"taken-{number}", "name": "Offer Responded", "occurred_at": time.time()}
    return {**told, "user_id": customer_id, "body": body}


def _stock(product_id: str, quantity: int, number: int, location_id: str = "online") -> dict:
    properties = {"product_id": product_id, "location_id": location_id, "quantity": quantity}
    message_id = f"stock-{product_id}-{location_id}-{number}"
    return {"type": "track", "event": "Stock Updated", "messageId": message_id, "properties": properties}


def _order(customer_id: str, product_id: str, number: int) -> dict:
    properties = {"order_id": f"o{number}", "products": [{"product_id": product_id, "quantity": 1}]}
    name = "Order Completed"
    return {"type": "track", "event": name, "userId": customer_id, "messageId": f"m{number}", "properties": properties}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return decided(tmp_path_factory.mktemp("replay") / "home", 200)


def test_every_decision_comes_out_the_same(workspace: Workspace) -> None:
    found = list(replay(workspace))
    assert len(found) == 200
    assert [each for each in found if each.problem] == []


def test_what_rules_looked_at_is_in_the_records(workspace: Workspace) -> None:
    found = list(records(workspace.decisions))
    codes = {reason["code"] for each in found for held in each["answer"]["suppressed"] for reason in held["reasons"]}
    assert {"offer_budget_spent", "already_redeemed", "no_consent", "out_of_stock"} <= codes
    assert any(offer["fulfilment"] for each in found for offer in each["answer"]["offers"])
    assert any(each["facts"]["shops"] for each in found)
    assert any(each["facts"]["used"] == {"join-the-club": [9, 9]} for each in found)


def test_another_purchase_in_the_record_gives_another_answer_and_is_named(workspace: Workspace, tmp_path: Path) -> None:
    logged = (record["profile"] for record in records(workspace.decisions) if record["profile"])
    seen = next(each for each in logged if "p:coffee-beans-1kg" in profiles.from_log(each).items)
    bought = dict(profiles.from_log(seen).items)
    bought["p:chair-oak"] = bought.pop("p:coffee-beans-1kg")
    other = profiles.logged(b"{}", columns.pack(bought, 0.0))["columns"]
    copy = copied(workspace, tmp_path, seen["columns"].encode(), other.encode())
    assert any(each.problem for each in replay(copy))


def test_a_rulebook_that_is_missing_is_named(workspace: Workspace, tmp_path: Path) -> None:
    copy = copied(workspace, tmp_path)
    next((copy.home / "versions").glob("rulebook-*/rulebook.yaml")).unlink()
    problems = {each.problem for each in replay(copy)}
    assert len(problems) == 1
    assert "rulebook `sha256:" in str(problems)
    assert "is missing" in str(problems)


def test_since_leaves_out_what_was_decided_before(workspace: Workspace) -> None:
    assert list(replay(workspace, since=time.time() + 60)) == []


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_whatever_byte_of_the_log_is_altered_replay_tells_and_goes_on(
    workspace: Workspace, tmp_path: Path, packed: bool
) -> None:
    copy = shortened(workspace, tmp_path, 12)
    (path,) = packing.files(copy.decisions)
    if packed:
        packing.pack(path)
        path = path.with_name(path.name + ".packed")
    content, dice = path.read_bytes(), Random(17)
    for _ in range(100):
        at = dice.randrange(len(content))
        other = dice.choice([content[at] ^ 1, ord("9"), ord(" "), ord("\n"), 0xFF])
        path.write_bytes(content[:at] + bytes([other]) + content[at + 1 :])
        code, figures, said = replayed(copy)
        changed = f"byte {at}: {content[at : at + 1]!r} is {bytes([other])!r}: {figures} {said}"
        assert code == (1 if said else 0), changed
        assert len(said) == figures["different"] + figures.get("unreadable", 0), changed
        assert all(line.startswith(("decision `", "log `")) for line in said), changed
        if not said:
            assert figures["same"] == 12, changed


@pytest.mark.parametrize(
    ("before", "after", "by_id", "unreadable"),
    [
        (b'"now"', b'"noo"', True, 0),
        (b'"decision_id"', b'"decision_ie"', False, 1),
        (b'"engine"', b'"engin\xff"', True, 0),
        (b'"promised"', b'"promise\n"', True, 1),
        (b'"answer"', b'"answes"', True, 0),
    ],
)
def test_an_altered_record_is_named_and_the_others_are_decided(
    workspace: Workspace, tmp_path: Path, before: bytes, after: bytes, by_id: bool, unreadable: int
) -> None:
    copy = shortened(workspace, tmp_path, 9)
    (path,) = packing.files(copy.decisions)
    third = list(records(copy.decisions))[2]["decision_id"]
    begin = int(third.split("-")[2], 16)
    content = path.read_bytes()
    path.write_bytes(content[:begin] + content[begin:].replace(before, after, 1))
    code, figures, said = replayed(copy)
    place = f"log `{path.parent.name}/{path.name}`, byte {begin}: "
    assert code == 1
    assert said[0].startswith(f"decision `{third}`: " if by_id else place)
    assert (figures["same"], figures.get("unreadable", 0)) == (8, unreadable)
    assert len(said) == by_id + unreadable


def test_an_altered_profile_names_every_decision_that_saw_it(workspace: Workspace, tmp_path: Path) -> None:
    copy = shortened(workspace, tmp_path, 40)
    (path,) = packing.files(copy.decisions)
    seen = [(each["facts"]["profile_at"], each["decision_id"]) for each in records(copy.decisions)]
    at = next(at for at, _ in seen if at is not None)
    content = path.read_bytes()
    path.write_bytes(content[: at + 5] + b"\xff" + content[at + 6 :])
    code, figures, said = replayed(copy)
    whose = [decision_id for profile_at, decision_id in seen if profile_at == at]
    assert code == 1
    assert said[0].startswith(f"log `{path.parent.name}/{path.name}`, byte {at}: ")
    assert [line.split("`")[1] for line in said[1:]] == whose
    assert figures["same"] == 40 - len(whose)


def test_a_line_end_altered_hides_no_decision(workspace: Workspace, tmp_path: Path) -> None:
    copy = shortened(workspace, tmp_path, 5)
    (path,) = packing.files(copy.decisions)
    content, ids = path.read_bytes(), [each["decision_id"] for each in records(copy.decisions)]
    ends = [at for at, byte in enumerate(content) if byte == 10]
    for at in ends:
        path.write_bytes(content[:at] + b" " + content[at + 1 :])
        code, figures, said = replayed(copy)
        assert figures["decisions"] + figures.get("unreadable", 0) >= 5
        assert (code, bool(said)) == ((0, False) if at == ends[-1] else (1, True))
    path.write_bytes(content[: ends[-1]] + b"x")
    assert replayed(copy)[0] == 1
    erased = (ERASED + b"}").ljust(ends[0]) + b" " + content[ends[0] + 1 :]
    path.write_bytes(erased)
    assert any(each.decision_id in ids and each.problem for each in replay(copy))


@pytest.mark.parametrize("name", ["rulebook-*/rulebook.yaml", "catalog-*/offers.yaml"])
def test_what_a_decision_was_made_by_is_told_where_it_was_altered(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    copy = shortened(workspace, tmp_path, 3)
    path = next((copy.home / "versions").glob(name))
    path.write_bytes(path.read_bytes().replace(b": ", b": \xff", 1))
    code, figures, said = replayed(copy)
    assert (code, figures["different"], len(said)) == (1, 3, 3)
    assert all("is not UTF-8" in line for line in said)


def shortened(workspace: Workspace, to: Path, decisions: int) -> Workspace:
    """A copy whose log ends with that decision."""
    copy = copied(workspace, to)
    (path,) = packing.files(copy.decisions)
    after = list(records(copy.decisions))[decisions]
    before = int(after["decision_id"].split("-")[2], 16)
    content = path.read_bytes()[:before]
    if content.rpartition(b"\n{")[2].startswith(b'"profile"'):
        content = content[: content.rindex(b"\n{") + 1]
    path.write_bytes(content)
    return copy


def replayed(workspace: Workspace) -> tuple[int, dict[str, int], list[str]]:
    """Exit code, figures and sentences of `python -m serving replay --json`."""
    done = CliRunner().invoke(app, ["replay", "--json"], env=workspace.environment())
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    said = [line for line in done.stderr.splitlines() if line.strip() and "replaying" not in line]
    return done.exit_code, orjson.loads(done.stdout), said


def copied(workspace: Workspace, to: Path, before: bytes = b"", after: bytes = b"") -> Workspace:
    """The part of a workspace that replay needs, at another place, with one change in the log."""
    for name in ("decisions", "versions"):
        for path in (workspace.home / name).rglob("*"):
            if path.is_file():
                target = to / path.relative_to(workspace.home)
                target.parent.mkdir(parents=True, exist_ok=True)
                content = path.read_bytes()
                target.write_bytes(content.replace(before, after) if before and name == "decisions" else content)
    assert orjson.loads(next((to / "decisions").glob("*/*.ndjson")).read_bytes().splitlines()[0])
    return Workspace(to)
