"""What a running service decided, a copy of its workspace decides again elsewhere, byte for byte, without answers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from champions import promote, promote_trees
from conversing import Caller, at_once, opening
from processes import Server, serving
from typer.testing import CliRunner

from features import build, columns, profiles
from features.workspace import PROJECT, Workspace, open_workspace
from serving.__main__ import app
from serving.log_lines import records

CALLERS = 4
YEARS_AGO = 1_090_000_000.0
BOOK = re.sub(r"start: .*\n  end: .*", "start: 0:00\n  end: 0:00", (PROJECT / "serving/rulebook.yaml").read_text())
"""The shipped rulebook, without quiet hours: the hour at which this runs is none of the proof's business."""
BOOKS = (
    BOOK,
    BOOK.replace("exploration: 0.0", "exploration: 0.3").replace("per_category: 2", "per_category: 1"),
    BOOK.replace("same_product:  {days: 30", "same_product:  {days: 0").replace(
        "at_most: 2, days: 7", "at_most: 9, days: 7"
    ),
)
OFTEN = {"open_case", "out_of_stock", "recently_purchased", "recently_returned", "no_consent", "contact_limit"}


@dataclass(frozen=True)
class Held:
    """A conversation that is over: the workspace, and what the callers were told, by decision id."""

    workspace: Workspace
    told: dict[str, dict[str, Any]]


