"""The catalog: what its files may hold, what is said of what they may not, and what it answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.catalog import Catalog, CatalogProblem, load_catalog, offers_schema, read_catalog, schemas
from features.sentences import FileProblem
from features.vocabulary import CHANNELS, OFFER_KINDS, PLACEMENTS, Budget, Offer, Product, Value
from features.workspace import PROJECT, Workspace

PRODUCTS = """product_id,name,category,department,price,margin,replenishable,parent_id
table,Table,tables,furniture,899.00,310.00,,
chair,Chair,chairs,furniture,149.00,,false,
shoe-41,"Shoe, size 41",shoes,outdoor,129.00,54.00,,shoe
shoe-42,"Shoe, size 42",shoes,outdoor,129.00,54.00,,shoe
007,Beans,coffee,pantry,21.90,8.40,true,
"""
LOCATIONS = """location_id,kind,name,market,latitude,longitude,timezone
online,online,Web shop,,,,
oslo,shop,Oslo,no,59.91,10.75,Europe/Oslo
"""
RFC_3339 = "expected RFC 3339 such as `2026-11-20T10:00:00Z`, or a date for 00:00 UTC of it"
VALID = "valid_from: 2020-01-01, valid_until: 2099-12-31"


def write(
    workspace: Workspace, offers: str = "offers: []", products: str = PRODUCTS, locations: str = LOCATIONS
) -> None:
    (workspace.home / "offers.yaml").write_text(offers)
    (workspace.home / "products.csv").write_text(products)
    (workspace.home / "locations.csv").write_text(locations)


def offer_of(workspace: Workspace, fields: str) -> Offer:
    """The one offer that these fields, in flow style, make."""
    write(workspace, f"offers:\n  - {{offer_id: it, {fields}}}\n")
    return load_catalog(workspace).offers["it"]


def problems_of(workspace: Workspace) -> list[str]:
    with pytest.raises(CatalogProblem) as caught:
        load_catalog(workspace)
    return str(caught.value).splitlines()


# ----------------------------------------------------------------------------------------- what it answers


def test_the_shipped_example_is_in_force_where_the_workspace_has_nothing(workspace: Workspace) -> None:
    catalog = load_catalog(workspace)
    assert {offer.kind for offer in catalog.offers.values()} == set(OFFER_KINDS)
    assert catalog.warnings == ()
    assert catalog.locations["online"].kind == "online"


def test_the_workspaces_own_files_win_one_by_one(workspace: Workspace) -> None:
    (workspace.home / "offers.yaml").write_text(f"- {{offer_id: mine, kind: loyalty, {VALID}}}")
    catalog = load_catalog(workspace)
    assert list(catalog.offers) == ["mine"]
    assert "table-oak-180" in catalog.products


def test_parquet_wins_over_csv_and_says_the_same(workspace: Workspace) -> None:
    write(workspace)
    from_csv = load_catalog(workspace)
    columns: dict[str, Any] = {
        name: [getattr(product, name) for product in from_csv.products.values()]
        for name in ("product_id", "name", "category", "department", "price", "margin", "replenishable", "parent_id")
    }
    pq.write_table(pa.table(columns), workspace.home / "products.parquet")
    (workspace.home / "products.csv").write_text("not, looked, at")
    from_parquet = load_catalog(workspace)
    assert dict(from_parquet.products) == dict(from_csv.products)
    assert from_parquet.version != from_csv.version


def test_ids_that_are_numbers_in_parquet_are_texts_for_us(workspace: Workspace) -> None:
    write(workspace)
    columns = {"product_id": [12, 13], "name": ["a", "b"], "category": ["c", None], "price": [1, 2]}
    pq.write_table(pa.table(columns), workspace.home / "products.parquet")
    assert dict(load_catalog(workspace).products) == {
        "12": Product("12", "a", category="c", price=1.0),
        "13": Product("13", "b", price=2.0),
    }


def test_an_offer_has_all_fields_of_the_contract(workspace: Workspace) -> None:
    write(
        workspace,
        """
offers:
  - offer_id: 12
    kind: promotion
    group: spring
    product_ids: [007, table, 007]
    channels: [web, email]
    placements: [home, newsletter]
    markets: [no]
    valid_from: "2026-01-01T00:00:00+01:00"
    valid_until: 2026-02-01T00:00:00Z
    eligibility: {field: orders, operator: ">=", value: 2}
    exclusive_group: voucher
    value: {margin: 3, cost: 0.02, discount: 1.50}
    lever: 1.5
    budget: {total: 100, daily: 10}
    fallback: [home]
    treatments:
      web: {title: Hello, body: "5", image_url: /i.png, url: /p}
