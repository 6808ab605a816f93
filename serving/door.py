"""The door that decisions pass and an erasure closes for a moment, over all processes of a workspace.

Between reading a profile and writing the record a decision is `inside`, with any number of others. Whoever
erases waits in `closed` until nobody is, and nobody enters meanwhile: what was decided from the old profile is
in the log by then, and what is decided later sees no such profile. Locks of the operating system (flock), which
end with their process however it ends. Order of locks: first the door, then the database.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Door:
    """One process's way through. Two files: whoever waits to close holds the gate, so that nobody can overtake."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._files: tuple[int, int] | None = None
        self._entering, self._counting = threading.Lock(), threading.Lock()
        self._inside = 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        """For one decision; not to be entered twice by the same one."""
        with self._entering:
            if self._files is None:
                self._files = _opened(self._folder)
            gate, room = self._files
            fcntl.flock(gate, fcntl.LOCK_SH)
            with self._counting:
                if not self._inside:
                    fcntl.flock(room, fcntl.LOCK_SH)
                self._inside += 1
            fcntl.flock(gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            with self._counting:
                self._inside -= 1
                if not self._inside:
                    fcntl.flock(room, fcntl.LOCK_UN)

    def close(self) -> None:
        for file in self._files or ():
            os.close(file)
        self._files = None


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """While nobody is inside, in this process or another."""
    gate, room = _opened(folder)
    try:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX)
        yield
    finally:
        os.close(room)
        os.close(gate)


def _opened(folder: Path) -> tuple[int, int]:
    folder.mkdir(parents=True, exist_ok=True)
    gate, room = (os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for name in (".gate", ".room"))
    return gate, room