def held(home: Path, decisions: int) -> Held:
    """So many decisions over HTTP, with two other rulebooks and a promotion on the way."""
    workspace = open_workspace(home)
    shipped = (PROJECT / "features/offers.yaml").read_text()
    (home / "offers.yaml").write_text(shipped.replace("kind: loyalty\n", "kind: loyalty\n    budget: {total: 90}\n"))
    (home / "rulebook.yaml").write_text(BOOKS[0])
    promote(workspace, "1")
    promote(workspace, "1", task="churn")
    build.build(workspace)
    with serving(home, workers=2) as server:
        assert httpx.post(f"{server.url}/v1/batch", json={"batch": opening()}).json()["rejected"] == []
        callers = [Caller(server.url, f"caller-{number}") for number in range(CALLERS)]
        extra = Caller(server.url, "onlooker")
        for part in range(4):
            at_once(callers, decisions * (part + 1) // 4)
            _change(part, workspace, server, extra)
        for caller in (*callers, extra):
            caller.close()
    return Held(workspace, {id_: answer for caller in (*callers, extra) for id_, answer in caller.told.items()})


def _change(part: int, workspace: Workspace, server: Server, onlooker: Caller) -> None:
    """After the first and third part another rulebook, after the second another model; until both workers have it."""
    before = server.log.read_text().count("policy: taken up")
    if part in (0, 2):
        (workspace.home / "rulebook.yaml").write_text(BOOKS[1 if part == 0 else 2])
    elif part == 1:
        promote_trees(workspace, "2")
    else:
        return
    until = time.monotonic() + 60
    while server.log.read_text().count("policy: taken up") < before + 2:
        assert time.monotonic() < until, server.log.read_text()[-2_000:]
        onlooker.ask(customer_id="c1", channel="web", placement="home")
        time.sleep(0.02)


def copied(of: Workspace, to: Path, stripped: bool = True) -> Path:
    """The workspace at another path; `stripped`: what was answered is nowhere in its log."""
    shutil.copytree(of.home, to)
    for path in (to / "decisions").glob("*/*.ndjson") if stripped else ():
        path.write_bytes(b"".join(_without_answer(line) for line in path.read_bytes().splitlines(keepends=True)))
    return to


def _without_answer(line: bytes) -> bytes:
    """The line without answer, blanks in its place: every other line stays where it was."""
    content = orjson.loads(line)
    for name in ("answer", "promised"):
        content.pop(name, None)
    return orjson.dumps(content).ljust(len(line) - 1) + b"\n" if "decision_id" in content else line


def replayed(home: Path, *options: str) -> tuple[int, dict[str, int], list[str]]:
    """Exit code, figures and complaints of `python -m serving replay` over the workspace at `home`."""
    variables = {**os.environ, **Workspace(home).environment()}
    command = [sys.executable, "-m", "serving", "replay", "--json", *options]
    done = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.returncode, orjson.loads(done.stdout), _complaints(done.stderr)


def replayed_here(home: Path) -> tuple[int, dict[str, int], list[str]]:
    """The same within this process, which is done sooner."""
    done = CliRunner().invoke(app, ["replay", "--json"], env=Workspace(home).environment())
    return done.exit_code, orjson.loads(done.stdout), _complaints(done.stderr)


def _complaints(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("decision `")]


def compared(of: Held, elsewhere: Path) -> None:
    """A stripped copy gives the log's answers byte for byte, and they are what the callers were told."""
    out = elsewhere.with_suffix(".answers")
    code, figures, complaints = replayed(copied(of.workspace, elsewhere), "--out", str(out))
    logged = {record["decision_id"]: record["answer"] for record in records(of.workspace.decisions)}
    assert (code, complaints) == (0, [])
    assert figures == {"decisions": len(logged), "same": 0, "different": 0, "erased": 0, "not_compared": len(logged)}
    lines = out.read_bytes().splitlines()
    assert [line for line in lines if orjson.dumps(logged[orjson.loads(line)["decision_id"]]) != line] == []
    again = {answer["decision_id"]: answer for answer in map(orjson.loads, lines)}
    assert set(of.told) == set(again)
    for decision_id, told in of.told.items():
        assert told == {name: again[decision_id][name] for name in told}


def of_every_kind(of: Held) -> None:
    """What was decided is worth deciding again: every channel, version and common reason is met."""
    versions = {tuple(answer["versions"].values()) for answer in of.told.values()}
    assert len({each[0] for each in versions}) == len(BOOKS)
    assert {each[2:] for each in versions} == {("1", "1", None), ("2", "1", None)}
    assert len({answer["channel"] for answer in of.told.values()}) == 7
    codes = Counter(
        reason["code"]
        for record in records(of.workspace.decisions)
        for held_back in record["answer"]["suppressed"]
        for reason in held_back["reasons"]
    )
    assert codes.keys() >= OFTEN
    assert "rule_error" not in codes


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> Held:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return held(tmp_path_factory.mktemp("served") / "home", 400)


def test_decisions_over_http_come_out_the_same_elsewhere_without_their_answers(
    conversation: Held, tmp_path: Path
) -> None:
    assert len(conversation.told) >= 400
    of_every_kind(conversation)
    compared(conversation, tmp_path / "elsewhere" / "home")


def test_another_purchase_changes_the_answer_and_the_decision_is_named(conversation: Held, tmp_path: Path) -> None:
    one_purchase_changed(conversation, tmp_path)


def test_a_record_without_its_answer_is_named_where_nothing_is_written(conversation: Held, tmp_path: Path) -> None:
    code, figures, complaints = replayed_here(copied(conversation.workspace, tmp_path / "stripped"))
    assert (code, figures["different"]) == (1, len(conversation.told))
    assert "has no answer to compare with; `--out FILE` writes what comes out" in complaints[0]


def one_purchase_changed(of: Held, tmp_path: Path) -> None:
    """One purchase of one profile as the log keeps it is another year's: its decisions are named, and no other."""
    home = copied(of.workspace, tmp_path / "changed", stripped=False)
    record = next(record for record in records(home / "decisions") if _held_back_by_purchase(record))
    (reason,) = _held_back_by_purchase(record)[:1]
    day, worker = record["decision_id"].split("-")[:2]
    path = home / "decisions" / f"{day[:4]}-{day[4:6]}-{day[6:]}" / f"{worker}.ndjson"
    content, start = path.read_bytes(), record["facts"]["profile_at"]
    seen = orjson.loads(content[start : content.index(b"\n", start)])["profile"]
    item, items = f"p:{reason['product_id']}", profiles.from_log(seen).items
    entry = items[item]
    entry[profiles.LAST] = YEARS_AGO
    other = profiles.logged(b"{}", columns.pack({**items, item: entry}, 0.0))["columns"].encode()
    was = seen["columns"].encode()
    assert len(other) == len(was)  # every other line stays where its id says
    at = content.index(was, start)
    path.write_bytes(content[:at] + other + content[at + len(was) :])
    code, figures, complaints = replayed_here(home)
    named = {re.findall(r"decision `([^`]+)`", line)[0] for line in complaints}
    saw = {
        each["decision_id"]
        for each in records(of.workspace.decisions)
        if each["facts"]["profile_at"] == start and each["decision_id"].split("-")[1] == worker
    }
    assert code == 1
    assert record["decision_id"] in named <= saw
    assert figures["different"] == len(named) == len(complaints)


def _held_back_by_purchase(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        reason
        for held_back in record["answer"]["suppressed"]
        for reason in held_back["reasons"]
        if (reason["code"], reason["rule"]) == ("recently_purchased", "same_product")
    ]


@pytest.mark.prove
def test_proof_replay_over_http(tmp_path: Path) -> None:
    over = held(tmp_path / "home", 20_000)
    assert len(over.told) >= 20_000
    of_every_kind(over)
    compared(over, tmp_path / "elsewhere" / "home")
    one_purchase_changed(over, tmp_path)
