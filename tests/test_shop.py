"""The demo shop: one customer through every channel in a real browser, and what its pages give to whom."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from client_programs import PACKAGES, browser
from fakes import Face
from processes import Server, serving

from features import database
from features.workspace import PROJECT, Workspace
from serving.engine import Engine
from serving.keys import needed
from serving.shop import aisles, look, orders, paper, words
from serving.shop.pages import Shop
from serving.shop.window import fresh, window_of

CHAIR, OTHER_CHAIR, OFFER = "chair-oak", "chair-woven", "chairs-for-the-table"
BAD = "<img src=x onerror=alert(1)>"
BAD_TITLE = f"{BAD} “quoted” & 'so' 🪑"
BAD_OFFER = f"""
  - offer_id: bad-offer
    kind: promotion
    product_ids: [bad]
    valid_from: 2020-01-01
    valid_until: 2099-12-31
    value: {{margin: 999.00}}
    treatments:
      web: {{title: "{BAD_TITLE}", body: "{{product.name}}"}}
      email: {{title: "{BAD_TITLE}", body: "{{product.name}}"}}
"""
WITHIN_MS = 15_000
PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1400, "height": 1000}
PICTURES = Path(os.environ.get("ONESTORY_SCREENSHOTS") or PROJECT / "test-output" / "shop")


def make_harmful(home: Path) -> None:
    """A product and an offer whose names would do harm, beside the shipped ones; a running service takes them up."""
    products = (PROJECT / "features/products.csv").read_text()
    (home / "products.csv").write_text(f"{products}bad,{BAD},{BAD},{BAD},9.50,4.00,,,,,{BAD}\n")
    (home / "offers.yaml").write_text((PROJECT / "features/offers.yaml").read_text() + BAD_OFFER)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("shop") / "home"
    home.mkdir()
    (home / "rulebook.yaml").write_text("quiet_hours: {start: 0:00, end: 0:00}\n")
    with serving(home) as running:
        levels = [
            {"product_id": product_id, "location_id": location_id, "quantity": 5}
            for location_id in ("online", "berlin-mitte", "hamburg")
            for product_id in (
                CHAIR,
                OTHER_CHAIR,
                "table-oak-180",
                "lamp-pendant",
                "trail-shoe-42",
                "socks-merino",
                "bad",
            )
        ]
        batch = [{"type": "track", "event": "Stock Updated", "properties": level} for level in levels]
        assert httpx.post(f"{running.url}/v1/batch", json={"batch": batch}).json()["stored"] == len(batch)
        yield running
    database.connect(Workspace(home)).dispose()


class Tab:
    """A window of the shop, which is a device; what went wrong in it is kept."""

    def __init__(self, context: Any, server: Server, device: str):
        self.page = context.new_page()
        self.page.set_viewport_size(PHONE if device == "phone" else LAPTOP)
        self.page.set_default_timeout(WITHIN_MS)
        self.url, self.wrong, self.asked = server.url, list[str](), set[str]()
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.add(re.sub(r"^(\w+://[^/]+).*", r"\1", request.url)))
        self.page.goto(f"{self.url}/shop?device={device}")
        self.page.wait_for_url(re.compile(r"/shop/\?w="))
        self.name = self.page.url.rpartition("w=")[2].partition("&")[0]

    def go(self, path: str, **query: str) -> None:
        asked = "".join(f"&{name}={value}" for name, value in query.items())
        self.page.goto(f"{self.url}/shop/{path}?w={self.name}{asked}")

    def press(self, button: str, within: str = "body") -> None:
        self.page.locator(within).get_by_role("button", name=button, exact=True).first.click()

    def sees(self, where: str, text: str) -> None:
        """Wait until it is there, to be read."""
        try:
            self.page.locator(where).filter(has_text=text).first.wait_for(state="attached")
        except Exception:
            self.picture("failed")
            raise

    def sign_in(self, customer: str) -> None:
        self.go("account")
        self.page.get_by_label("Customer").fill(customer)
        self.press("Sign in")
        self.sees(".mine", f"Customer {customer}")

    def picture(self, name: str) -> None:
        """Kept as output of the test, to be looked at."""
        self.sees("#drawer h2", "")
        self.page.wait_for_timeout(250)
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.evaluate("scrollTo(0, 0)")
        self.page.screenshot(path=str(PICTURES / f"{name}.png"))


def tabs(server: Server, *devices: str, **options: Any) -> Iterator[list[Tab]]:
    with browser() as chromium:
        context = chromium.new_context(**options)
        opened = [Tab(context, server, device) for device in devices]
        yield opened
        assert [each.wrong for each in opened] == [[] for _ in opened]
        assert {url for each in opened for url in each.asked} <= {server.url, "data:,"}


@pytest.fixture
def windows(server: Server) -> Iterator[list[Tab]]:
    """Two windows of one browser: a phone and a laptop."""
    yield from tabs(server, "phone", "laptop")


def test_one_customer_through_every_channel(windows: list[Tab]) -> None:
    phone, laptop = windows

    # Browsed on the phone, without a name; then signed in there.
    phone.sees("onestory-offers li strong", "The table that stays")
    phone.page.get_by_role("link", name="Chair, oak").last.click()
    phone.press("Add to cart")
    phone.sees(".mine .count", "1")
    phone.sees("#drawer .events", "Product Added Chair, oak")
    phone.picture("1-phone")
    phone.sign_in("ann")
    phone.go("account")
    phone.press("Berlin Mitte is my store")
    phone.sees("main", "It is Berlin Mitte")

    # On the laptop the cart is there.
    laptop.sign_in("ann")
    laptop.sees(".mine .count", "1")
    laptop.go("cart")
    laptop.sees("#cart", "put in on the phone")
    laptop.sees("#ch-web .reason", "Already in the cart")
    laptop.picture("2-laptop")

    # The newsletter would show a chair.
    laptop.go("email")
    laptop.press("Agree to e-mail")
    laptop.sees("#mail .mailoffers", "Chair, woven seat")
    laptop.picture("3-email-before")

    # Sold out online: the cart says who has it, and the offer is to set it aside there.
    laptop.go(f"p/{CHAIR}")
    laptop.press("Sell out online")
    laptop.sees("#where", "sold out online")
    laptop.go("cart")
    laptop.press("Take it out and reserve it there")
    laptop.sees("onestory-offers .reservable", "Reserve in store: Berlin Mitte")
    laptop.sees("#ch-web .offer", "reserve in store: Berlin Mitte")
    laptop.picture("4-reserve-in-store")
    laptop.press("Reserve one at Berlin Mitte")
    laptop.sees("#where", "4 on the shelf")

    # Bought in that store.
    laptop.go("stores/berlin-mitte")
    laptop.page.locator(".row").filter(has_text="Chair, oak").get_by_role("button", name="Sell one").click()
    laptop.sees("main .row", "3 on the shelf")
    laptop.sees("#drawer .events", "Order Completed Chair, oak")
    laptop.picture("5-store")

    # The e-mail does not show it any more, and says why and until when.
    laptop.go("email")
    laptop.sees("#mail .heldback .reason", "Bought recently")
    laptop.sees("#mail .heldback time", "until")
    assert laptop.page.locator("#mail .mailoffers").filter(has_text="Chair").count() == 0
    laptop.picture("6-email-after")

    # A return is opened on the phone: offers of the category are held back in every channel.
    phone.go("orders")
    phone.press("Send back")
    phone.sees("#orders", "return asked for: quality")
    phone.picture("7-return")
    for channel in ("web", "email", "call_centre", "store"):
        laptop.sees(f"#ch-{channel} .reason", "A return is under way")
        laptop.sees(f"#ch-{channel} .reason", "until the return is settled")
    laptop.page.locator("#ch-email summary").click()
    laptop.picture("8-held-back-everywhere")

    # The agent sees the whole story.
    laptop.go("agent")
    laptop.sees("#agent .notes", "return under way Chair, oak: “quality”")
    for line in (
        "Product Viewed Chair, oak on the phone",
        "Signed in as ann",
        "Order Completed Chair, oak Berlin Mitte",
    ):
        laptop.sees("#agent .story", line)
    laptop.sees("#agent .notes", "agrees marketing by email")
    laptop.sees("#agent .reason", "A return is under way")
    laptop.picture("9-agent")

    # And each decision explains itself.
    with laptop.page.expect_navigation():
        laptop.page.locator(".why").first.click()
    assert "/decisions/" in laptop.page.url
