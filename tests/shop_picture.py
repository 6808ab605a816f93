"""The README's picture of the shop, put together from what tests/test_shop.py has photographed.

python -m pytest -q tests/test_shop.py -k one_customer && python tests/shop_picture.py
"""

from __future__ import annotations

import base64
from pathlib import Path

from client_programs import browser
from PIL import Image

PROJECT = Path(__file__).resolve().parent.parent
TAKEN, PICTURE = PROJECT / "test-output/shop", PROJECT / "docs/pictures/shop.png"
PAGE = """<!doctype html><style>
body {{ margin: 0; background: #dfe9e3; height: 980px; position: relative; overflow: hidden }}
img {{ position: absolute; display: block; border-radius: 14px; box-shadow: 0 6px 16px rgb(20 40 30 / 22%) }}
.laptop {{ width: 1240px; left: 36px; top: 48px }}
.phone {{ width: 330px; right: 36px; top: 200px; border: 9px solid #17211f; border-radius: 34px }}
</style>
<img class="laptop" src="{laptop}"><img class="phone" src="{phone}">"""


def address_of(name: str) -> str:
    return "data:image/png;base64," + base64.b64encode((TAKEN / f"{name}.png").read_bytes()).decode()


def main() -> None:
    PICTURE.parent.mkdir(exist_ok=True)
    with browser() as chromium:
        tab = chromium.new_page(viewport={"width": 1600, "height": 980})
        tab.set_content(PAGE.format(laptop=address_of("6-email-after"), phone=address_of("7-return")))
        tab.screenshot(path=str(PICTURE))
    with Image.open(PICTURE) as whole:
        plain = whole.convert("RGB")
    plain.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
