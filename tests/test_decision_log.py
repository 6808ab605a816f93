"""What was decided is found again, whoever wrote it, and however the writer ended."""

import errno
import os
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial

import pytest

from serving import decision_index, packing
from serving.decision_log import DecisionLog
from serving.log_lines import records

NOW = 1_790_000_000.0


@pytest.fixture
def log(tmp_path):
    opened = DecisionLog(tmp_path)
    yield opened
    opened.close()


def write(log, now=NOW, profile=None, **content):
    with log.slot(now, profile) as slot:
        record = {"decision_id": slot.decision_id, "facts": {"now": now, "profile_at": slot.profile_at}, **content}
        slot.write(record)
    return slot.decision_id


def test_a_decision_is_found_by_its_id(log):
    ids = [write(log, number=number) for number in range(5)]
    assert [log.find(decision_id)["number"] for decision_id in ids] == [0, 1, 2, 3, 4]


def test_another_worker_finds_it_too(log, tmp_path):
    decision_id = write(log)
    other = DecisionLog(tmp_path)
    assert other.find(decision_id)["decision_id"] == decision_id
    other.close()


@pytest.mark.parametrize("bad", ["", "x", "../../etc/passwd", "20260921-00000000-0-00000000", "9" * 10_000])
def test_an_id_nobody_gave_is_found_nowhere(log, bad):
    write(log)
    assert log.find(bad) is None


def test_an_id_with_another_ending_is_not_taken_for_the_record(log):
    decision_id = write(log)
    assert log.find(decision_id[:-1] + ("0" if decision_id[-1] != "0" else "1")) is None


def test_a_profile_is_written_once_and_belongs_to_each_record_that_saw_it(log, tmp_path):
    for seq in (1, 1, 2):
        write(log, profile=("7", seq, partial(dict, state={"seq": seq})))
    found = list(records(tmp_path))
    assert [record["profile"]["state"]["seq"] for record in found] == [1, 1, 2]
    lines = next(tmp_path.glob("*/*.ndjson")).read_bytes().splitlines()
    assert len(lines) == 5


def test_days_lie_apart_and_since_looks_at_the_moment(log, tmp_path):
    write(log, NOW)
    later = write(log, NOW + 86_400)
    assert len(list(tmp_path.glob("*"))) == 2
    assert [record["decision_id"] for record in records(tmp_path, NOW + 1)] == [later]


