"""The page of a decision: everything that the record says, escaped, readable, and nothing from elsewhere."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from client_programs import browser
from fakes import Face, FakeEngine
from hypothesis import given
from hypothesis import strategies as st
from storefront import Page, barriers, storefront

from features.catalog import load_catalog
from features.vocabulary import FALLBACKS, REASONS
from features.workspace import PROJECT, Workspace
from serving import golden, http_web, rulebook
from serving.decision_page import LESS, MEANING, lasting, number, page_of, product_ids, text_of, told
from serving.golden_stories import Story

EVIL = "<img src=x onerror=alert(1)>"
SCREENSHOTS = PROJECT / "test-output" / "decision"


class Reader(HTMLParser):
    """A page as a reader sees it: its text, its tags, and whether it is well nested."""

    VOID = frozenset({"meta", "br", "rect", "link", "img"})

    def __init__(self, text: str):
        super().__init__()
        self.text, self.tags, self._open = "", [], list[str]()
        self.feed(text)
        self.text = " ".join(self.text.split())
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A decision of the shipped catalog and rulebook, for who bought a table three weeks ago."""
    line = {"product_id": "table-oak-180", "quantity": 1}
    bought = {"event": "Order Completed", "at": "2026-10-20T10:00:00Z", "order_id": "o1", "products": [line]}
    story = Story.model_validate(
        {"story": "an old order", "now": "2026-11-10T10:00:00Z", "history": [bought], "expect": {}}
    )
    catalog = load_catalog(Workspace(tmp_path_factory.mktemp("catalog")))
    answer = golden.told(story, catalog, rulebook.load(PROJECT / "serving/rulebook.yaml"))
    answer["decision_id"] = "20261110-0a1b2c3d-0-0a1b2c3d"
    request = {"limit": 3, "location_id": "online", "product_id": None, "cart": ["gas-230"], "preview": False}
    return orjson.loads(
        orjson.dumps(
            {
                "decision_id": answer["decision_id"],
                "engine": "2",
                "versions": answer["versions"],
                "request": request,
                "facts": {"now": 1_794_304_800.0},
                "answer": answer,
            }
        )
    )


def rendered(record: dict[str, Any], name: str = "A name") -> str:
    names = {each: f"{name} of {each}" for each in product_ids(record)}
    answer = http_web._page("decision.html", 200, **page_of(record, names, record["facts"]["now"] + 90_000))
    return bytes(answer.body).decode()


def large(record: dict[str, Any], count: int) -> dict[str, Any]:
    """The same with so many offers held back by what one has been held back by."""
    more = copy.deepcopy(record)
    held = more["answer"]["suppressed"][0]
    more["answer"]["suppressed"] += [{**held, "offer_id": f"campaign-{n}-coupon"} for n in range(count)]
    return more


def test_it_says_all_that_the_record_says(record: dict[str, Any]) -> None:
    page = Reader(rendered(record)).text
    answer = record["answer"]
    for offer in answer["offers"]:
        assert text_of(offer["treatment"]["title"]) in page
        for factor in ("priority", "value", "lever", "context_weight"):
            assert number(offer[factor]) in page
    for held in (*answer["suppressed"], *answer["passed_over"]):
        assert held["offer_id"] in page
        for reason in held["reasons"]:
            for word in (reason["code"], MEANING[reason["code"]], told(reason["observed"]), told(reason["limit"])):
                assert word in page
            if reason["retry_after"]:
                assert told(reason["retry_after"]) in page
            assert all(piece in page for piece in [reason["evidence"]] if isinstance(piece, str))
    assert "A name of gas-230 (gas-230)" in page
    assert "(1 d 1 h ago)" in page
    for version in answer["versions"].values():
        assert str(version or "none") in page
    assert all(f"{name}: " in page for name in answer["signals"])


def test_a_long_trace_stays_short(record: dict[str, Any]) -> None:
    short, long = Reader(rendered(record)), Reader(rendered(large(record, 500)))
    assert "campaign-499-coupon" in long.text
    assert "and 498 more" in long.text or "and 499 more" in long.text or "and 500 more" in long.text
    rows = [len([tag for tag, _ in page.tags if tag == "tr"]) for page in (short, long)]
    assert rows[0] == rows[1]  # who shares what was seen shares the row


def test_bars_show_the_share_of_the_largest(record: dict[str, Any]) -> None:
    page = page_of(record, {}, 0.0)
    for at in range(5):
        shares = [offer["factors"][at]["percent"] for offer in page["offers"]]
        assert max(shares) in (0.0, 100.0)
        assert min(shares) >= 0.0
    priorities = [offer["factors"][4]["percent"] for offer in page["offers"]]
    assert priorities == sorted(priorities, reverse=True)


