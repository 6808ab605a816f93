"""The shop's templates and files: Jinja with everything escaped, and the headers that every page carries.

Nothing is loaded from elsewhere, no script stands in a page, and no page may be framed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from starlette.responses import Response

from serving.shop import look, reasons, told

WEB = Path(__file__).parent / "web"
FILES = {
    "shop.css": "text/css; charset=utf-8",
    "shop.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "figtree.woff2": "font/woff2",
}
"""The files that a page loads, by name."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(WEB),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(look=look.look_of, label=look.label_of, channels=told.CHANNELS)
_templates.filters.update(moment=reasons.moment_of, day=reasons.day_of, money=lambda amount: f"{amount:,.2f}")


def page(template: str, values: Mapping[str, Any], status: int = 200) -> Response:
    """A page, or a piece of one, with its headers."""
    body = _templates.get_template(template).render(values)
    return Response(body, status, HEADERS, media_type="text/html")


def nothing_new() -> Response:
    """204: what htmx shows stays as it is."""
    return Response(status_code=204, headers=HEADERS)


def file(name: str) -> Response | None:
    """One of the FILES."""
    kind = FILES.get(name)
    if kind is None:
        return None
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "max-age=300"}
    return Response((WEB / name).read_bytes(), headers=headers, media_type=kind)
