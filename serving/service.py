"""The service on HTTP: its BentoML class, and the one place where it is put together.

`service(open_engine, settings)` joins BentoML's endpoints, the mounted routes (`http_events`, `http_records`) and the
`gate` around them; `NextBestAction` below is that with the real engine, for `bentoml serve`. Nothing is decided here.
The engine is opened when a worker starts, so that importing this stays cheap; `/readyz` answers 200 from then on.

A BentoML client sends the flat body as one dictionary, and a key, where any is configured, as `token`:

    with bentoml.SyncHTTPClient("http://127.0.0.1:3000", token=None) as client:
        client.decide({"customer_id": "1042", "channel": "web", "placement": "home"})
        client.decide_batch({"customers": [{"customer_id": "1042"}], "channel": "email", "placement": "newsletter"})

Keyword arguments do not work: BentoML knows a flat body as a single positional argument.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from features import database
from features.light_lightgbm import light_lightgbm
from features.sentences import FileProblem
from features.vocabulary import OUTBOUND
from features.workspace import PROJECT, Workspace, open_workspace


def _opened() -> Workspace:
    """The workspace, and BENTOML_HOME in it; for a built bento as it was, since workers look its tag up there."""
    store = os.environ.pop("BENTOML_HOME", None)
    workspace = open_workspace()
    if (PROJECT.parent / "bento.yaml").exists():
        del os.environ["BENTOML_HOME"]
        os.environ.update({"BENTOML_HOME": store} if store else {})
    return workspace


WORKSPACE = _opened()  # before BentoML is imported, which reads BENTOML_HOME at once

# ruff: noqa: E402
import anyio
import anyio.to_thread
import bentoml
import orjson
import pyarrow
from pydantic import BaseModel, create_model
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from serving import counters, http_customers, http_projects, http_records, http_web, openapi, wire
from serving.answers import Decision, Decisions, Recorded
from serving.bento import BentoImage
from serving.gate import TOO_LONG, Gate, Receive, Scope, Send
from serving.http_events import SINGLE_PATHS, EventDesk
from serving.keys import WRITE, Keys, unauthorised
from serving.orphan import END_WITH_PARENT, end_with_parent
from serving.ports import DecisionEngine
from serving.problems import Problem, problem_of
from serving.schemas import EXPECTED, DecideBatchRequest, DecideRequest, RespondRequest
from serving.settings import Settings
from serving.shop.pages import Shop
from serving.straight import Straight, answer_json
from serving.wire import Model

LARGEST_BATCH = 5 * 1024 * wire.KB
LONGEST_ANSWER_S = 300
RARELY = (50_000, 20, 50)
"""When Python looks for cycles: a decision makes a thousand objects and no cycle; by default it looks twice."""
LONGEST_LOCK_S = 3.0
"""So long a call waits for the database's lock; then it is a 503, while the caller still listens."""


async def read(model: type[Model], request: Request, limit: int = wire.SMALL_BODY) -> Model | Problem:
    """The body as a `model`, read and checked by `wire`, or what is wrong with it."""
    try:
        checked = wire.checked(model, await wire.body(request, limit), EXPECTED)
        if isinstance(checked, DecideRequest) and request.scope.get("onestory.caller") == WRITE:
            if checked.customer_id is not None:
                raise unauthorised("a write key decides by `anonymous_id` only; expected a server key")
            return cast(Model, checked.asked_by_a_page())
        return checked
    except Problem as problem:
        return problem


def flat(model: type[BaseModel], limit: int = wire.SMALL_BODY) -> Any:
    """BentoML's input for a `model` that is the whole body.

    BentoML would log a traceback for every bad request and tell it in its own words. So a body that does
    not check comes out as its Problem, and the endpoint answers that.
    """

    async def from_request(request: Request, _serde: Any) -> BaseModel | Problem:
        return await read(model, request, limit)

    body = cast(Any, create_model(model.__name__, __base__=(bentoml.IODescriptor, model)))
    body.__root_input__ = True
    body.from_http_request = staticmethod(from_request)
    return body


class Endpoints:
    """What BentoML serves itself. Answers are the engine's bytes; the models beside them describe these."""

    engine: DecisionEngine

    @bentoml.api(input_spec=flat(DecideRequest), output_spec=Decision)
    async def decide(self, request: DecideRequest | Problem, /) -> Response:
        """The next best offers for one customer, in one channel and placement, now."""
        return _response(await self.decided(request))

    async def decided(self, request: DecideRequest | Problem) -> bytes | Problem:
        """The answer to `/decide`, whichever way the question came."""
        if isinstance(request, Problem):
            return request
        if request.request_id is not None or request.channel in OUTBOUND:  # may have to wait for the database
            return await self._on_thread("decide", lambda engine: engine.decide, request)
        started = time.perf_counter()
        try:
            answer = self.engine.decide(request, time.time())
        except Exception as error:
            return problem_of(error, "/decide")
        counters.answered("decide", time.perf_counter() - started)
        return answer

    @bentoml.api(input_spec=flat(DecideBatchRequest, LARGEST_BATCH), output_spec=Decisions)
    async def decide_batch(self, request: DecideBatchRequest | Problem, /) -> Response:
        """The same for up to 1,000 customers at once; one that is malformed is refused by itself."""
        return _response(await self._on_thread("decide_batch", lambda engine: engine.decide_batch, request))

    @bentoml.api(input_spec=flat(RespondRequest), output_spec=Recorded)
    async def respond(self, request: RespondRequest | Problem, /) -> Response:
        """What the customer did with an offer of a decision."""
        return _response(await self._on_thread("respond", lambda engine: engine.respond, request))

    async def _on_thread(self, call: str, method: Callable[[DecisionEngine], Any], request: Any) -> bytes | Problem:
        """Answer beside the event loop: what waits for the database, or takes long, must not hold up `/decide`."""
        started = time.perf_counter()
        if isinstance(request, Problem):
            return request
        try:
            limiter = self._limiter(call)
            with anyio.fail_after(LONGEST_ANSWER_S):
                answer = await anyio.to_thread.run_sync(
                    method(self.engine), request, time.time(), limiter=limiter, abandon_on_cancel=True
                )
        except TimeoutError:
            return Problem(504, None, TOO_LONG, headers={"Retry-After": "1"})
        except Exception as error:
            return problem_of(error, f"/{call}")
        counters.answered(call, time.perf_counter() - started)
        return answer if isinstance(answer, bytes) else orjson.dumps(answer)

    def _limiter(self, call: str) -> anyio.CapacityLimiter:
        """One thread per kind of call; made at first use, when the event loop runs."""
        limiters: dict[str, anyio.CapacityLimiter] = self.__dict__.setdefault("_limiters", {})
        if call not in limiters:
            limiters[call] = anyio.CapacityLimiter(1)
        return limiters[call]

    def __is_ready__(self) -> bool:
        return self.engine.ready()

    @bentoml.on_shutdown
    def close(self) -> None:
        self.engine.close()


