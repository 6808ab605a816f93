"""A changed policy reaches running workers whole and tried, or not at all; what is past goes, whole days at a time."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from champions import promote
from processes import Server, serving

from features import build
from features.vocabulary import DAY_S
from features.workspace import PROJECT, Workspace
from serving import swap
from serving.caretaker import Caretaker
from serving.decide import Policy
from serving.decision_log import DecisionLog
from serving.engine import Engine
from serving.question import Question
from serving.replay import replay
from serving.retention import prune_days
from serving.swap import Swap, looks, open_policy

NOW = 1_790_000_000.0
OFFERS = """\
offers:
  - {offer_id: hello, kind: loyalty, valid_from: 2020-01-01, valid_until: 2099-01-01, value: {margin: 5}}
"""
BOOK = (PROJECT / "serving/rulebook.yaml").read_text()


class Worker:
    """A policy that is looked after, without a clock: what it decides by now, and what was said."""

    def __init__(self, workspace: Workspace):
        self.policy = open_policy(workspace)
        self.said: list[tuple[str, bool]] = []
        self.swap = Swap(workspace, self.policy, looks(workspace), self.take, lambda *told: self.said.append(told))

    def take(self, policy: Policy) -> None:
        self.policy = policy

    def looks_twice(self) -> None:
        self.swap.look()
        self.swap.look()


@pytest.fixture
def worker(workspace: Workspace) -> Worker:
    (workspace.home / "offers.yaml").write_text(OFFERS)
    (workspace.home / "rulebook.yaml").write_text(BOOK)
    return Worker(workspace)


def test_a_changed_rulebook_is_taken_up_and_the_catalog_stays_the_same_object(worker, workspace) -> None:
    before = worker.policy
    (workspace.home / "rulebook.yaml").write_text(BOOK + "# another day\n")
    worker.looks_twice()
    assert worker.policy.book.version != before.book.version
    assert worker.policy.catalog is before.catalog
    assert [swapped for _, swapped in worker.said] == [True]


def test_a_changed_offer_and_a_promoted_model_are_taken_up(worker, workspace) -> None:
    (workspace.home / "offers.yaml").write_text(OFFERS.replace("hello", "good-day"))
    worker.looks_twice()
    assert list(worker.policy.catalog.offers) == ["good-day"]
    for version in ("3", "4"):
        promote(workspace, version)
        worker.looks_twice()
        assert worker.policy.versions["propensity"] == version


def test_a_file_that_is_being_written_is_left_alone_until_it_rests(worker, workspace) -> None:
    before = worker.policy
    for number in range(5):
        (workspace.home / "rulebook.yaml").write_text(BOOK + "#" * (number + 1))
        worker.swap.look()
        assert worker.policy is before
    worker.swap.look()
    assert worker.policy is not before


def wrong_rulebook(workspace: Workspace) -> str:
    (workspace.home / "rulebook.yaml").write_text(BOOK.replace("same_style:", "same_stile:"))
    return "same_stile"


def wrong_offers(workspace: Workspace) -> str:
    (workspace.home / "offers.yaml").write_text(OFFERS + "  - {offer_id: hello}\n")
    return "offers.yaml:3"


def no_offers(workspace: Workspace) -> str:
    (workspace.home / "offers.yaml").write_text("offers: []\n")
    return "there are none left"


def missing_model(workspace: Workspace) -> str:
    promote(workspace, "9")
    shutil.rmtree(workspace.home / "bentoml")
    return "`onestory-propensity:v9-0a1b2c3d` is missing"


def mad_model(workspace: Workspace) -> str:
    promote(workspace, "9", population=7.0)
    return "propensity 7.0"


def broken_story(workspace: Workspace) -> str:
    (workspace.home / "cases").mkdir()
    story = "stories:\n  - {story: nobody gets anything, now: 2026-01-01T00:00:00Z, expect: {offers: []}}\n"
    (workspace.home / "cases" / "own.yaml").write_text(story)
    (workspace.home / "rulebook.yaml").write_text(BOOK + "# another day\n")
    return "`nobody gets anything` ends otherwise"


@pytest.mark.parametrize(
    "broken",
    [wrong_rulebook, wrong_offers, no_offers, missing_model, mad_model, broken_story],
    ids=lambda f: f.__name__,
)
def test_what_is_broken_keeps_the_old_one_and_is_told_once(
    worker: Worker, workspace: Workspace, broken: Callable[[Workspace], str]
) -> None:
    before = worker.policy
    expected = broken(workspace)
    for _ in range(5):
        worker.looks_twice()
    assert worker.policy is before
    ((sentence, swapped),) = worker.said
    assert not swapped
    assert sentence.startswith("not taken up, the old one stays: ")
    assert expected in sentence


def test_what_is_mended_is_taken_up(worker, workspace) -> None:
    wrong_rulebook(workspace)
    worker.looks_twice()
    (workspace.home / "rulebook.yaml").write_text(BOOK + "# mended\n")
    worker.looks_twice()
    assert [swapped for _, swapped in worker.said] == [False, True]


def test_the_shipped_stories_are_tried_over_the_shipped_files_only(workspace: Workspace) -> None:
    stories = swap.stories
    assert stories(workspace) == PROJECT / "serving" / "cases"
    (workspace.home / "offers.yaml").write_text(OFFERS)
    assert stories(workspace) is None
    (workspace.home / "rulebook.yaml").write_text(BOOK)
    assert stories(workspace) == workspace.home / "cases"


def test_a_workspace_within_the_project_has_a_catalog_of_its_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the demo's, in `var/`: the shipped stories are not about it."""
    project = workspace.home.parent
    for room, names in (("serving", ["rulebook.yaml"]), ("features", ["products.csv", "locations.csv"])):
        (project / room).mkdir()
        for name in names:
            shutil.copy(PROJECT / room / name, project / room)
    monkeypatch.setattr(swap, "PROJECT", project)
    monkeypatch.setattr("features.workspace.PROJECT", project)
    (workspace.home / "offers.yaml").write_text(OFFERS)
    assert swap.stories(workspace) is None


