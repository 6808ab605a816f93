"""Placeholders in treatments: checked when the file is read, filled in and escaped when the offer is shown."""

from __future__ import annotations

import html
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.offers import read_offers
from features.placeholders import PLACEHOLDERS, filled, problem_of
from features.sentences import FileProblem
from features.vocabulary import CHANNELS, Location, Offer, Product, Value
from serving.treatments import treatment_of

LAMP = Product("lamp", "Lamp & <shade>", "lamps", "home", 119.0, brand="Lumi", url="/p/lamp?a=1&b=2")
SHOP = Location("berlin", "shop", "Berlin Mitte")
VALID = "valid_from: 2020-01-01, valid_until: 2099-12-31"


def texts(channel: str, tier: str | None = None, **treatment: str) -> dict[str, str]:
    offer = Offer(
        "it", "promotion", valid_until=1_800_000_000.0, value=Value(discount=5.0), treatments={channel: treatment}
    )
    return treatment_of(offer, LAMP, SHOP, tier, channel)


def test_a_name_is_html_on_the_site_and_plain_in_a_message() -> None:
    assert texts("web", title="{product.name}") == {"title": "Lamp &amp; &lt;shade&gt;"}
    assert texts("sms", title="{product.name}") == {"title": "Lamp & <shade>"}


def test_every_placeholder_has_a_value_somewhere() -> None:
    for name in PLACEHOLDERS:
        if name != "product.image_url":
            assert "body" in texts("web", tier="gold", body=f"{{{name}}}")
    assert texts("web", body="{offer.discount} until {offer.valid_until}")["body"] == "5.00 until 2027-01-15"


def test_an_address_keeps_its_own_shape_and_swallows_what_is_put_in() -> None:
    assert texts("web", url="{product.url}")["url"] == "/p/lamp?a=1&b=2"
    assert texts("web", tier="a/b?c", url="/club/{customer.loyalty_tier}")["url"] == "/club/a%2Fb%3Fc"


def test_a_text_with_a_hole_is_left_out_and_the_title_is_the_products_name() -> None:
    assert texts("web", title="Dear {customer.loyalty_tier}", body="{product.price}") == {
        "title": "Lamp &amp; &lt;shade&gt;",
        "body": "119.00",
    }


def test_a_doubled_brace_is_a_brace() -> None:
    assert texts("web", title="{{{product.brand}}}")["title"] == "{Lumi}"


@given(st.text(max_size=40), st.sampled_from(CHANNELS))
def test_nothing_that_is_filled_in_gets_out_of_its_place(value: str, channel: str) -> None:
    body = filled("body", "<b>{product.name}</b>", lambda _: value, channel)
    if not value:
        assert body is None
        return
    inside = str(body)[3:-4]
    if channel in ("web", "app", "email"):
        assert not set(inside) & set("<>\"'")
        assert html.unescape(inside) == html.unescape(html.escape(value))
    else:
        assert all(ord(each) >= 32 for each in inside)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_an_address_takes_any_value_and_gives_it_back(value: str) -> None:
    url = filled("url", "/x/{product.name}", lambda _: value, "web")
    assert url is not None
    assert unquote(url.removeprefix("/x/")) == value
    assert "/" not in url.removeprefix("/x/")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            "{title: '{product.nmae}'}",
            "`title` has the unknown placeholder `{product.nmae}`; did you mean `{product.name}`?",
        ),
        (
            "{title: 'a } b'}",
            "`title` has a brace that stands alone; expected one such as `{product.name}`, or `}}` for",
        ),
        ("{title: '{product.name}'}", "`treatments` has `{product.name}`, but the offer is over no product"),
    ],
)
def test_a_wrong_placeholder_is_refused_with_its_line(fields: str, sentence: str) -> None:
    text = f"offers:\n  - {{offer_id: it, kind: loyalty, {VALID}, treatments: {{web: {fields}}}}}\n"
    with pytest.raises(FileProblem) as refused:
        read_offers("offers.yaml", text.encode())
    assert f"offers.yaml:2: {sentence}" in str(refused.value)


def test_a_text_without_braces_is_what_it_was() -> None:
    assert problem_of("100 % <off>") is None
    assert texts("web", title="100 % <off>")["title"] == "100 % <off>"
