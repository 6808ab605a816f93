"""What a worker does beside answering: every second it looks for a changed policy, every hour it prunes what is past.

One thread, which no answer waits for. What fails here is told, and tried again the next time.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

LOOK_EVERY_S = 1.0
LOOKS_TO_PRUNE = 3_600


class Caretaker:
    """Calls `look` every second and `prune` at once and every hour, until it is stopped."""

    def __init__(self, look: Callable[[], None], prune: Callable[[], None], every_s: float = LOOK_EVERY_S):
        self._look, self._prune, self._every_s = look, prune, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="caretaker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while True:
            if number % LOOKS_TO_PRUNE == 0:
                _tried(self._prune, "prune")
            number += 1
            if self._stopped.wait(self._every_s):
                return
            _tried(self._look, "look")


def _tried(work: Callable[[], None], name: str) -> None:
    try:
        work()
    except Exception as error:
        sys.stderr.write(f"caretaker: {name} failed ({type(error).__name__}: {error}); tried again later\n")
