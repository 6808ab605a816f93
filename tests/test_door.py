"""Whoever closes the door waits for those inside, and nobody enters meanwhile, in whichever process they are."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

from serving.door import Door, closed


def test_closing_waits_for_who_is_inside_and_keeps_others_out(tmp_path: Path) -> None:
    door, order = Door(tmp_path), list[str]()

    def close() -> None:
        with closed(tmp_path):
            order.append("closed")
            time.sleep(0.05)
            order.append("open again")

    def enter() -> None:
        with door.inside():
            order.append("inside")

    with door.inside():
        closing = threading.Thread(target=close)
        closing.start()
        time.sleep(0.1)
        entering = threading.Thread(target=enter)
        entering.start()
        time.sleep(0.1)
        assert order == []
    closing.join()
    entering.join()
    door.close()
    assert order == ["closed", "open again", "inside"]


def test_many_are_inside_at_once(tmp_path: Path) -> None:
    doors = [Door(tmp_path), Door(tmp_path)]
    with doors[0].inside(), doors[1].inside():
        pass
    here = threading.Barrier(4, timeout=5)

    def enter() -> None:
        with doors[0].inside():
            here.wait()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not here.broken
    for door in doors:
        door.close()


def test_a_steady_stream_of_decisions_does_not_keep_it_from_being_closed(tmp_path: Path) -> None:
    door, stop = Door(tmp_path), threading.Event()

    def decide() -> None:
        while not stop.is_set():
            with door.inside():
                time.sleep(0.001)

    threads = [threading.Thread(target=decide) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with closed(tmp_path):
            pass
    stop.set()
    for thread in threads:
        thread.join()
    door.close()


def test_who_was_killed_inside_is_not_waited_for(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from serving.door import Door\n"
        "with Door(Path(sys.argv[1])).inside():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    with closed(tmp_path):
        pass