def test_threads_write_whole_lines(log, tmp_path):
    threads = [threading.Thread(target=lambda: [write(log, text="x" * 500) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = list(records(tmp_path))
    assert len(found) == 200
    assert all(log.find(record["decision_id"]) for record in found)


def test_a_last_line_cut_short_is_passed_over(log, tmp_path):
    kept = write(log)
    path = next(tmp_path.glob("*/*.ndjson"))
    with path.open("ab") as file:
        file.write(b'{"decision_id": "half')
    assert [record["decision_id"] for record in records(tmp_path)] == [kept]


def test_a_packed_file_gives_the_same_lines_at_the_same_places(log, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.packing.BLOCK_BYTES", 2_000)
    ids = [
        write(log, profile=("7", seq // 3, partial(dict, state={"seq": seq})), text="x" * 37 * seq) for seq in range(40)
    ]
    (path,) = packing.files(tmp_path)
    plain, before = path.read_bytes(), list(records(tmp_path))
    packing.pack(path)
    assert list(tmp_path.glob("*/*.ndjson*")) == [path.with_name(path.name + ".packed")]
    assert [path] == list(packing.files(tmp_path))
    assert list(records(tmp_path)) == before
    assert [log.find(decision_id)["text"] for decision_id in ids] == [record["text"] for record in before]
    assert log.find(ids[3][:-1] + ("0" if ids[3][-1] != "0" else "1")) is None
    assert packing.line_at(path, len(plain)) == b""
    packing.unpack(path)
    assert path.read_bytes() == plain
    assert list(tmp_path.glob("*/*.ndjson*")) == [path]


def test_what_is_past_is_packed_and_small_and_what_may_still_be_written_is_not(log, tmp_path):
    ids = [write(log, NOW - days * 86_400, text="the same words again " * 500) for days in (3, 2, 1, 0)]
    sizes = sum(path.stat().st_size for path in packing.files(tmp_path))
    assert [path.parent.name for path in packing.pack_past(tmp_path, NOW)] == ["2026-09-18", "2026-09-19"]
    assert packing.pack_past(tmp_path, NOW) == []
    packed = list(tmp_path.glob("*/*.packed"))
    assert [path.parent.name for path in sorted(packed)] == ["2026-09-18", "2026-09-19"]
    assert sum(path.stat().st_size for path in packed) < sizes / 20
    assert all(path.stat().st_mode & 0o077 == 0 for path in packed)
    assert [log.find(decision_id) is not None for decision_id in ids] == [True] * 4
    assert len(list(records(tmp_path))) == 4


def test_only_the_packed_files_that_hold_somebody_are_made_plain_to_erase_them(log, tmp_path):
    for days, name in ((5, "anna"), (4, "ben"), (3, "anna")):
        write(log, NOW - days * 86_400, text=name)
    packing.pack_past(tmp_path, NOW)
    plain = packing.unpack_where(tmp_path, lambda lines: b"anna" in lines)
    assert [path.parent.name for path in plain] == ["2026-09-16", "2026-09-18"]
    assert sorted(path.name.endswith(".packed") for path in tmp_path.glob("*/*.ndjson*")) == [False, False, True]


def test_a_packing_that_was_killed_leaves_the_plain_file(log, tmp_path):
    decision_id = write(log, NOW - 5 * 86_400)
    (path,) = packing.files(tmp_path)
    path.with_name(f".{path.name}.123").write_bytes(b"half")
    assert [record["decision_id"] for record in records(tmp_path)] == [decision_id]


def test_of_a_decision_that_fails_nothing_is_written_and_its_profile_comes_with_the_next(log, tmp_path):
    with suppress(ZeroDivisionError), log.slot(NOW, ("7", 1, partial(dict, state={"seq": 1}))) as slot:
        slot.write({"decision_id": slot.decision_id, "answer": 1 // 0})
    assert [path.read_bytes() for path in tmp_path.glob("*/*.ndjson")] == [b""]
    decision_id = write(log, profile=("7", 1, partial(dict, state={"seq": 1})))
    (record,) = records(tmp_path)
    assert (record["decision_id"], record["profile"]) == (decision_id, {"state": {"seq": 1}})


def test_what_was_written_survives_kill_9(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from serving.decision_log import DecisionLog\n"
        "log = DecisionLog(Path(sys.argv[1]))\n"
        "for number in range(50):\n"
        "    with log.slot(1_790_000_000.0, None) as slot:\n"
        "        facts = {'now': 1_790_000_000.0, 'profile_at': None}\n"
        "        slot.write({'decision_id': slot.decision_id, 'facts': facts})\n"
        "    print(slot.decision_id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=os.environ, check=False
    )
    acknowledged = done.stdout.split()
    assert done.returncode == -9
    assert len(acknowledged) == 50
    assert [record["decision_id"] for record in records(tmp_path)] == acknowledged


ON_A_SMALL_DISK = """
import resource, signal, sys
from contextlib import suppress
from pathlib import Path
from serving.decision_log import DecisionLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = DecisionLog(Path(sys.argv[1]))

def write():
    with log.slot(1_790_000_000.0, None) as slot:
        facts = {"now": 1_790_000_000.0, "profile_at": None}
        slot.write({"decision_id": slot.decision_id, "facts": facts, "text": "x" * 200})
        slot.note("u", {"decision_id": slot.decision_id})
    print(slot.decision_id, flush=True)

def room(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

write()
for part in (100, 1, 300):
    room(log._size + part)
    try:
        write()
    except OSError as error:
        print(error.errno, file=sys.stderr)
    else:
        print("acknowledged", file=sys.stderr)
    room(resource.RLIM_INFINITY)
    write()
log.close()
"""


def test_what_comes_after_a_disk_was_full_is_found(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ON_A_SMALL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    acknowledged = done.stdout.split()
    assert (len(acknowledged), done.stderr.split()) == (4, [str(errno.EFBIG)] * 3)
    assert [record["decision_id"] for record in records(tmp_path)] == acknowledged
    reader = DecisionLog(tmp_path)
    assert all(reader.find(decision_id) for decision_id in acknowledged)
    reader.close()


class Disk:
    """Stands in for the system's `write` and `ftruncate`: takes so many bytes yet, then is full, or fails at all."""

    def __init__(self, monkeypatch):
        self._write, self._truncate = os.write, os.ftruncate
        self.room, self.truncates = sys.maxsize, True
        monkeypatch.setattr("serving.appending.os.write", self.write)
        monkeypatch.setattr("serving.appending.os.ftruncate", self.truncate)

    def write(self, file, data):
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self._write(file, data[: self.room])
        self.room -= written
        return written

    def truncate(self, file, size):
        if not self.truncates:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._truncate(file, size)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


SEEN = ("7", 1, partial(dict, state={"seq": 1}))


def briefed(log, customer_id="u", profile=SEEN):
    with log.slot(NOW, profile) as slot:
        slot.write({"decision_id": slot.decision_id, "facts": {"now": NOW, "profile_at": slot.profile_at}})
        slot.note(customer_id, {"decision_id": slot.decision_id})
    return slot.decision_id


@pytest.mark.parametrize("truncates", [True, False])
def test_wherever_a_disk_gets_full_the_decision_fails_and_no_other(tmp_path, disk, truncates):
    first = DecisionLog(tmp_path / "0")
    briefed(first)
    whole = sum(path.stat().st_size for path in (tmp_path / "0").glob("*/*"))
    first.close()
    for room in range(0, whole, 7):
        folder = tmp_path / f"at-{room}"
        log = DecisionLog(folder)
        kept = [briefed(log, "v", None)]
        disk.room, disk.truncates = room, truncates
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC if truncates else errno.EIO)):
            briefed(log)
        disk.room, disk.truncates = sys.maxsize, True
        kept += [briefed(log) for _ in range(3)]
        assert [log.find(decision_id)["decision_id"] for decision_id in kept] == kept
        read = [record["decision_id"] for record in records(folder)]
        assert set(kept) <= set(read)
        assert truncates is False or read == kept
        found = [each["decision_id"] for each in decision_index.latest(folder, ["u"], 9)]
        assert sorted(found) == sorted(kept[1:])
        log.close()


def test_a_day_that_cannot_begin_is_begun_with_the_next_decision(log, tmp_path, monkeypatch):
    kept, opened = [write(log)], os.open

    def full(path, *more):
        if str(path).endswith(".index"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, *more)

    monkeypatch.setattr("serving.decision_log.os.open", full)
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            write(log, NOW + 86_400)
    monkeypatch.undo()
    kept += [write(log, NOW + 86_400) for _ in range(2)]
    assert [record["decision_id"] for record in records(tmp_path)] == kept


def test_what_the_disk_would_not_take_for_a_moment_is_asked_of_it_again(tmp_path):
    asked = threading.Semaphore(0)
    answers = [OSError(errno.EIO, "the disk is away"), OSError(errno.ENOSPC, "the disk is full"), None]

    def to_disk(file):
        asked.release()
        if answers and (error := answers.pop(0)) is not None:
            raise error

    log = DecisionLog(tmp_path, to_disk)
    try:
        first = write(log)
        assert all(asked.acquire(timeout=10) for _ in range(3)) and not answers
        second = write(log)
        assert asked.acquire(timeout=10), "what comes later is no longer brought to the disk"
        assert log.find(first) and log.find(second)
    finally:
        log.close()