""",
    )
    catalog = load_catalog(workspace)
    assert catalog.warnings == ()
    assert catalog.offers["12"] == Offer(
        offer_id="12",
        kind="promotion",
        group="spring",
        product_ids=("007", "table"),
        channels=("web", "email"),
        placements=("home", "newsletter"),
        markets=("no",),
        valid_from=1767222000.0,
        valid_until=1769904000.0,
        eligibility={"field": "orders", "operator": ">=", "value": 2},
        exclusive_group="voucher",
        value=Value(3.0, 0.02, 1.5),
        lever=1.5,
        budget=Budget(100, 10),
        fallback=frozenset({"home"}),
        treatments={"web": {"title": "Hello", "body": "5", "image_url": "/i.png", "url": "/p"}},
    )


def test_what_an_offer_does_not_say_is_all_or_nothing(workspace: Workspace) -> None:
    offer = offer_of(workspace, f"kind: loyalty, {VALID}")
    assert (offer.channels, offer.placements, offer.markets, offer.product_ids) == ((), (), (), ())
    assert (offer.lever, offer.value, offer.treatments) == (1.0, Value(), {})
    assert offer_of(workspace, f"kind: loyalty, {VALID}, channels: , treatments: , value: ") == offer


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("2026-11-20", 1795132800.0),
        ('"2026-11-20"', 1795132800.0),
        ("2026-11-20T10:00:00Z", 1795168800.0),
        ('"2026-11-20T10:00:00.250Z"', 1795168800.25),
        ("2026-11-20 12:00:00+02:00", 1795168800.0),
    ],
)
def test_times_may_be_quoted_or_not(workspace: Workspace, written: str, at: float) -> None:
    assert offer_of(workspace, f"kind: loyalty, valid_from: {written}, valid_until: 2099-12-31").valid_from == at


def test_products_and_offers_find_each_other(workspace: Workspace) -> None:
    write(
        workspace,
        f"""
