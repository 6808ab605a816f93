"""Callers that cost next to nothing themselves: plain sockets, requests written beforehand, answers counted by length.

A client library takes as long as the endpoint that it calls, and would hide half of every ratio.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import orjson

HOST = "127.0.0.1"
TIMEOUT_S = 60.0
CONNECTIONS = 8
"""Over which events are written."""


class BadAnswer(Exception):
    """An answer that is not 200: nothing worth measuring."""


def request(path: str, content: object) -> bytes:
    """A POST as it goes over the wire."""
    body = orjson.dumps(content)
    head = f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def reading(path: str) -> bytes:
    """A GET as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()


def asks(customer_ids: Sequence[str], **more: object) -> list[bytes]:
    """Of every customer the question what to show on the website's home page."""
    body = {"channel": "web", "placement": "home", **more}
    return [request("/decide", {"customer_id": customer_id, **body}) for customer_id in customer_ids]


class Client:
    """One caller on one connection that stays open."""

    def __init__(self, port: int):
        self._socket = socket.create_connection((HOST, port), timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self, wire: bytes) -> bytes:
        """The answer's body. Raises BadAnswer where it is no 200."""
        self._socket.sendall(wire)
        data = self._socket.recv(65_536)
        while (length := _length(data)) is None or len(data) < length:
            data += self._socket.recv(65_536)
        if not data.startswith(b"HTTP/1.1 200"):
            raise BadAnswer(data.decode()[:500])
        return data[data.index(b"\r\n\r\n") + 4 :]

    def close(self) -> None:
        self._socket.close()


def _length(data: bytes) -> int | None:
    """How long the whole answer is; None while its head is incomplete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    at = head.index(b"content-length:") + 15
    stop = head.find(b"\r\n", at)
    return end + 4 + int(head[at : stop if stop > 0 else None])


@contextmanager
def client(port: int) -> Iterator[Client]:
    made = Client(port)
    try:
        yield made
    finally:
        made.close()


def feeds_alive(port: int) -> None:
    """So that nothing is held back because nobody spoke."""
    with client(port) as one:
        for signal in ("stock", "profile"):
            body = {"userId": "bench", "event": "Feed Alive", "properties": {"signal": signal}}
            one.call(request("/v1/track", body))


def timed(port: int, wires: Sequence[bytes], calls: int) -> list[float]:
    """The seconds of each of `calls`, one after the other."""
    times = []
    with client(port) as one:
        for wire in itertools.islice(itertools.cycle(wires), calls):
            began = time.perf_counter()
            one.call(wire)
            times.append(time.perf_counter() - began)
    return times


class _Caller(asyncio.Protocol):
    """One of many at once: asks again as soon as it is answered."""

    def __init__(self, wires: Iterator[bytes], times: list[float], done: asyncio.Future[None]):
        self._wires, self._times, self._done = wires, times, done
        self._data = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        wire = next(self._wires, None)
        if wire is None:
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(wire)

    def data_received(self, data: bytes) -> None:
        self._data += data
        length = _length(self._data)
        if length is not None and len(self._data) >= length:
            self._times.append(time.perf_counter() - self._began)
            if not self._data.startswith(b"HTTP/1.1 200") and not self._done.done():
                self._done.set_exception(BadAnswer(self._data.decode()[:500]))
            self._data = b""
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


def together(port: int, wires: Sequence[bytes], calls: int, clients: int = 16) -> tuple[float, list[float]]:
    """Answers a second to that many clients at once, and the seconds of each."""

    async def run() -> tuple[float, list[float]]:
        loop = asyncio.get_running_loop()
        left, times = itertools.islice(itertools.cycle(wires), calls), list[float]()
        done = [loop.create_future() for _ in range(clients)]
        began = time.perf_counter()
        for each in done:
            await loop.create_connection(lambda each=each: _Caller(left, times, each), HOST, port)
        await asyncio.gather(*done)
        return len(times) / (time.perf_counter() - began), times

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


@contextmanager
def written(port: int, customer_ids: Sequence[str], rate: float) -> Iterator[None]:
    """While another process writes so many events a second, one a request: from the first one that is answered on."""
    command = [sys.executable, "-m", "benchmarks.clients", str(port), str(rate), *customer_ids]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield
        finally:
            child.terminate()


def write(port: int, rate: float, customer_ids: Sequence[str], stopped: threading.Event) -> None:
    """Product views by these customers in turn, at `rate` a second, as the website would send them.

    Over some connections: on a single one each would wait for the answer to the one before, and there would be fewer
    the longer they take.
    """
    began = time.time()
    writers = [
        threading.Thread(target=_write, args=(port, rate, customer_ids, stopped, began, first))
        for first in range(CONNECTIONS)
    ]
    for each in writers:
        each.start()
    for each in writers:
        each.join()


def _write(
    port: int, rate: float, customer_ids: Sequence[str], stopped: threading.Event, began: float, number: int
) -> None:
    """Every so manieth of them, from `number` on."""
    with client(port) as one:
        while not stopped.wait(max(0.0, began + number / rate - time.time())):
            customer_id = customer_ids[number % len(customer_ids)]
            body = {
                "userId": customer_id,
                "event": "Product Viewed",
                "messageId": f"bench-{began}-{number}",
                "properties": {"product_id": f"p{number % 97}"},
            }
            one.call(request("/v1/track", body))
            if not number:
                print(flush=True)
            number += CONNECTIONS


if __name__ == "__main__":
    write(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:], threading.Event())
