"""What `rulebook check` finds in a rulebook and its offers together."""

from __future__ import annotations

import pytest

from features.catalog import load_catalog
from features.workspace import Workspace
from serving import rulebook
from serving.policy_check import findings

NOW = 1_795_000_000.0
VALID = "valid_from: 2020-01-01, valid_until: 2099-12-31"
FINE = f"{{offer_id: fine, kind: promotion, {VALID}}}"


def found(workspace: Workspace, book: str = "{}", *offers: str) -> list[tuple[bool, str]]:
    """`(is a note, text)` of what is found in this rulebook and these offers, in flow style."""
    (workspace.home / "rulebook.yaml").write_text(book)
    (workspace.home / "offers.yaml").write_text("offers:\n" + "".join(f"  - {offer}\n" for offer in offers or (FINE,)))
    loaded = rulebook.load(workspace.home / "rulebook.yaml")
    return [(each.note, str(each.problem)) for each in findings(loaded, load_catalog(workspace), NOW)]


def test_the_shipped_policy_has_nothing_to_find(workspace: Workspace) -> None:
    assert findings(rulebook.load(workspace.file("rulebook.yaml")), load_catalog(workspace), NOW) == []


def test_a_week_of_rest_days_is_refused(workspace: Workspace) -> None:
    days = ", ".join(rulebook.WEEKDAYS)
    ((note, text),) = found(workspace, f"quiet_hours:\n  rest_days: [{days}]")
    assert not note
    assert text.startswith("rulebook.yaml:2: `rest_days` holds all seven days: nobody could ever be contacted")


def test_a_rulebook_of_another_name_is_called_by_it(workspace: Workspace) -> None:
    path = workspace.home / "trial.yaml"
    path.write_text(f"quiet_hours:\n  rest_days: [{', '.join(rulebook.WEEKDAYS)}]")
    (came,) = findings(rulebook.load(path), load_catalog(workspace), NOW, path.name)
    assert str(came.problem).startswith("trial.yaml:2: ")


@pytest.mark.parametrize(
    ("start", "end", "wrong"), [("8:30", "8:00", True), ("9:00", "8:00", False), ("8:00", "8:00", False)]
)
def test_quiet_hours_must_leave_an_hour(workspace: Workspace, start: str, end: str, wrong: bool) -> None:
    came = found(workspace, f"quiet_hours:\n  start: {start}\n  end: {end}")
    assert bool(came) is wrong
    assert not wrong or "rulebook.yaml:2: quiet hours leave 30 minutes a day" in came[0][1]


def test_a_signal_that_is_left_out_is_noted(workspace: Workspace) -> None:
    came = found(workspace, "signals:\n  cases: {max_age_s: 600, on_stale: suppress}\n  stock: {max_age_s: 900}")
    assert [(note, text.split(":")[1]) for note, text in came] == [(True, "1")]
    assert "does not name `profile`" in came[0][1]


def test_a_category_that_no_product_has_is_named_with_a_suggestion(workspace: Workspace) -> None:
    came = found(workspace, "recently_purchased:\n  same_category:\n    days: 14\n    categories: {tent: 365}")
    assert came == [(False, "rulebook.yaml:4: no product is of category `tent`; did you mean `tents`?")]


def test_a_reason_of_two_words_is_never_met(workspace: Workspace) -> None:
    scope = "{same_product: 1, same_style: 0, same_category: 0}"
    ((note, text),) = found(workspace, f"recently_returned:\n  by_reason:\n    too small: {scope}")
    assert (note, text.split(",")[0]) == (False, "rulebook.yaml:3: `too small` is no single word")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ("channels: [web], placements: [newsletter]", "none of its `placements` belongs to one of its `channels`"),
        ("markets: [fr]", "no location is of market `fr`"),
        ("category: sofas", "no product is of category `sofas`"),
        (
            "eligibility: {all: [{field: orders, operator: '>', value: 5}, {field: orders, operator: '<', value: 3}]}",
            "its `eligibility` wants `orders` to be 5 or more and 3 or less; nobody is both",
        ),
        (
            "eligibility: {all: [{field: orders, operator: '>=', value: 5}, {field: orders, operator: '<', value: 5}]}",
            "its `eligibility` wants `orders` to be 5 and < 5; nobody is both",
        ),
    ],
)
def test_an_offer_that_can_never_be_shown_is_an_error(workspace: Workspace, fields: str, why: str) -> None:
    came = found(workspace, "{}", FINE, f"{{offer_id: bad, kind: promotion, {VALID}, {fields}}}")
    errors = [text for note, text in came if not note]
    assert len(errors) == 1
    assert errors[0].startswith(f"offers.yaml:3: offer `bad` can never be shown: {why}")


def test_what_is_worth_too_little_or_over_is_a_note(workspace: Workspace) -> None:
    poor = f"{{offer_id: poor, kind: promotion, {VALID}, value: {{margin: 1, discount: 2}}}}"
    old = "{offer_id: old, kind: promotion, valid_from: 2020-01-01, valid_until: 2021-01-01}"
    assert found(workspace, "below_margin: {minimum: 0}", FINE, poor, old) == [
        (
            True,
            "offers.yaml:3: offer `poor` is never shown: it earns -1.00 at best, below `below_margin.minimum` (0); "
            "raise its value",
        ),
        (True, "offers.yaml:4: offer `old` is over since 2021-01-01T00:00:00Z; renew `valid_until`, or take it out"),
    ]
    floor = found(
        workspace, "arbitration: {floor: 3}", f"{{offer_id: low, kind: promotion, {VALID}, value: {{margin: 2}}}}"
    )
    assert "offer `low` is never shown: its priority is 2.00 at best, below `arbitration.floor` (3)" in floor[-1][1]


def test_a_placement_whose_offers_can_never_be_shown_is_named(workspace: Workspace) -> None:
    bad = f"{{offer_id: bad, kind: promotion, {VALID}, placements: [cart], markets: [fr]}}"
    home = f"{{offer_id: home, kind: promotion, {VALID}, placements: [home, product, newsletter, message, agent]}}"
    came = found(workspace, "{}", home, bad)
    assert (False, "offers.yaml: placement `cart` stays empty: what is meant for it can never be shown (`bad`)") in came


def test_a_group_that_holds_a_whole_placement_is_noted(workspace: Workspace) -> None:
    twins = [
        f"{{offer_id: {name}, kind: promotion, {VALID}, placements: [cart], exclusive_group: one}}" for name in "ab"
    ]
    texts = [text for note, text in found(workspace, "{}", *twins) if note]
    assert "offers.yaml: placement `cart` shows one offer at most: all are of the exclusive group `one`" in texts
    assert "offers.yaml: no offer is meant for placement `home`" in texts


def test_a_workspace_without_any_offer_is_noted(workspace: Workspace) -> None:
    (workspace.home / "offers.yaml").write_text("offers: []\n")
    came = findings(rulebook.load(workspace.file("rulebook.yaml")), load_catalog(workspace), NOW)
    told = [(each.note, str(each.problem)) for each in came]
    assert told == [(True, "offers.yaml: there are no offers: nothing is shown to anybody")]


def test_a_policy_under_which_strangers_see_nothing_is_noted(workspace: Workspace) -> None:
    book = "consent:\n  personalisation: when_granted\n  personal_kinds: [promotion]"
    ((note, text),) = found(workspace, book)
    assert note
    assert text.startswith("rulebook.yaml:3: every offer is personal")
