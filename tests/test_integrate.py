"""docs/integrate.md is true: every program on it is run against a really running service, as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from client_programs import browser
from processes import Server, serving
from storefront import Page, document, stored, storefront, until

from features import database
from features.workspace import PROJECT, Workspace

pytestmark = pytest.mark.xdist_group("integrate")
PAGE = (PROJECT / "docs/integrate.md").read_text()
WIDGET = (PROJECT / "serving/web/widget.js").read_text()
TITLE = "[data-onestory=title]"
FOR_A_STRANGER = 2
"""Offers of the shipped ones that are open at home to who has neither bought nor put in a cart."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the shipped offers, where no hour is quiet: e-mails can be prepared at any time."""
    made = tmp_path_factory.mktemp("integrate") / "home"
    made.mkdir()
    book = (PROJECT / "serving/rulebook.yaml").read_text()
    (made / "rulebook.yaml").write_text(re.sub(r"^  start: 21:00", "  start: 8:00", book, flags=re.MULTILINE))
    return made


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    with serving(home, environment={"ONESTORY_WRITE_KEYS": "wk", "ONESTORY_SERVER_KEYS": "sk"}) as running:
        yield running
    database.connect(Workspace(home)).dispose()


def programs(heading: str, language: str, url: str) -> list[str]:
    """The programs in that language under a heading, for the service at `url`."""
    (section,) = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(heading)]
    found = re.findall(rf"^```{language}\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    assert found
    replaced = {"http://127.0.0.1:3000": url, "YOUR_WRITE_KEY": "wk", "YOUR_SERVER_KEY": "sk"}
    for old, new in replaced.items():
        found = [text.replace(old, new) for text in found]
    return found


def ran(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_shells_commands_work(home: Path, server: Server) -> None:
    (script,) = programs("A shell", "sh", server.url)
    said = ran("bash", "-ec", script)
    assert '{"success":true}' in said
    assert '"suppressed":[{' in said
    assert '"next_best_offers":[' in said


def test_pythons_programs_work(home: Path, server: Server) -> None:
    bentoml, plain = programs("A program", "python", server.url)
    assert "2 A voucher of 15" in ran(sys.executable, "-W", "ignore", "-c", bentoml)
    said = ran(sys.executable, "-c", plain)
    shown = [event for event in stored(home, "Offer Responded") if event.body["decision_id"] in said]
    assert said.startswith(f"{len(shown)} shown in ")
    assert shown
    assert ran(sys.executable, "-c", plain) == said  # the same `request_id`
    again = [event for event in stored(home, "Offer Responded") if event.body["decision_id"] in said]
    assert len(again) == len(shown)


def test_the_e_mail_tool_sends_to_who_agreed_and_to_nobody_whose_mind_has_changed(home: Path, server: Server) -> None:
    ran("bash", "-ec", programs("A shell", "sh", server.url)[0])  # consents
    (tool,) = programs("An e-mail tool", "python", server.url)
    said = ran(sys.executable, "-c", tool)
    assert "send to 1042 ['" in said
    assert "1043" not in said
    assert [event.body["response"] for event in stored(home, "Offer Responded") if event.channel == "email"]
    refused = {"purpose": "marketing", "channel": "email", "granted": False}
    changed = f"""
    client.post("/v1/track", json={{"userId": "1042", "event": "Consent Updated", "properties": {refused!r}}})
    # at send time"""
    at = "\n    # at send time"
    assert at in tool
    assert "not sent: no_consent" in ran(sys.executable, "-c", tool.replace(at, changed))


def test_a_segment_source_is_taken(home: Path, server: Server) -> None:
    (script,) = programs("A Segment source", "sh", server.url)
    assert '"stored":2' in ran("bash", "-ec", script)
    assert '"duplicates":2' in ran("bash", "-ec", script)
    story = httpx.get(f"{server.url}/customers/1042", auth=("sk", "")).json()
    assert (story["last_order"]["order_id"], story["habits"]["loyalty_tier"]) == ("order-9", "gold")


@pytest.fixture(scope="module")
def visit() -> Iterator[Callable[[str], Any]]:
    """Opens a page of a shop's own site in Chromium; the tab."""
    with storefront() as shop, browser() as chromium:

        def opened(html: str) -> Any:
            shop.pages["/"] = Page(document(html))
            tab = chromium.new_context(viewport={"width": 1000, "height": 800}).new_page()
            tab.goto(shop.url)
            return tab

        yield opened


def test_the_widget_shows_offers_as_they_are_pasted(home: Path, server: Server, visit: Callable[[str], Any]) -> None:
    usual, dressed = programs("A page: the widget", "html", server.url)
    tab = visit(usual)
    assert tab.locator("onestory-offers p a").count() == 2
    tab.wait_for_selector(TITLE)
    assert tab.locator(TITLE).count() == FOR_A_STRANGER
    (calls,) = programs("A page: the widget", "js", server.url)
    tab.evaluate(f"(async () => {{ {calls} }})()")
    added = until(tab, lambda: stored(home, "Product Added"), "tracked")
    assert (added[-1].body["product_id"], added[-1].channel) == ("chair-oak", "web")
    assert [each.user_id for each in stored(home, "$identify")].count("1042") >= 1
    tab.context.close()

    tab = visit(dressed)
    tab.wait_for_selector(TITLE)
    assert tab.locator("article h3").count() == FOR_A_STRANGER
    assert tab.locator("article").first.get_by_role("button").inner_text() == "No, thanks"
    tab.context.close()


def test_plain_fetch_works_from_any_page(home: Path, server: Server, visit: Callable[[str], Any]) -> None:
    (program,) = programs("A page: plain", "js", server.url)
    before = len(stored(home, "Offer Responded"))
    tab = visit(f'<script type="module">{program}</script>')
    shown = until(tab, lambda: stored(home, "Offer Responded")[before:], "shown")
    assert {event.anonymous_id for event in shown} == {tab.evaluate("localStorage.visitor")}
    tab.context.close()


def test_the_page_of_a_real_decision_opens_with_the_server_key(server: Server, visit: Callable[[str], Any]) -> None:
    tab = visit("")
    body = {"customer_id": "1042", "channel": "web", "placement": "home"}
    decision = httpx.post(f"{server.url}/decide", json=body, auth=("sk", "")).json()
    context = tab.context.browser.new_context(http_credentials={"username": "sk", "password": "any"})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(f"{server.url}/decisions/{decision['decision_id']}/view")
    assert answer.status == 200
    assert page.inner_text("h1") == "Why 1042 got this"
    assert page.locator("ol.offers > li").count() == len(decision["offers"])
    assert {url.split("/")[2] for url in asked} == {server.url.split("/")[2]}
    context.close()
    tab.context.close()


# ----------------------------------------------------------------------------------- what is told of it


def told(header: str) -> set[str]:
    """The words in backticks in the first column of the table that begins so."""
    lines = PAGE.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {header} "))
    rows = [line for line in lines[start + 2 :] if line]
    table = rows[: next(number for number, line in enumerate(rows) if not line.startswith("|"))]
    return {word for row in table for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_every_attribute_and_event_of_the_widget_is_on_the_page_and_no_other() -> None:
    read = set(re.findall(r"(?:get|has)Attribute\('([a-z-]+)'\)|\bof\('([a-z-]+)'", WIDGET))
    attributes = {first or second for first, second in read} - {"alt"}
    assert told("attribute") == attributes
    (watched,) = re.findall(r"observedAttributes = \[(.*?)\]", WIDGET)
    assert set(re.findall(r"'([a-z-]+)'", watched)) <= attributes
    data = set(re.findall(r"`data-([a-z-]+)`", PAGE)) - {"onestory", "offer", "kind", "product", "fulfilment"}
    used = set(re.findall(r"given\.(\w+)|given\[|\bof\('[a-z-]+', '(\w+)'\)", WIDGET))
    names = {first or second for first, second in used} - {""}
    assert {re.sub(r"-(\w)", lambda found: found[1].upper(), name) for name in data} == names
    for event in ("offers", "fallback", "shown", "clicked", "dismissed"):
        assert f"`onestory:{event}`" in PAGE