- {{offer_id: z-shoes, kind: cross_sell, category: shoes, {VALID}}}
- {{offer_id: a-mixed, kind: promotion, product_ids: [shoe-42, table, gone], {VALID}}}
- {{offer_id: m-club, kind: loyalty, {VALID}}}
""",
    )
    catalog = load_catalog(workspace)
    assert list(catalog.offers) == ["a-mixed", "m-club", "z-shoes"]
    assert [offer.offer_id for offer in catalog.candidates("web", "home")] == ["a-mixed", "m-club", "z-shoes"]
    assert catalog.offers_of("shoe-42") == ("a-mixed", "z-shoes")
    assert catalog.offers_of("chair") == ()
    assert catalog.products_of(catalog.offers["z-shoes"]) == ("shoe-41", "shoe-42")
    assert catalog.products_of(catalog.offers["a-mixed"]) == ("shoe-42", "table", "gone")
    assert catalog.products_of(catalog.offers["m-club"]) == ()
    assert catalog.sizes_of("shoe") == ("shoe-41", "shoe-42")
    assert catalog.sizes_of("") == ()
    assert catalog.products_in("tables") == ("table",)


def test_the_version_is_of_the_bytes(workspace: Workspace) -> None:
    write(workspace)
    first = load_catalog(workspace)
    assert load_catalog(workspace).version == first.version
    (workspace.home / "locations.csv").write_text(LOCATIONS + "bergen,shop,Bergen,no,60.39,5.32,Europe/Oslo\n")
    assert load_catalog(workspace).version != first.version
    assert first.contents["locations.csv"] == LOCATIONS.encode()


def test_empty_files_make_an_empty_catalog(workspace: Workspace) -> None:
    for offers in ("", "offers:\n", "[]", "# nothing yet\n"):
        write(workspace, offers, PRODUCTS.splitlines()[0], LOCATIONS.splitlines()[0])
        if offers in ("", "# nothing yet\n"):
            assert problems_of(workspace) == ["offers.yaml:1: field `offers` is missing"]
            continue
        catalog = load_catalog(workspace)
        assert (dict(catalog.offers), dict(catalog.products), dict(catalog.locations)) == ({}, {}, {})
    assert Catalog().candidates("web", "home") == ()


# ------------------------------------------------------------------------------------ what is wrong in offers


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ("knd: promotion", "unknown field `knd`; did you mean `kind`?"),
        ("vaild_until: 2099-01-01", "unknown field `vaild_until`; did you mean `valid_until`?"),
        ("value: {margn: 2}", "unknown field `margn`; did you mean `margin`?"),
        ("value: {zzz: 2}", "unknown field `zzz`; expected one of `margin`, `cost`, `discount`"),
        ("treatments: {web: {titel: Hi}}", "unknown field `titel`; did you mean `title`?"),
        ("treatments: {webb: {title: Hi}}", "unknown value `webb` for `treatments`; did you mean `web`?"),
        ("treatments: {web: Hi}", "`web` is `Hi`; expected fields with values"),
        ("treatments: {web: {title: 5.5}}", "`title` is `5.5`; expected text, so put it in quotes"),
        (
            "channels: [web, fax]",
            "unknown value `fax` for `channels`; "
            "expected one of `web`, `app`, `email`, `sms`, `push`, `call_centre`, `store`",
        ),
        ("channels: [web, e-mail]", "unknown value `e-mail` for `channels`; did you mean `email`?"),
        ("channels: web", "`channels` is `web`; expected a list"),
        ("placements: [hom]", "unknown value `hom` for `placements`; did you mean `home`?"),
        (
            "placements: [3]",
            "`placements` holds `3`; expected one of `home`, `product`, `cart`, `newsletter`, `message`, `agent`",
        ),
        ("product_ids: [1, 2.5]", "`product_ids` holds `2.5`; expected text, so put it in quotes"),
        ("product_ids: [table], category: tables", "`category` is given beside `product_ids`; expected one of the two"),
        ("lever: fast", "`lever` is `fast`; expected a number"),
        ("lever: .nan", "`lever` is `.nan`; expected a number"),
        ("lever: -0.5", "`lever` is `-0.5`; expected 0 or more"),
        ("value: {margin: -1}", "`margin` is `-1`; expected 0 or more"),
        ("value: {discount: [1]}", "`discount` is a list; expected a number"),
        ("group: ''", "`group` is ``; expected 1 or more characters"),
        ("group: a, group: b", "field `group` is given twice; first in line 2"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(workspace: Workspace, fields: str, sentence: str) -> None:
    kind = "" if fields.startswith("knd") else "kind: loyalty, "
    write(workspace, f"offers:\n  - {{offer_id: it, {kind}{VALID}, {fields}}}\n")
    problems = problems_of(workspace)
    assert f"offers.yaml:2: {sentence}" in problems
    assert len(problems) == (1 if kind else 2)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (
            "2026-13-01",
            f"`valid_until` is `2026-13-01`; {RFC_3339}",
        ),
        (
            "2026-11-20T10:00:00",
            f"`valid_until` is `2026-11-20T10:00:00`; {RFC_3339}",
        ),
        (
            "20261120",
            f"`valid_until` is `20261120`; {RFC_3339}",
        ),
        (
            "2025-12-31",
            "`valid_until` is `2025-12-31T00:00:00Z`, before `valid_from` (`2026-01-01T00:00:00Z`); "
            "expected a later time",
        ),
    ],
)
def test_a_wrong_time_is_named(workspace: Workspace, written: str, sentence: str) -> None:
    write(workspace, f"- {{offer_id: it, kind: loyalty, valid_from: 2026-01-01, valid_until: {written}}}")
    assert problems_of(workspace) == [f"offers.yaml:1: {sentence}"]


def test_every_problem_of_every_file_is_told_with_its_line(workspace: Workspace) -> None:
    write(
        workspace,
        """# two offers
offers:
  - offer_id: first
    kind: promotoin
    valid_from: 2026-01-01
    vaild_until: 2026-02-01
  - kind: loyalty
    valid_from: 2026-01-01
    valid_until: 2026-02-01
    product_ids:
      - table
      - [chair]
