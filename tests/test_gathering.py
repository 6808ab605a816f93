"""Single messages are taken in together while decisions are asked for, and alone and at once while none are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from features.driver import NotAtOnce
from features.intake import Receipt
from serving import gathering
from serving.gathering import Gathering
from serving.ports import Arrived


class Taken:
    """What was taken in, a list a transaction; what is called `late` is to be taken in otherwise."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.at: list[float] = []
        self.left: list[str] = []
        self.failure: Callable[[list[str]], Exception | None] = lambda names: None
        self.leaves = False

    def take(self, messages: Sequence[Arrived]) -> tuple[list[Receipt | None], Callable[[], None] | None]:
        names = [each.content["messageId"] for each in messages]
        self.at.append(asyncio.get_running_loop().time())
        self.groups.append(names)
        if (failure := self.failure(names)) is not None:
            raise failure
        receipts = [None if name == "late" else Receipt(name, stored=True) for name in names]
        return receipts, (lambda: self.left.extend(names)) if self.leaves else None

    async def later(self, left: Callable[[], None]) -> None:
        await asyncio.sleep(0)
        left()


@pytest.fixture
def taken() -> Taken:
    return Taken()


def run(taken: Taken, story: Callable[[Gathering], Coroutine[Any, Any, Any]]) -> Any:
    async def told() -> Any:
        return await story(Gathering(taken.take, taken.later))

    return asyncio.run(told())


def arrived(*names: str) -> list[Arrived]:
    return [Arrived({"messageId": name}, 0.0, None) for name in names]


async def together(gathering: Gathering, *names: str) -> list[Any]:
    return await asyncio.gather(*map(gathering.receipt, arrived(*names)), return_exceptions=True)


def test_each_message_has_the_receipt_of_its_own(taken: Taken) -> None:
    receipts = run(taken, lambda made: together(made, "a", "late", "b"))
    assert [each and each.message_id for each in receipts] == ["a", None, "b"]
    assert taken.groups == [["a", "late", "b"]]


def test_while_decisions_are_asked_for_transactions_are_apart_and_hold_what_came_meanwhile(taken: Taken) -> None:
    async def story(made: Gathering) -> None:
        sent = []
        for number in range(6):
            made.give_way()
            sent.append(asyncio.ensure_future(made.receipt(*arrived(str(number)))))
            await asyncio.sleep(gathering.APART_S / 5)
        await asyncio.gather(*sent)

    run(taken, story)
    assert [name for group in taken.groups for name in group] == [str(number) for number in range(6)]
    assert len(taken.groups) < 6
    apart = [later - before for before, later in zip(taken.at, taken.at[1:], strict=False)]
    assert min(apart) >= gathering.APART_S * 0.9


def test_while_none_are_nobody_waits(taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "APART_S", 60.0)

    async def story(made: Gathering) -> None:
        for number in range(50):
            await made.receipt(*arrived(str(number)))

    run(taken, lambda made: asyncio.wait_for(story(made), 10.0))
    assert len(taken.groups) == 50


def test_a_transaction_holds_so_many_at_most_and_no_more_than_so_many_wait(taken: Taken) -> None:
    names = [str(number) for number in range(gathering.MOST_WAITING + 3)]
    receipts = run(taken, lambda made: together(made, *names))
    assert [each is None for each in receipts] == [False] * gathering.MOST_WAITING + [True] * 3
    assert {len(group) for group in taken.groups} == {gathering.MOST}


def test_where_somebody_has_to_be_waited_for_all_are_taken_in_otherwise(taken: Taken) -> None:
    taken.failure = lambda names: NotAtOnce()
    assert run(taken, lambda made: together(made, "a", "b")) == [None, None]


def test_one_that_breaks_a_transaction_spoils_no_other(taken: Taken) -> None:
    taken.failure = lambda names: RuntimeError("broken") if "bad" in names else None
    assert run(taken, lambda made: together(made, "a", "bad")) == [None, None]  # each is tried again alone
    (alone,) = run(taken, lambda made: together(made, "bad"))
    assert isinstance(alone, RuntimeError)


def test_what_is_left_to_do_is_done_before_anybody_has_a_receipt(taken: Taken) -> None:
    taken.leaves = True

    async def story(made: Gathering) -> list[list[str]]:
        async def told(name: str) -> list[str]:
            await made.receipt(*arrived(name))
            return list(taken.left)

        return await asyncio.gather(told("a"), told("b"))

    assert run(taken, story) == [["a", "b"], ["a", "b"]]


def test_what_goes_wrong_with_it_is_told_to_all(taken: Taken) -> None:
    taken.leaves = True
    taken.later = _broken
    told = run(taken, lambda made: together(made, "a", "b"))
    assert [str(each) for each in told] == ["broken", "broken"]


async def _broken(left: Callable[[], None]) -> None:
    raise RuntimeError("broken")


def test_who_has_gone_meanwhile_holds_up_nobody(taken: Taken) -> None:
    async def story(made: Gathering) -> Receipt | None:
        gone, stays = (asyncio.ensure_future(made.receipt(each)) for each in arrived("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    receipt = run(taken, story)
    assert receipt is not None and receipt.stored
    assert taken.groups == [["gone", "stays"]]