@pytest.mark.parametrize("evil", [EVIL, "a \"quoted\" & 'single' 🎁", "</style></table>{{ 7 * 7 }}"])
def test_whatever_stands_in_a_record_is_text(record: dict[str, Any], evil: str) -> None:
    bad = copy.deepcopy(record)
    answer = bad["answer"]
    answer["customer_id"] = bad["decision_id"] = evil
    answer["offers"][0]["offer_id"] = answer["offers"][0]["kind"] = evil
    answer["offers"][0]["fulfilment"] = {"kind": "reserve_in_store", "location_id": evil}
    answer["fallback"] = evil
    for reason in answer["suppressed"][0]["reasons"]:
        reason |= {"code": evil, "rule": evil, "observed": {evil: evil}, "limit": [evil], "evidence": [evil]}
    page = Reader(rendered(bad, evil))
    assert " ".join(evil.split()) in page.text
    clean = Reader(rendered(record))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in clean.tags} | {"p"}
    assert not [attrs for _, attrs in page.tags if set(attrs) & {"onerror", "onclick", "src", "style"}]


def test_a_treatment_is_shown_as_the_text_that_the_customer_saw() -> None:
    assert text_of("Buy &lt;img src=x onerror=alert(1)&gt;") == f"Buy {EVIL}"
    assert text_of("<b>50</b> off &quot;all&quot; &amp; more 🎁") == '50 off "all" & more 🎁'


def test_every_reason_and_fallback_is_said_in_the_glossarys_words() -> None:
    glossary = (PROJECT / "docs/glossary.md").read_text()
    assert list(MEANING) == list(REASONS)
    for code, meaning in MEANING.items():
        assert f"| `{code}` | {meaning} |" in glossary
    assert set(LESS) == set(FALLBACKS)


@given(st.floats(-1e12, 1e12, allow_nan=False))
def test_a_number_is_told_close_to_what_it_is_and_never_with_an_exponent(value: float) -> None:
    text = number(value)
    assert re.fullmatch(r"-?[\d,]+(\.\d+)?", text)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=1e-2, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3_600, "1 h"), (90_061, "1 d 1 h"), (86_460, "1 d 1 min")],
)
def test_a_duration_has_two_units(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


# --------------------------------------------------------------------------------------------- HTTP


class Logged(FakeEngine):
    """Has one decision, one that was erased, and no other."""

    def __init__(self, record: dict[str, Any]):
        super().__init__()
        self._kept = record

    def record(self, decision_id: str) -> bytes | None:
        if decision_id == "gone":
            return orjson.dumps({"decision_id": "gone", "erased": True})
        return orjson.dumps(self._kept) if decision_id == self._kept["decision_id"] else None


@pytest.fixture
def face(record: dict[str, Any]) -> Iterator[Face]:
    with Face(Logged(record), server_keys=("sk",), write_keys=("wk",)) as opened:
        yield opened


def test_a_browser_is_asked_for_the_server_key(face: Face, record: dict[str, Any]) -> None:
    path = f"/decisions/{record['decision_id']}/view"
    for key in (None, "wk", "wrong"):
        answer = face.get(path, key=key)
        assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Basic")
    answer = face.get(path, key="sk")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.text == face.get(path, key="sk").text
    assert "Product gas-230 (gas-230)" in answer.text


def test_it_lets_nothing_in_and_is_kept_by_nobody(face: Face, record: dict[str, Any]) -> None:
    answer = face.get(f"/decisions/{record['decision_id']}/view", key="sk")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    page = Reader(answer.text)
    links = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "src", "action")]
    assert all(str(link).startswith("/decisions/") for link in links)
    assert "script" not in {tag for tag, _ in page.tags}


@pytest.mark.parametrize(("decision_id", "status"), [("gone", 410), ("never", 404), (EVIL.replace("/", ""), 404)])
def test_what_is_not_there_has_a_friendly_page_too(face: Face, decision_id: str, status: int) -> None:
    answer = face.get(f"/decisions/{decision_id}/view", key="sk")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    page = Reader(answer.text)
    assert ("was erased" if status == 410 else "There is no such decision") in page.text
    assert "img" not in {tag for tag, _ in page.tags}


# ------------------------------------------------------------------------------------------ Chromium


def test_it_has_no_barriers_fits_a_phone_and_is_readable_in_the_dark(record: dict[str, Any]) -> None:
    pages = {"/usual": rendered(record), "/large": rendered(large(record, 40))}
    missing = http_web._page("no_decision.html", 404, decision_id="x", erased=False)
    pages["/missing"] = bytes(missing.body).decode()
    policy = missing.headers["content-security-policy"]
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with storefront() as site, browser() as chromium:
        site.pages.update({path: Page(html, policy) for path, html in pages.items()})
        for scheme, width in (("light", 1100), ("dark", 390)):
            context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
            tab = context.new_page()
            said: list[str] = []
            tab.on("console", lambda message, said=said: said.append(message.text))
            for path in pages if scheme == "light" else ["/usual"]:
                tab.goto(site.url + path)
                assert tab.evaluate("getComputedStyle(document.body).margin") == "0px"  # the style sheet is let in
                assert barriers(tab) == []
                assert tab.evaluate("document.documentElement.scrollWidth") <= width
                tab.screenshot(path=Path(SCREENSHOTS / f"{path[1:]}-{scheme}.png"), full_page=True)
            assert [text for text in said if "favicon" not in text] == []
            context.close()
