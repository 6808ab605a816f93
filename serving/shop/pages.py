"""The routes below `/shop`: which page is made of what, and for whom. All are GETs: the shop writes nothing.

`/shop` itself gives a new window its name and sends it on. Pages are made on a thread, since they read the database.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from serving.keys import SERVER, Keys
from serving.problems import Problem, not_found, problem_of, shown
from serving.shop import counter, floor, paper
from serving.shop.backroom import Backroom
from serving.shop.look import look_of
from serving.shop.visit import Visit
from serving.shop.window import fresh, window_of

MOST_LABELS = 40
Page = Callable[[Visit, Request], Response]


class Shop:
    """The shop's pages over the engine of the app's state, there once the worker has started."""

    def __init__(self, keys: Keys, write_key: str | None):
        self._keys, self._write_key = keys, write_key
        self._backroom = Backroom()

    def routes(self) -> list[Route]:
        paged: dict[str, Page] = {
            "": lambda visit, _: _whole("list.html", visit, floor.listing(visit)),
            "search": lambda visit, _: _whole("search.html", visit, floor.search(visit)),
            "p/{product_id:path}": lambda visit, request: _whole(
                "product.html", visit, floor.product(visit, request.path_params["product_id"])
            ),
            "cart": lambda visit, _: _whole("cart.html", visit, floor.basket(visit)),
            "checkout": lambda visit, _: _whole("checkout.html", visit, floor.checkout(visit)),
            "orders": lambda visit, _: _whole("orders.html", visit, floor.history(visit)),
            "account": lambda visit, _: _whole("account.html", visit, floor.account(visit)),
            "stores": lambda visit, _: _whole("stores.html", visit, counter.stores(visit)),
            "stores/{location_id:path}": lambda visit, request: _whole(
                "counter.html", visit, counter.counter(visit, request.path_params["location_id"])
            ),
            "email": lambda visit, _: _whole("email.html", visit, counter.email(visit)),
            "agent": lambda visit, _: _whole("agent.html", visit, counter.agent(visit)),
            "bar": lambda visit, _: paper.page("bar.html", {**_frame(visit), **floor.basket(visit)}),
            "drawer": lambda visit, _: _drawer(visit),
        }
        return [
            Route("/shop", enter),
            Route("/shop/static/{name}", static),
            Route("/shop/labels", labels),
            *(Route(f"/shop/{path}", self._route(made)) for path, made in paged.items()),
        ]

    def _route(self, made: Page) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            window = window_of(request.query_params.get("w", ""))
            if window is None:
                query = {key: value for key, value in request.query_params.items() if key not in ("w", "device")}
                device = request.query_params.get("device")
                url = request.url.replace(query="").include_query_params(w=fresh(device).name, **query)
                return RedirectResponse(f"{url.path}?{url.query}", 303, paper.HEADERS)
            visit = Visit(
                request.app.state.engine,
                self._backroom,
                window,
                dict(request.query_params),
                self._is_staff(request),
                self._write_key,
                time.time(),
            )
            try:
                return await anyio.to_thread.run_sync(made, visit, request)
            except Problem as problem:
                if problem.status == 404:
                    values = {**_frame(visit), "views": [], "sentence": problem.detail}
                    return paper.page("lost.html", values, 404)
                return problem.response()
            except Exception as error:
                return problem_of(error, "/shop").response()

        return answer

    def _is_staff(self, request: Request) -> bool:
        """Whether whoever asks may see a customer's data; on open pages the key may be missing, or wrong."""
        sent = request.headers.get("authorization")
        host = request.client.host if request.client else None
        try:
            return self._keys.caller(sent.encode() if sent else None, host) == SERVER
        except Problem:
            return False


def _frame(visit: Visit) -> dict[str, Any]:
    """What the frame around every page needs."""
    return {
        "visit": visit,
        "window": visit.window,
        "link": visit.link,
        "staff": visit.staff,
        "empty": not visit.catalog.products,
        "place_name": lambda location_id: counter.place_name(visit.catalog.locations, location_id),
    }


def _whole(template: str, visit: Visit, values: dict[str, Any]) -> Response:
    frame = _frame(visit)
    if frame["empty"]:
        return paper.page("empty.html", {**frame, "views": []})
    return paper.page(template, {**frame, "views": [], **values})


def _drawer(visit: Visit) -> Response:
    values = counter.drawer(visit)
    return paper.nothing_new() if values is None else paper.page("drawer.html", {**_frame(visit), **values})


async def enter(request: Request) -> Response:
    """A window of its own; `keep` lets the browser go on with the one that it had before."""
    window = fresh(request.query_params.get("device"))
    keep = "" if "forget" in request.query_params else "&keep=1"
    return RedirectResponse(f"/shop/?w={window.name}{keep}", 303, paper.HEADERS)


async def labels(request: Request) -> Response:
    """Names and looks of products and places, for the widget's offers: the catalog's, about nobody."""
    catalog = request.app.state.engine.policy.catalog
    asked = {name: request.query_params.getlist(name)[:MOST_LABELS] for name in ("product", "place")}
    products = [catalog.products[each] for each in asked["product"] if each in catalog.products]
    told = {
        "products": {each.product_id: {"name": each.name, **look_of(each)._asdict()} for each in products},
        "places": {each: catalog.locations[each].name for each in asked["place"] if each in catalog.locations},
    }
    return JSONResponse(told, headers=paper.HEADERS)


async def static(request: Request) -> Response:
    found = paper.file(request.path_params["name"])
    if found is None:
        return not_found(f"there is no file {shown(request.path_params['name'])}").response()
    return found
