"""Appending to a file whole or not at all: what a full disk takes only a part of is cut off again.

Else the next line would go on where the torn one ends, and what lies behind it would not be where its place says.
What is written, and what follows where it cannot even be cut off, is the caller's business.
"""

from __future__ import annotations

import os
from contextlib import suppress


def append(file: int, data: bytes, size: int) -> None:
    """Write `data` at the end of a file that only we append to and that is `size` bytes long. OSError: it is not there.

    `Torn` where the file could not be cut back to its size, so that a part of it may be.
    """
    try:
        written = 0
        while written < len(data):
            written += os.write(file, data[written:] if written else data)
    except BaseException:
        cut_back(file, size)
        raise


def cut_back(file: int, size: int) -> None:
    """Take off what was appended since the file was that long; `Torn` where that cannot be."""
    try:
        os.ftruncate(file, size)
    except OSError as error:
        raise Torn(error.errno, error.strerror) from error


def let_go(*files: int) -> None:
    """Close what is open of them; there may be nothing left to be said to a disk that is full."""
    for file in files:
        if file >= 0:
            with suppress(OSError):
                os.close(file)


class Torn(OSError):
    """A file that ends in a part of what was to be appended: nothing may be appended to it any more."""
