"""The description of the API for `/docs.json`: OpenAPI 3.1, made from the wire's own models.

BentoML's description knows neither mounted routes nor security nor our errors; what it says of its
infrastructure routes is kept, the rest is said here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving import answers, http_events, http_projects, schemas, story_answers

_REF = "#/components/schemas/{model}"
_MODELS: tuple[type[BaseModel], ...] = (
    schemas.DecideRequest,
    schemas.DecideBatchRequest,
    schemas.RespondRequest,
    answers.Decision,
    answers.DecisionBatch,
    answers.Recorded,
    answers.Confirmed,
    answers.Received,
    story_answers.Story,
    answers.Export,
    answers.Erased,
    answers.ProblemShown,
)
_WRITE: list[dict[str, list[str]]] = [{"writeKey": []}, {"serverKey": []}]
_SERVER: list[dict[str, list[str]]] = [{"serverKey": []}]
_ERRORS = {
    "400": "Bad input; `errors` names the fields",
    "401": "No key, or the wrong one",
    "413": "Too large",
    "429": "Too many messages waiting; `Retry-After` says when",
    "503": "Not now; `Retry-After` says when",
}


def description(infrastructure: Mapping[str, Any]) -> dict[str, Any]:
    """The whole document. `infrastructure` are BentoML's own path items, such as `/readyz`."""
    _, definitions = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Onestory",
            "version": _version(),
            "description": "One customer, one story, the next best offer.",
        },
        "paths": {**infrastructure, **_paths()},
        "components": {
            "schemas": _with_somebody({**definitions["$defs"], **_SEGMENT}),
            "securitySchemes": {
                "writeKey": {"type": "http", "scheme": "basic", "description": "user: a write key; password: empty"},
                "serverKey": {"type": "http", "scheme": "basic", "description": "user: a server key; password: empty"},
            },
        },
    }


def _paths() -> dict[str, Any]:
    paths = {
        "/decide": _post("decide", schemas.DecideRequest, answers.Decision, _WRITE),
        "/decide_batch": _post("decide_batch", schemas.DecideBatchRequest, answers.DecisionBatch, _SERVER),
        "/respond": _post("respond", schemas.RespondRequest, answers.Recorded, _WRITE),
        "/decisions/{decision_id}": {"get": _decision()},
        "/decisions/{decision_id}/confirm": {"post": _confirm()},
        "/decisions/{decision_id}/view": {"get": _page()},
        "/widget.js": {"get": _widget()},
        "/customers/{customer_id}": {
            "get": _customer("story", story_answers.Story, {"channel": ["call_centre", "store"], "location_id": None}),
            "delete": _customer("erase", answers.Erased),
        },
        "/customers/{customer_id}/export": {"get": _customer("export", answers.Export)},
        "/metrics": {"get": _text("metrics", "Counters in Prometheus' text format")},
        http_projects.PATH: {"get": _client_settings()},
    }
    for name, kind in http_events.SINGLE.items():
        summary = f"Segment's `{kind}`" + ("" if name == kind else ", as the browser SDK calls it")
        paths[f"/v1/{name}"] = _post(f"v1_{name}", "SegmentMessage", answers.Received, _WRITE, summary)
    for name in http_events.BATCH:
        paths[f"/v1/{name}"] = _post(f"v1_{name}", "SegmentBatch", answers.Received, _WRITE, "Many messages at once")
    return paths


def _post(
    name: str, takes: type[BaseModel] | str, gives: type[BaseModel], security: list[Any], summary: str | None = None
) -> dict[str, Any]:
    model = takes if isinstance(takes, str) else takes.__name__
    said = summary or (takes.__doc__ if not isinstance(takes, str) else None) or name
    return {
        "post": {
            "operationId": name,
            "summary": said,
            "security": security,
            "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(model)}}},
            "responses": {"200": _json("Done", gives.__name__), **_errors()},
        }
    }


def _customer(name: str, gives: type[BaseModel], query: Mapping[str, list[str] | None] | None = None) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": "customer_id", "in": "path", "required": True, "schema": {"type": "string"}}
    ]
    for parameter, values in (query or {}).items():
        schema = {"type": "string", **({"enum": values} if values else {})}
        parameters.append({"name": parameter, "in": "query", "required": False, "schema": schema})
    return {
        "operationId": name,
        "summary": gives.__doc__,
        "security": _SERVER,
        "parameters": parameters,
        "responses": {
            "200": _json("Done", gives.__name__),
            "404": _json("Nobody known by this id", "ProblemShown", "application/problem+json"),
            **{status: said for status, said in _errors().items() if status != "413"},
        },
    }