""",
        PRODUCTS + "table,Table,tables,furniture,12,-1,maybe,\n",
        LOCATIONS + "rome,kiosk,Rome,it,95,12,Europe/Rom\n",
    )
    assert problems_of(workspace) == [
        "locations.csv:4: unknown value `kiosk` for `kind`; expected one of `shop`, `warehouse`, `online`",
        "locations.csv:4: `latitude` is `95`; expected 90 or less",
        "locations.csv:4: `timezone` is `Europe/Rom`, which is no time zone; did you mean `Europe/Rome`?",
        "offers.yaml:3: field `valid_until` is missing",
        "offers.yaml:4: unknown value `promotoin` for `kind`; did you mean `promotion`?",
        "offers.yaml:6: unknown field `vaild_until`; did you mean `valid_until`?",
        "offers.yaml:7: field `offer_id` is missing",
        "offers.yaml:12: `product_ids` holds a list; expected text",
        "products.csv:7: `margin` is `-1`; expected 0 or more",
        "products.csv:7: `replenishable` is `maybe`; expected true or false",
        "products.csv:7: product `table` is given twice; first in line 2",
    ]


def test_a_problem_names_file_line_and_field(workspace: Workspace) -> None:
    write(workspace, f"offers:\n- {{offer_id: it, {VALID},\n   kind: x}}")
    with pytest.raises(CatalogProblem) as caught:
        load_catalog(workspace)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.field) == ("offers.yaml", 3, "offers[0].kind")
    assert isinstance(caught.value, FileProblem)


def test_an_offer_given_twice_is_refused(workspace: Workspace) -> None:
    one = f"- {{offer_id: it, kind: loyalty, {VALID}}}\n"
    write(workspace, one + one)
    assert problems_of(workspace) == ["offers.yaml:2: offer `it` is given twice; first in line 1"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"offers:\n  - {offer_id: it\n", "offers.yaml:3: is no YAML: did not find expected ',' or '}'"),
        (b"offers:\n\t- x\n", "offers.yaml:2: is no YAML: found character that cannot start any token"),
        (b"offers: []\n---\noffers: []\n", "offers.yaml:2: is no YAML: but found another document"),
        (b"offers: []\n# caf\xe9\n", "offers.yaml:2: text is not UTF-8; save the file as UTF-8"),
        (b"ofers: []\n", "offers.yaml:1: unknown field `ofers`; did you mean `offers`?"),
        (b"just text\n", "offers.yaml:1: `the file` is `just text`; expected fields with values"),
        (b"offers: &all\n- *all\n", "offers.yaml: is nested too deeply; no field needs that"),
        (b"[" * 100_000, "offers.yaml: is nested too deeply; no field needs that"),
        (b"- " * 100_000, "offers.yaml: is nested too deeply; no field needs that"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line(workspace: Workspace, content: bytes, sentence: str) -> None:
    write(workspace)
    (workspace.home / "offers.yaml").write_bytes(content)
    assert sentence in problems_of(workspace)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    shipped = PROJECT / "features"
    with pytest.raises(CatalogProblem) as caught:
        read_catalog(tmp_path / "offers.yaml", shipped / "products.csv", shipped / "locations.csv")
    expected = f"offers.yaml: `{tmp_path / 'offers.yaml'}` cannot be read: no such file or directory"
    assert str(caught.value) == expected


def test_the_text_of_many_problems_stays_short(workspace: Workspace) -> None:
    write(workspace, "\n".join(f"- {{offer_id: o{n}, kind: x, {VALID}}}" for n in range(500)))
    problems = problems_of(workspace)
    assert len(problems) == 21
    assert problems[-1] == "… and 480 more"


# ----------------------------------------------------------------------- what is wrong in products and locations


@pytest.mark.parametrize(
    ("products", "sentence"),
    [
        ("", "products.csv:1: column `product_id` is missing"),
        ("product_id,name,prise\n", "products.csv:1: unknown column `prise`; did you mean `price`?"),
        ("product_id,name\n", "products.csv:1: column `price` is missing"),
        ("product_id,name,price,name\n", "products.csv:1: column `name` is given twice"),
        ("product_id,name,price\na,A\n", "products.csv:2: has 2 cells; expected 3 as in line 1"),
        ('product_id,name,price\na,"A\nB",1\nb,B,x\n', "products.csv:4: `price` is `x`; expected a number"),
        ("product_id,name,price\na,,1\n", "products.csv:2: `name` is empty; expected text"),
        ("product_id,name,price\n,A,1\n", "products.csv:2: `product_id` is empty; expected text"),
        ("product_id,name,price\na,A,-1\n", "products.csv:2: `price` is `-1`; expected 0 or more"),
        ("product_id,name,price\na,A,inf\n", "products.csv:2: `price` is `inf`; expected a finite number"),
    ],
)
def test_a_wrong_products_table_is_named_with_its_line(workspace: Workspace, products: str, sentence: str) -> None:
    write(workspace, products=products)
    assert sentence in problems_of(workspace)


def test_what_is_no_parquet_is_said(workspace: Workspace) -> None:
    write(workspace)
    (workspace.home / "products.parquet").write_bytes(b"PAR1 not really PAR1")
    (problem,) = problems_of(workspace)
    assert problem.startswith("products.parquet: is no Parquet: ")


def test_the_row_of_a_parquet_file_is_named(workspace: Workspace) -> None:
    write(workspace)
    columns = {"product_id": ["a", "b"], "name": ["A", None], "price": [1.0, 2.0]}
    pq.write_table(pa.table(columns), workspace.home / "products.parquet")
    assert problems_of(workspace) == ["products.parquet:2: `name` is empty; expected text"]


# --------------------------------------------------------------------------------------------- what is odd


def test_what_is_probably_not_meant_is_a_warning(workspace: Workspace) -> None:
    write(
        workspace,
        f"""
