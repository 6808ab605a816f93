"""Entries as columns: what is packed comes back, the same bytes for the same entries, whoever changed them how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import columns
from features.entries import KEEP_S, LAST, RETURNED, TRIPS

NOW = 1_790_000_000.0
keys = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable())
times = st.floats(NOW - KEEP_S / 2, NOW)
entries = st.tuples(
    times, times, st.integers(0, 99), st.floats(0.0, 99.0), st.floats(0.0, 1e6), keys, times, keys, keys
).map(list)
items = st.dictionaries(keys, entries, max_size=12)


@given(items)
def test_what_is_packed_comes_back(given_: dict[str, list[object]]) -> None:
    found = columns.unpack(columns.pack(given_, NOW))
    assert dict(found) == given_
    assert len(found) == len(given_)
    assert all(key in found for key in given_)
    assert "no such key" not in found


@given(items, items)
def test_entries_put_back_one_by_one_give_the_bytes_of_all_at_once(
    before: dict[str, list[object]], later: dict[str, list[object]]
) -> None:
    found = columns.unpack(columns.pack(before, NOW))
    for key, entry in later.items():
        found[key] = entry
    assert columns.pack(found, NOW) == columns.pack(before | later, NOW)


def test_an_entry_that_is_got_is_a_copy_until_it_is_put_back() -> None:
    found = columns.unpack(columns.pack({"p:a": [NOW, NOW, 1, 1.0, 2.0, "m", 0.0, "", ""]}, NOW))
    found["p:a"][TRIPS] = 7
    assert found["p:a"][TRIPS] == 1
    entry = found["p:a"]
    entry[TRIPS] = 7
    found["p:a"] = entry
    assert found["p:a"][TRIPS] == 7


@pytest.mark.parametrize(("idle_s", "left"), [(KEEP_S, 1), (KEEP_S + 1.0, 0)])
def test_what_is_idle_for_more_than_730_days_is_left_out(idle_s: float, left: int) -> None:
    for position in (LAST, RETURNED):
        entry = [0.0, 0.0, 1, 1.0, 2.0, "m", 0.0, "", ""]
        entry[position] = NOW
        assert len(columns.unpack(columns.pack({"p:a": entry}, NOW + idle_s))) == left


@pytest.mark.parametrize("data", [b"", b"{}", b'{"p:a":[1,2]}', b"\x00" * 16, columns.NO_ENTRIES[:-5]])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"packed entries of"):
        columns.unpack(data)


@given(st.lists(st.text(st.sampled_from('a],["\\é'), max_size=4), min_size=1, max_size=6))
def test_the_id_of_an_entry_is_its_own_whatever_the_others_are(ids: list[str]) -> None:
    given_ = {f"p:{number}": [NOW, NOW, 1, 1.0, 2.0, id_, 0.0, "", ""] for number, id_ in enumerate(ids)}
    assert dict(columns.unpack(columns.pack(given_, NOW))) == given_
