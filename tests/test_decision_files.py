"""A customer's lines are blanked in place: nothing of them is left, and every other line is found as before."""

from __future__ import annotations

import string
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
from hypothesis import given
from hypothesis import strategies as st

from serving import decision_files, decision_index
from serving.decision_log import DecisionLog
from serving.log_lines import records

NOW = 1_790_000_000.0
ids = st.text(alphabet=string.ascii_letters + '":{}é\\ ', min_size=1, max_size=6)


def write(log: DecisionLog, customer_id: str, seq: int | None = None) -> str:
    profile = None if seq is None else (customer_id, seq, lambda: {"state": {"secret": f"of {customer_id}"}})
    with log.slot(NOW, profile) as slot:
        facts = {"now": NOW, "profile_at": slot.profile_at, "customer_id": customer_id}
        record = {"decision_id": slot.decision_id, "facts": facts, "answer": {"customer_id": customer_id}}
        slot.write(record)
        slot.note(customer_id, {"decision_id": slot.decision_id})
    return slot.decision_id


@given(st.lists(st.tuples(ids, st.one_of(st.none(), st.integers(1, 3))), min_size=1, max_size=20), st.data())
def test_only_the_customers_lines_change_and_no_line_moves(asked: list[tuple[str, int | None]], data) -> None:
    gone = data.draw(st.sampled_from([customer_id for customer_id, _ in asked]))
    with TemporaryDirectory() as folder:
        log = DecisionLog(Path(folder))
        made = [(write(log, customer_id, seq), customer_id) for customer_id, seq in asked]
        before = {decision_id: log.line(decision_id) for decision_id, _ in made}
        count, _ = decision_files.blank(decision_files.sizes(Path(folder)), [gone])
        assert count == sum(customer_id == gone for _, customer_id in made)
        for decision_id, customer_id in made:
            erased = {"decision_id": decision_id, "erased": True}
            assert log.line(decision_id) == (erased if customer_id == gone else before[decision_id])
            assert (log.find(decision_id) is None) is (customer_id == gone)
        seen = Counter[str]()
        left = list(records(Path(folder), on_erased=lambda: seen.update(["erased"])))
        assert [each["decision_id"] for each in left] == [each for each, customer_id in made if customer_id != gone]
        assert seen["erased"] == count
        left_in_files = b"".join(path.read_bytes() for path in Path(folder).glob("*/*.ndjson"))
        assert b'"customer_id":' + orjson.dumps(gone) not in left_in_files
        assert list(decision_index.latest(Path(folder), [gone], 5)) == []
        assert decision_files.blank(decision_files.sizes(Path(folder)), [gone]) == (0, 0)
        log.close()


def test_a_line_blanked_halfway_is_completed(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    decision_id = write(log, "her", 1)
    kept = write(log, "him", 2)
    path = next(tmp_path.glob("*/*.ndjson"))
    content = path.read_bytes()
    at = content.index(b'{"decision_id"')
    head = b'{"erased":true,"decision_id":"%s"}' % decision_id.encode()
    path.write_bytes(content[:at] + head + b"  " + content[at + len(head) + 2 :])
    assert log.line(decision_id) == {"decision_id": decision_id, "erased": True}
    decision_files.blank(decision_files.sizes(tmp_path), ["her"])
    assert b"her" not in path.read_bytes()
    assert len(path.read_bytes()) == len(content)
    assert log.find(kept) is not None
    log.close()


def test_a_last_line_cut_short_by_a_crash_is_blanked_too(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    write(log, "her", 1)
    log.close()
    path = next(tmp_path.glob("*/*.ndjson"))
    path.write_bytes(path.read_bytes()[:-9])
    decision_files.blank(decision_files.sizes(tmp_path), ["her"])
    assert b"her" not in path.read_bytes()
    assert list(records(tmp_path)) == []
