"""How the service is put together: settings, schemas, and the engine's life."""

from __future__ import annotations

import warnings
from typing import get_args

import orjson
import pytest
from fakes import Face, FakeEngine

from features.vocabulary import CHANNELS, PLACEMENTS, RESPONSES
from serving import schemas
from serving.answers import Decision
from serving.schemas import DecideBatchRequest, DecideRequest, entries
from serving.settings import Settings, SettingsProblem


def test_settings_come_from_the_environment() -> None:
    read = Settings.read({"ONESTORY_WRITE_KEYS": "a, b,", "ONESTORY_SERVER_KEYS": "c", "ONESTORY_WORKERS": "2"})
    assert read == Settings(write_keys=("a", "b"), server_keys=("c",), workers=2)
    assert Settings.read({}) == Settings()
    assert Settings.read({}).is_open and not read.is_open


def test_settings_never_show_their_keys() -> None:
    assert "hush" not in repr(Settings(write_keys=("hush",), server_keys=("hush",)))
    with pytest.raises(SettingsProblem) as caught:
        Settings.read({"ONESTORY_SERVER_KEYS": "fine,hu:sh"})
    assert "key 2 of `ONESTORY_SERVER_KEYS`" in str(caught.value)
    assert "hu:sh" not in str(caught.value)


@pytest.mark.parametrize("workers", ["0", "-1", "two", "1.5", "²"])
def test_a_number_of_workers_that_is_none_is_told(workers: str) -> None:
    with pytest.raises(SettingsProblem, match="ONESTORY_WORKERS"):
        Settings.read({"ONESTORY_WORKERS": workers})


def test_the_wire_knows_the_words_of_the_vocabulary() -> None:
    assert get_args(schemas.Channel) == CHANNELS
    assert get_args(schemas.Placement) == tuple(PLACEMENTS)
    assert get_args(schemas.Kind) == RESPONSES


def test_every_field_of_a_request_says_what_is_expected_of_it() -> None:
    models = (DecideRequest, DecideBatchRequest, schemas.RespondRequest)
    assert {name for model in models for name in model.model_fields} <= set(schemas.EXPECTED)


def test_entries_of_a_batch_are_requests_in_the_batchs_channel() -> None:
    customers = [{"customer_id": "1", "cart": ["p"], "request_id": "r"}, {"anonymous_id": "a", "explain": True}]
    batch = DecideBatchRequest(customers=customers, channel="email", placement="newsletter", limit=2)
    assert entries(batch) == [
        DecideRequest(customer_id="1", cart=["p"], request_id="r", channel="email", placement="newsletter", limit=2),
        DecideRequest(anonymous_id="a", explain=True, channel="email", placement="newsletter", limit=2),
    ]


def test_what_the_fake_engine_decides_has_the_shape_of_an_answer() -> None:
    request = DecideRequest(customer_id="1", channel="web", placement="home")
    Decision.model_validate_json(FakeEngine().decide(request, 0.0))


def test_the_engine_is_closed_with_the_worker() -> None:
    engine = FakeEngine()
    with Face(engine):
        assert not engine.closed
    assert engine.closed


def test_files_are_checked_once_before_any_worker_starts() -> None:
    checked: list[bool] = []
    with warnings.catch_warnings(action="ignore"):
        from serving.service import service

        made = service(FakeEngine, Settings(), lambda: checked.append(True))
    made.inner.check_once()
    assert checked == [True]


def test_json_is_answered_as_it_would_be_on_the_long_way() -> None:
    asked = {"customer_id": "1", "channel": "web", "placement": "home"}
    bodies = (orjson.dumps(asked), b"{", orjson.dumps({**asked, "channel": "fax"}), orjson.dumps({**asked, "limit": 0}))
    with Face(FakeEngine()) as face:
        for body in bodies:
            short = face.post("/decide", body, headers={"content-type": "application/json; x=y"})
            long = face.post("/decide", body, headers={"content-type": "text/plain"})
            assert (short.status_code, short.headers["content-type"]) == (
                long.status_code,
                long.headers["content-type"],
            )
            assert short.content == long.content
