"""A shop's own site and its visitors, for tests of what browsers load: another origin than the service's.

`with storefront() as shop: shop.pages["/"] = Page(html)`; `barriers(tab)` asks axe-core what keeps people out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from client_programs import PACKAGES

from features import database
from features.events import event_of
from features.vocabulary import Event
from features.workspace import Workspace

WITHIN_S = 20.0


@dataclass(frozen=True)
class Page:
    """What stands at a path; `policy` is its Content-Security-Policy."""

    html: str
    policy: str | None = None


@dataclass
class Shop:
    """A site at `url`; what is not in `pages` is a 404."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)


@contextmanager
def storefront() -> Iterator[Shop]:
    shop = Shop("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = shop.pages.get(self.path.partition("?")[0])
            body = page.html.encode() if page else b""
            self.send_response(200 if page else 204)
            if page:
                self.send_header("Content-Type", "text/html; charset=utf-8")
            if page and page.policy:
                self.send_header("Content-Security-Policy", page.policy)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    shop.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield shop
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def document(body: str, head: str = "") -> str:
    """A whole page, with what every page should have."""
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    top = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{viewport}<title>Shop</title>{head}</head>'
    return f"{top}<body><main><h1>Shop</h1>{body}</main></body></html>"


def until(tab: Any, done: Callable[[], Any], what: str) -> Any:
    """What `done` gives as soon as it gives something; the tab lives on meanwhile."""
    end = time.monotonic() + WITHIN_S
    while not (found := done()):
        assert time.monotonic() < end, f"after {WITHIN_S:.0f} s: not yet {what}"
        tab.wait_for_timeout(50)
    return found


def stored(home: Path, name: str | None = None) -> list[Event]:
    """The events that a workspace has stored, in order; of that name, if one is given."""
    with database.reading(database.connect(Workspace(home))) as connection:
        rows = connection.execute(database.events.select().order_by(database.events.c.seq)).all()
    return [event for event in map(event_of, rows) if name in (None, event.name)]


def barriers(tab: Any) -> list[str]:
    """The serious and critical faults that axe-core finds on the page."""
    axe = PACKAGES / "axe-core/axe.min.js"
    if not axe.exists():
        pytest.skip("`axe-core` is not installed; `make test` brings it where npm is there")
    tab.evaluate(axe.read_text())
    found = tab.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {each['help']} {[node['target'] for node in each['nodes']][:3]}" for each in grave]