def test_a_decision_replays_by_the_policy_that_it_was_made_by(workspace: Workspace) -> None:
    (workspace.home / "offers.yaml").write_text(OFFERS)
    build.build(workspace)
    engine = Engine.open(workspace)
    for number in range(3):
        engine.decision(Question("c", "web", "home"), time.time())
        (workspace.home / "rulebook.yaml").write_text(BOOK + f"# {number}\n")
        promote(workspace, str(number), 0.1 * (number + 1))
        engine.use(open_policy(workspace))
    engine.close()
    assert len({tuple(record["versions"].values()) for record in _records(workspace)}) == 3
    assert [each.problem for each in replay(workspace)] == [None] * 3


def _records(workspace: Workspace) -> list[dict]:
    from serving.log_lines import records

    return list(records(workspace.decisions))


# -------------------------------------------------------------------------------------- two workers


def versions(server: Server) -> set[str]:
    """What a number of answers, over a connection each, were decided by."""
    body = {"customer_id": "1", "channel": "web", "placement": "home"}
    answers = [httpx.post(f"{server.url}/decide", json=body).json() for _ in range(16)]
    return {f"{each['versions']['rulebook'][:14]} {each['versions']['propensity']}" for each in answers}


def workers(server: Server) -> set[str]:
    body = {"customer_id": "1", "channel": "web", "placement": "home"}
    ids = [httpx.post(f"{server.url}/decide", json=body).json()["decision_id"] for _ in range(16)]
    return {each.split("-")[1] for each in ids}


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.2)
    return holds()


def test_two_workers_take_up_a_change_and_refuse_a_broken_one_while_they_serve(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    workspace = Workspace(home)
    (home / "offers.yaml").write_text(OFFERS)
    (home / "rulebook.yaml").write_text(BOOK)
    with serving(home, workers=2) as server:
        assert within(30, lambda: len(workers(server)) == 2)
        (before,) = versions(server)
        (home / "rulebook.yaml").write_text(BOOK + "# tuesday\n")
        promote(workspace, "5")
        assert within(30, lambda: before not in versions(server))
        assert within(30, lambda: len(versions(server)) == 1)
        (after,) = versions(server)
        assert after.endswith(" 5")
        wrong_rulebook(workspace)
        assert within(30, lambda: server.log.read_text().count("not taken up, the old one stays") == 2)
        assert versions(server) == {after}
        for worker in server.workers():  # one that is started anew decides by the last sound files, like the others
            if "resource_tracker" not in " ".join(worker.cmdline()):
                worker.kill()
                break
        assert within(40, lambda: server.log.read_text().count("the last sound ones stay") == 1)
        assert within(30, lambda: len(workers(server)) == 2)
        assert versions(server) == {after}
        counted = httpx.get(f"{server.url}/metrics").text
        assert re.search(r'onestory_policy_changes_total\{outcome="refused"\} [23]', counted)
    assert [each.problem for each in replay(workspace) if each.problem] == []


# ------------------------------------------------------------------------------------------ retention


def test_days_go_whole_and_those_within_retention_stay(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    kept = {}
    for days_ago in (0, 1, 2, 3):
        at = NOW - days_ago * DAY_S
        with log.slot(at, None) as slot:
            slot.write({"decision_id": slot.decision_id, "facts": {"now": at, "profile_at": None}})
        kept[days_ago] = slot.decision_id
    (tmp_path / "notes").mkdir()
    assert prune_days(tmp_path, NOW, 2) == ["2026-09-18"]
    assert prune_days(tmp_path, NOW, 2) == []
    assert [log.find(decision_id) is not None for decision_id in kept.values()] == [True, True, True, False]
    assert (tmp_path / "notes").exists()
    log.close()


def test_the_caretaker_prunes_at_once_looks_often_and_survives_what_fails(capsys) -> None:
    calls: list[str] = []

    def look() -> None:
        calls.append("look")
        raise RuntimeError("no luck")

    caretaker = Caretaker(look, lambda: calls.append("prune"), every_s=0.01)
    assert within(10, lambda: calls.count("look") >= 3)
    caretaker.stop()
    assert calls[0] == "prune"
    assert calls.count("prune") == 1
    assert "caretaker: look failed (RuntimeError: no luck)" in capsys.readouterr().err
