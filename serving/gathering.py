"""Messages that come one by one are taken in together, on the event loop, so that few decisions wait for any of them.

While decisions are asked for, those of `APART_S` are one transaction: it takes little longer than one of a single
message, and the next decision waits for a transaction, not for each message. While none are, nobody waits. What a
message means is not looked at here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from features.driver import NotAtOnce
from serving.ports import Arrived, Receipt

APART_S = 0.01
"""Between two transactions while decisions are asked for."""
LATELY_S = 0.25
"""So long after the last one they still are."""
MOST = 8
"""Messages to a transaction: with more, a decision would wait for longer than it takes itself."""
MOST_WAITING = 64
"""Messages that wait for their transaction."""

Left = Callable[[], None]
Waiting = tuple[Arrived, asyncio.Future[Receipt | None]]
Taking = Callable[[Sequence[Arrived]], tuple[Sequence[Receipt | None], Left | None]]


class Gathering:
    """Of one event loop. `taking` takes messages in at once, or raises NotAtOnce; `later` does what that has left."""

    def __init__(self, taking: Taking, later: Callable[[Left], Awaitable[None]]):
        self._taking, self._later = taking, later
        self._waiting: list[Waiting] = []
        self._next = self._decided = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def give_way(self) -> None:
        """A decision is asked for."""
        self._decided = asyncio.get_running_loop().time()

    async def receipt(self, message: Arrived) -> Receipt | None:
        """That of a message which is stored by now, if it is stored; None where it has to be taken in otherwise."""
        if len(self._waiting) >= MOST_WAITING:
            return None
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Receipt | None] = loop.create_future()
        self._waiting.append((message, done))
        if len(self._waiting) == 1:
            loop.call_at(self._next, self._take)
        return await done

    def _take(self) -> None:
        loop = asyncio.get_running_loop()
        some, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            receipts, left = self._taking([message for message, _ in some])
        except Exception as error:
            _tell(some, [None] * len(some), error if len(some) == 1 and not isinstance(error, NotAtOnce) else None)
        else:
            if left is None:
                _tell(some, receipts)
            else:
                task = loop.create_task(self._finish(some, receipts, left))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        now = loop.time()
        self._next = now + APART_S if now - self._decided < LATELY_S else now
        if self._waiting:
            loop.call_at(self._next, self._take)

    async def _finish(self, some: Sequence[Waiting], receipts: Sequence[Receipt | None], left: Left) -> None:
        try:
            await self._later(left)
        except Exception as error:
            _tell(some, receipts, error)
        else:
            _tell(some, receipts)


def _tell(some: Sequence[Waiting], receipts: Sequence[Receipt | None], error: Exception | None = None) -> None:
    """Each its receipt, or all what went wrong; whoever sent one may have gone."""
    for (_, done), receipt in zip(some, receipts, strict=True):
        if done.done():
            continue
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(receipt)
