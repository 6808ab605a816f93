"""The demo shop: one customer through every channel in a real browser, and what its pages give to whom."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from client_programs import PACKAGES, browser
from fakes import Face
from processes import Server, serving

from features import database, vocabulary
from features.catalog import Catalog, shipped_catalog
from features.vocabulary import Event, Product
from features.workspace import PROJECT, Workspace
from serving.engine import Engine
from serving.keys import needed
from serving.shop import aisles, look, orders, paper, reasons
from serving.shop.counter import order_of
from serving.shop.lines import lines
from serving.shop.pages import Shop
from serving.shop.window import device_of, fresh, window_of

CHAIR, OTHER_CHAIR, OFFER = "chair-oak", "chair-woven", "chairs-for-the-table"
BAD = "<img src=x onerror=alert(1)>"
BAD_TITLE = "“Quoted” & 'so' 🪑"
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
WITHIN_MS = 30_000
PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1400, "height": 1000}
ALL_PICTURES = "ONESTORY_SCREENSHOTS" in os.environ
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
                "coffee-beans-1kg",
                "gas-230",
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
        self.page.on("console", self._heard)
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.add(re.sub(r"^(\w+://[^/]+).*", r"\1", request.url)))
        self.page.goto(f"{self.url}/shop?device={device}")
        self.page.wait_for_url(re.compile(r"/shop/\?w="))
        self.name = self.page.url.rpartition("w=")[2].partition("&")[0]

    def _heard(self, said: Any) -> None:
        """htmx complains where the page is left while it waits for an answer."""
        if said.type == "error" and not said.text.startswith(("htmx:afterRequest", "htmx:sendAbort")):
            self.wrong.append(said.text)

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
    laptop.sees("onestory-offers .reservable button", "Reserve in store: Berlin Mitte")
    laptop.sees("#ch-web .offer", "reserve in store: Berlin Mitte")
    laptop.picture("4-reserve-in-store")
    laptop.press("Reserve in store: Berlin Mitte", "onestory-offers")
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

    # The entry goes on with the visitor that this browser had on this device.
    laptop.page.goto(f"{laptop.url}/shop?device=laptop")
    laptop.sees(".mine", "Customer ann")
    assert laptop.name in laptop.page.url

    # And each decision explains itself.
    laptop.go("agent")
    with laptop.page.expect_navigation():
        laptop.page.locator(".why").first.click()
    assert "/decisions/" in laptop.page.url


PAGES = (
    "",
    "search?q=a",
    f"p/{CHAIR}",
    "cart",
    "checkout",
    "orders",
    "account",
    "stores",
    "stores/hamburg",
    "email",
    "agent",
)


WITH_THE_DRAWER = f"p/{CHAIR}"


def test_no_page_has_a_serious_fault_of_access_by_day_or_night_on_laptop_or_phone(server: Server) -> None:
    axe = PACKAGES / "axe-core/axe.min.js"
    if not axe.exists():
        pytest.skip("`axe-core` is not installed; `make test` brings it where npm is there")
    for (tab,) in tabs(server, "laptop", bypass_csp=True, reduced_motion="reduce"):
        tab.sign_in("ann")
        for path in PAGES:
            name, _, query = path.partition("?")
            tab.go(name, **dict([query.split("=")] if query else []))
            tab.sees("#drawer h3", "Last events")
            tab.page.add_script_tag(path=str(axe))
            assert (path, serious(tab, path, "{}")) == (path, [])
            if ALL_PICTURES:
                tab.picture(f"light-{name.replace('/', '-') or 'list'}")
            tab.page.emulate_media(color_scheme="dark")
            tab.page.set_viewport_size(PHONE)
            assert (path, serious(tab, path, "{runOnly: ['color-contrast']}")) == (path, [])
            assert (path, tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")) == (path, 0)
            if ALL_PICTURES:
                tab.picture(f"dark-{name.replace('/', '-') or 'list'}")
            tab.page.emulate_media(color_scheme="light")
            tab.page.set_viewport_size(LAPTOP)


def serious(tab: Tab, path: str, options: str) -> list[tuple[str, list[str]]]:
    """What axe-core has against the page, with the places. The drawer is the same on all: looked at, open, on one."""
    without = "document"
    if path == WITH_THE_DRAWER:
        tab.page.locator("#drawer details").evaluate_all("all => all.forEach(each => each.open = true)")
    else:
        without = "{exclude: ['#drawer']}"
    run = f"axe.run({without}, {{resultTypes: ['violations'], ...{options}}})"
    found = tab.page.evaluate(f"{run}.then(done => done.violations)")
    wrong = [each for each in found if each["impact"] in ("serious", "critical")]
    return [(each["id"], [node["html"][:200] for node in each["nodes"]][:3]) for each in wrong]


def test_names_that_would_do_harm_are_text_everywhere(server: Server) -> None:
    make_harmful(server.log.parent)
    levels = [
        {"product_id": "bad", "location_id": place, "quantity": 5} for place in ("online", "hamburg", "berlin-mitte")
    ]
    batch = [{"type": "track", "event": "Stock Updated", "properties": level} for level in levels]
    httpx.post(f"{server.url}/v1/batch", json={"batch": batch})
    end = time.monotonic() + 30
    while BAD_TITLE not in httpx.post(f"{server.url}/decide", json=QUESTION).text.replace("\\u0027", "'"):
        assert time.monotonic() < end, "the service did not take up the files"
        time.sleep(0.2)
    for (tab,) in tabs(server, "laptop"):
        tab.sign_in("eve")
        tab.press("Agree to e-mail", "#drawer")
        tab.go("p/bad")
        tab.sees("h1", BAD)
        tab.press("Add to cart")
        tab.sees(".mine .count", "1")
        tab.go("checkout")
        tab.press("Buy now")
        tab.sees("#orders", BAD)
        tab.sees("#drawer .events", f"Order Completed {BAD}")
        for path, where in (
            ("", ".tile .name"),
            ("stores/hamburg", "main"),
            ("agent", "#agent .story"),
            ("email", "#mail"),
        ):
            tab.go(path, **({"q": "alert"} if path.startswith("stores/") else {}))
            tab.sees(where, BAD_TITLE if path == "email" else BAD)
        tab.go("search", q="%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
        tab.sees("h1", BAD)
        mallory = Tab(tab.page.context, server, "phone")
        mallory.sees("onestory-offers li strong", BAD_TITLE)
        mallory.sees("onestory-offers li [data-onestory=body]", BAD)
        mallory.sees("#ch-web .offer b", BAD_TITLE)
        mallory.go("cart", customer="%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E")
        mallory.sees("#drawer h2", BAD)
        assert [each.page.locator("img").count() for each in (tab, mallory)] == [0, 0]
        assert mallory.wrong == []


QUESTION = {"anonymous_id": "nobody", "channel": "web", "placement": "home"}


# ------------------------------------------------------------------------------------ without a browser


@pytest.fixture
def engine(workspace: Workspace) -> Iterator[Engine]:
    opened = Engine.open(workspace)
    yield opened
    opened.close()


OPEN = ("", f"p/{CHAIR}", "search", "labels", "static/shop.css")
CLOSED = ("cart", "checkout", "orders", "account", "stores", "stores/hamburg", "email", "agent", "bar", "drawer")


def test_what_shows_a_customer_needs_a_server_key_and_the_shelves_need_none(engine: Engine) -> None:
    w = {"w": fresh("phone").name, "customer": "ann"}
    with Face(engine, "203.0.113.7", write_keys=("wk",), server_keys=("sk",)) as face:
        ann = {"type": "track", "event": "Product Viewed", "userId": "ann", "properties": {"product_id": "tent-two"}}
        assert face.post("/v1/batch", {"batch": [ann]}, key="wk").status_code == 200
        for path in OPEN:
            assert face.get(f"/shop/{path}", params=w).status_code == 200
        for path in CLOSED:
            for key in (None, "wk", "wrong"):
                refused = face.get(f"/shop/{path}", params=w, key=key)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"].startswith("Basic")
            assert face.get(f"/shop/{path}", params=w, key="sk").status_code == 200
        shelves, whole = (face.get("/shop/", params=w, key=key).text for key in (None, "sk"))
    assert 'data-write-key="wk"' in shelves
    assert "sk" not in re.findall(r'"(\w+)"', shelves)
    assert "ann" not in re.findall(r"\w+", shelves.partition("<main")[2])
    assert ("backstage" in shelves, "backstage" in whole) == (False, True)


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("203.0.113.7", 401)])
def test_without_keys_only_this_machine_sees_a_customer(engine: Engine, host: str, status: int) -> None:
    w = {"w": fresh("phone").name}
    with Face(engine, host) as face:
        assert [face.get(f"/shop/{path}", params=w).status_code for path in CLOSED] == [status] * len(CLOSED)
        assert ("backstage" in face.get("/shop/", params=w).text) == (status == 200)


def test_every_page_carries_a_strict_policy_and_no_script_or_style_of_its_own(engine: Engine) -> None:
    w = {"w": fresh("laptop").name}
    with Face(engine) as face:
        for path in (*OPEN[:3], *CLOSED, "p/no-such-product", "stores/nowhere"):
            page = face.get(f"/shop/{path}", params=w)
            assert page.headers["content-security-policy"] == paper.POLICY
            assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page.text)
            assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", page.text)
    assert "unsafe" not in paper.POLICY


def test_the_entry_names_a_new_window_each_time_and_a_lost_one_gets_another(engine: Engine) -> None:
    with Face(engine) as face:
        names = {face.get("/shop?device=phone").headers["location"] for _ in range(3)}
        assert len(names) == 3
        assert all(re.fullmatch(r"/shop/\?w=phone\.[0-9a-f]{16}&keep=1", each) for each in names)
        lost = face.get("/shop/p/chair-oak?w=<b>&q=a%26b")
        assert re.fullmatch(
            r"/shop/p/chair-oak\?q=a%26b&w=laptop\.\w+|/shop/p/chair-oak\?w=laptop\.\w+&q=a%26b",
            lost.headers["location"],
        )
        missing = face.get("/shop/p/none", params={"w": fresh("phone").name})
        assert (missing.status_code, missing.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "there is no product" in missing.text
        assert face.get("/shop/static/../pages.py").status_code == 404


def test_a_workspace_without_products_says_what_to_run(workspace: Workspace) -> None:
    (workspace.home / "products.csv").write_text((PROJECT / "features/products.csv").read_text().splitlines()[0] + "\n")
    (workspace.home / "offers.yaml").write_text("offers: []\n")
    empty = Engine.open(workspace)
    with Face(empty) as face:
        for path in ("", "cart", "stores"):
            page = face.get(f"/shop/{path}", params={"w": fresh("laptop").name})
            assert (page.status_code, "make demo" in page.text) == (200, True)


def test_the_drawer_decides_again_only_when_something_has_happened(engine: Engine) -> None:
    def decided() -> int:
        logs = engine.workspace.decisions.rglob("*.ndjson")
        return sum(line.count(b'"answer"') for path in logs for line in path.read_bytes().splitlines())

    window = fresh("laptop")
    with Face(engine) as face:
        first = face.get("/shop/drawer", params={"w": window.name}).text
        seen = {"w": window.name, "seen": unquote(re.search(r"seen=([^&\"]+)", first)[1])}
        assert (face.get("/shop/drawer", params=seen).status_code, decided()) == (204, 4)
        face.post("/v1/track", {"event": "Feed Alive", "properties": {"signal": "stock"}})
        assert (face.get("/shop/drawer", params=seen).status_code, decided()) == (204, 4)
        added = {"event": "Product Added", "anonymousId": window.anonymous_id, "properties": {"product_id": CHAIR}}
        face.post("/v1/track", added)
        changed = face.get("/shop/drawer", params=seen)
        assert (changed.status_code, "Product Added" in changed.text, decided()) == (200, True, 8)
        sold_out = {"product_id": CHAIR, "quantity": 0}
        face.post("/v1/track", {"event": "Stock Updated", "properties": sold_out})
        assert (face.get("/shop/drawer", params=seen).status_code, decided()) == (200, 12)


def test_looking_takes_no_contact(engine: Engine) -> None:
    w = {"w": fresh("laptop").name, "customer": "ann"}
    yes = {"purpose": "marketing", "channel": "email", "granted": True}
    with Face(engine) as face:
        face.post("/v1/track", {"event": "Consent Updated", "userId": "ann", "properties": yes})
        for path in ("email", "drawer", "agent", "stores/hamburg"):
            assert face.get(f"/shop/{path}", params=w).status_code == 200
    with database.reading(engine.database) as connection:
        assert connection.execute(database.reservations.select()).all() == []


def test_every_reason_has_its_words() -> None:
    assert {*reasons.REASONS, *reasons.ASIDE} == set(vocabulary.REASONS)
    assert set(reasons.REASONS) & set(reasons.ASIDE) == set()


def test_every_silhouette_is_drawn_and_a_product_looks_the_same_each_time() -> None:
    drawn = set(re.findall(r'symbol id="s-(\w+)"', (paper.WEB / "shapes.html").read_text()))
    assert drawn == {*look.SHAPES, "gift"}
    shapes = {product.product_id: look.look_of(product).shape for product in shipped_catalog().products.values()}
    assert {shapes["table-oak-180"], shapes[CHAIR], shapes["tent-two"], shapes["socks-merino"]} == {
        *("table", "chair", "tent", "sock")
    }
    assert look.look_of(Product("1", "x")) == look.look_of(Product("1", "x"))


def test_a_window_is_a_device_and_a_name_that_cannot_be_guessed() -> None:
    window = fresh("phone")
    assert window_of(window.name) == window
    assert (window.device, device_of(window.anonymous_id)) == ("phone", "phone")
    assert len({fresh("laptop").visitor for _ in range(50)}) == 50
    assert [window_of(each) for each in ("", "phone.", "tv.abcdef01", "phone.ABCDEF01", "phone.abcdef01<b>")] == [
        None
    ] * 5


def test_the_shelves_are_paged_best_stocked_first_and_found_by_all_words() -> None:
    products = {
        f"p{n:02}": Product(f"p{n:02}", f"Tea {n:02}", "tea", "PANTRY" if n % 2 else "BAR", 1.0) for n in range(60)
    }
    stock = {product_id: int(product_id[1:]) for product_id in products if product_id != "p07"}
    found = aisles.Aisles(Catalog(products={**products, "free": Product("free", "Free tea")}), stock)
    first, last = found.page(None, 1), found.page(None, 99)
    assert [each.product_id for each in first.products[:3]] == ["p58", "p59", "p56"]
    assert (first.number, last.number, last.pages, len(last.products)) == (1, 3, 3, 59 - 2 * aisles.A_PAGE)
    assert {each.department for each in found.page("BAR", 2).products} == {"BAR"}
    assert [each.product_id for each in found.search("TEA 1 8")] == ["p18"]
    assert [each.product_id for each in found.search("07 tea")] == []
    assert found.search("  ") == []


def test_an_order_knows_what_of_it_is_on_its_way_back() -> None:
    lines = [{"product_id": "a", "quantity": 2, "price": 3.0}, {"product_id": "b", "quantity": 1, "price": 4.0}]

    def event(name: str, at: float, **body: Any) -> Event:
        return Event(f"{name}-{at}", name, at, at, "1", body={"order_id": "o", **body})

    told = [
        event("Order Completed", 1.0, products=lines),
        event("Return Requested", 2.0, products=lines[:1], reason="quality"),
        event("Order Refunded", 3.0, products=lines[:1]),
        event("Return Requested", 4.0, products=lines[1:], reason="a gift"),
        event("Return Requested", 5.0, order_id="unheard of"),
    ]
    for some in (told, told[::-1]):
        (sale,) = orders.sales(some)
        assert [(line.product_id, line.state, line.reason) for line in sale.lines] == [
            ("a", "back", "quality"),
            ("b", "asked", "a gift"),
        ]
        assert (sale.total, sale.open_return, sale.cancelled) == (10.0, True, False)
    assert orders.sales([told[0], event("Order Cancelled", 9.0)])[0].cancelled


def test_offers_shown_one_after_the_other_are_one_line() -> None:
    def shown(offer_id: str, at: float) -> Event:
        body = {"offer_id": offer_id, "response": "shown"}
        return Event(offer_id, "Offer Responded", at, at, None, "shop-phone-1", "web", None, body)

    added = Event("m", "Product Added", 3.0, 3.0, None, "shop-phone-1", "web", None, {"product_id": CHAIR})
    stock = Event("s", "Stock Updated", 4.0, 4.0, body={"product_id": CHAIR, "quantity": 1})
    told = lines([shown(OFFER, 6.0), shown("join-the-club", 5.0), stock, added, shown(OFFER, 2.0)], shipped_catalog())
    assert [(line.what, line.about, line.channel) for line in told] == [
        ("Offers shown", "Chairs that fit your table, Points for every order", "on the phone"),
        ("Product Added", "Chair, oak", "on the phone"),
        ("Offer shown", "Chairs that fit your table", "on the phone"),
    ]


def test_every_page_is_on_its_page_of_the_docs_with_its_key() -> None:
    text = (PROJECT / "docs/shop.md").read_text()
    told = dict(re.findall(r"^\| `(/shop[^`]*)` \| (none|server) \|", text, flags=re.MULTILINE))
    real = {re.sub(r":path", "", route.path): needed(route.path) or "none" for route in Shop(None, None).routes()}
    assert told == real


def test_a_cart_is_one_order_in_whichever_window_it_is_bought() -> None:
    cart = [("lamp", 1, 1.5), ("chair", 2, 2.5)]
    assert order_of("ann", cart) == order_of("ann", cart[::-1])
    others = [order_of("bob", cart), order_of("ann", cart[:1]), order_of("ann", [("lamp", 1, 9.5), cart[1]])]
    assert len({order_of("ann", cart), *others}) == 4
