"""The four real clients, each run as a program of its own on the code of docs/clients.md.

The page's address and write key are replaced by those of the server at hand. Nothing here knows what is sent.
A client that is not installed skips the test, saying what is missing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

import pytest

from features.workspace import PROJECT

PAGE = PROJECT / "docs/clients.md"
FOLDER = PROJECT / "tests/clients"
PACKAGES = FOLDER / "node_modules"
ADDRESS, KEY = "127.0.0.1:3000", "YOUR_WRITE_KEY"
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync")  # fmt: skip
WITHIN_S = 90


def program(language: str, name: str, url: str, key: str = "wk", customer: str = "1042") -> str:
    """The page's program that mentions `name`, for the service at `url`, about `customer`."""
    programs = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    (found,) = [text for text in programs if name in text]
    for word in (ADDRESS, KEY, "1042"):
        assert word in found, f"docs/clients.md: no `{word}` in the program with `{name}`"
    said = str(found).replace(ADDRESS, url.removeprefix("http://")).replace(KEY, key)
    mailbox = "jo" if customer == "1042" else f"jo-{customer}"  # of one mailbox all would be one customer
    return said.replace("1042", customer).replace("jo@", f"{mailbox}@")


# ------------------------------------------------------------------------------------------- programs


def run_python(package: str, url: str, **what: str) -> str:
    """Run the page's program for a Python package; what it printed."""
    if find_spec(package) is None:
        pytest.skip(f"`{package}` is not installed; `make install` brings it")
    return _ran([sys.executable, "-W", "ignore", "-c", program("python", f"{package}.analytics", url, **what)])


def run_node(url: str, **what: str) -> str:
    """Run the page's program for Node.js; what it printed."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed; `make test` as root brings it from Debian")
    if not (PACKAGES / "@segment/analytics-node").exists():
        pytest.skip("`@segment/analytics-node` is not installed; `make test` brings it where npm is there")
    return _ran(["node", "--input-type=module", "-e", program("js", "@segment/analytics-node", url, **what)])


def _ran(command: list[str]) -> str:
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# -------------------------------------------------------------------------------------------- browser


class _Files(SimpleHTTPRequestHandler):
    """A shop's own site: the page under test, and the client's bundle from its package."""

    html = ""

    def do_GET(self) -> None:
        if self.path == "/":
            body = self.html.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        elif self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
        else:
            self.path = self.path.replace("/analytics-next/", "/@segment/analytics-next/", 1)
            super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def site(html: str) -> Iterator[str]:
    """A site of its own with `html` as its page: another origin than the service's."""
    handler = type("Site", (_Files,), {"html": f"<!doctype html><title>Shop</title>{html}"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(PACKAGES)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    if find_spec("playwright") is None:
        pytest.skip("`playwright` is not installed; `make install` brings it")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed; `make test` as root brings it from Debian")
    if not (PACKAGES / "@segment/analytics-next").exists():
        pytest.skip("`@segment/analytics-next` is not installed; `make test` brings it where npm is there")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM), headless=True)
        try:
            yield running
        finally:
            running.close()
