"""The files of the decision log, plain or packed: read a line by its place, or all of them; pack what is past.

What was decided two days ago or earlier is packed, a block of lines at a time, which makes it about a seventh. A
line stays where its decision's id says, because an index at the end of a packed file names the places in the plain one.
Nothing is packed while a decision is made.
"""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from features.vocabulary import DAY_S

BLOCK_BYTES = 2**20
PLAIN, PACKED = ".ndjson", ".ndjson.packed"
_LENGTH_BYTES = 8

Block = tuple[int, int, int, int]
"""Where it begins in the plain file and how long it is there; the same in the packed one."""


def files(folder: Path) -> Iterator[Path]:
    """Every file of the log by the name that it has when it is plain, in the order of days and workers."""
    found = {path.with_name(path.name.removesuffix(".packed")) for path in folder.glob(f"*/*{PLAIN}*")}
    return (path for path in sorted(found) if path.name.endswith(PLAIN))


def line_at(path: Path, at: int) -> bytes:
    """The line that begins there in the plain file. FileNotFoundError where there is neither file."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            return file.readline()
    except FileNotFoundError:
        with _packed(path).open("rb") as file:
            blocks = _index(file)
            place = bisect_right(blocks, at, key=lambda block: block[0]) - 1
            if place < 0 or at >= blocks[place][0] + blocks[place][1]:
                return b""
            data = _unpacked(file, blocks[place])
            begin = at - blocks[place][0]
            return data[begin : data.find(b"\n", begin) + 1 or None]


def _raised(at: int, error: Exception) -> None:
    raise error


def lines(path: Path, on_damage: Callable[[int, Exception], None] = _raised) -> Iterator[tuple[int, bytes]]:
    """Every line with its place in the plain file.

    Of an altered packed file `on_damage` hears which blocks cannot be read, by where they begin; the others are.
    """
    for at, data in _blocks(path, on_damage):
        for line in data:
            yield at, line
            at += len(line)


def pack(path: Path) -> None:
    """Replace the plain file by a packed one, which is whole on the disk before the plain one goes."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    blocks: list[Block] = []
    begin = 0
    codec = _codec()
    with path.open("rb") as plain, os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        while data := plain.read(BLOCK_BYTES):
            data += plain.readline()
            packed = codec.compress(data, asbytes=True)
            blocks.append((begin, len(data), out.tell(), len(packed)))
            out.write(packed)
            begin += len(data)
        index = orjson.dumps(blocks)
        out.write(index + len(index).to_bytes(_LENGTH_BYTES, "big"))
        out.flush()
        os.fsync(out.fileno())
    draft.replace(_packed(path))
    path.unlink(missing_ok=True)


def unpack(path: Path) -> None:
    """Make the file plain again, as for changing a line in place."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        for _, line in lines(path):
            out.write(line)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
    _packed(path).unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While nobody else packs: what is changed in a plain file meanwhile is not lost to a copy from before."""
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / ".packing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def unpack_where(folder: Path, holds: Callable[[bytes], object]) -> list[Path]:
    """Make those packed files plain again of which `holds` says yes to some lines, as for erasing them; which ones.

    Only for who is `alone`: what a killed packer left half done goes, and where both files are, the plain one stays.
    """
    for draft in folder.glob(f"*/.*{PLAIN}.*"):
        draft.unlink(missing_ok=True)
    for path in files(folder):
        if path.exists():
            _packed(path).unlink(missing_ok=True)
    found = [
        path
        for path in files(folder)
        if not path.exists() and any(holds(b"".join(block)) for _, block in _blocks(path, _raised))
    ]
    for path in found:
        unpack(path)
    return found


def pack_past(folder: Path, now: float) -> list[Path]:
    """Pack the files of the days before yesterday, to which nobody writes any more; which ones those were."""
    yesterday = datetime.fromtimestamp(now - DAY_S, UTC).strftime("%Y-%m-%d")
    past = [path for path in sorted(folder.glob(f"????-??-??/*{PLAIN}")) if path.parent.name < yesterday]
    for path in past:
        with alone(folder), suppress(FileNotFoundError):  # another worker was first, or retention
            pack(path)
    return past


def _packed(path: Path) -> Path:
    return path.with_name(path.name + ".packed")


def _blocks(path: Path, on_damage: Callable[[int, Exception], None]) -> Iterator[tuple[int, Iterable[bytes]]]:
    """The lines of each block with the block's place in the plain file, which is one block."""
    try:
        with path.open("rb") as file:
            yield 0, file
            return
    except FileNotFoundError:
        pass
    with _packed(path).open("rb") as file:
        try:
            blocks = _index(file)
        except Exception as error:  # whatever altered bytes make of an index
            on_damage(0, error)
            return
        for block in blocks:
            try:
                data = _unpacked(file, block)
            except Exception as error:
                on_damage(block[0], error)
            else:
                yield block[0], data.splitlines(keepends=True)


def _index(file: BinaryIO) -> list[Block]:
    """Where the blocks are; ValueError unless each begins where the one before it ends, in both files."""
    end = file.seek(-_LENGTH_BYTES, os.SEEK_END)
    begin = file.seek(end - int.from_bytes(file.read(), "big"))
    blocks: list[Block] = [tuple(block) for block in orjson.loads(file.read(end - begin))]
    plain = packed = 0
    for block in blocks:
        if (block[0], block[2]) != (plain, packed):
            raise ValueError("the index at its end does not fit its blocks")
        plain, packed = plain + block[1], packed + block[3]
    if packed != begin:
        raise ValueError("the index at its end does not fit its blocks")
    return blocks


def _unpacked(file: BinaryIO, block: Block) -> bytes:
    _, size, at, packed = block
    file.seek(at)
    data: bytes = _codec().decompress(file.read(packed), size, asbytes=True)
    return data


def _codec() -> Any:
    import pyarrow  # the feature store brings it along; whoever reads plain files alone does without

    return pyarrow.Codec("zstd", compression_level=3)