def _decision() -> dict[str, Any]:
    return {
        "operationId": "decision",
        "summary": "The whole record of one decision, with its trace",
        "security": _SERVER,
        "parameters": [{"name": "decision_id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": {
            "200": {"description": "The record", "content": {"application/json": {"schema": {"type": "object"}}}},
            "404": _json("No such decision", "ProblemShown", "application/problem+json"),
            **{status: said for status, said in _errors().items() if status in ("401", "503")},
        },
    }


def _client_settings() -> dict[str, Any]:
    return {
        "operationId": "client_settings",
        "summary": "What Segment's browser client asks first: where its messages go",
        "security": [],
        "parameters": [{"name": "write_key", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": {
            "200": {"description": "Here", "content": {"application/json": {"schema": {"type": "object"}}}},
            "400": _errors()["400"],
        },
    }


def _confirm() -> dict[str, Any]:
    return {
        **_decision(),
        "operationId": "confirm",
        "summary": "Whether a prepared outbound decision may be sent now",
        "responses": {
            "200": _json("Checked again", "Confirmed"),
            "404": _json("No such decision", "ProblemShown", "application/problem+json"),
            **_errors(),
        },
    }


def _page() -> dict[str, Any]:
    content = {"text/html": {"schema": {"type": "string"}}}
    said = {"200": "The page", "404": "No such decision", "410": "Its customer was erased"}
    return {
        **_decision(),
        "operationId": "decision_page",
        "summary": "One decision explained, as a page for people",
        "responses": {
            **{status: {"description": each, "content": content} for status, each in said.items()},
            **{status: each for status, each in _errors().items() if status in ("401", "503")},
        },
    }


def _widget() -> dict[str, Any]:
    content = {"text/javascript": {"schema": {"type": "string"}}}
    return {
        "operationId": "widget",
        "summary": "The custom element that shows offers on any page",
        "security": [],
        "responses": {"200": {"description": "The file", "content": content}, "304": {"description": "As it was"}},
    }


def _text(name: str, summary: str) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": name,
        "summary": summary,
        "security": _SERVER,
        "responses": {"200": {"description": summary, "content": content}, "401": _errors()["401"]},
    }


def _errors() -> dict[str, Any]:
    return {status: _json(said, "ProblemShown", "application/problem+json") for status, said in _ERRORS.items()}


def _json(said: str, model: str, media_type: str = "application/json") -> dict[str, Any]:
    return {"description": said, "content": {media_type: {"schema": _ref(model)}}}


def _ref(model: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=model)}


def _with_somebody(models: dict[str, Any]) -> dict[str, Any]:
    """Say in the schemas what only the checks know: who is meant must be told; a batch's entries are objects."""
    somebody = [
        {"required": [name], "properties": {name: {"type": "string"}}} for name in ("customer_id", "anonymous_id")
    ]
    models["DecideRequest"]["anyOf"] = somebody
    fields = models["DecideRequest"]["properties"]
    models["DecideBatchRequest"]["properties"]["customers"]["items"] = {
        "type": "object",
        "properties": {name: fields[name] for name in schemas.OF_ONE_CUSTOMER},
    }
    return models


_ANY_ID = {"type": ["string", "null"], "maxLength": schemas.LONGEST_ID}
_SEGMENT: dict[str, Any] = {
    "SegmentMessage": {
        "type": "object",
        "description": "A message by Segment's HTTP Tracking API; keys that are not known are kept and ignored.",
        "properties": {
            "messageId": _ANY_ID,
            "userId": _ANY_ID,
            "anonymousId": _ANY_ID,
            "timestamp": {"type": "string", "format": "date-time"},
            "sentAt": {"type": "string", "format": "date-time"},
            "event": {"type": "string", "description": "of a `track`: what happened"},
            "properties": {"type": "object"},
            "traits": {"type": "object"},
            "context": {"type": "object"},
        },
    },
    "SegmentBatch": {
        "type": "object",
        "required": ["batch"],
        "properties": {
            "batch": {
                "type": "array",
                "items": {"allOf": [_ref("SegmentMessage"), {"required": ["type"]}]},
                "description": "messages, each with its `type`",
            },
            "sentAt": {"type": "string", "format": "date-time"},
            "context": {"type": "object"},
        },
    },
}


def _version() -> str:
    try:
        return version("onestory")
    except PackageNotFoundError:  # a plain checkout
        return "0"