def service(
    open_engine: Callable[[], DecisionEngine], settings: Settings, check: Callable[[], None] = lambda: None
) -> Any:
    """The composed service; `.to_asgi()` of it is the whole application of one worker.

    `check` runs once, before there are workers, and may end the server: a worker that cannot open its
    engine would be started again and again.
    """
    keys = Keys(settings)
    mounted = Starlette()
    opened: list[Endpoints] = []

    class NextBestAction(Endpoints):
        def __init__(self) -> None:
            self.engine = mounted.state.engine = open_engine()
            opened.append(self)

        @bentoml.on_deployment
        def check_once() -> None:
            check()

    # What is switched off here costs more than a decision does; `tracing` excludes every path.
    made = bentoml.service(
        workers=settings.workers,
        http={"host": "127.0.0.1"},
        logging={"access": {"enabled": False}},
        metrics={"enabled": False},
        tracing={"excluded_urls": ".*"},
        traffic={"timeout": LONGEST_ANSWER_S},  # 1,000 decisions on a busy machine
        image=BentoImage(),
    )(NextBestAction)

    async def decide(scope: Scope, receive: Receive, send: Send) -> None:
        desk.give_way()
        answer = await opened[-1].decided(await read(DecideRequest, Request(scope, receive)))
        if isinstance(answer, bytes):
            await answer_json(send, answer)
        else:
            await answer.response()(scope, receive, send)

    def description() -> dict[str, Any]:
        paths = made.openapi_spec.asdict()["paths"]
        return openapi.description({path: item for path, item in paths.items() if "get" in item})

    desk = EventDesk(keys, lambda: cast(DecisionEngine, mounted.state.engine))

    async def single(scope: Scope, receive: Receive, send: Send) -> None:
        await (await desk.one(Request(scope, receive)))(scope, receive, send)

    mounted.router.routes.extend(
        [
            *desk.routes(),
            *http_projects.routes(),
            *http_customers.routes(),
            *http_web.routes(),
            *http_records.routes(description),
            *Shop(keys, next(iter(settings.write_keys), None)).routes(),
        ]
    )
    made.mount_asgi_app(mounted)
    answers = dict.fromkeys(SINGLE_PATHS, Gate(single, keys)) | {"/decide": Gate(decide, keys)}
    made.add_asgi_middleware(Straight, answers=answers, json=("/decide",), ready=lambda: bool(opened))
    made.add_asgi_middleware(Gate, keys=keys)
    return made


def _response(answer: bytes | Problem) -> Response:
    return answer.response() if isinstance(answer, Problem) else Response(answer, media_type="application/json")


def _open_engine() -> DecisionEngine:
    end_with_parent()
    with _no_cycles():
        light_lightgbm()
        from serving.engine import Engine  # brings Feast along, which takes seconds: only a worker needs it

        engine = Engine.open(WORKSPACE)
        database.wait_at_most(engine.database, LONGEST_LOCK_S)
        engine.attend(Settings.read().retention_days, time.time)
        pyarrow.default_memory_pool().release_unused()  # what the catalog's files were read into
        gc.freeze()  # what is loaded by now stays: a search through all of it would hold up an answer by half a second
    gc.set_threshold(*RARELY)
    return engine


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Without looking for cycles: what is loaded is a million objects and hardly any, and looking takes seconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _check_files() -> None:
    """End with the sentences of what is wrong with the workspace's files, if anything is."""
    from features.catalog import load_catalog
    from serving import rulebook

    if os.environ.get(END_WITH_PARENT):
        end_with_parent()
    wrong = []
    with _no_cycles():
        for check in (
            lambda: database.connect(WORKSPACE),
            lambda: load_catalog(WORKSPACE),
            lambda: rulebook.load(WORKSPACE.file("rulebook.yaml")),
        ):
            try:
                check()
            except (FileProblem, database.DatabaseProblem) as problem:
                wrong.append(problem)
    if wrong:
        sys.stderr.write("".join(f"{problem}\n" for problem in wrong))
        raise SystemExit(2)


NextBestAction = service(_open_engine, Settings.read(), _check_files)