- {{offer_id: gone, kind: promotion, product_ids: [a, table, b, c, d], {VALID}}}
- {{offer_id: none, kind: cross_sell, category: tabels, {VALID}}}
- {{offer_id: far, kind: loyalty, markets: [se], {VALID}}}
- {{offer_id: nowhere, kind: loyalty, channels: [email], placements: [home, agent], {VALID}}}
""",
    )
    assert [str(warning) for warning in load_catalog(workspace).warnings] == [
        "offers.yaml:4: offer `far`: no location in locations.csv is of market `se`; expected one of `no`",
        "offers.yaml:2: offer `gone` is over 4 products that products.csv does not have (`a`, `b`, `c`, …); not shown",
        "offers.yaml:3: offer `none`: no product in products.csv is of category `tabels`; did you mean `tables`?",
        "offers.yaml:5: offer `nowhere` is shown nowhere: none of its `placements` belongs to one of its `channels`",
    ]


# ---------------------------------------------------------------------------------------------- the schema


@pytest.mark.parametrize("name", ["offers", "products", "locations"])
def test_the_published_schemas_are_the_models_own(name: str) -> None:
    published = json.loads((PROJECT / f"docs/{name}.schema.json").read_text())
    assert published == schemas()[name], f"write features.catalog.schemas()[`{name}`] to docs/{name}.schema.json"


def test_the_shipped_example_fits_the_published_schema() -> None:
    import yaml

    document = yaml.load((PROJECT / "features/offers.yaml").read_text(), Loader=yaml.BaseLoader)
    for offer in document["offers"]:  # the base loader makes text of everything
        offer["value"] = {name: float(amount) for name, amount in offer.get("value", {}).items()}
        offer["lever"] = float(offer.get("lever", 1))
        if "eligibility" in offer:
            offer["eligibility"]["value"] = float(offer["eligibility"]["value"])
    jsonschema.validate(document, offers_schema())


def test_the_schema_lists_the_closed_words() -> None:
    entry = offers_schema()["$defs"]["OfferEntry"]["properties"]
    assert entry["kind"]["enum"] == list(OFFER_KINDS)
    assert entry["channels"]["items"]["enum"] == list(CHANNELS)
    assert entry["placements"]["items"]["enum"] == list(PLACEMENTS)


# ------------------------------------------------------------------------------------------------- the time


def test_a_catalog_of_a_large_grocer_loads_in_a_few_seconds(workspace: Workspace) -> None:
    count = 92_000
    ids = [str(1_000_000 + number) for number in range(count)]
    columns = {
        "product_id": ids,
        "name": ids,
        "category": [f"c{n % 300}" for n in range(count)],
        "price": [1.0] * count,
    }
    write(workspace)
    pq.write_table(pa.table(columns), workspace.home / "products.parquet")
    each = [", ".join(ids[start : start + 160]) for start in range(720)]
    lines = (f"- {{offer_id: o{n}, kind: promotion, {VALID}, product_ids: [{of}]}}" for n, of in enumerate(each))
    (workspace.home / "offers.yaml").write_text("\n".join(lines))
    began = time.process_time()
    catalog = load_catalog(workspace)
    took_s = time.process_time() - began
    assert sum(len(catalog.products_of(offer)) for offer in catalog.offers.values()) == 115_200
    assert took_s < 8  # of processor time; about 2 where nothing else runs
