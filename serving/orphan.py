"""A worker ends when the server that started it is gone.

BentoML's workers live in sessions of their own: after `kill -9` of the server they would stay, hold its port
and keep the next start from listening there.
"""

from __future__ import annotations

import os
import signal
import threading
import time

END_WITH_PARENT = "ONESTORY_END_WITH_PARENT"
"""Set by the demo for the server that it starts, which otherwise stays when the demo is killed."""
LOOK_EVERY_S = 0.2
END_WITHIN_S = 5.0


def end_with_parent() -> None:
    """Watch, from a thread of its own, that the process that started this one still runs."""
    threading.Thread(target=_watch, args=(os.getppid(),), name="end-with-parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_WITHIN_S)
    os._exit(1)
